"""How the ego is driven: one control law, and a plan that says where a driver departs from the expert.

The expert follows its route by pure pursuit (Coulter 1992), chooses its speed by IDM and obeys the lights. A
non-expert is the same law with parts replaced: the path moved sideways, or accelerations and curvatures from presets,
which heed neither leads nor lights. A plan holds from t = 0 on, so that drivers part at once from a common history.
Each is a policy (datatypes.observation.Policy) that decides at every step.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from resim.datatypes.geometry import Camera, FloatArray, points_to_frame, wrap_angle
from resim.datatypes.observation import Control, Observation
from resim.datatypes.path import Path
from resim.datatypes.road_map import RoadMap
from resim.motion.bicycle import steer_for_curvature
from resim.motion.idm import gap_to_stop, idm_accel
from resim.simulation.traffic import ego_gap

DRIVERS = (
    "expert",
    "swerve_left",
    "swerve_right",
    "drift_off_road",
    "late_brake",
    "hard_brake",
    "run_light",
    "rear_end",
    "wrong_way",
    "random",
)
# What a user would rank against the expert: each is right in some scenes only.
POLICIES = ("constant_velocity", "lane_follower", "idm_lane_follower", "careful", "noisy_expert", "wrong")
WRONG = ("swerve_left", "swerve_right", "drift_off_road", "run_light", "rear_end", "wrong_way", "random")
LANE_ERROR_M = 2.0  # standard deviation of where a policy believes its lane to be
LANE_ERROR_RATE_MPS = 1.5  # how fast it goes there
ACCEL_PRESETS_MPS2 = (-6.0, -3.0, 0.0, 2.0, 3.0)
CURVATURE_PRESETS_1PM = (-0.12, -0.05, -0.02, 0.0, 0.02, 0.05, 0.12)
FARTHEST_LEFT_M = 21.0  # further to the left no opposite lane is looked for
MAX_LATERAL_MPS2 = 6.0  # what tyres give a non-expert


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a driver does differently from the expert; the default is the expert.

    ``left_m`` moves the path followed, reached at ``left_rate_mps``. ``accel_mps2`` and ``curvature_1pm``, where given,
    replace the speed and the steering control: one value per second, the last one held. Without ``heeds_lights`` the
    expert's speed control sees leads only.
    """

    left_m: float = 0.0
    left_rate_mps: float = np.inf
    accel_mps2: tuple[float, ...] | None = None
    curvature_1pm: tuple[float, ...] | None = None
    max_lateral_mps2: float = np.inf
    heeds_lights: bool = True


def opposite_lane_left_m(road: RoadMap, route: Path, along_m: float) -> float | None:
    """How far left of the ego's route, 15 m ahead, the nearest lane of the other direction runs; None without one."""
    pose = route.pose_at(along_m + 15.0)
    best_m = None
    for lane in road.lanes:
        points_m = points_to_frame(lane.dense_m, pose)
        nearest = int(np.argmin(np.abs(points_m[:, 0]) + 0.1 * np.abs(points_m[:, 1])))
        step = np.diff(points_m[max(0, nearest - 1) : nearest + 2], axis=0).sum(axis=0)
        left_m = float(points_m[nearest, 1])
        opposite = abs(points_m[nearest, 0]) < 2.0 and step[0] < -0.8 * np.hypot(*step)
        if opposite and 1.0 < left_m < FARTHEST_LEFT_M and (best_m is None or left_m < best_m):
            best_m = left_m
    return best_m


def draw_plan(driver: str, road: RoadMap, route: Path, along_m: float, rng: np.random.Generator) -> Plan:
    """The plan of ``driver``, begun ``along_m`` down the ego's route. Raises ValueError for an unknown driver."""
    if driver in POLICIES:
        return _policy_plan(driver, road, route, along_m, rng)
    if driver not in DRIVERS:
        raise ValueError(f"unknown driver {driver!r}; choose one of {', '.join(DRIVERS + POLICIES)}")
    if driver == "expert":
        return Plan()
    if driver in ("swerve_left", "swerve_right"):
        side = 1.0 if driver == "swerve_left" else -1.0
        accel = float(rng.choice([-1.5, 0.0, 1.0]))
        return Plan(left_m=side * rng.uniform(3.0, 7.0), accel_mps2=(accel,), max_lateral_mps2=MAX_LATERAL_MPS2)
    if driver == "drift_off_road":
        return Plan(left_m=-rng.uniform(4, 9), left_rate_mps=rng.uniform(1.5, 3.0), max_lateral_mps2=MAX_LATERAL_MPS2)
    if driver == "wrong_way":
        left_m = opposite_lane_left_m(road, route, along_m)
        if left_m is None:  # turn round in the road
            return Plan(accel_mps2=(-2.0, 0.0), curvature_1pm=(0.12,), max_lateral_mps2=MAX_LATERAL_MPS2)
        return Plan(left_m=left_m, accel_mps2=(float(rng.choice([0.0, 1.5])),), max_lateral_mps2=MAX_LATERAL_MPS2)
    if driver == "random":
        return Plan(
            accel_mps2=tuple(rng.choice(ACCEL_PRESETS_MPS2, 2).repeat(2)),
            curvature_1pm=tuple(rng.choice(CURVATURE_PRESETS_1PM, 2).repeat(2)),
            max_lateral_mps2=MAX_LATERAL_MPS2,
        )
    accel_mps2 = {
        "late_brake": (3.0, 3.0, -8.0),
        "hard_brake": (-rng.uniform(4, 8),),
        "run_light": (2.5, 2.5, 1.0, 0.0),
        "rear_end": (3.5, 3.5, 3.5, 1.0),
    }[driver]
    return Plan(accel_mps2=accel_mps2, max_lateral_mps2=MAX_LATERAL_MPS2)


