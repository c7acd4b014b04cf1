"""Drive a scenario: scenario and driver in, a Scene of one round (49 steps) or several with what was driven out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.boxes import box_corners, boxes_overlap
from resim.datatypes.clip import NUM_FRAMES, NUM_FUTURE_FRAMES, NUM_HISTORY_FRAMES, WAYPOINT_TIMES_S, Infractions
from resim.datatypes.geometry import to_frame
from resim.datatypes.scene import Scene, Track, TrackKind, TrafficLight
from resim.motion.bicycle import limit_control, step_bicycle
from resim.simulation.drivers import NO_LIGHT, EgoDriver, Plan, draw_plan
from resim.simulation.infractions import Contact, judge, still_corners
from resim.simulation.scenario import (
    DT_S,
    EGO_HEIGHT_M,
    EGO_LENGTH_M,
    EGO_WIDTH_M,
    MAX_ROUNDS,
    REAR_AXLE_TO_CENTER_M,
    Scenario,
)
from resim.simulation.traffic import Traffic

FloatArray = NDArray[np.floating]

NOW_STEP = NUM_HISTORY_FRAMES - 1  # t = 0
WAYPOINT_STEPS = np.round(np.array(WAYPOINT_TIMES_S) / DT_S).astype(int)  # after the step where the round begins
NEAR_M = 12.0  # no box whose centre is further away touches the ego


@dataclass(frozen=True, kw_only=True)
class Drive:
    """One drive through a scenario. Poses are of the rear axle in the ego frame at t = 0 (step 8 of the scene).

    ``executed_waypoints`` (8, 3) is what was driven; ``waypoints`` (8, 3) what was intended: the same driver's
    controls as if nothing had been hit. They differ only after a collision. ``history_poses`` (9, 3) ends in zeros.
    """

    scene: Scene
    driver: str
    waypoints: NDArray[np.float32]
    executed_waypoints: NDArray[np.float32]
    history_poses: NDArray[np.float32]
    infractions: Infractions


@dataclass(frozen=True, kw_only=True)
class LongDrive:
    """One drive of R rounds of 4 s: a ``scene`` of 9 + 40 R steps; round r begins at step 8 + 40 r.

    ``waypoints`` (R, 8, 3) is what each round commands: the intended path in the ego (rear axle) frame where the round
    begins. A collision stops the ego for good, so every round that begins after it commands standing still.
    ``infractions`` are of the whole drive.
    """

    scene: Scene
    driver: str
    waypoints: NDArray[np.float32]
    infractions: Infractions


def center_pose(state: FloatArray) -> FloatArray:
    """Box centre pose (3,) of the ego from its rear axle state."""
    heading_rad = state[2]
    ahead = np.array([np.cos(heading_rad), np.sin(heading_rad)])
    return np.r_[state[:2] + REAR_AXLE_TO_CENTER_M * ahead, heading_rad]


class Simulation:
    """A scenario in motion: traffic, the ego as executed (``state``) and as ``intended``, and the first contact."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.traffic = Traffic(scenario)
        self.driver = EgoDriver(scenario.ego_path, scenario.ego_along_m)
        self.state = scenario.ego_state.copy()
        self.intended = scenario.ego_state.copy()
        self.contact: Contact | None = None
        self.step_index = 0
        self._still_corners = still_corners(scenario.buildings, scenario.trees)

    def step(self, plan: Plan, elapsed_s: float) -> None:
        """Advance everything by DT_S, the ego under ``plan`` begun ``elapsed_s`` ago."""
        lights = self.scenario.light_states[:, self.step_index]
        path = self.scenario.ego_path
        on_path = min(int(self.driver.along_m), len(path.priority) - 1)
        obstacles = self.traffic.obstacles(self.state, int(path.priority[on_path]))
        signal = path.signal
        light = int(lights[signal]) if signal >= 0 else NO_LIGHT
        wanted = self.driver.control(plan, self.intended, elapsed_s, obstacles, self.traffic.count, light)
        self.intended = step_bicycle(self.intended, *limit_control(self.intended, *wanted, DT_S), DT_S)
        self.traffic.step(obstacles, lights)
        self.step_index += 1
        if self.contact is None:
            self.state = self.intended
            self._touch()

    def _touch(self) -> None:
        """Find the first contact; it stops the ego and whatever it ran into for good."""
        pose = center_pose(self.state)
        ego = box_corners(pose, EGO_LENGTH_M, EGO_WIDTH_M)
        poses, size_m = self.traffic.poses(), self.traffic.size_m
        near = np.flatnonzero((np.abs(poses[:, :2] - pose[:2]).max(axis=1) < NEAR_M) & self.traffic.valid())
        hit = near[boxes_overlap(ego, box_corners(poses[near], size_m[near, 0], size_m[near, 1]))]
        if len(hit):
            index = int(hit[0])
            person = self.scenario.agents[index].kind != TrackKind.VEHICLE
            self.contact = Contact(kind="pedestrian" if person else "vehicle", track_index=index)
            self.traffic.stop(index)
        elif np.any(boxes_overlap(ego, self._still_corners)):
            self.contact = Contact(kind="static", track_index=None)
        if self.contact is not None:
            self.state = np.r_[self.state[:3], 0.0, self.state[4]]


