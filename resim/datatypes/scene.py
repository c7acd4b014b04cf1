"""Scene: what a driving log or the generator knows about the world around one ego drive, in one fixed world frame.

World frame: metres, x and y in the ground plane, z up, headings counter-clockwise. Everything dynamic is sampled every
``dt_s`` on one clock of T steps. Importers of logs and the generator both produce this type, and the simulator, the
painter, the scores and the planners read nothing else. What is not known is None, never a guess.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.geometry import FloatArray
from resim.datatypes.road_map import RoadMap
from resim.datatypes.vehicle import Vehicle


class TrackKind(IntEnum):
    """What moves or stands; STATIC are things that are never driven or walked (cones, barriers, signs)."""

    VEHICLE = 0
    PEDESTRIAN = 1
    CYCLIST = 2
    STATIC = 3


class LightState(IntEnum):
    """State of a traffic light; UNKNOWN is never treated as green or red."""

    UNKNOWN = 0
    GREEN = 1
    YELLOW = 2
    RED = 3


class Look(IntEnum):
    """Weather, time of day and road surface, for the painter only.

    SLABS is day on concrete slabs, light and dark in turn: there speed shows where nothing else passes by. NIGHT is the
    same by headlight; no recipe trains on it, so that the demo has something to learn.
    """

    DAY = 0
    DUSK = 1
    RAIN = 2
    SLABS = 3
    NIGHT = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Intent:
    """Where a road user of a made scene means to go; nobody knows that of a recorded one.

    Either through ``lane_ids``, one after the other, or along ``line_m`` (N, 2) at ``speed_mps`` with the right of way
    ``priority`` (see Path). ``along_m`` (T,) is where along that way the box centre is at each step; below 0 it still
    waits to set off.
    """

    along_m: FloatArray
    lane_ids: tuple[int, ...] = ()
    line_m: FloatArray | None = None
    speed_mps: float | None = None
    priority: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """Something with a box. ``poses`` (T, 3) [x_m, y_m, heading_rad] and ``velocity_mps`` (T, 2) are of its CENTRE.

    Rows where ``valid`` (T,) is False hold no information. ``z_m`` (T,) is the height of the box's middle,
    ``accel_mps2`` (T, 2) in the world frame, ``detail`` what a log calls it ('traffic_cone').
    """

    track_id: int | str
    kind: TrackKind
    length_m: float
    width_m: float
    height_m: float
    poses: FloatArray
    velocity_mps: FloatArray
    valid: NDArray[np.bool_]
    z_m: FloatArray | None = None
    accel_mps2: FloatArray | None = None
    detail: str | None = None
    intent: Intent | None = None

    @property
    def speed_mps(self) -> FloatArray:
        """Speed (T,) along the heading; negative backwards."""
        heading_rad = self.poses[:, 2]
        return self.velocity_mps[:, 0] * np.cos(heading_rad) + self.velocity_mps[:, 1] * np.sin(heading_rad)


@dataclass(frozen=True, kw_only=True, eq=False)
class Building:
    """A box on the ground: centre pose [x_m, y_m, heading_rad], size and a shade in [0, 1] for its wall colour."""

    pose: FloatArray
    length_m: float
    width_m: float
    height_m: float
    shade: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Tree:
    """A tree at ``xy_m`` (2,)."""

    xy_m: FloatArray
    height_m: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Scenery:
    """What the painter adds, and what stands beside the road."""

    look: Look = Look.DAY
    buildings: tuple[Building, ...] = ()
    trees: tuple[Tree, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """Map, lights, tracks and scenery. ``ego_index`` says which of ``tracks`` is the ego.

    Steps up to ``now_step`` (t = 0) are history. ``light_states`` (stops of the map, T) int8 of LightState, UNKNOWN for
    stops that are no lights. ``timestamps_s`` (T,) where the log's clock is not even. Waypoints and the ego's camera
    hang on the rear axle of ``ego_vehicle``. ``ego_steer_rad`` (T,) is the angle of its front wheels.
    """

    scene_id: str
    source: str
    dt_s: float
    now_step: int
    road: RoadMap
    light_states: NDArray[np.int8]
    tracks: tuple[Track, ...]
    ego_index: int
    ego_vehicle: Vehicle
    timestamps_s: FloatArray | None = None
    ego_steer_rad: FloatArray | None = None
    route_lane_ids: tuple[int, ...] | None = None
    goal_m: FloatArray | None = None
    scenery: Scenery | None = None

    def __post_init__(self) -> None:
        """Raises ValueError naming what does not have a row for every step, or every stop of the map."""
        if not 0 <= self.ego_index < len(self.tracks):
            raise ValueError(f"scene {self.scene_id}: ego_index {self.ego_index}, but {len(self.tracks)} tracks")
        num_steps = self.num_steps
        for track in self.tracks:
            if not len(track.poses) == len(track.velocity_mps) == len(track.valid) == num_steps:
                raise ValueError(
                    f"scene {self.scene_id}: track {track.track_id} has {len(track.poses)} poses, "
                    f"{len(track.velocity_mps)} velocities and {len(track.valid)} flags; the ego has {num_steps} steps"
                )
            along_m = None if track.intent is None else track.intent.along_m
            for name, values in (("z_m", track.z_m), ("accel_mps2", track.accel_mps2), ("intent.along_m", along_m)):
                self._require_steps(f"track {track.track_id}: {name}", values)
        for name in ("timestamps_s", "ego_steer_rad"):
            self._require_steps(name, getattr(self, name))
        if self.light_states.shape != (len(self.road.stops), num_steps):
            raise ValueError(
                f"scene {self.scene_id}: light_states are {self.light_states.shape}; the map has "
                f"{len(self.road.stops)} stops and the ego {num_steps} steps"
            )
        if not 0 <= self.now_step < num_steps:
            raise ValueError(f"scene {self.scene_id}: now_step {self.now_step} is none of its {num_steps} steps")

    def _require_steps(self, what: str, values: FloatArray | None) -> None:
        if values is not None and len(values) != self.num_steps:
            raise ValueError(
                f"scene {self.scene_id}: {what} has {len(values)} rows; the ego has {self.num_steps} steps"
            )

    @property
    def ego(self) -> Track:
        """The ego track."""
        return self.tracks[self.ego_index]

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.ego.valid)

    def others(self) -> tuple[Track, ...]:
        """All tracks but the ego's, in their order."""
        return self.tracks[: self.ego_index] + self.tracks[self.ego_index + 1 :]

    def ego_axle_poses(self) -> FloatArray:
        """World poses (T, 3) of the ego's rear axle."""
        return axle_poses(self.ego.poses, self.ego_vehicle)


def axle_poses(center_poses: FloatArray, vehicle: Vehicle) -> FloatArray:
    """Poses (..., 3) of the rear axle from those of the box centre."""
    return _moved_ahead(center_poses, -vehicle.rear_axle_to_center_m)


def center_poses(axle_poses: FloatArray, vehicle: Vehicle) -> FloatArray:
    """Poses (..., 3) of the box centre from those of the rear axle."""
    return _moved_ahead(axle_poses, vehicle.rear_axle_to_center_m)


def _moved_ahead(poses: FloatArray, ahead_m: float) -> FloatArray:
    heading_rad = poses[..., 2]
    xy_m = poses[..., :2] + ahead_m * np.stack([np.cos(heading_rad), np.sin(heading_rad)], -1)
    return np.concatenate([xy_m, heading_rad[..., None]], axis=-1)
