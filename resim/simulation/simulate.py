"""A scene in motion: any Scene, generated or recorded, runs on from its t = 0 with somebody else at the wheel."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.boxes import box_corners, boxes_overlap
from resim.datatypes.clip import WAYPOINT_DT_S, WAYPOINT_TIMES_S, Infractions
from resim.datatypes.geometry import FloatArray, to_frame
from resim.datatypes.observation import Boxes, Control, Observation, Policy, Trajectory
from resim.datatypes.path import Path
from resim.datatypes.road_map import StopKind
from resim.datatypes.scene import LightState, Scene, Track, TrackKind, center_poses
from resim.motion.bicycle import limit_control, step_bicycle
from resim.simulation.drivers import Driver
from resim.simulation.infractions import Contact, judge, still_corners
from resim.simulation.painter.eyes import Eyes
from resim.simulation.paths import path_along, path_of_track
from resim.simulation.policies import track
from resim.simulation.traffic import LEVEL_M, Mode, Traffic, has_stopped, signals

ROUND_S = WAYPOINT_TIMES_S[-1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Drive:
    """One drive through a scene, in R rounds of 4 s from t = 0. Poses are of the rear axle.

    ``scene`` is what happened; its history is the log's. ``rounds_R83`` (R, 8, 3) is what each round commands: the path
    intended, in the ego frame where the round begins: the same driver's controls as if nothing had been hit. A
    collision stops the ego for good, so every round that begins after it commands standing still.
    ``executed_waypoints`` (8, 3) is what was driven in the first; it differs from ``waypoints`` only after a collision.
    ``history_poses`` (H, 3) are those up to t = 0, in its frame, NaN where the log has no ego. ``infractions`` are of
    the whole drive.
    """

    scene: Scene
    driver: str
    rounds_R83: NDArray[np.float32]
    executed_waypoints: NDArray[np.float32]
    history_poses: NDArray[np.float32]
    infractions: Infractions

    @property
    def waypoints(self) -> NDArray[np.float32]:
        """What the first round commands (8, 3)."""
        return self.rounds_R83[0]


def ego_route(scene: Scene) -> Path:
    """The path of the ego's route; where the scene knows none, what its log drove, and on along the lanes."""
    if scene.route_lane_ids:
        return path_along(scene.road, scene.route_lane_ids)
    route = path_of_track(scene.road, scene.ego, parked_m=0.0)
    assert route is not None  # nothing counts as parked
    return route


def ego_steering_rad(scene: Scene, step: int) -> float:
    """The angle of the ego's front wheels: as logged, else what turns it so in the step before; straight at rest."""
    if scene.ego_steer_rad is not None:
        return float(scene.ego_steer_rad[step])
    if step == 0 or not scene.ego.valid[step - 1]:
        return 0.0
    before, now = scene.ego_axle_poses()[step - 1 : step + 1]
    motion = to_frame(now, before)
    if np.hypot(*motion[:2]) < 0.05:
        return 0.0
    angle_rad = np.arctan(scene.ego_vehicle.wheelbase_m * motion[2] / np.hypot(*motion[:2]))
    return float(np.clip(angle_rad, -scene.ego_vehicle.max_steer_rad, scene.ego_vehicle.max_steer_rad))


