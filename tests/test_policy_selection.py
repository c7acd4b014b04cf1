"""Choosing among policies: every measure by hand on a small table, and the table on tiny models."""

import numpy as np
import pytest

from resim.datatypes.geometry import simulation_camera
from resim.gates.policy_selection import (
    CANDIDATES,
    Judged,
    calibration,
    calibration_error,
    choice,
    crash_auroc,
    draw_candidates,
    selection,
    share_of_expert_pairs,
    summary,
)

NUM_POLICIES = len(CANDIDATES) - 1


def table(score_SN, reward_SN, confidence_SN=None, collided_SN=None, clean_SN=None, cut_SN=None) -> Judged:
    score_SN, reward_SN = np.array(score_SN, dtype=float), np.array(reward_SN, dtype=float)
    flags = np.zeros(score_SN.shape, dtype=bool)
    return Judged(
        scene_id=tuple(f"scene{s}" for s in range(len(score_SN))),
        score_SN=score_SN,
        collided_SN=flags if collided_SN is None else np.array(collided_SN, dtype=bool),
        reward_true_SN=score_SN,
        rewards_SNK=np.stack([reward_SN - 0.05, reward_SN + 0.05], axis=-1),
        crash_true_SN=1 - score_SN,
        crash_SN=1 - reward_SN,
        confidence_SN=np.ones(score_SN.shape) if confidence_SN is None else np.array(confidence_SN, dtype=float),
        shows_clean_SN=flags if clean_SN is None else np.array(clean_SN, dtype=bool),
        cut_short_SN=flags if cut_SN is None else np.array(cut_SN, dtype=bool),
    )


def test_pairs_are_of_the_expert_and_what_executed_worse():
    score = np.array([[1.0, 0.5, 0.95, 0.2], [1.0, 1.0, 0.95, 0.91]])
    reward = np.array([[0.6, 0.7, 0.9, 0.6], [0.1, 0.9, 0.9, 0.9]])
    shares = share_of_expert_pairs(reward, score)
    assert shares[0] == 0.25  # one lost, one equal; the third is no worse drive
    assert np.isnan(shares[1])


def test_a_choice_takes_the_best_and_shares_between_equals():
    score = np.array([[0.2, 0.8, 1.0], [0.2, 0.8, 1.0]])
    assert choice(np.array([[0.1, 0.9, 0.3], [0.9, 0.1, 0.9]]), score) == pytest.approx([0.8, 0.6])


def test_selection_by_hand():
    score = [[1.0, 1.0, 0.2, 0.2, 0.2, 0.2, 0.2], [1.0, 0.4, 1.0, 0.2, 0.2, 0.2, 0.2]]
    reward = [[0.0, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1], [0.0, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1]]
    baseline = [[0.0, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1], [0.0, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1]]
    found = selection(table(score, reward, baseline))
    assert found["selection_best_policy"] == CANDIDATES[1] and found["n_selection_scenes"] == 2
    scores = found["selection_scores"]
    assert scores["imagination"] == scores["oracle"] == scores["true_video"] == 1.0
    assert scores["variance_baseline"] == pytest.approx(0.3)
    assert scores["average"] == pytest.approx((2.0 + 2.2) / 12)
    assert found["selection_gain"] == pytest.approx(0.3)
    assert found["selection_to_oracle"] == 0.0
    low, high = found["selection_gain_interval"]
    assert low == 0.0 and high == pytest.approx(0.6)  # one scene gains nothing, the other 0.6


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
    assert crash_auroc(-crash, collided) == 0.0
    with pytest.raises(ValueError, match="differ"):
        crash_auroc(crash, np.ones((2, 2), dtype=bool))


def test_optimism_counts_only_crashes():
    score = np.full((2, NUM_POLICIES + 1), 0.6)
    reward = np.full_like(score, 0.9)
    collided, clean, cut = (np.zeros(score.shape, dtype=bool) for _ in range(3))
    collided[0, 1:5] = True
    reward[0, 1] = 0.3
    cut[0, 1:3] = clean[0, 1] = True
    clean[1] = True  # these did not crash
    found = summary(table(score, reward, collided_SN=collided, clean_SN=clean, cut_SN=cut))
    assert found["n_crashes"] == 4
    assert found["crash_auroc_true"] == 0.5 and found["crash_auroc_generated"] == pytest.approx(5 / 8)
    assert found["optimism_scored_clean_generated"] == 0.75
    assert found["optimism_shown_clean_generated"] == 0.5
    assert found["reward_pairs_true"] is None  # nobody executed worse than the expert


def test_candidates_share_their_history_and_differ_afterwards():
    scene = draw_candidates(4_400_000, simulation_camera(32, 48), simple=True)
    histories = scene.truths_NTHWC[:, :9].astype(int)
    assert np.abs(histories - histories[0]).max() <= 2
    assert scene.score_N[0] > 0.9 and scene.waypoints_N83.shape == (len(CANDIDATES), 8, 3)
    assert len({path.tobytes() for path in scene.waypoints_N83}) >= 5
    clean = ~scene.collided_N
    assert np.allclose(scene.waypoints_N83[clean], scene.executed_N83[clean])


def test_rows_hold_every_candidate():
    rows = table(np.full((2, NUM_POLICIES + 1), 0.5), np.full((2, NUM_POLICIES + 1), 0.5)).rows()
    assert [row["candidate"] for row in rows] == [*CANDIDATES, *CANDIDATES]
    assert rows[0]["uncertainty"] == pytest.approx(0.05 * np.sqrt(2)) and rows[0]["reward"] == pytest.approx(0.5)
