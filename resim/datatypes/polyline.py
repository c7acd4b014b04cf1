"""Polylines and polygons: points (N, 2) in metres."""

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.geometry import FloatArray

POINT_STEP_M = 2.0


def resample(points_m: FloatArray, step_m: float = POINT_STEP_M) -> FloatArray:
    """The polyline (N, 2) at (nearly) even steps along its length, ends kept."""
    steps_m = np.hypot(*np.diff(points_m, axis=0).T)
    points_m = points_m[np.r_[True, steps_m > 1e-6]]
    along_m = np.r_[0.0, np.cumsum(steps_m[steps_m > 1e-6])]
    query_m = np.linspace(0.0, along_m[-1], max(2, round(along_m[-1] / step_m) + 1))
    return np.stack([np.interp(query_m, along_m, points_m[:, i]) for i in range(2)], axis=-1)


def headings_of(points_m: FloatArray) -> FloatArray:
    """Unwrapped tangent angles (N,) of a polyline."""
    d = np.gradient(points_m, axis=0)
    return np.unwrap(np.arctan2(d[:, 1], d[:, 0]))


def offset(points_m: FloatArray, left_m: float | FloatArray) -> FloatArray:
    """The polyline moved ``left_m`` (scalar or (N,)) to its left."""
    heading_rad = headings_of(points_m)
    normal = np.stack([-np.sin(heading_rad), np.cos(heading_rad)], axis=-1)
    return points_m + np.broadcast_to(np.asarray(left_m), heading_rad.shape)[:, None] * normal


def inside(points_m: FloatArray, polygon_m: FloatArray) -> NDArray[np.bool_]:
    """Which points (..., 2) lie inside the polygon (N, 2), by the even-odd rule."""
    x, y = points_m[..., 0, None], points_m[..., 1, None]
    ax, ay = polygon_m[:, 0], polygon_m[:, 1]
    bx, by = np.roll(ax, -1), np.roll(ay, -1)
    spans = (ay > y) != (by > y)
    slope = np.divide(bx - ax, by - ay, out=np.zeros_like(ax), where=by != ay)
    return np.sum(spans & (x < ax + slope * (y - ay)), axis=-1) % 2 == 1
