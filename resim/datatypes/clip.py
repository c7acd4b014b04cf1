"""Clip: one sample on disk. What a model sees is batch.Batch; this module stays free of torch, which is slow to load.

Time: 49 frames at 10 Hz; frames 0..8 are history, frame 8 is t = 0, frames 9..48 are the 4 s to predict. Waypoints are
8 rows [x_m, y_m, heading_rad] at 0.5, 1.0, .. 4.0 s in the ego (rear axle) frame at t = 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.geometry import FloatArray

FPS = 10.0
NUM_FRAMES = 49
NUM_HISTORY_FRAMES = 9  # the last of them is t = 0
NUM_FUTURE_FRAMES = 40
NUM_WAYPOINTS = 8
WAYPOINT_DT_S = 0.5
WAYPOINT_TIMES_S = tuple(WAYPOINT_DT_S * (i + 1) for i in range(NUM_WAYPOINTS))

Waypoints = NDArray[np.floating]  # (..., 8, 3)

SCENE_PROMPT = "This video depicts a realistic view from the driver's perspective of a car driving on the road."
COMMAND_SENTENCES = {"left": " Turning left.", "forward": " Moving forward.", "right": " Turning right."}
TURN_HEADING_RAD = float(np.deg2rad(15.0))  # a path whose heading changes by more in 4 s counts as a turn


def command_of(waypoints_m: NDArray[np.floating]) -> str:
    """'left', 'forward' or 'right' from the heading of the last waypoint of (8, 3)."""
    heading_rad = float(waypoints_m[-1, 2])
    if abs(heading_rad) <= TURN_HEADING_RAD:
        return "forward"
    return "left" if heading_rad > 0 else "right"


def speed_at_start_mps(history_poses: FloatArray) -> float:
    """Speed at t = 0 from the last 0.3 s of the history's poses (9, 3)."""
    return float(np.linalg.norm(np.diff(history_poses[-4:, :2], axis=0), axis=1).mean() * FPS)


def prompt_for(command: str | None) -> str:
    """The scene prompt, with the sentence of ``command`` ('left', 'forward', 'right') where there is one."""
    return SCENE_PROMPT if command is None else SCENE_PROMPT + COMMAND_SENTENCES[command]


@dataclass(frozen=True, kw_only=True)
class Infractions:
    """What went wrong in a drive; ``score`` in [0, 1] is their product of penalty factors, 1 = clean."""

    collision: bool
    off_road: bool
    red_light: bool
    wrong_way: bool
    too_slow: bool
    progress: float  # fraction of the reference distance driven, in [0, 1]
    score: float


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One sample as the store's index holds it: where its 49 frames are, and what is known about them.

    ``waypoints`` (8, 3) is the path the model is conditioned on: the intended one. ``executed_waypoints`` is what was
    driven; both are None for video without poses. They differ only where a collision cut the drive short.
    """

    clip_id: str
    source: str  # mixture entry: 'simulation', 'opendv', 'kitti' ...
    video: str  # path of the shard, relative to the store
    start_s: float  # timestamp of frame 0 within the shard
    scene_id: str
    driver: str | None  # 'expert', 'swerve', ... or None for logs
    command: str | None  # 'left', 'forward', 'right' or None when unknown
    waypoints: NDArray[np.float32] | None
    executed_waypoints: NDArray[np.float32] | None
    history_poses: NDArray[np.float32] | None  # (9, 3) executed axle poses of the history, same frame as waypoints
    infractions: Infractions | None
    camera: dict[str, float] | None  # fields of geometry.Camera at the shard's resolution
