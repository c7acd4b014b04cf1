"""Policies that answer with trajectories: what the log drove, and a planner that plans anew at a stated rate."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from resim.datatypes.geometry import Camera, FloatArray, points_to_frame, wrap_angle
from resim.datatypes.observation import Control, Observation, Trajectory
from resim.datatypes.scene import Scene
from resim.datatypes.vehicle import Vehicle
from resim.motion.bicycle import steer_for_curvature
from resim.simulation.drivers import Plan, carry_out

PREVIEW_S = 0.3  # the tracker aims at where the trajectory is then
PLAN_S = 4.0
PLAN_STEP_S = 0.5


@dataclass
class LogReplay:
    """Wants to be where the log's ego was: the trajectory of what is left of the log, given once."""

    scene: Scene
    decision_s: float = np.inf
    cameras: Mapping[str, Camera] = field(default_factory=dict)

    def act(self, observation: Observation) -> Trajectory:
        """The log's rear axle from now on."""
        known = np.flatnonzero(self.scene.ego.valid[observation.step :])
        poses = self.scene.ego_axle_poses()[observation.step + known]
        return Trajectory(poses=poses, times_s=observation.dt_s * known)


@dataclass
class RouteFollower:
    """Plans 4 s along its route every ``decision_s``: the speed that the expert would choose now, held."""

    decision_s: float = 0.5
    cameras: Mapping[str, Camera] = field(default_factory=dict)

    def act(self, observation: Observation) -> Trajectory:
        """Poses on the route at the speed that the expert's acceleration leads to, never below standstill."""
        state, route = observation.ego_state, observation.route
        accel_mps2 = carry_out(Plan(), observation, 0.0).accel_mps2
        times_s = np.arange(0.0, PLAN_S + PLAN_STEP_S / 2, PLAN_STEP_S)
        ends_s = np.minimum(times_s, self.decision_s if accel_mps2 >= 0 else state[3] / max(-accel_mps2, 1e-6))
        driven_m = state[3] * ends_s + 0.5 * accel_mps2 * ends_s**2
        driven_m += np.maximum(state[3] + accel_mps2 * ends_s, 0.0) * (times_s - ends_s)
        along_m = route.locate(state[:2], observation.along_m)
        return Trajectory(poses=np.stack([route.pose_at(along_m + m) for m in driven_m]), times_s=times_s)


def track(trajectory: Trajectory, elapsed_s: float, state: FloatArray, vehicle: Vehicle, dt_s: float) -> Control:
    """The control that brings the axle towards where the trajectory is PREVIEW_S from now; held at its end.

    Constant acceleration to be there in time, and the circle through a point ahead (pure pursuit, Coulter 1992).
    """
    times_s, poses = trajectory.times_s, trajectory.poses

    def at(time_s: float) -> FloatArray:
        time_s = float(np.clip(time_s, times_s[0], times_s[-1]))
        turn_rad = np.unwrap(poses[:, 2])
        return np.array([np.interp(time_s, times_s, column) for column in (poses[:, 0], poses[:, 1], turn_rad)])

    aim, later = at(elapsed_s + PREVIEW_S), at(elapsed_s + PREVIEW_S + dt_s)
    ahead_m = points_to_frame(aim[:2], state[:3])[0]
    wanted_mps = float(np.hypot(*(later - aim)[:2])) / dt_s
    # Half of the way corrects the place, half of it the speed, so that one does not overshoot for the other.
    place_mps2 = 2 * (ahead_m - state[3] * PREVIEW_S) / PREVIEW_S**2
    speed_mps2 = (wanted_mps - state[3]) / PREVIEW_S
    reach_s = PREVIEW_S + max(0.0, 3.0 - wanted_mps * PREVIEW_S) / max(wanted_mps, 1.0)
    x_m, y_m = points_to_frame(at(elapsed_s + reach_s)[:2], state[:3])
    if x_m**2 + y_m**2 > 0.25:
        curvature = 2 * y_m / (x_m**2 + y_m**2)
    else:  # it stands there: only the heading is left to hold
        curvature = float(wrap_angle(aim[2] - state[2]))
    steer_rad = steer_for_curvature(curvature, vehicle.wheelbase_m)
    return Control(accel_mps2=float(0.3 * place_mps2 + 0.7 * speed_mps2), steer_rad=float(steer_rad))
