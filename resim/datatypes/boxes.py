"""Boxes on the ground."""

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.geometry import FloatArray


def box_corners(pose: FloatArray, length_m: FloatArray | float, width_m: FloatArray | float) -> FloatArray:
    """Corners (..., 4, 2) of boxes centred at poses (..., 3), counter-clockwise from the front left."""
    pose, half_l, half_w = np.asarray(pose), np.asarray(length_m) / 2, np.asarray(width_m) / 2
    ahead = np.stack([np.cos(pose[..., 2]), np.sin(pose[..., 2])], -1) * half_l[..., None]
    left = np.stack([-np.sin(pose[..., 2]), np.cos(pose[..., 2])], -1) * half_w[..., None]
    xy = pose[..., :2]
    return np.stack([xy + ahead + left, xy - ahead + left, xy - ahead - left, xy + ahead - left], axis=-2)


def boxes_overlap(corners_a: FloatArray, corners_b: FloatArray) -> NDArray[np.bool_]:
    """Whether rectangles (..., 4, 2) overlap, by separating axes; touching counts. Leading dimensions broadcast."""
    overlap = np.array(True)
    for corners in (corners_a, corners_b):
        for edge in (corners[..., 0, :] - corners[..., 1, :], corners[..., 1, :] - corners[..., 2, :]):
            a, b = ((c * edge[..., None, :]).sum(-1) for c in (corners_a, corners_b))
            overlap = overlap & (a.min(-1) <= b.max(-1)) & (b.min(-1) <= a.max(-1))
    return overlap