class Simulation:
    """A scene in motion: traffic, the ego as executed (``state``) and as ``intended``, and the first contact.

    Begins at ``step`` of the log (by default its t = 0) and can be started again with :meth:`reset`. ``mode`` is
    Traffic's. Raises ValueError where the log does not know the ego at that step.
    """

    def __init__(self, scene: Scene, *, mode: Mode = "reactive", step: int | None = None) -> None:
        self.scene, self.vehicle = scene, scene.ego_vehicle
        self.first_step = scene.now_step if step is None else step
        if not (0 <= self.first_step < scene.num_steps and scene.ego.valid[self.first_step]):
            raise ValueError(f"scene {scene.scene_id}: the log has no ego at step {self.first_step}")
        self.route = ego_route(scene)
        self.traffic = Traffic(scene, mode=mode, step=self.first_step)
        self._still_corners = still_corners(scene.scenery)
        self._still_middle_m = self._still_corners.mean(axis=1)
        self._still_radius_m = np.linalg.norm(self._still_corners[:, 0] - self._still_corners[:, 2], axis=-1) / 2
        kinds = [scene.road.stops[i].kind for i in self.route.stop_index]
        self._signs = np.flatnonzero([kind == StopKind.STOP for kind in kinds])
        half_m = np.hypot(*self.traffic.size_m.T).max(initial=0.0) / 2
        self._reach_m = half_m + np.hypot(self.vehicle.length_m, self.vehicle.width_m) / 2
        self.reset()

    def reset(self) -> None:
        """Put everything back to where the log has it at the first step."""
        scene, step = self.scene, self.first_step
        self.step_index = step
        self.traffic.start(step)
        steer_rad = ego_steering_rad(scene, step)
        self.state = np.r_[scene.ego_axle_poses()[step], max(0.0, float(scene.ego.speed_mps[step])), steer_rad]
        self.intended = self.state.copy()
        self.contact: Contact | None = None
        # Where a driver at the wheel would have found itself one step ago (see Observation.along_m).
        before = step - 1 if step > 0 and scene.ego.valid[step - 1] else step
        self.along_m = self.route.find(scene.ego_axle_poses()[before])
        self._has_stopped = np.zeros(len(self.route.stop_m), dtype=bool)
        self.boxes: Boxes = self.traffic.boxes()
        self._observation: Observation | None = None

    def observe(self) -> Observation:
        """What can be seen now, but for the frames of a policy's cameras, which :func:`record` adds."""
        if self._observation is None:
            route, scene = self.route, self.scene
            rank = int(route.priority[route.index_at(self.along_m)])
            z_m = self.ego_z_m()
            stop_states = signals(scene, self.step_index)
            stop_states[route.stop_index[self._has_stopped]] = LightState.GREEN
            self._observation = Observation(
                scene_id=scene.scene_id,
                step=self.step_index,
                dt_s=scene.dt_s,
                ego_state=self.intended.copy(),
                vehicle=self.vehicle,
                road=scene.road,
                route=route,
                along_m=self.along_m,
                obstacles=self.traffic.obstacles(self.state, rank, self.vehicle, z_m),
                stop_states=stop_states,
                boxes=self.boxes,
                ego_z_m=z_m,
                frames={},
            )
        return self._observation

    def ego_z_m(self) -> float:
        """Height of the ego where the log came nearest to it; NaN where heights are not known."""
        z_m, poses = self.scene.ego.z_m, self.scene.ego.poses
        if z_m is None:
            return np.nan
        distance = ((poses[:, :2] - self.state[:2]) ** 2).sum(-1)
        return float(z_m[np.where(self.scene.ego.valid, distance, np.inf).argmin()])

    def step(self, control: Control) -> None:
        """Advance everything by one step of the scene. Raises IndexError at the end of the log, where lights end."""
        scene, dt_s = self.scene, self.scene.dt_s
        if self.step_index + 1 >= scene.num_steps:
            raise IndexError(f"scene {scene.scene_id} ends with step {self.step_index}")
        obstacles = self.observe().obstacles
        self.along_m = self.route.locate(self.intended[:2], self.along_m)
        if len(self._signs):
            front_m = self.route.stop_m - self.along_m - self.vehicle.rear_axle_to_center_m - self.vehicle.length_m / 2
            stands = has_stopped(front_m, self.intended[3])
            self._has_stopped[self._signs] |= stands[self._signs]
        limited = limit_control(self.intended, control.accel_mps2, control.steer_rad, dt_s, self.vehicle)
        self.intended = step_bicycle(self.intended, *limited, dt_s, self.vehicle.wheelbase_m)
        self.traffic.step(obstacles, signals(scene, self.step_index))
        self.step_index += 1
        self.boxes = self.traffic.boxes()
        self._observation = None
        if self.contact is None:
            self.state = self.intended
            self._touch()

    def _touch(self) -> None:
        """Find the first contact; it stops the ego and whatever it ran into for good."""
        pose = center_poses(self.state[:3], self.vehicle)
        poses, size_m = self.boxes.poses, self.boxes.size_m
        near = np.flatnonzero((np.abs(poses[:, :2] - pose[:2]).max(axis=1) < self._reach_m) & self.boxes.valid)
        still = self._still_corners[self._still_near(pose)]
        if not len(near) and not len(still):
            return
        apart_m = np.abs(self.traffic.z_m(near, poses[near, :2]) - self.ego_z_m())
        near = near[~(apart_m > LEVEL_M)]  # an unknown height is on any level
        ego = box_corners(pose, self.vehicle.length_m, self.vehicle.width_m)
        hit = near[boxes_overlap(ego, box_corners(poses[near], size_m[near, 0], size_m[near, 1]))]
        if len(hit):
            index = int(hit[0])
            self.contact = Contact(kind=_CONTACT_KINDS[TrackKind(self.boxes.kind[index])], track_index=index)
            self.traffic.stop(index)
            self.boxes = self.traffic.boxes()
        elif len(still) and np.any(boxes_overlap(ego, still)):
            self.contact = Contact(kind="static", track_index=None)
        if self.contact is not None:
            self.state = np.r_[self.state[:3], 0.0, self.state[4]]

    def _still_near(self, pose: FloatArray) -> NDArray[np.bool_]:
        """Which still things may be touched from here."""
        if not len(self._still_corners):
            return np.zeros(0, dtype=bool)
        apart_m = np.linalg.norm(self._still_middle_m - pose[:2], axis=-1)
        return apart_m < self._still_radius_m + np.hypot(self.vehicle.length_m, self.vehicle.width_m) / 2

    def drive(self, policy: Policy, name: str) -> Drive:
        """Start again, let ``policy`` drive to the end of the log, and judge it.

        Raises ValueError where less than 4 s of log follow t = 0.
        """
        self.reset()
        recording = record(self, policy, self.scene.num_steps - 1 - self.first_step)
        return judged_drive(self, recording, name)


