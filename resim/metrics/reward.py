"""How well rewards order drives."""

import numpy as np
from numpy.typing import NDArray


def share_of_ordered_pairs(
    reward: NDArray[np.floating], score: NDArray[np.floating], *, min_difference: float = 0.1
) -> float:
    """In how many of the pairs whose scores (N,) differ by ``min_difference`` or more the better reward is higher.

    Equal rewards count half. Raises ValueError where no pair differs so much.
    """
    reward, score = np.asarray(reward), np.asarray(score)
    better = score[:, None] - score[None, :] >= min_difference
    if not better.any():
        raise ValueError(f"no two of the {len(score)} scores differ by {min_difference}")
    difference = reward[:, None] - reward[None, :]
    return float(((difference > 0) + 0.5 * (difference == 0))[better].mean())
