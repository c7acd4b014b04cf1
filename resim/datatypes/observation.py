"""Observation: what a policy may see at one moment, and what it may answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.geometry import Camera, FloatArray
from resim.datatypes.path import Path
from resim.datatypes.road_map import RoadMap
from resim.datatypes.vehicle import Vehicle


@dataclass(frozen=True, kw_only=True, eq=False)
class Obstacles:
    """Discs (M) that cover the boxes on the road, now and (for those with right of way) predicted."""

    xy_m: FloatArray  # (M, 2)
    radius_m: FloatArray  # (M,)
    velocity_mps: FloatArray  # (M, 2)
    owner: NDArray[np.int64]  # (M,) index among the others; their number for the ego
    rank: NDArray[np.int8]  # (M,) 0 for what is there now, else the priority that makes a prediction count
    z_m: FloatArray  # (M,) NaN where the height is not known


@dataclass(frozen=True, kw_only=True, eq=False)
class Boxes:
    """The other road users (A) at one moment; rows that are not ``valid`` are not there."""

    poses: FloatArray  # (A, 3) world, of the box centre
    size_m: FloatArray  # (A, 2) length and width
    velocity_mps: FloatArray  # (A, 2) world
    kind: NDArray[np.int64]  # (A,) TrackKind
    valid: NDArray[np.bool_]  # (A,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Observation:
    """The world as one policy may see it; everything is in the world frame but frames of cameras.

    ``ego_state`` (5,) is motion.bicycle's: rear axle, speed and steering. ``along_m`` is where on ``route`` the axle
    was found a step ago: where to begin to look for it. ``stop_states`` (stops of the map) says which stops bind:
    lights as they are, stop signs RED until the ego has stopped at them. ``ego_z_m`` is NaN where heights are not
    known. ``frames`` are those of the policy's own cameras.
    """

    scene_id: str
    step: int
    dt_s: float
    ego_state: FloatArray
    vehicle: Vehicle
    road: RoadMap
    route: Path
    along_m: float
    obstacles: Obstacles
    stop_states: NDArray[np.int8]
    boxes: Boxes
    ego_z_m: float
    frames: Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class Control:
    """Acceleration and the angle of the front wheels wanted until the next decision."""

    accel_mps2: float
    steer_rad: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectory:
    """Poses (N, 3) of the rear axle in the world frame, wanted at ``times_s`` (N,) from now on."""

    poses: FloatArray
    times_s: FloatArray


class Policy(Protocol):
    """Who drives: asked every ``decision_s`` seconds (every step where that is 0), sees through ``cameras``."""

    decision_s: float
    cameras: Mapping[str, Camera]

    def act(self, observation: Observation) -> Control | Trajectory:
        """The answer to what is seen."""
        ...
