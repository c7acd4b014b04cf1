"""Scenario: everything about a scene that is settled before anybody chooses how the ego drives."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.clip import NUM_FUTURE_FRAMES, NUM_HISTORY_FRAMES
from resim.datatypes.polyline import headings_of, resample
from resim.datatypes.scene import Building, Look, TrackKind, Tree
from resim.simulation.generator.roads import RoadMap

FloatArray = NDArray[np.floating]

DT_S = 0.1
MAX_ROUNDS = 4  # of 4 s; the lights' schedule covers so many
MAX_STEPS = NUM_HISTORY_FRAMES + MAX_ROUNDS * NUM_FUTURE_FRAMES
PATH_STEP_M = 1.0
EGO_LENGTH_M, EGO_WIDTH_M, EGO_HEIGHT_M = 4.6, 1.9, 1.5
REAR_AXLE_TO_CENTER_M = 1.4
COMFORTABLE_LATERAL_MPS2 = 2.5  # lateral acceleration that sets the speed in bends
COMFORTABLE_BRAKE_MPS2 = 1.5  # deceleration with which bends are approached


@dataclass(frozen=True, kw_only=True)
class Path:
    """A line to drive along, sampled every PATH_STEP_M metres: P points.

    ``priority`` (P,) ranks who gives way: 0 gives way to 1 (main road, ring), all give way to 2 (pedestrians).
    ``stop_m`` is where the stop line of light ``signal`` crosses it; infinity and -1 where there is none.
    """

    points_m: FloatArray
    headings_rad: FloatArray  # (P,) unwrapped
    speed_mps: FloatArray  # (P,) speed wanted on an empty road: limit, bends, braking for them
    priority: NDArray[np.int8]
    stop_m: float = np.inf
    signal: int = -1

    @property
    def length_m(self) -> float:
        """Length along the points."""
        return (len(self.points_m) - 1) * PATH_STEP_M

    def pose_at(self, along_m: float, left_m: float = 0.0) -> FloatArray:
        """Pose (3,) at a distance along the path, moved ``left_m`` to its left; clamped at both ends."""
        position = float(np.clip(along_m / PATH_STEP_M, 0, len(self.points_m) - 1.001))
        index = int(position)
        t = position - index
        xy_m = (1 - t) * self.points_m[index] + t * self.points_m[index + 1]
        heading_rad = (1 - t) * self.headings_rad[index] + t * self.headings_rad[index + 1]
        return np.array([xy_m[0] - left_m * np.sin(heading_rad), xy_m[1] + left_m * np.cos(heading_rad), heading_rad])


@dataclass(frozen=True, kw_only=True)
class Agent:
    """Something besides the ego: it moves along ``path``, or stands at ``pose`` for good where that is None.

    ``along_m`` and ``speed_mps`` are those at step 0. Vehicles and cyclists follow by IDM; pedestrians walk steadily,
    and a negative ``along_m`` means that they still wait at the kerb.
    """

    kind: TrackKind
    length_m: float
    width_m: float
    height_m: float
    path: Path | None = None
    along_m: float = 0.0
    speed_mps: float = 0.0
    left_m: float = 0.0
    pose: FloatArray | None = None


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """The still world, the other road users at step 0, the lights' schedule, and the ego's start and route.

    ``ego_state`` (5,) is vehicle.py's state at step 0 and ``ego_along_m`` the axle's place on ``ego_path``;
    ``light_states`` (lights, steps) covers a drive of MAX_ROUNDS rounds.
    """

    scene_id: str
    kind: str
    road: RoadMap
    agents: tuple[Agent, ...]
    light_states: NDArray[np.int8]
    ego_path: Path
    ego_state: FloatArray
    ego_along_m: float
    look: Look = Look.DAY
    buildings: tuple[Building, ...] = ()
    trees: tuple[Tree, ...] = ()


def speed_profile(headings_rad: FloatArray, limit_mps: FloatArray) -> FloatArray:
    """Speed (P,) wanted along a path: the limit, slower in bends, and braking comfortably ahead of them."""
    curvature = np.abs(np.gradient(headings_rad)) / PATH_STEP_M
    curvature = np.convolve(np.pad(curvature, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    speed_mps = np.minimum(limit_mps, np.sqrt(COMFORTABLE_LATERAL_MPS2 / np.maximum(curvature, 1e-4)))
    # v_i^2 <= v_j^2 + 2 b (j - i) for every later j, as a running minimum from the far end.
    climb = 2 * COMFORTABLE_BRAKE_MPS2 * PATH_STEP_M * np.arange(len(speed_mps))
    return np.sqrt(np.minimum.accumulate((speed_mps**2 + climb)[::-1])[::-1] - climb)


def path_along(road: RoadMap, lane_ids: tuple[int, ...]) -> Path:
    """The path through these lanes, one after the other."""
    lanes = {lane.lane_id: lane for lane in road.lanes}
    pieces = [resample(lanes[i].centerline_m, PATH_STEP_M) for i in lane_ids]
    lengths_m = [float(np.hypot(*np.diff(p, axis=0).T).sum()) for p in pieces]
    points_m = resample(np.concatenate(pieces), PATH_STEP_M)
    ends_m = np.cumsum(lengths_m)
    owner = np.minimum(np.searchsorted(ends_m, PATH_STEP_M * np.arange(len(points_m))), len(lane_ids) - 1)
    limit_mps = np.array([lanes[i].speed_limit_mps for i in lane_ids])[owner]
    priority = np.array([i in road.priority_lane_ids for i in lane_ids], np.int8)[owner]
    headings_rad = headings_of(points_m)
    stop_m, signal = np.inf, -1
    for index, light in enumerate(road.signals):
        if set(light.lane_ids) & set(lane_ids):
            middle_m = light.stop_line_m.mean(axis=0)
            ahead = np.array([np.cos(light.heading_rad), np.sin(light.heading_rad)])
            stop_m = PATH_STEP_M * int(np.argmin(np.abs((points_m - middle_m) @ ahead)))
            signal = index
    return Path(
        points_m=points_m,
        headings_rad=headings_rad,
        speed_mps=speed_profile(headings_rad, limit_mps),
        priority=priority,
        stop_m=stop_m,
        signal=signal,
    )