@dataclass(frozen=True, kw_only=True)
class _Recording:
    """Every step of a drive: states (T, 5), ``collided`` (T,), agents' poses (T, A, 3), speeds and presence (T, A)."""

    driver: str
    seed: int
    executed: FloatArray
    intended: FloatArray
    collided: NDArray[np.bool_]
    poses: FloatArray
    speeds_mps: FloatArray
    valid: NDArray[np.bool_]
    contact: Contact | None


def _record(scenario: Scenario, driver: str, seed: int, num_steps: int) -> _Recording:
    """Let the expert drive the history and ``driver`` the rest of ``num_steps`` steps."""
    simulation, plan = Simulation(scenario), Plan()
    rows: list[tuple] = []
    for step in range(num_steps):
        traffic, collided = simulation.traffic, simulation.contact is not None
        states = (simulation.state, simulation.intended, collided)
        rows.append((*states, traffic.poses(), traffic.speeds_mps(), traffic.valid()))
        if step == NOW_STEP:
            if collided:
                raise ValueError(f"scene {scenario.scene_id}: the ego collides before t = 0; choose another seed")
            rng = np.random.default_rng([seed, *driver.encode(), *scenario.scene_id.encode()])
            plan = draw_plan(driver, scenario, simulation.driver.along_m, rng)
        if step + 1 < num_steps:
            simulation.step(plan, (step - NOW_STEP) * DT_S)
    executed, intended, collided_T, poses, speeds_mps, valid = (np.stack(column) for column in zip(*rows, strict=True))
    return _Recording(
        driver=driver,
        seed=seed,
        executed=executed,
        intended=intended,
        collided=collided_T,
        poses=poses,
        speeds_mps=speeds_mps,
        valid=valid,
        contact=simulation.contact,
    )


