"""Metrics against hand-computed values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resim.metrics.reward import share_of_ordered_pairs
from resim.metrics.trajectory import path_distance_m, share_interval, share_of_right_futures


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
    low, high = share_interval(hits)
    assert low < hits.mean() < high and high - low == pytest.approx(2 * 1.96 * 0.4 / 20, rel=0.2)
    assert share_interval(np.ones(5)) == (1.0, 1.0)


def test_ordered_pairs_by_hand():
    score = np.array([1.0, 0.6, 0.55, 0.0])
    assert share_of_ordered_pairs(np.array([0.9, 0.5, 0.6, 0.1]), score) == 1.0  # 0.6 and 0.55 are no pair
    assert share_of_ordered_pairs(-score, score) == 0.0
    assert share_of_ordered_pairs(np.zeros(4), score) == 0.5
    assert share_of_ordered_pairs(np.array([0.9, 1.0, 0.6, 0.1]), score) == pytest.approx(4 / 5)
    with pytest.raises(ValueError, match="no two of the 2"):
        share_of_ordered_pairs(np.zeros(2), np.ones(2))
