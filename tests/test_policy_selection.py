"""Choosing among policies: every measure by hand on a small table, and the table on tiny models."""

from dataclasses import replace

import numpy as np
import pytest

from resim.datatypes.geometry import simulation_camera
from resim.gates.policy_selection import (
    Judged,
    joined,
    selection,
    summary,
    the_names,
)
from resim.gates.scenes import draw_candidates
from resim.simulation.drivers import POLICIES

CANDIDATES = ("expert", *POLICIES)
NUM_POLICIES = len(POLICIES)


def table(score_SN, reward_SN, confidence_SN=None, collided_SN=None, clean_SN=None, cut_SN=None) -> Judged:
    score_SN, reward_SN = np.array(score_SN, dtype=float), np.array(reward_SN, dtype=float)
    flags = np.zeros(score_SN.shape, dtype=bool)
    return Judged(
        scene_id=tuple(f"scene{s}" for s in range(len(score_SN))),
        names=CANDIDATES,
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
    scene = draw_candidates(4_400_000, simulation_camera(32, 48), simple=True, policies=POLICIES)
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


def test_the_candidates_are_those_that_the_caller_names():
    scene = draw_candidates(4_400_000, simulation_camera(32, 48), simple=True, policies=("careful",))
    assert scene.names == ("expert", "careful") and len(scene.score_N) == 2
    few = table([[1.0] * 7], [[1.0] * 7])
    other = replace(few, names=tuple(f"mine{n}" for n in range(7)), score_SN=np.array([[1.0, 0.1, 0.9, *[0.2] * 4]]))
    assert selection(other)["selection_best_policy"] == "mine2"
    assert {"mine1", "mine6"} < selection(other)["selection_scores"].keys()
    assert [row["candidate"] for row in other.rows()] == list(other.names) == list(the_names([other, other]))
    assert joined([few, few]).names == CANDIDATES
    with pytest.raises(ValueError, match="scenes of different candidates cannot stand in one table"):
        joined([few, other])