def _policy_plan(policy: str, road: RoadMap, route: Path, along_m: float, rng: np.random.Generator) -> Plan:
    if policy == "wrong":
        return draw_plan(str(rng.choice(WRONG)), road, route, along_m, rng)
    if policy == "constant_velocity":
        return Plan(accel_mps2=(0.0,), curvature_1pm=(0.0,))
    accel_mps2 = {"lane_follower": (0.0,), "careful": (-3.0,)}.get(policy)
    return Plan(
        left_m=float(rng.normal(0.0, LANE_ERROR_M)),
        left_rate_mps=LANE_ERROR_RATE_MPS,
        accel_mps2=accel_mps2,
        heeds_lights=policy != "idm_lane_follower",
    )


class Driver:
    """One of DRIVERS or POLICIES. Its plan is drawn from (seed, name, scene) when a drive first asks it, and holds."""

    decision_s = 0.0
    cameras: Mapping[str, Camera] = {}

    def __init__(self, name: str, *, seed: int = 0) -> None:
        if name not in DRIVERS + POLICIES:
            raise ValueError(f"unknown driver {name!r}; choose one of {', '.join(DRIVERS + POLICIES)}")
        self.name, self.seed = name, seed
        self.plan: Plan | None = None
        self.scene_id, self.began, self.asked = "", 0, 0  # where, at which step it was drawn, and last asked

    def act(self, observation: Observation) -> Control:
        """What the plan wants now."""
        o = observation
        goes_on = o.scene_id == self.scene_id and o.step in (self.asked, self.asked + 1)
        if self.plan is None or not goes_on:  # another drive
            rng = np.random.default_rng([self.seed, *self.name.encode(), *o.scene_id.encode()])
            self.plan = draw_plan(self.name, o.road, o.route, o.along_m, rng)
            self.scene_id, self.began = o.scene_id, o.step
        self.asked = o.step
        return carry_out(self.plan, observation, (o.step - self.began) * o.dt_s)


def carry_out(plan: Plan, observation: Observation, elapsed_s: float) -> Control:
    """The control that ``plan`` wants ``elapsed_s`` after it began."""
    state, route = observation.ego_state, observation.route
    along_m = route.locate(state[:2], observation.along_m)
    second = int(elapsed_s + 1e-6)
    if plan.accel_mps2 is None:
        accel_mps2 = _expert_accel(observation, along_m, plan.heeds_lights)
    else:
        accel_mps2 = plan.accel_mps2[min(second, len(plan.accel_mps2) - 1)]
    if plan.curvature_1pm is None:
        left_m = np.sign(plan.left_m) * min(abs(plan.left_m), plan.left_rate_mps * max(elapsed_s, 0.5))
        curvature = pursue(state, route, along_m, left_m)
    else:
        curvature = plan.curvature_1pm[min(second, len(plan.curvature_1pm) - 1)]
    limit = plan.max_lateral_mps2 / max(state[3], 1.0) ** 2
    curvature = float(np.clip(curvature, -limit, limit))
    return Control(
        accel_mps2=float(accel_mps2),
        steer_rad=float(steer_for_curvature(curvature, observation.vehicle.wheelbase_m)),
    )


def pursue(state: FloatArray, route: Path, along_m: float, left_m: float) -> float:
    """Curvature of the circle through the axle and the point ahead on the route moved ``left_m`` to its left."""
    lookahead_m = float(np.clip(0.5 * state[3] + 2.0, 4.0, 10.0))
    target = route.pose_at(along_m + lookahead_m, left_m)
    x_m, y_m = points_to_frame(target[:2], state[:3])
    if x_m < 0 and abs(float(wrap_angle(target[2] - state[2]))) > np.pi / 2:
        return 0.0
    return float(2 * y_m / (x_m**2 + y_m**2))


def _expert_accel(observation: Observation, along_m: float, heeds_lights: bool) -> float:
    state, route, vehicle = observation.ego_state, observation.route, observation.vehicle
    center_m = along_m + vehicle.rear_axle_to_center_m
    gap_m, lead_mps = ego_gap(
        route, center_m, observation.obstacles, len(observation.boxes.valid), vehicle, observation.ego_z_m
    )
    line_m = np.inf
    if heeds_lights and len(route.stop_m):
        front_m = route.stop_m - center_m - vehicle.length_m / 2
        line_m = gap_to_stop(front_m, state[3], observation.stop_states[route.stop_index]).min()
    index = min(int(along_m + 0.5), len(route.points_m) - 1)
    both = idm_accel(
        np.full(2, state[3]), np.full(2, route.speed_mps[index]), np.array([gap_m, line_m]),
        np.array([lead_mps, 0.0]), max_accel_mps2=1.5, comfortable_brake_mps2=2.0, time_gap_s=1.4,
    )  # fmt: skip
    return float(both.min())
