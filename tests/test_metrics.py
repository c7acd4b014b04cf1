"""Metrics against hand-computed values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resim.metrics.crashes import crash_auroc
from resim.metrics.pixels import difference_grey_levels, divergence_grey_levels, sharpness_grey_levels
from resim.metrics.reward import (
    calibration,
    calibration_error,
    choice,
    share_of_expert_pairs,
    share_of_ordered_pairs,
)
from resim.metrics.statistics import bootstrap_interval
from resim.metrics.trajectory import path_distance_m, share_of_right_futures


def straight(speed_mps: float, left_m: float = 0.0) -> np.ndarray:
    times_s = 0.5 * np.arange(1, 9)
    return np.stack([speed_mps * times_s, np.full(8, left_m), np.zeros(8)], axis=-1)


def test_distance_by_hand():
    # 1 m/s apart: 0.5, 1.0, .. 4.0 m apart; the heading does not count.
    a, b = straight(10.0), straight(11.0)
    b[:, 2] = 1.0
    assert path_distance_m(a, b) == pytest.approx(2.25)
    assert path_distance_m(straight(5.0), straight(5.0, left_m=3.0)) == pytest.approx(3.0)


def test_right_futures_by_hand():
    commanded = np.stack([straight(0.0), straight(10.0), straight(20.0)])
    assert share_of_right_futures(commanded + 0.1, commanded) == 1.0
    assert share_of_right_futures(commanded[[1, 0, 2]], commanded) == pytest.approx(1 / 3)
    assert share_of_right_futures(commanded[[1, 2, 0]], commanded) == 0.0


@given(st.floats(0, 30), st.floats(-5, 5))
def test_futures_that_ignore_their_path_get_chance(speed_mps, left_m):
    commanded = np.stack([straight(0.0), straight(10.0), straight(20.0)])
    same = np.repeat(straight(speed_mps, left_m)[None], 3, axis=0)
    assert share_of_right_futures(same, commanded) == pytest.approx(1 / 3)


def test_interval_holds_the_mean_and_narrows():
    hits = np.random.default_rng(0).random(400) < 0.8
    low, high = bootstrap_interval(hits)
    assert low < hits.mean() < high and high - low == pytest.approx(2 * 1.96 * 0.4 / 20, rel=0.2)
    assert bootstrap_interval(np.ones(5)) == (1.0, 1.0)


def test_ordered_pairs_by_hand():
    score = np.array([1.0, 0.6, 0.55, 0.0])
    assert share_of_ordered_pairs(np.array([0.9, 0.5, 0.6, 0.1]), score) == 1.0  # 0.6 and 0.55 are no pair
    assert share_of_ordered_pairs(-score, score) == 0.0
    assert share_of_ordered_pairs(np.zeros(4), score) == 0.5
    assert share_of_ordered_pairs(np.array([0.9, 1.0, 0.6, 0.1]), score) == pytest.approx(4 / 5)
    with pytest.raises(ValueError, match="no two of the 2"):
        share_of_ordered_pairs(np.zeros(2), np.ones(2))


def test_pairs_are_of_the_expert_and_what_executed_worse():
    score = np.array([[1.0, 0.5, 0.95, 0.2], [1.0, 1.0, 0.95, 0.91]])
    reward = np.array([[0.6, 0.7, 0.9, 0.6], [0.1, 0.9, 0.9, 0.9]])
    shares = share_of_expert_pairs(reward, score)
    assert shares[0] == 0.25  # one lost, one equal; the third is no worse drive
    assert np.isnan(shares[1])


def test_a_choice_takes_the_best_and_shares_between_equals():
    score = np.array([[0.2, 0.8, 1.0], [0.2, 0.8, 1.0]])
    assert choice(np.array([[0.1, 0.9, 0.3], [0.9, 0.1, 0.9]]), score) == pytest.approx([0.8, 0.6])


def test_calibration_of_bins_by_hand():
    reward = np.array([0.1, 0.9, 0.3, 0.7])
    score = np.array([0.0, 1.0, 0.2, 0.4])
    mean_reward, mean_score, size = calibration(reward, score, bins=2)
    assert mean_reward == pytest.approx([0.2, 0.8]) and mean_score == pytest.approx([0.1, 0.7])
    assert size.tolist() == [2, 2]
    same = np.linspace(0, 1, 40)
    assert calibration_error(same, same) == pytest.approx(0.0)
    assert calibration_error(same, np.clip(same, 0, 1) + 0.1) == pytest.approx(0.1)


def test_auroc_of_crashes_by_hand():
    crash, collided = np.array([[0.8, 0.5], [0.6, 0.1]]), np.array([[True, False], [True, False]])
    assert crash_auroc(crash, collided) == 1.0
    assert crash_auroc(1 - crash, collided) == 0.0
    with pytest.raises(ValueError, match="4 of 4 drives crash"):
        crash_auroc(crash, np.ones((2, 2), dtype=bool))


def test_sharpness_by_hand():
    ramp = np.broadcast_to(3 * np.arange(20, dtype=np.uint8)[:, None], (2, 10, 20, 3))
    assert sharpness_grey_levels(ramp) == pytest.approx(1.5)  # 3 across, 0 down
    assert sharpness_grey_levels(np.zeros((2, 10, 20, 3), np.uint8)) == 0.0


def test_auroc_counts_ties_half():
    rng = np.random.default_rng(0)
    crash, collided = rng.integers(0, 4, 60) / 4, rng.random(60) < 0.4  # four values: many are equal
    assert crash_auroc(crash, collided) == pytest.approx(share_of_ordered_pairs(crash, collided.astype(float)))
    assert crash_auroc(np.full(4, 0.3), np.array([True, False, False, True])) == 0.5


def test_differences_by_hand():
    dark, bright = np.full((2, 4, 6, 3), 10, np.uint8), np.full((2, 4, 6, 3), 250, np.uint8)
    bright[1] = 110
    assert difference_grey_levels(dark, bright).tolist() == difference_grey_levels(bright, dark).tolist() == [240, 100]
    assert divergence_grey_levels(np.stack([dark, bright, bright])) == pytest.approx((170 + 170 + 0) / 3)


def test_every_axis_is_drawn_anew():
    """Two seeds that differ by 1 on every scene: no number of scenes narrows that."""
    values = np.stack([np.zeros(500), np.ones(500)])
    assert bootstrap_interval(values) == (0.0, 1.0)
    low, high = bootstrap_interval(values.ravel())
    assert 0.45 < low < 0.5 < high < 0.55
    with pytest.raises(ValueError, match=r"shape \(0,\) have no mean"):
        bootstrap_interval(np.zeros(0))


def test_draws_are_those_of_the_reports():
    """Figures of docs/ were computed so."""
    hits = np.random.default_rng(1).random(30)
    means = hits[np.random.default_rng(0).integers(30, size=(2000, 30))].mean(axis=1)
    assert bootstrap_interval(hits) == (np.quantile(means, 0.025), np.quantile(means, 0.975))
    pairs = np.random.default_rng(2).random((3, 12))
    rng = np.random.default_rng(0)
    seeds, scenes = rng.integers(3, size=(4000, 3, 1)), rng.integers(12, size=(4000, 1, 12))
    means = pairs[seeds, scenes].mean(axis=(1, 2))
    assert bootstrap_interval(pairs, draws=4000) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1e-12)
