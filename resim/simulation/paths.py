"""Paths: through lanes that are known, along a line, or on from what a recorded track drove."""

from functools import lru_cache

import numpy as np

from resim.datatypes.geometry import FloatArray, wrap_angle
from resim.datatypes.path import PATH_STEP_M, Path
from resim.datatypes.polyline import headings_of, resample
from resim.datatypes.road_map import Lane, RoadMap, StopLine
from resim.datatypes.scene import Intent, Track

COMFORTABLE_LATERAL_MPS2 = 2.5  # lateral acceleration that sets the speed in bends
COMFORTABLE_BRAKE_MPS2 = 1.5  # deceleration with which bends are approached
UNKNOWN_LIMIT_MPS = 13.4  # wanted where the map names no limit: 30 miles an hour
BESIDE_M = 12.0  # further away a path does not cross a stop line that its lanes share
ON_PATH_M = 2.0  # a free line meets a stop, and follows a lane, that is no further to its side
PARKED_M = 2.0  # a recorded vehicle that moves less is parked
RUN_OUT_M = 120.0  # how far a recorded path is drawn on along the lanes


def speed_profile(headings_rad: FloatArray, limit_mps: FloatArray) -> FloatArray:
    """Speed (P,) wanted along a path: the limit, slower in bends, and braking comfortably ahead of them."""
    curvature = np.abs(np.gradient(headings_rad)) / PATH_STEP_M
    curvature = np.convolve(np.pad(curvature, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    speed_mps = np.minimum(limit_mps, np.sqrt(COMFORTABLE_LATERAL_MPS2 / np.maximum(curvature, 1e-4)))
    # v_i^2 <= v_j^2 + 2 b (j - i) for every later j, as a running minimum from the far end.
    climb = 2 * COMFORTABLE_BRAKE_MPS2 * PATH_STEP_M * np.arange(len(speed_mps))
    return np.sqrt(np.minimum.accumulate((speed_mps**2 + climb)[::-1])[::-1] - climb)


@lru_cache(maxsize=256)  # the same routes are asked for by the generator, by traffic and by every drive of a scene
def path_along(road: RoadMap, lane_ids: tuple[int, ...]) -> Path:
    """The path through these lanes, one after the other, with every stop line that governs one of them."""
    lanes = [road.lane_by_id[i] for i in lane_ids]
    pieces = [resample(lane.centerline_m, PATH_STEP_M) for lane in lanes]
    lengths_m = [float(np.hypot(*np.diff(p, axis=0).T).sum()) for p in pieces]
    points_m = resample(np.concatenate(pieces), PATH_STEP_M)
    ends_m = np.cumsum(lengths_m)
    owner = np.minimum(np.searchsorted(ends_m, PATH_STEP_M * np.arange(len(points_m))), len(lane_ids) - 1)
    headings_rad = headings_of(points_m)
    stops = [(i, stop) for i, stop in enumerate(road.stops) if set(stop.lane_ids) & set(lane_ids)]
    stop_m, stop_index = _stops_on(points_m, headings_rad, road, stops, BESIDE_M)
    return Path(
        points_m=points_m,
        headings_rad=headings_rad,
        speed_mps=speed_profile(headings_rad, np.array([_limit_mps(lane) for lane in lanes])[owner]),
        priority=np.array([lane.priority for lane in lanes], np.int8)[owner],
        stop_m=stop_m,
        stop_index=stop_index,
    )


def path_on(line_m: FloatArray, speed_mps: float, priority: int) -> Path:
    """A line (N, 2) walked or cycled at a steady pace; nobody stops on it."""
    points_m = resample(line_m, PATH_STEP_M)
    return Path(
        points_m=points_m,
        headings_rad=headings_of(points_m),
        speed_mps=np.full(len(points_m), speed_mps),
        priority=np.full(len(points_m), priority, np.int8),
        stop_m=np.zeros(0),
        stop_index=np.zeros(0, np.int64),
    )


def path_of_intent(road: RoadMap, intent: Intent) -> Path:
    """What a road user of a made scene means to drive, cycle or walk."""
    if intent.line_m is None:
        return path_along(road, intent.lane_ids)
    assert intent.speed_mps is not None
    return path_on(intent.line_m, intent.speed_mps, intent.priority)


def path_of_track(road: RoadMap, track: Track, *, parked_m: float = PARKED_M) -> Path | None:
    """The line that a recorded track drove, and on along the lanes from where it ends; None where that is < parked_m.

    It wants the lanes' limit, or its own highest speed where that is more.
    """
    poses = track.poses[track.valid]
    moves = [0]
    for index in range(1, len(poses)):
        if np.hypot(*(poses[index, :2] - poses[moves[-1], :2])) > 0.05:  # since the last one kept, however slowly
            moves.append(index)
    if np.hypot(*np.diff(poses[moves, :2], axis=0).T).sum() < parked_m:
        return None
    ahead, lanes = _run_out(road, poses[-1])
    points_m = resample(np.concatenate([poses[moves, :2], ahead]), PATH_STEP_M)
    headings_rad = headings_of(points_m)
    limit_mps = max([_limit_mps(lane) for lane in lanes], default=UNKNOWN_LIMIT_MPS)
    limit_mps = max(limit_mps, float(np.abs(track.speed_mps[track.valid]).max()))
    stop_m, stop_index = _stops_on(points_m, headings_rad, road, list(enumerate(road.stops)), ON_PATH_M)
    return Path(
        points_m=points_m,
        headings_rad=headings_rad,
        speed_mps=speed_profile(headings_rad, np.full(len(points_m), limit_mps)),
        priority=np.full(len(points_m), max((lane.priority for lane in lanes), default=0), np.int8),
        stop_m=stop_m,
        stop_index=stop_index,
    )


def _limit_mps(lane: Lane) -> float:
    return UNKNOWN_LIMIT_MPS if lane.speed_limit_mps is None else lane.speed_limit_mps


def _length_m(pieces: list[FloatArray]) -> float:
    return sum(float(np.hypot(*np.diff(piece, axis=0).T).sum()) for piece in pieces)


def _run_out(road: RoadMap, pose: FloatArray) -> tuple[FloatArray, list[Lane]]:
    """Points (N, 2) that lead on from a pose along its lane and that lane's first successors, and these lanes."""
    for lane in road.lanes_near(pose[:2], ON_PATH_M):
        points_m = lane.dense_m
        start = int(np.argmin(((points_m - pose[:2]) ** 2).sum(-1)))
        if abs(float(wrap_angle(headings_of(points_m)[start] - pose[2]))) < np.pi / 4:
            lanes, pieces = [lane], [points_m[start + 2 :]]
            while _length_m(pieces) < RUN_OUT_M and lanes[-1].successor_ids and len(lanes) < 10:
                following = road.lane_by_id.get(lanes[-1].successor_ids[0])
                if following is None:  # it lies beyond the map's border
                    break
                lanes.append(following)
                pieces.append(following.dense_m)
            if any(map(len, pieces)):
                return np.concatenate(pieces), lanes
            break  # at the map's border
    straight_m = np.arange(2.0, RUN_OUT_M, 2.0)[:, None]
    return pose[:2] + straight_m * np.array([np.cos(pose[2]), np.sin(pose[2])]), []


def stop_pose(road: RoadMap, stop: StopLine) -> tuple[FloatArray, float] | None:
    """Where a stop line is (2,), and which way those look who stop there; None where the map knows too little.

    A map that knows no more than its lanes puts it where the first of them enters a junction, or else ends.
    """
    lane = next((road.lane_by_id[i] for i in stop.lane_ids if i in road.lane_by_id), None)
    if stop.line_m is not None:
        place_m = stop.line_m.mean(axis=0)
    elif stop.point_m is not None:
        place_m = stop.point_m
    elif lane is None:
        return None
    else:
        index = 0 if lane.in_intersection else -1
        return lane.centerline_m[index], float(headings_of(lane.centerline_m)[index])
    if stop.heading_rad is not None:
        return place_m, stop.heading_rad
    if lane is None:
        return None
    nearest = int(np.argmin(((lane.centerline_m - place_m) ** 2).sum(-1)))
    return place_m, float(headings_of(lane.centerline_m)[nearest])


def _stops_on(
    points_m: FloatArray, headings_rad: FloatArray, road: RoadMap, stops: list[tuple[int, StopLine]], beside_m: float
) -> tuple[FloatArray, np.ndarray]:
    """Distances (S,) along the points at which the given stop lines are met, nearest first, and their indices."""
    found: list[tuple[float, int]] = []
    for index, stop in stops:
        pose = stop_pose(road, stop)
        if pose is None:
            continue
        place_m, heading_rad = pose
        ahead = np.array([np.cos(heading_rad), np.sin(heading_rad)])
        along_m = np.abs((points_m - place_m) @ ahead)
        meets = ((points_m - place_m) ** 2).sum(-1) < beside_m**2
        meets &= np.abs(wrap_angle(headings_rad - heading_rad)) < np.pi / 3
        if meets.any():
            found.append((PATH_STEP_M * int(np.argmin(np.where(meets, along_m, np.inf))), index))
    found.sort()
    return np.array([m for m, _ in found]), np.array([i for _, i in found], np.int64)
