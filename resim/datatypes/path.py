"""Path: a line to drive along, sampled evenly, with the speed wanted on it and the places where it may have to stop."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.geometry import FloatArray, wrap_angle

PATH_STEP_M = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Path:
    """A line to drive along, sampled every PATH_STEP_M metres: P points.

    ``priority`` (P,) ranks who gives way: 0 gives way to 1 (main road, ring), all give way to 2 (pedestrians).
    It meets stop line ``stop_index[s]`` of the map after ``stop_m[s]`` metres, nearest first; any number of them.
    """

    points_m: FloatArray
    headings_rad: FloatArray  # (P,) unwrapped
    speed_mps: FloatArray  # (P,) speed wanted on an empty road: limit, bends, braking for them
    priority: NDArray[np.int8]
    stop_m: FloatArray  # (S,)
    stop_index: NDArray[np.int64]  # (S,)

    @property
    def length_m(self) -> float:
        """Length along the points."""
        return (len(self.points_m) - 1) * PATH_STEP_M

    def index_at(self, along_m: float) -> int:
        """The point at or before a distance along the path; clamped at both ends."""
        return int(np.clip(along_m / PATH_STEP_M, 0, len(self.points_m) - 1))

    def pose_at(self, along_m: float, left_m: float = 0.0) -> FloatArray:
        """Pose (3,) at a distance along the path, moved ``left_m`` to its left; clamped at both ends."""
        position = float(np.clip(along_m / PATH_STEP_M, 0, len(self.points_m) - 1.001))
        index = int(position)
        t = position - index
        xy_m = (1 - t) * self.points_m[index] + t * self.points_m[index + 1]
        heading_rad = (1 - t) * self.headings_rad[index] + t * self.headings_rad[index + 1]
        return np.array([xy_m[0] - left_m * np.sin(heading_rad), xy_m[1] + left_m * np.cos(heading_rad), heading_rad])

    def locate(self, xy_m: FloatArray, near_m: float) -> float:
        """Distance along the path of the place nearest to ``xy_m`` (2,), searched around ``near_m``."""
        near = np.arange(int(near_m) - 8, int(near_m) + 12).clip(0, len(self.points_m) - 1)
        return self._along(xy_m, int(near[np.argmin(((self.points_m[near] - xy_m) ** 2).sum(-1))]))

    def find(self, pose: FloatArray) -> float:
        """The same for a pose (3,), searched wherever the path leads the pose's way (or, failing that, everywhere)."""
        distance = ((self.points_m - pose[:2]) ** 2).sum(-1)
        along = np.abs(wrap_angle(self.headings_rad - pose[2])) < np.pi / 2
        return self._along(pose[:2], int(np.argmin(np.where(along, distance, np.inf) if along.any() else distance)))

    def _along(self, xy_m: FloatArray, index: int) -> float:
        heading_rad = self.headings_rad[index]
        ahead = np.array([np.cos(heading_rad), np.sin(heading_rad)])
        return index + float(np.clip((xy_m - self.points_m[index]) @ ahead, -1, 1))
