"""The other road users: IDM along their paths, reacting to the ego, to each other, to lights and to right of way."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.scene import LightState, TrackKind
from resim.motion.bicycle import step_bicycle
from resim.simulation.scenario import (
    DT_S,
    EGO_LENGTH_M,
    EGO_WIDTH_M,
    PATH_STEP_M,
    REAR_AXLE_TO_CENTER_M,
    Path,
    Scenario,
)

FloatArray = NDArray[np.floating]

LOOKAHEAD_M = 51.0
WINDOW_STEP_M = 3.0
SIDE_MARGIN_M = 0.25
PREDICTIONS_S = (1.0, 2.0)  # where those with right of way will be
MAX_BRAKE_MPS2 = 8.0


def idm_accel(
    speed_mps: FloatArray,
    wanted_mps: FloatArray,
    gap_m: FloatArray,
    lead_mps: FloatArray,
    *,
    max_accel_mps2: float = 0.73,
    comfortable_brake_mps2: float = 1.67,
    time_gap_s: float = 1.6,
    min_gap_m: float = 2.0,
    exponent: float = 4.0,
) -> FloatArray:
    """Acceleration of the intelligent driver model; an infinite ``gap_m`` is a free road.

    Treiber, Hennecke, Helbing, Phys. Rev. E 62 (2000), equations 2 and 3, with that paper's parameters as defaults.
    The braking is limited to what a vehicle can do.
    """
    braking_m = speed_mps * (speed_mps - lead_mps) / (2 * np.sqrt(max_accel_mps2 * comfortable_brake_mps2))
    wanted_gap_m = min_gap_m + np.maximum(0.0, speed_mps * time_gap_s + braking_m)
    free = 1 - (speed_mps / np.maximum(wanted_mps, 0.1)) ** exponent
    accel = max_accel_mps2 * (free - (wanted_gap_m / np.maximum(gap_m, 0.1)) ** 2)
    return np.clip(accel, -MAX_BRAKE_MPS2, max_accel_mps2)


@dataclass(frozen=True, kw_only=True)
class Obstacles:
    """Discs (M) that cover the boxes on the road, now and (for those with right of way) predicted."""

    xy_m: FloatArray  # (M, 2)
    radius_m: FloatArray  # (M,)
    velocity_mps: FloatArray  # (M, 2)
    owner: NDArray[np.int64]  # (M,) agent index; the number of agents for the ego
    rank: NDArray[np.int8]  # (M,) 0 for what is there now, else the priority that makes a prediction count


def gap_ahead(
    points_m: FloatArray,
    headings_rad: FloatArray,
    half_length_m: FloatArray,
    half_width_m: FloatArray,
    priority: NDArray[np.int8],
    owner: NDArray[np.int64],
    obstacles: Obstacles,
) -> tuple[FloatArray, FloatArray]:
    """Bumper-to-bumper gap (F,) to the first obstacle on each of F paths, and that obstacle's speed along the path.

    ``points_m`` (F, K, 2) are the path ahead from each follower's centre on. No obstacle: an infinite gap, speed 0.
    """
    dx_m, dy_m = (obstacles.xy_m[None, :, None, i] - points_m[:, None, :, i] for i in (0, 1))  # (F, M, K)
    nearest = (dx_m * dx_m + dy_m * dy_m).argmin(axis=-1)  # (F, M)
    rows = np.arange(len(points_m))[:, None]
    heading = headings_rad[rows, nearest]
    ahead = np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    rest = obstacles.xy_m - points_m[rows, nearest]
    step_m = (ahead * rest).sum(-1)
    along_m = nearest * WINDOW_STEP_M + step_m
    side_m = np.abs(ahead[..., 0] * rest[..., 1] - ahead[..., 1] * rest[..., 0])
    in_the_way = (
        (side_m < half_width_m[:, None] + obstacles.radius_m + SIDE_MARGIN_M)
        & (np.abs(step_m) <= WINDOW_STEP_M)
        & (along_m > 0.5)
        & (owner[:, None] != obstacles.owner)
        & ((obstacles.rank == 0) | (obstacles.rank > priority[:, None]))
    )
    gap_m = np.where(in_the_way, along_m - obstacles.radius_m - half_length_m[:, None], np.inf)
    first = gap_m.argmin(axis=1)
    one = np.arange(len(gap_m))
    speed_mps = (ahead[one, first] * obstacles.velocity_mps[first]).sum(-1)
    return gap_m[one, first], np.where(np.isfinite(gap_m[one, first]), speed_mps, 0.0)


def gap_to_light(
    front_to_line_m: FloatArray, speed_mps: FloatArray, state: NDArray[np.int8], firm_brake_mps2: float = 3.0
) -> FloatArray:
    """Gap to a stop line that must be respected, else infinity: red, or yellow while stopping is still reasonable."""
    can_stop = speed_mps**2 <= 2 * firm_brake_mps2 * np.maximum(front_to_line_m, 0.01)
    must_stop = (state == LightState.RED) | ((state == LightState.YELLOW) & can_stop)
    return np.where(must_stop & (front_to_line_m > -0.5), np.maximum(front_to_line_m, 0.1), np.inf)


class Traffic:
    """The other road users of a scenario, stepped at 10 Hz. Pure in its inputs: no randomness."""

    def __init__(self, scenario: Scenario) -> None:
        agents = scenario.agents
        self.count = len(agents)
        self.size_m = np.array([[a.length_m, a.width_m] for a in agents]).reshape(-1, 2)
        self.still_poses = np.array([a.pose if a.pose is not None else np.zeros(3) for a in agents]).reshape(-1, 3)
        self.moving = np.array([i for i, a in enumerate(agents) if a.path is not None], dtype=np.int64)
        paths = [a.path for a in agents if a.path is not None]
        longest = max((len(p.points_m) for p in paths), default=2)

        def padded(values: list[NDArray]) -> NDArray:
            return np.stack([np.concatenate([v, np.repeat(v[-1:], longest - len(v), axis=0)]) for v in values])

        if paths:
            self.points_m = padded([p.points_m for p in paths])
            self.headings_rad = padded([p.headings_rad for p in paths])
            self.wanted_mps = padded([p.speed_mps for p in paths])
            self.priority = padded([p.priority for p in paths])
        self.length_m = np.array([p.length_m for p in paths])
        self.stop_m = np.array([p.stop_m for p in paths])
        self.signal = np.array([p.signal for p in paths], dtype=np.int64)
        movers = [agents[i] for i in self.moving]
        self.left_m = np.array([a.left_m for a in movers])
        self.follows = np.array([a.kind != TrackKind.PEDESTRIAN for a in movers], dtype=bool)
        self.along_m = np.array([a.along_m for a in movers])
        self.speed_mps = np.array([a.speed_mps for a in movers])
        self.stopped = np.zeros(len(movers), dtype=bool)  # by a collision

    def _at(self, rows: NDArray[np.int64], along_m: FloatArray) -> FloatArray:
        """Poses (N, 3) of the movers ``rows`` (N,) at these positions (N,) along their paths."""
        position = np.clip(along_m / PATH_STEP_M, 0, self.points_m.shape[1] - 1.001)
        index = position.astype(np.int64)
        t = (position - index)[:, None]
        xy_m = (1 - t) * self.points_m[rows, index] + t * self.points_m[rows, index + 1]
        heading = (1 - t[:, 0]) * self.headings_rad[rows, index] + t[:, 0] * self.headings_rad[rows, index + 1]
        side = np.stack([-np.sin(heading), np.cos(heading)], -1) * self.left_m[rows, None]
        return np.concatenate([xy_m + side, heading[:, None]], -1)

    def poses(self) -> FloatArray:
        """Box centre poses (A, 3) of all agents, in the scenario's order."""
        poses = self.still_poses.copy()
        if len(self.moving):
            poses[self.moving] = self._at(np.arange(len(self.moving)), self.along_m)
        return poses

    def speeds_mps(self) -> FloatArray:
        """Speeds (A,); a pedestrian who still waits has none."""
        speeds = np.zeros(self.count)
        speeds[self.moving] = np.where((self.along_m < 0) | self.stopped, 0.0, self.speed_mps)
        return speeds

    def valid(self) -> NDArray[np.bool_]:
        """Which agents (A,) are there: movers leave at the end of their path."""
        valid = np.ones(self.count, dtype=bool)
        valid[self.moving] = self.along_m < self.length_m - 0.5
        return valid

    def obstacles(self, ego_state: FloatArray, ego_rank: int) -> Obstacles:
        """What moves now, and where those with right of way (the ego too if ``ego_rank`` > 0) will be in 1 and 2 s."""
        bodies = []
        for wait_s in (0.0, *PREDICTIONS_S):
            if wait_s == 0 or ego_rank > 0:
                bodies.append(self._ego_body(ego_state, ego_rank, wait_s))
            if len(self.moving):
                bodies.append(self._movers(wait_s))
        pose, size, speed, owner, rank = (np.concatenate(column) for column in zip(*bodies, strict=True))
        direction = np.stack([np.cos(pose[:, 2]), np.sin(pose[:, 2])], -1)
        radius_m = size.min(axis=1) / 2
        reach_m = np.maximum(0.0, size[:, 0] / 2 - radius_m)
        spread = np.array([-1.0, 0.0, 1.0])[:, None, None] * (reach_m[:, None] * direction)
        return Obstacles(
            xy_m=(pose[None, :, :2] + spread).reshape(-1, 2),
            radius_m=np.tile(radius_m, 3),
            velocity_mps=np.tile(speed[:, None] * direction, (3, 1)),
            owner=np.tile(owner, 3).astype(np.int64),
            rank=np.tile(rank, 3).astype(np.int8),
        )

    def _ego_body(self, state: FloatArray, rank: int, wait_s: float) -> tuple[NDArray, ...]:
        """Pose, size, speed, owner and rank (each with one row) of the ego, ``wait_s`` ahead on its present circle."""
        x_m, y_m, heading = step_bicycle(state, 0.0, state[4], wait_s)[:3]
        pose = np.array([[x_m, y_m, heading]])
        pose[:, :2] += REAR_AXLE_TO_CENTER_M * np.array([np.cos(heading), np.sin(heading)])
        size = np.array([[EGO_LENGTH_M, EGO_WIDTH_M]])
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

    def step(self, obstacles: Obstacles, light_states: NDArray[np.int8]) -> None:
        """Advance all movers by one step; ``light_states`` (lights,) are those of the current step."""
        active = np.flatnonzero(self.follows & (self.along_m < self.length_m - 0.5))
        accel = np.zeros(len(self.moving))
        if len(active):
            offsets = np.arange(0, LOOKAHEAD_M, WINDOW_STEP_M) / PATH_STEP_M
            window = self.along_m[active, None] / PATH_STEP_M + offsets
            window = np.clip(window.round().astype(np.int64), 0, self.points_m.shape[1] - 1)
            rows, here = active[:, None], window[:, 0]
            size_m = self.size_m[self.moving[active]]
            gap_m, lead_mps = gap_ahead(
                self.points_m[rows, window], self.headings_rad[rows, window], size_m[:, 0] / 2, size_m[:, 1] / 2,
                self.priority[active, here], self.moving[active], obstacles,
            )  # fmt: skip
            gap_m = gap_m + here * PATH_STEP_M - self.along_m[active]
            speed, wanted = self.speed_mps[active], self.wanted_mps[active, here]
            accel[active] = idm_accel(speed, wanted, gap_m, lead_mps)
            lit = self.signal[active] >= 0
            if lit.any():
                front_m = self.stop_m[active] - self.along_m[active] - size_m[:, 0] / 2
                state = light_states[np.maximum(self.signal[active], 0)]
                line_m = np.where(lit, gap_to_light(front_m, speed, state), np.inf)
                accel[active] = np.minimum(accel[active], idm_accel(speed, wanted, line_m, np.zeros(len(active))))
        speed_mps = np.where(self.follows, np.maximum(0.0, self.speed_mps + accel * DT_S), self.speed_mps)
        moved_m = 0.5 * (self.speed_mps + speed_mps) * DT_S
        self.along_m = self.along_m + np.where(self.stopped, 0.0, moved_m)
        self.speed_mps = speed_mps

    def stop(self, agent_index: int) -> None:
        """A collision stops this agent for good."""
        self.stopped |= self.moving == agent_index


def ego_gap(path: Path, along_m: float, obstacles: Obstacles, ego_owner: int) -> tuple[float, float]:
    """Gap from the ego's bumper to the first obstacle on ``path``, and its speed; the ego's centre is at `along_m`."""
    offsets = along_m + np.arange(0, LOOKAHEAD_M, WINDOW_STEP_M)
    window = np.clip((offsets / PATH_STEP_M).round().astype(np.int64), 0, len(path.points_m) - 1)
    gap_m, lead_mps = gap_ahead(
        path.points_m[window][None], path.headings_rad[window][None], np.array([EGO_LENGTH_M / 2]),
        np.array([EGO_WIDTH_M / 2]), path.priority[window[:1]], np.array([ego_owner]), obstacles,
    )  # fmt: skip
    return float(gap_m[0]) + window[0] * PATH_STEP_M - along_m, float(lead_mps[0])