_CONTACT_KINDS = {
    TrackKind.VEHICLE: "vehicle",
    TrackKind.PEDESTRIAN: "pedestrian",
    TrackKind.CYCLIST: "pedestrian",
    TrackKind.STATIC: "static",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """What happened in N + 1 steps from the simulation's first on."""

    executed: FloatArray  # (N + 1, 5)
    intended: FloatArray  # (N + 1, 5)
    collided: NDArray[np.bool_]  # (N + 1,)
    boxes: tuple[Boxes, ...]
    along_way_m: FloatArray  # (N + 1, A)

    def then(self, later: "Recording") -> "Recording":
        """Both in one; ``later`` goes on from the last step of this one."""
        return Recording(
            executed=np.concatenate([self.executed[:-1], later.executed]),
            intended=np.concatenate([self.intended[:-1], later.intended]),
            collided=np.concatenate([self.collided[:-1], later.collided]),
            boxes=self.boxes[:-1] + later.boxes,
            along_way_m=np.concatenate([self.along_way_m[:-1], later.along_way_m]),
        )


def record(simulation: Simulation, policy: Policy, num_steps: int) -> Recording:
    """Let ``policy`` drive ``num_steps`` steps on from where the simulation is."""
    rows: list[tuple] = []
    answer: Control | Trajectory = Control(accel_mps2=0.0, steer_rad=0.0)
    dt_s, first, asked = simulation.scene.dt_s, simulation.step_index, -np.inf
    eyes = Eyes(simulation.scene, policy.cameras, first) if policy.cameras else None
    for step in range(first, first + num_steps + 1):
        collided = simulation.contact is not None
        along_m = simulation.traffic.along_way_m()
        if eyes is not None:
            eyes.follow(simulation.state[:3], simulation.boxes, step)
        rows.append((simulation.state, simulation.intended, collided, simulation.boxes, along_m))
        if step == first + num_steps:
            break
        if (step - asked) * dt_s >= policy.decision_s - 1e-9:
            seen = simulation.observe()
            answer, asked = policy.act(seen if eyes is None else replace(seen, frames=eyes.frames())), step
        if isinstance(answer, Trajectory):
            elapsed_s = (step - asked) * dt_s
            simulation.step(track(answer, elapsed_s, simulation.intended, simulation.vehicle, dt_s))
        else:
            simulation.step(answer)
    executed, intended, collided_T, boxes, along_way_m = zip(*rows, strict=True)
    return Recording(
        executed=np.stack(executed),
        intended=np.stack(intended),
        collided=np.array(collided_T),
        boxes=boxes,
        along_way_m=np.stack(along_way_m),
    )


def recorded_scene(scene: Scene, recording: Recording, first_step: int) -> Scene:
    """``scene`` with what was recorded from ``first_step`` on in place of its log."""
    tracks, kept, end = list(scene.tracks), slice(0, first_step), first_step + len(recording.executed)
    poses, velocity, valid = (
        np.stack([getattr(box, name) for box in recording.boxes]) for name in ("poses", "velocity_mps", "valid")
    )
    others = [i for i in range(len(tracks)) if i != scene.ego_index]
    for row, index in enumerate(others):
        old = tracks[index]
        intent = old.intent
        if intent is not None:
            along_m = recording.along_way_m[:, row]  # NaN where the log was replayed: then nobody acts on it any more
            intent = None if np.isnan(along_m).any() else replace(intent, along_m=np.r_[intent.along_m[kept], along_m])
        tracks[index] = replace(
            old,
            poses=np.concatenate([old.poses[kept], poses[:, row]]),
            velocity_mps=np.concatenate([old.velocity_mps[kept], velocity[:, row]]),
            valid=np.r_[old.valid[kept], valid[:, row]],
            z_m=None if old.z_m is None else old.z_m[:end],
            accel_mps2=None,
            intent=intent,
        )
    tracks[scene.ego_index] = _ego_track(scene, recording, kept, end)
    steer_rad = None  # where the history's is not known, that of the rest alone is of no use
    if scene.ego_steer_rad is not None:
        steer_rad = np.r_[scene.ego_steer_rad[kept], recording.executed[:, 4]]
    return replace(
        scene,
        tracks=tuple(tracks),
        light_states=scene.light_states[:, :end],
        ego_steer_rad=steer_rad,
        timestamps_s=None if scene.timestamps_s is None else scene.timestamps_s[:end],
    )


def _ego_track(scene: Scene, recording: Recording, kept: slice, end: int) -> Track:
    """The ego as executed: the velocity of its centre turns with it."""
    vehicle, states, old = scene.ego_vehicle, recording.executed, scene.ego
    ahead = np.stack([np.cos(states[:, 2]), np.sin(states[:, 2])], -1)
    yaw_rate = states[:, 3] * np.tan(states[:, 4]) / vehicle.wheelbase_m
    sideways = (yaw_rate * vehicle.rear_axle_to_center_m)[:, None] * np.stack([-ahead[:, 1], ahead[:, 0]], -1)
    velocity_mps = states[:, 3:4] * ahead + sideways
    return replace(
        old,
        poses=np.concatenate([old.poses[kept], center_poses(states[:, :3], vehicle)]),
        velocity_mps=np.concatenate([old.velocity_mps[kept], velocity_mps]),
        valid=np.r_[old.valid[kept], np.ones(len(states), bool)],
        z_m=None if old.z_m is None else old.z_m[:end],
        accel_mps2=None,
    )


def driven_m(poses: FloatArray) -> float:
    """Length of the way through poses (T, 3)."""
    return float(np.hypot(*np.diff(poses[:, :2], axis=0).T).sum())


def judged_drive(simulation: Simulation, recording: Recording, name: str) -> Drive:
    """The recording as a Drive; its progress is measured against the log's ego in the same time."""
    scene, now = simulation.scene, simulation.first_step
    rounds = int(round((len(recording.executed) - 1) * scene.dt_s / ROUND_S, 6))
    if rounds < 1:
        raise ValueError(f"scene {scene.scene_id}: less than {ROUND_S:.0f} s of log after t = 0; nothing to judge")
    steps = np.round(np.array(WAYPOINT_TIMES_S) / scene.dt_s).astype(int)
    if not np.allclose(steps * scene.dt_s, WAYPOINT_TIMES_S, atol=1e-6):
        raise ValueError(f"scene {scene.scene_id}: dt_s {scene.dt_s} does not divide {WAYPOINT_DT_S} s; resample it")
    executed = recording.executed
    paths = []
    for start in round(ROUND_S / scene.dt_s) * np.arange(rounds):
        states = executed if recording.collided[start] else recording.intended
        paths.append(to_frame(states[start + steps, :3], executed[start, :3]))
    made = recorded_scene(scene, recording, now)
    log = scene.ego_axle_poses()
    history = np.where(scene.ego.valid[:, None], log, np.nan)[: now + 1]
    return Drive(
        scene=made,
        driver=name,
        rounds_R83=np.stack(paths).astype(np.float32),
        executed_waypoints=to_frame(executed[steps, :3], executed[0, :3]).astype(np.float32),
        history_poses=to_frame(history, history[-1]).astype(np.float32),
        infractions=judge(
            made, first_step=now, contact=simulation.contact, reference_m=driven_m(log[now:][scene.ego.valid[now:]])
        ),
    )


def drive(scene: Scene, driver: str, *, seed: int = 0, mode: Mode = "reactive") -> Drive:
    """Drive ``scene`` from t = 0 with ``driver``, one of drivers.DRIVERS or POLICIES; ``seed`` varies its plan.

    Deterministic; the history is the log's for every driver and seed. Raises ValueError for an unknown driver, and as
    :class:`Simulation` and :meth:`Simulation.drive`. For many drivers of one scene, keep one Simulation.
    """
    policy = Driver(driver, seed=seed)
    return Simulation(scene, mode=mode).drive(policy, driver)
