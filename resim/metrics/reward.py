"""How well rewards order drives, mean what they say, and choose.

S is scenes, N candidates of a scene, the expert first.
"""

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.geometry import FloatArray

# Executed scores that differ by less are not a better and a worse drive.
MIN_DIFFERENCE = 0.1


def share_of_ordered_pairs(reward: FloatArray, score: FloatArray, *, min_difference: float = MIN_DIFFERENCE) -> float:
    """In how many of the pairs whose scores (N,) differ by ``min_difference`` or more the better reward is higher.

    Equal rewards count half. Raises ValueError where no pair differs so much.
    """
    reward, score = np.asarray(reward), np.asarray(score)
    better = score[:, None] - score[None, :] >= min_difference
    if not better.any():
        raise ValueError(f"no two of the {len(score)} scores differ by {min_difference}")
    difference = reward[:, None] - reward[None, :]
    return float(((difference > 0) + 0.5 * (difference == 0))[better].mean())


def share_of_expert_pairs(
    reward_SN: FloatArray, score_SN: FloatArray, *, min_difference: float = MIN_DIFFERENCE
) -> FloatArray:
    """Per scene, how often the expert's reward is above that of a candidate which executed worse; NaN without one.

    Worse by ``min_difference``; equal rewards count half.
    """
    worse = score_SN[:, :1] - score_SN[:, 1:] >= min_difference
    difference = reward_SN[:, :1] - reward_SN[:, 1:]
    won = ((difference > 0) + 0.5 * (difference == 0)) * worse
    with np.errstate(invalid="ignore"):
        return won.sum(axis=1) / worse.sum(axis=1)


def calibration(
    reward: FloatArray, score: FloatArray, *, bins: int = 10
) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    """Mean reward, mean executed score and number of drives of equally filled bins of reward, at most one a drive."""
    order = np.argsort(reward, axis=None)
    parts = np.array_split(order, min(bins, len(order)))
    means = [[values.ravel()[part].mean() for part in parts] for values in (reward, score)]
    return np.array(means[0]), np.array(means[1]), np.array([len(part) for part in parts])


def calibration_error(reward: FloatArray, score: FloatArray) -> float:
    """Mean distance between reward and executed score over the bins of :func:`calibration`, by their size."""
    mean_reward, mean_score, size = calibration(reward, score)
    return float(np.average(np.abs(mean_reward - mean_score), weights=size))


def choice(value_SN: FloatArray, score_SN: FloatArray) -> FloatArray:
    """Executed score (S,) of the candidate of highest value in each scene; equal ones by their mean."""
    best = value_SN == value_SN.max(axis=1, keepdims=True)
    return (score_SN * best).sum(axis=1) / best.sum(axis=1)
