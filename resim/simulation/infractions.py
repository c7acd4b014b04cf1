"""What went wrong in a drive, and the score in [0, 1] that follows from it.

The score is a product of penalty factors, those of the CARLA leaderboard ("Evaluation criteria"; the minimum
speed is new in version 2.0): collision with a pedestrian 0.50, with a vehicle 0.60, with something still 0.65; red
light 0.70; minimum speed not kept 0.70. Leaving the route's lanes there counts by its share of the way, as 1 - share.
Here that share is taken twice: of the way driven off the road, and of the way driven against the lane's direction.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.boxes import box_corners
from resim.datatypes.clip import Infractions
from resim.datatypes.geometry import FloatArray, wrap_angle
from resim.datatypes.polyline import headings_of, inside
from resim.datatypes.road_map import RoadMap, StopKind, SurfaceKind
from resim.datatypes.scene import LightState, Scene, Scenery
from resim.simulation.paths import stop_pose

COLLISION_FACTORS = {"pedestrian": 0.50, "vehicle": 0.60, "static": 0.65}
RED_LIGHT_FACTOR = 0.70
TOO_SLOW_FACTOR = 0.70
TOO_SLOW_PROGRESS = 0.5  # of the reference distance
WRONG_WAY_S = 1.0  # against the lane for at least so long
TREE_TRUNK_M = 0.5
LINE_M = 1.75
DRIVEN_ON = (SurfaceKind.DRIVABLE, SurfaceKind.INTERSECTION, SurfaceKind.CARPARK)


@dataclass(frozen=True, kw_only=True)
class Contact:
    """The first thing the ego touched: 'pedestrian' (cyclists too), 'vehicle' or 'static'; which track, if one."""

    kind: str
    track_index: int | None


def still_corners(scenery: Scenery | None) -> FloatArray:
    """Corners (N, 4, 2) of buildings and tree trunks."""
    if scenery is None:
        return np.zeros((0, 4, 2))
    poses = [b.pose for b in scenery.buildings] + [np.r_[t.xy_m, 0.0] for t in scenery.trees]
    lengths = np.array([b.length_m for b in scenery.buildings] + [TREE_TRUNK_M] * len(scenery.trees))
    widths = np.array([b.width_m for b in scenery.buildings] + [TREE_TRUNK_M] * len(scenery.trees))
    return box_corners(np.array(poses).reshape(-1, 3), lengths, widths)


def on_the_road(points_m: FloatArray, road: RoadMap) -> NDArray[np.bool_]:
    """Whether points (..., 2) lie on a surface to drive on, or on a lane where the map knows no such surface.

    A map without either says nothing, and everything counts as road.
    """
    surfaces = [surface for surface in road.surfaces if surface.kind in DRIVEN_ON]
    outlines = [] if surfaces else [o for lane in road.lanes if (o := lane.outline_m) is not None]
    if not surfaces and not outlines:
        return np.ones(points_m.shape[:-1], dtype=bool)
    on = np.zeros(points_m.shape[:-1], dtype=bool)
    for surface in surfaces:
        here = inside(points_m, surface.polygon_m)
        for hole_m in surface.holes_m:
            here &= ~inside(points_m, hole_m)
        on |= here
    for outline_m in outlines:
        on |= inside(points_m, outline_m)
    return on


def off_road(corners_m: FloatArray, road: RoadMap) -> NDArray[np.bool_]:
    """Whether at least two corners of each box (..., 4, 2) lie off the road."""
    return (~on_the_road(corners_m, road)).sum(-1) >= 2


def against_lane(poses: FloatArray, scene: Scene) -> NDArray[np.bool_]:
    """Which poses (T, 3) are on a lane and head more than 120 degrees off it, and off every other lane they are on.

    Lanes whose width the map does not know are left out.
    """
    with_lane = np.zeros(len(poses), dtype=bool)
    against = np.zeros(len(poses), dtype=bool)
    for lane in scene.road.lanes:
        if lane.width_m is None:
            continue
        d = poses[:, None, :2] - lane.dense_m
        square = (d**2).sum(-1)
        nearest = square.argmin(-1)
        heading = headings_of(lane.dense_m)[nearest]
        step = d[np.arange(len(poses)), nearest]
        side_m = np.abs(-np.sin(heading) * step[:, 0] + np.cos(heading) * step[:, 1])
        on = (side_m < lane.width_m / 2) & (square.min(-1) < lane.width_m**2)
        angle = np.abs(wrap_angle(poses[:, 2] - heading))
        against |= on & (angle > np.deg2rad(120))
        with_lane |= on & (angle <= np.deg2rad(120))
    return against & ~with_lane


def ran_red_light(scene: Scene, first_step: int) -> bool:
    """Whether the ego's front bumper crossed a stop line of its own direction while that light was red.

    Of a light whose line the map does not know, the line is as long as LINE_M to either side of its place.
    """
    poses, half_m = scene.ego.poses[first_step:], scene.ego.length_m / 2
    front = poses[:, :2] + half_m * np.stack([np.cos(poses[:, 2]), np.sin(poses[:, 2])], -1)
    for index, stop in enumerate(scene.road.stops):
        if stop.kind != StopKind.LIGHT:
            continue
        pose = stop_pose(scene.road, stop)
        if pose is None:
            continue
        place_m, heading_rad = pose
        ahead = np.array([np.cos(heading_rad), np.sin(heading_rad)])
        side = np.array([-ahead[1], ahead[0]])
        a, b = (place_m - LINE_M * side, place_m + LINE_M * side) if stop.line_m is None else stop.line_m
        along = (front - a) @ ahead
        across = (front - a) @ (b - a) / np.sum((b - a) ** 2)
        red = scene.light_states[index, first_step + 1 :] == LightState.RED
        crossed = (along[:-1] < 0) & (along[1:] >= 0) & (across[1:] >= 0) & (across[1:] <= 1)
        if np.any(crossed & red & (np.cos(poses[1:, 2] - heading_rad) > 0.5)):
            return True
    return False


def judge(scene: Scene, *, first_step: int, contact: Contact | None, reference_m: float) -> Infractions:
    """Infractions of the ego's executed drive from ``first_step`` (t = 0) on.

    ``reference_m`` is how far the log's ego drives in the same time: progress is measured against it, and
    less than half of it without a collision is too slow. A reference under 1 m (waiting) counts as full progress.
    """
    poses = scene.ego.poses[first_step:]
    steps_m = np.hypot(*np.diff(poses[:, :2], axis=0).T)
    driven_m = float(steps_m.sum())
    progress = 1.0 if reference_m < 1.0 else min(1.0, driven_m / reference_m)
    off = off_road(box_corners(poses, scene.ego.length_m, scene.ego.width_m), scene.road)
    against = against_lane(poses, scene)
    wrong_way = bool(against.sum() * scene.dt_s >= WRONG_WAY_S)
    red_light = ran_red_light(scene, first_step)
    too_slow = contact is None and progress < TOO_SLOW_PROGRESS

    def share(flags: NDArray[np.bool_]) -> float:
        return float(steps_m[flags[1:]].sum() / driven_m) if driven_m > 0.1 else float(flags.any())

    score = 1.0
    score *= COLLISION_FACTORS[contact.kind] if contact else 1.0
    score *= RED_LIGHT_FACTOR if red_light else 1.0
    score *= TOO_SLOW_FACTOR if too_slow else 1.0
    score *= 1.0 - share(off)
    score *= 1.0 - share(against) if wrong_way else 1.0
    return Infractions(
        collision=contact is not None,
        off_road=bool(off.any()),
        red_light=red_light,
        wrong_way=wrong_way,
        too_slow=too_slow,
        progress=progress,
        score=score,
    )
