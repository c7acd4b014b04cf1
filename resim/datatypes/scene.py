"""Scene: what a driving log or the simulator knows about the world around one ego drive, in one fixed world frame.

World frame: metres, x and y in the ground plane, z up, headings counter-clockwise. Everything dynamic is sampled at
``dt_s`` (0.1 s) on one clock of T steps. Importers of real logs and the procedural generator both produce this type,
and the simulator, the painter and the planners read nothing else.
"""

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]


class TrackKind(IntEnum):
    """What moves (or is parked)."""

    VEHICLE = 0
    PEDESTRIAN = 1
    CYCLIST = 2


class LightState(IntEnum):
    """State of a traffic light; UNKNOWN is never treated as green or red."""

    UNKNOWN = 0
    GREEN = 1
    YELLOW = 2
    RED = 3


class Look(IntEnum):
    """Weather, time of day and road surface, for the painter only.

    SLABS is day on concrete slabs, light and dark in turn: there speed shows where nothing else passes by.
    """

    DAY = 0
    DUSK = 1
    RAIN = 2
    SLABS = 3


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One driving lane. ``centerline_m`` (N, 2) runs in driving direction; neighbours are ids in the same direction."""

    lane_id: int
    centerline_m: FloatArray
    width_m: float
    speed_limit_mps: float
    successor_ids: tuple[int, ...] = ()
    left_id: int | None = None
    right_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class RoadLine:
    """A painted line (N, 2). ``style`` is 'solid', 'dashed' or 'double' (yellow centre line)."""

    points_m: FloatArray
    style: str


@dataclass(frozen=True, kw_only=True)
class TrafficLight:
    """A light governing ``lane_ids`` at a stop line. ``states`` (T,) int8 of LightState."""

    lane_ids: tuple[int, ...]
    stop_line_m: FloatArray  # (2, 2): the two ends of the stop line
    position_m: FloatArray  # (3,): the lamp housing
    heading_rad: float  # driving direction of the traffic it governs
    states: NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class Track:
    """A moving or parked thing with a box. ``poses`` (T, 3) [x_m, y_m, heading_rad] of the box CENTRE (ego too).

    Rows where ``valid`` (T,) is False hold no information.
    """

    track_id: int
    kind: TrackKind
    length_m: float
    width_m: float
    height_m: float
    poses: FloatArray
    speed_mps: FloatArray  # (T,) signed along the heading
    valid: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Building:
    """A box on the ground: centre pose [x_m, y_m, heading_rad], size and a shade in [0, 1] for its wall colour."""

    pose: FloatArray
    length_m: float
    width_m: float
    height_m: float
    shade: float


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A tree at ``xy_m`` (2,)."""

    xy_m: FloatArray
    height_m: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Map, lights, tracks and scenery. ``ego_index`` says which of ``tracks`` is the ego.

    The ego's rear axle lies ``rear_axle_to_center_m`` behind its box centre; waypoints and the camera hang on the axle.
    """

    scene_id: str
    dt_s: float
    lanes: tuple[Lane, ...]
    road_edges: tuple[FloatArray, ...]  # polylines (N, 2) where the drivable surface ends
    drivable: tuple[FloatArray, ...]  # polygons (N, 2) whose union is the drivable surface
    road_lines: tuple[RoadLine, ...]
    crosswalks: tuple[FloatArray, ...]  # polygons (N, 2)
    lights: tuple[TrafficLight, ...]
    tracks: tuple[Track, ...]
    ego_index: int
    rear_axle_to_center_m: float = 1.4
    look: Look = Look.DAY
    buildings: tuple[Building, ...] = field(default=())
    trees: tuple[Tree, ...] = field(default=())

    @property
    def ego(self) -> Track:
        """The ego track."""
        return self.tracks[self.ego_index]

    @property
    def num_steps(self) -> int:
        """T, the number of 10 Hz steps."""
        return len(self.ego.valid)

    def ego_axle_poses(self) -> FloatArray:
        """World poses (T, 3) of the ego's rear axle."""
        poses = self.ego.poses.copy()
        poses[:, 0] -= self.rear_axle_to_center_m * np.cos(poses[:, 2])
        poses[:, 1] -= self.rear_axle_to_center_m * np.sin(poses[:, 2])
        return poses