def _scene(scenario: Scenario, recording: _Recording) -> Scene:
    """The recording as a Scene; the ego is the last track."""
    tracks = [
        Track(
            track_id=i,
            kind=a.kind,
            length_m=a.length_m,
            width_m=a.width_m,
            height_m=a.height_m,
            poses=recording.poses[:, i],
            speed_mps=recording.speeds_mps[:, i],
            valid=recording.valid[:, i],
        )
        for i, a in enumerate(scenario.agents)
    ]
    ego = Track(
        track_id=len(tracks),
        kind=TrackKind.VEHICLE,
        length_m=EGO_LENGTH_M,
        width_m=EGO_WIDTH_M,
        height_m=EGO_HEIGHT_M,
        poses=np.stack([center_pose(state) for state in recording.executed]),
        speed_mps=recording.executed[:, 3],
        valid=np.ones(len(recording.executed), dtype=bool),
    )
    lights = tuple(
        TrafficLight(
            lane_ids=s.lane_ids,
            stop_line_m=s.stop_line_m,
            position_m=s.position_m,
            heading_rad=s.heading_rad,
            states=scenario.light_states[i, : len(recording.executed)],
        )
        for i, s in enumerate(scenario.road.signals)
    )
    return Scene(
        scene_id=scenario.scene_id,
        dt_s=DT_S,
        lanes=scenario.road.lanes,
        road_edges=scenario.road.road_edges,
        drivable=scenario.road.drivable,
        road_lines=scenario.road.road_lines,
        crosswalks=scenario.road.crosswalks,
        lights=lights,
        tracks=(*tracks, ego),
        ego_index=len(tracks),
        rear_axle_to_center_m=REAR_AXLE_TO_CENTER_M,
        look=scenario.look,
        buildings=scenario.buildings,
        trees=scenario.trees,
    )


def _driven_m(states: FloatArray) -> float:
    """Distance driven from t = 0 on."""
    return float(np.hypot(*np.diff(states[NOW_STEP:, :2], axis=0).T).sum())


def _judged(scenario: Scenario, scene: Scene, recording: _Recording) -> Infractions:
    """The drive's infractions; its progress is measured against the expert's in the same scenario and time."""
    expert = recording
    if recording.driver != "expert":
        expert = _record(scenario, "expert", recording.seed, len(recording.executed))
    return judge(scene, first_step=NOW_STEP, contact=recording.contact, reference_m=_driven_m(expert.executed))


def drive(scenario: Scenario, driver: str, *, seed: int = 0) -> Drive:
    """Drive ``scenario`` with ``driver`` (one of drivers.DRIVERS); ``seed`` varies how a non-expert misbehaves.

    Deterministic; the history (steps 0..8) is bit-identical for every driver and seed. Raises ValueError for an unknown
    driver.
    """
    recording = _record(scenario, driver, seed, NUM_FRAMES)
    scene = _scene(scenario, recording)
    now, rows = recording.executed[NOW_STEP, :3], NOW_STEP + WAYPOINT_STEPS
    return Drive(
        scene=scene,
        driver=driver,
        waypoints=to_frame(recording.intended[rows, :3], now).astype(np.float32),
        executed_waypoints=to_frame(recording.executed[rows, :3], now).astype(np.float32),
        history_poses=to_frame(recording.executed[: NOW_STEP + 1, :3], now).astype(np.float32),
        infractions=_judged(scenario, scene, recording),
    )


def drive_rounds(scenario: Scenario, driver: str, num_rounds: int, *, seed: int = 0) -> LongDrive:
    """Drive on for ``num_rounds`` rounds of 4 s with one plan: :func:`drive`, and what comes after it.

    Raises ValueError for an unknown driver, and for ``num_rounds`` outside 1..MAX_ROUNDS.
    """
    if not 1 <= num_rounds <= MAX_ROUNDS:
        raise ValueError(f"num_rounds must be 1 to {MAX_ROUNDS}, got {num_rounds}")
    recording = _record(scenario, driver, seed, NUM_HISTORY_FRAMES + num_rounds * NUM_FUTURE_FRAMES)
    scene = _scene(scenario, recording)
    paths = []
    for start in NOW_STEP + NUM_FUTURE_FRAMES * np.arange(num_rounds):
        states = recording.executed if recording.collided[start] else recording.intended
        paths.append(to_frame(states[start + WAYPOINT_STEPS, :3], recording.executed[start, :3]))
    return LongDrive(
        scene=scene,
        driver=driver,
        waypoints=np.stack(paths).astype(np.float32),
        infractions=_judged(scenario, scene, recording),
    )
