"""The other road users of a scene: reacting by IDM to the ego, each other, stops and right of way, or as in the log.

Others are the scene's tracks without the ego, in their order (A of them).
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.geometry import FloatArray
from resim.datatypes.observation import Boxes, Obstacles
from resim.datatypes.path import PATH_STEP_M, Path
from resim.datatypes.road_map import StopKind
from resim.datatypes.scene import LightState, Scene, TrackKind, center_poses
from resim.datatypes.vehicle import Vehicle
from resim.motion.bicycle import step_bicycle
from resim.motion.idm import gap_to_stop, idm_accel
from resim.simulation.paths import path_of_intent, path_of_track

LOOKAHEAD_M = 51.0
WINDOW_STEP_M = 3.0
SIDE_MARGIN_M = 0.25
REACH_M = 60.0  # as the crow flies, nothing further away is on the way ahead
PREDICTIONS_S = (1.0, 2.0)  # where those with right of way will be
LANE_WIDTH_M = 3.5  # of lanes whose width the map does not know
REPLAY_S = 0.5  # time between the places at which a replayed one is looked for on lanes
NEAR_M = 8.0  # no lane point further away matters to something that stands
LEVEL_M = 3.0  # nothing meets across more height than this
STOPPED_MPS = 0.1  # slower than this, at most STOP_ZONE_M before a stop sign, counts as having stopped there
STOP_ZONE_M = 4.0
Mode = Literal["reactive", "replay"]


def gap_ahead(
    points_m: FloatArray,
    headings_rad: FloatArray,
    half_length_m: FloatArray,
    half_width_m: FloatArray,
    priority: NDArray[np.int8],
    owner: NDArray[np.int64],
    z_m: FloatArray,
    obstacles: Obstacles,
) -> tuple[FloatArray, FloatArray]:
    """Bumper-to-bumper gap (F,) to the first obstacle on each of F paths, and that obstacle's speed along the path.

    ``points_m`` (F, K, 2) are the path ahead from each follower's centre on, ``z_m`` (F,) the followers' heights. No
    obstacle: an infinite gap, speed 0.
    """
    start_m = obstacles.xy_m - points_m[:, :1]  # (F, M, 2)
    row, column = np.nonzero((start_m * start_m).sum(-1) < REACH_M**2)  # the P pairs that can meet at all
    dx_m, dy_m = (obstacles.xy_m[column, None, i] - points_m[row, :, i] for i in (0, 1))  # (P, K)
    nearest = (dx_m * dx_m + dy_m * dy_m).argmin(axis=-1)
    pair = np.arange(len(row))
    rest_x, rest_y = dx_m[pair, nearest], dy_m[pair, nearest]
    heading = headings_rad[row, nearest]
    ahead_x, ahead_y = np.cos(heading), np.sin(heading)
    step_m = ahead_x * rest_x + ahead_y * rest_y
    along_m = nearest * WINDOW_STEP_M + step_m
    side_m = np.abs(ahead_x * rest_y - ahead_y * rest_x)
    radius_m, rank = obstacles.radius_m[column], obstacles.rank[column]
    in_the_way = (
        (side_m < half_width_m[row] + radius_m + SIDE_MARGIN_M)
        & (np.abs(step_m) <= WINDOW_STEP_M)
        & (along_m > 0.5)
        & (owner[row] != obstacles.owner[column])
        & ((rank == 0) | (rank > priority[row]))
        & ~(np.abs(z_m[row] - obstacles.z_m[column]) > LEVEL_M)  # an unknown height is on any level
    )
    gap_m = np.full((len(points_m), len(obstacles.xy_m)), np.inf)
    gap_m[row, column] = np.where(in_the_way, along_m - radius_m - half_length_m[row], np.inf)
    lead_mps = np.zeros(gap_m.shape)
    velocity = obstacles.velocity_mps[column]
    lead_mps[row, column] = ahead_x * velocity[:, 0] + ahead_y * velocity[:, 1]
    first = gap_m.argmin(axis=1)
    one = np.arange(len(gap_m))
    return gap_m[one, first], np.where(np.isfinite(gap_m[one, first]), lead_mps[one, first], 0.0)


def has_stopped(front_to_line_m: FloatArray, speed_mps: FloatArray) -> NDArray[np.bool_]:
    """Whether one stands before a stop line, as a stop sign asks."""
    return (speed_mps < STOPPED_MPS) & (front_to_line_m > -0.5) & (front_to_line_m < STOP_ZONE_M)


def signals(scene: Scene, step: int) -> NDArray[np.int8]:
    """What each stop line of the map says (stops,) to one who has not stopped yet: a stop sign says RED."""
    states = scene.light_states[:, step].copy()
    for index, stop in enumerate(scene.road.stops):
        if stop.kind == StopKind.STOP:
            states[index] = LightState.RED
    return states


class Traffic:
    """The others from step ``step`` of the scene's log on. Pure in its inputs: no randomness.

    ``mode`` 'reactive': those with an intent act on it, and recorded vehicles and cyclists that are there at ``step``
    follow the line they drove. Whatever else there is (parked cars, things, recorded pedestrians, who comes later), and
    everything in 'replay', does as the log says.
    """

    def __init__(self, scene: Scene, *, mode: Mode, step: int) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"mode {mode!r}: choose one of {', '.join(get_args(Mode))}")
        self.scene, self.tracks = scene, scene.others()
        self.count = len(self.tracks)
        self.size_m = np.array([[t.length_m, t.width_m] for t in self.tracks]).reshape(-1, 2)
        self.kind = np.array([int(t.kind) for t in self.tracks], np.int64)
        for array in (self.size_m, self.kind):  # observations hand them out
            array.flags.writeable = False
        self._log_poses = np.array([t.poses for t in self.tracks]).reshape(self.count, scene.num_steps, 3)
        self._log_velocity = np.array([t.velocity_mps for t in self.tracks]).reshape(self.count, scene.num_steps, 2)
        self._log_valid = np.array([t.valid for t in self.tracks], bool).reshape(self.count, scene.num_steps)
        self._log_z_m = np.array([np.full(scene.num_steps, np.nan) if t.z_m is None else t.z_m for t in self.tracks])
        self._known_z = bool(np.isfinite(self._log_z_m).any())
        paths = {} if mode == "replay" else self._paths(step)
        self.moving = np.array(list(paths), dtype=np.int64)
        self._paths_of_movers(list(paths.values()))
        self._in_the_way = self._find_those_in_the_way()
        self._is_sign = np.array([s.kind == StopKind.STOP for s in scene.road.stops] + [False])
        self.start(step)

    def _paths(self, step: int) -> dict[int, Path]:
        """The paths of those who move by themselves, by their index."""
        paths: dict[int, Path] = {}
        for index, track in enumerate(self.tracks):
            if track.intent is not None:
                path: Path | None = path_of_intent(self.scene.road, track.intent)
            elif track.valid[step] and track.kind in (TrackKind.VEHICLE, TrackKind.CYCLIST):
                path = path_of_track(self.scene.road, track)
            else:
                path = None
            if path is not None:
                paths[index] = path
        return paths

    def _paths_of_movers(self, paths: list[Path]) -> None:
        """Their arrays, padded to the longest: N movers."""
        longest = max((len(p.points_m) for p in paths), default=2)
        most = max((len(p.stop_m) for p in paths), default=0)

        def padded(values: list[NDArray]) -> NDArray:
            return np.stack([np.concatenate([v, np.repeat(v[-1:], longest - len(v), axis=0)]) for v in values])

        if paths:
            self.points_m = padded([p.points_m for p in paths])
            self.headings_rad = padded([p.headings_rad for p in paths])
            self.wanted_mps = padded([p.speed_mps for p in paths])
            self.priority = padded([p.priority for p in paths])
        self.length_m = np.array([p.length_m for p in paths])
        no_stop = len(self.scene.road.stops)
        fill = [most - len(p.stop_m) for p in paths]
        self.stop_m = np.array([np.r_[p.stop_m, np.full(n, np.inf)] for p, n in zip(paths, fill, strict=True)])
        self.stop_index = np.array(
            [np.r_[p.stop_index, np.full(n, no_stop)] for p, n in zip(paths, fill, strict=True)]
        ).astype(np.int64)
        self.follows = np.array([self.tracks[i].kind != TrackKind.PEDESTRIAN for i in self.moving], dtype=bool)
        self._path_list = paths

    def start(self, step: int) -> None:
        """Put everybody where the log has them at ``step``."""
        self.step_index = step
        along_m, speed_mps = [], []
        for index, path in zip(self.moving, self._path_list, strict=True):
            track = self.tracks[index]
            intent = track.intent
            along_m.append(path.find(track.poses[step]) if intent is None else float(intent.along_m[step]))
            speed_mps.append(float(track.speed_mps[step]) if intent is None or along_m[-1] >= 0 else intent.speed_mps)
        self.along_m, self.speed_mps = np.array(along_m), np.array(speed_mps, dtype=float)
        self.stopped = np.zeros(len(self.moving), dtype=bool)  # by a collision
        self.has_stopped = np.zeros(self.stop_m.shape, dtype=bool)
        self._frozen: dict[int, FloatArray] = {}  # pose of a replayed one that was hit

    def _find_those_in_the_way(self) -> NDArray[np.int64]:
        """Which replayed ones the log ever has on a lane; parked cars beside the road are in nobody's way."""
        rest = np.setdiff1d(np.arange(self.count), self.moving)
        lanes = self.scene.road.lanes
        if not lanes or not len(rest):
            return rest
        points_m = np.concatenate([lane.dense_m for lane in lanes])
        half_m = np.concatenate(
            [np.full(len(la.dense_m), (LANE_WIDTH_M if la.width_m is None else la.width_m) / 2) for la in lanes]
        )
        found, stride = [], max(1, round(REPLAY_S / self.scene.dt_s))
        for index in rest:
            places_m = np.unique(self._log_poses[index][self._log_valid[index], :2][::stride], axis=0)
            near = np.abs(points_m - places_m.mean(axis=0)).max(-1) if len(places_m) == 1 else np.zeros(len(points_m))
            chosen = near < NEAR_M
            apart_m = np.linalg.norm(points_m[chosen, None] - places_m, axis=-1) - half_m[chosen, None]
            if (apart_m < self.size_m[index, 1] / 2).any():
                found.append(index)
        return np.array(found, dtype=np.int64)

    def _at(self, rows: NDArray[np.int64], along_m: FloatArray) -> FloatArray:
        """Poses (N, 3) of the movers ``rows`` (N,) at these positions (N,) along their paths."""
        position = np.clip(along_m / PATH_STEP_M, 0, self.points_m.shape[1] - 1.001)
        index = position.astype(np.int64)
        t = (position - index)[:, None]
        xy_m = (1 - t) * self.points_m[rows, index] + t * self.points_m[rows, index + 1]
        heading = (1 - t[:, 0]) * self.headings_rad[rows, index] + t[:, 0] * self.headings_rad[rows, index + 1]
        return np.concatenate([xy_m, heading[:, None]], -1)

    def poses(self) -> FloatArray:
        """Box centre poses (A, 3) of all others."""
        poses = self._log_poses[:, self.step_index].copy()
        if len(self.moving):
            poses[self.moving] = self._at(np.arange(len(self.moving)), self.along_m)
        for index, pose in self._frozen.items():
            poses[index] = pose
        return poses

    def velocities_mps(self, poses: FloatArray) -> FloatArray:
        """Velocities (A, 2) at these poses (A, 3); a pedestrian who still waits has none."""
        velocity = self._log_velocity[:, self.step_index].copy()
        if len(self.moving):
            speed = np.where((self.along_m < 0) | self.stopped, 0.0, self.speed_mps)
            heading = poses[self.moving, 2]
            velocity[self.moving] = speed[:, None] * np.stack([np.cos(heading), np.sin(heading)], -1)
        velocity[list(self._frozen)] = 0.0
        return velocity

    def valid(self) -> NDArray[np.bool_]:
        """Which others (A,) are there: movers leave at the end of their path."""
        valid = self._log_valid[:, self.step_index].copy()
        valid[self.moving] = self.along_m < self.length_m - 0.5
        valid[list(self._frozen)] = True
        return valid

    def boxes(self) -> Boxes:
        """All others as they are now."""
        poses = self.poses()
        velocity, valid = self.velocities_mps(poses), self.valid()
        return Boxes(poses=poses, size_m=self.size_m, velocity_mps=velocity, kind=self.kind, valid=valid)

    def along_way_m(self) -> FloatArray:
        """Where the others (A,) are along their intents; NaN for who has none."""
        along_m = np.full(self.count, np.nan)
        along_m[self.moving] = self.along_m
        return along_m

    def z_m(self, index: NDArray[np.int64], xy_m: FloatArray) -> FloatArray:
        """Heights (N,) of the others ``index`` at places (N, 2): the log's, where it came nearest; NaN if unknown."""
        if not self._known_z or not len(index):
            return np.full(len(index), np.nan)
        distance = ((self._log_poses[index, :, :2] - xy_m[:, None]) ** 2).sum(-1)
        nearest = np.where(self._log_valid[index], distance, np.inf).argmin(-1)
        return self._log_z_m[index, nearest]

    def obstacles(self, ego_state: FloatArray, ego_rank: int, vehicle: Vehicle, ego_z_m: float) -> Obstacles:
        """What moves now, and where those with right of way (the ego too if ``ego_rank`` > 0) will be in 1 and 2 s."""
        bodies = []
        for wait_s in (0.0, *PREDICTIONS_S):
            if wait_s == 0 or ego_rank > 0:
                bodies.append(self._ego_body(ego_state, ego_rank, wait_s, vehicle))
            if len(self.moving):
                bodies.append(self._movers(wait_s))
        if len(self._in_the_way):
            bodies.append(self._replayed())
        pose, size, speed, owner, rank = (np.concatenate(column) for column in zip(*bodies, strict=True))
        direction = np.stack([np.cos(pose[:, 2]), np.sin(pose[:, 2])], -1)
        radius_m = size.min(axis=1) / 2
        reach_m = np.maximum(0.0, size[:, 0] / 2 - radius_m)
        spread = np.array([-1.0, 0.0, 1.0])[:, None, None] * (reach_m[:, None] * direction)
        z_m = np.full(len(owner), np.nan)
        if self._known_z:
            z_m[owner == self.count] = ego_z_m
            z_m[owner < self.count] = self.z_m(owner[owner < self.count], pose[owner < self.count, :2])
        return Obstacles(
            xy_m=(pose[None, :, :2] + spread).reshape(-1, 2),
            radius_m=np.tile(radius_m, 3),
            velocity_mps=np.tile(speed[:, None] * direction, (3, 1)),
            owner=np.tile(owner, 3).astype(np.int64),
            rank=np.tile(rank, 3).astype(np.int8),
            z_m=np.tile(z_m, 3),
        )

    def _ego_body(self, state: FloatArray, rank: int, wait_s: float, vehicle: Vehicle) -> tuple[NDArray, ...]:
        """Pose, size, speed, owner and rank (each with one row) of the ego, ``wait_s`` ahead on its present circle."""
        later = step_bicycle(state, 0.0, state[4], wait_s, vehicle.wheelbase_m) if wait_s else state
        pose = center_poses(later[None, :3], vehicle)
        size = np.array([[vehicle.length_m, vehicle.width_m]])
        return pose, size, state[3:4], np.array([self.count]), np.array([rank if wait_s else 0])

    def _movers(self, wait_s: float) -> tuple[NDArray, ...]:
        """The same for the movers: all of them now (``wait_s`` 0), later those with right of way."""
        index = np.clip(self.along_m / PATH_STEP_M, 0, self.points_m.shape[1] - 1).astype(np.int64)
        rank = self.priority[np.arange(len(index)), index]
        chosen = self.along_m < self.length_m - 0.5
        if wait_s > 0:
            chosen &= (rank > 0) & ~self.stopped
        rows = np.flatnonzero(chosen)
        pose = self._at(rows, self.along_m[rows] + wait_s * self.speed_mps[rows])
        speed = np.where(self.stopped, 0.0, self.speed_mps)[rows]
        owner = self.moving[rows]
        return pose, self.size_m[owner], speed, owner, rank[rows] if wait_s > 0 else 0 * rank[rows]

    def _replayed(self) -> tuple[NDArray, ...]:
        """The same for those on the road that do as the log says."""
        poses, valid = self.poses(), self.valid()
        owner = self._in_the_way[valid[self._in_the_way]]
        speed = np.hypot(*self.velocities_mps(poses)[owner].T)
        return poses[owner], self.size_m[owner], speed, owner, np.zeros(len(owner), np.int8)

    def step(self, obstacles: Obstacles, stop_states: NDArray[np.int8]) -> None:
        """Advance by one step; ``stop_states`` (stops,) are :func:`signals` of the current step."""
        dt_s = self.scene.dt_s
        active = np.flatnonzero(self.follows & (self.along_m < self.length_m - 0.5))
        accel = np.zeros(len(self.moving))
        if len(active):
            accel[active] = self._accel(active, obstacles, stop_states)
        speed_mps = np.where(self.follows, np.maximum(0.0, self.speed_mps + accel * dt_s), self.speed_mps)
        moved_m = 0.5 * (self.speed_mps + speed_mps) * dt_s
        self.along_m = self.along_m + np.where(self.stopped, 0.0, moved_m)
        self.speed_mps = speed_mps
        self.step_index += 1

    def _accel(self, active: NDArray[np.int64], obstacles: Obstacles, stop_states: NDArray[np.int8]) -> FloatArray:
        """IDM's acceleration of the movers ``active`` behind leads and stop lines."""
        offsets = np.arange(0, LOOKAHEAD_M, WINDOW_STEP_M) / PATH_STEP_M
        window = self.along_m[active, None] / PATH_STEP_M + offsets
        window = np.clip(window.round().astype(np.int64), 0, self.points_m.shape[1] - 1)
        rows, here = active[:, None], window[:, 0]
        owner = self.moving[active]
        size_m = self.size_m[owner]
        points_m = self.points_m[rows, window]
        gap_m, lead_mps = gap_ahead(
            points_m, self.headings_rad[rows, window], size_m[:, 0] / 2, size_m[:, 1] / 2,
            self.priority[active, here], owner, self.z_m(owner, points_m[:, 0]), obstacles,
        )  # fmt: skip
        gap_m = gap_m + here * PATH_STEP_M - self.along_m[active]
        speed, wanted = self.speed_mps[active], self.wanted_mps[active, here]
        accel = idm_accel(speed, wanted, gap_m, lead_mps)
        if self.stop_m.shape[1]:
            front_m = (self.stop_m[active].T - self.along_m[active] - size_m[:, 0] / 2).T
            is_sign = self._is_sign[self.stop_index[active]]
            self.has_stopped[active] |= is_sign & has_stopped(front_m, speed[:, None])
            state = np.r_[stop_states, np.int8(LightState.UNKNOWN)][self.stop_index[active]]
            state = np.where(self.has_stopped[active], LightState.GREEN, state)
            line_m = gap_to_stop(front_m, speed[:, None], state).min(axis=1)
            accel = np.minimum(accel, idm_accel(speed, wanted, line_m, 0.0))
        return accel

    def stop(self, index: int) -> None:
        """A collision stops this one for good."""
        if index in self.moving:
            self.stopped |= self.moving == index
        else:
            self._frozen[index] = self.poses()[index]


def ego_gap(
    path: Path, along_m: float, obstacles: Obstacles, ego_owner: int, vehicle: Vehicle, z_m: float
) -> tuple[float, float]:
    """Gap from the ego's bumper to the first obstacle on ``path``, and its speed; the ego's centre is at `along_m`."""
    offsets = along_m + np.arange(0, LOOKAHEAD_M, WINDOW_STEP_M)
    window = np.clip((offsets / PATH_STEP_M).round().astype(np.int64), 0, len(path.points_m) - 1)
    gap_m, lead_mps = gap_ahead(
        path.points_m[window][None], path.headings_rad[window][None], np.array([vehicle.length_m / 2]),
        np.array([vehicle.width_m / 2]), path.priority[window[:1]], np.array([ego_owner]), np.array([z_m]), obstacles,
    )  # fmt: skip
    return float(gap_m[0]) + window[0] * PATH_STEP_M - along_m, float(lead_mps[0])
