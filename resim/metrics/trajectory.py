"""How far the path that a video shows is from the one that was commanded."""

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.clip import Waypoints


def path_distance_m(a: Waypoints, b: Waypoints) -> NDArray[np.float64]:
    """Mean distance in metres of the xy of waypoints (..., 8, 3) and (..., 8, 3): the paper's Trajectory Difference."""
    difference = np.asarray(a, dtype=np.float64)[..., :2] - np.asarray(b, dtype=np.float64)[..., :2]
    return np.linalg.norm(difference, axis=-1).mean(axis=-1)


def share_of_right_futures(seen: Waypoints, commanded: Waypoints) -> float:
    """For how many commanded paths the future generated for it is the nearest of all futures of the same scene.

    ``seen`` (P, 8, 3) are the paths read back from the P futures of one scene, ``commanded`` (P, 8, 3) theirs. Futures
    equally near share the hit, so that P equal futures give 1 / P.
    """
    distance_m = path_distance_m(seen[None], commanded[:, None])  # commanded x future
    nearest = distance_m <= distance_m.min(axis=1, keepdims=True) + 1e-9
    return float((np.diagonal(nearest) / nearest.sum(axis=1)).mean())
