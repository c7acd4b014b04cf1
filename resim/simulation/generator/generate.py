"""The seeded procedural generator: a road map, filled with traffic, people, parked cars, buildings and trees."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.clip import NUM_FRAMES, NUM_HISTORY_FRAMES
from resim.datatypes.geometry import FloatArray
from resim.datatypes.path import Path
from resim.datatypes.polyline import headings_of, resample
from resim.datatypes.road_map import RoadMap
from resim.datatypes.scene import Intent, LightState, Look, Scene, Scenery, Track, TrackKind, center_poses
from resim.datatypes.vehicle import CAR
from resim.simulation.drivers import Driver
from resim.simulation.generator.junctions import intersection_map, roundabout_map
from resim.simulation.generator.roads import Layout, curve_map, merge_map, straight_map
from resim.simulation.generator.scenery import verge
from resim.simulation.paths import path_along, path_on
from resim.simulation.simulate import Simulation, record, recorded_scene

DT_S = 0.1
NOW_STEP = NUM_HISTORY_FRAMES - 1  # t = 0
MAPS: dict[str, Callable[[np.random.Generator], Layout]] = {
    "straight": straight_map,
    "curve": curve_map,
    "intersection": intersection_map,
    "merge": merge_map,
    "roundabout": roundabout_map,
}
KIND_SHARES = {"straight": 0.16, "curve": 0.34, "intersection": 0.26, "merge": 0.10, "roundabout": 0.14}
LOOK_SHARES = {Look.DAY: 0.6, Look.DUSK: 0.2, Look.RAIN: 0.2}
WARM_UP_STEPS = 25
NEAR_M = 130.0  # traffic and scenery are made within this distance of the ego
GREEN_S, YELLOW_S, ALL_RED_S = 8.0, 3.0, 2.0
MAX_ATTEMPTS = 20
SIMPLE_LIMIT_MPS = 8.0


def _draw(rng: np.random.Generator, shares: dict[Any, float]) -> Any:
    """A key of ``shares``, drawn with its share."""
    return list(shares)[int(rng.choice(len(shares), p=list(shares.values())))]


def _light_schedule(road: Layout, num_steps: int, rng: np.random.Generator) -> NDArray[np.int8]:
    """States (lights, steps): one phase after the other gets green, from a random moment."""
    phase_s = GREEN_S + YELLOW_S + ALL_RED_S
    count = 4
    # The ego comes from phase 0: in half of the scenes its light is green or yellow around t = 0.
    start_s = rng.uniform(-5.0, 9.0) if rng.random() < 0.5 else rng.uniform(phase_s, count * phase_s - 3.0)
    times_s = start_s + DT_S * np.arange(num_steps)
    states = np.full((len(road.signals), len(times_s)), LightState.RED, np.int8)
    for i, signal in enumerate(road.signals):
        into_s = np.mod(times_s - signal.phase * phase_s, count * phase_s)
        states[i, into_s < GREEN_S] = LightState.GREEN
        states[i, (into_s >= GREEN_S) & (into_s < GREEN_S + YELLOW_S)] = LightState.YELLOW
    return states


@dataclass(frozen=True, kw_only=True, eq=False)
class _Agent:
    """Somebody besides the ego at the first step: it goes through ``lane_ids`` or along ``line_m``, or stands there.

    ``pose`` is where it is. Vehicles and cyclists follow by IDM; pedestrians walk steadily.
    """

    kind: TrackKind
    size_m: tuple[float, float, float]
    pose: FloatArray
    lane_ids: tuple[int, ...] = ()
    line_m: FloatArray | None = None
    wanted_mps: float | None = None
    priority: int = 0
    along_m: float = 0.0  # negative: still waits
    speed_mps: float = 0.0

    def track(self, track_id: int, num_steps: int) -> Track:
        """Known at the first step alone, or for good where it stands."""
        intent = None
        if self.lane_ids or self.line_m is not None:
            intent = Intent(
                along_m=np.full(num_steps, self.along_m),
                lane_ids=self.lane_ids,
                line_m=self.line_m,
                speed_mps=self.wanted_mps,
                priority=self.priority,
            )
        ahead = np.array([np.cos(self.pose[2]), np.sin(self.pose[2])])
        return Track(
            track_id=track_id,
            kind=self.kind,
            length_m=self.size_m[0],
            width_m=self.size_m[1],
            height_m=self.size_m[2],
            poses=np.tile(self.pose, (num_steps, 1)),
            velocity_mps=np.tile(self.speed_mps * ahead, (num_steps, 1)),
            valid=np.full(num_steps, True) if intent is None else np.arange(num_steps) == 0,
            intent=intent,
        )


def _vehicle_size(rng: np.random.Generator) -> tuple[float, float, float]:
    """Length, width, height of a car, a van or a lorry."""
    low, high = [
        ((3.9, 1.7, 1.4), (4.9, 1.95, 1.7)),
        ((5.0, 1.95, 2.0), (6.0, 2.1, 2.6)),
        ((7.5, 2.3, 2.9), (10.0, 2.5, 3.5)),
    ][int(rng.choice(3, p=[0.78, 0.15, 0.07]))]
    length_m, width_m, height_m = rng.uniform(low, high)
    return float(length_m), float(width_m), float(height_m)


def _random_route(road: RoadMap, lane_id: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Lanes from ``lane_id`` on along randomly chosen successors, at most six of them."""
    lanes = road.lane_by_id
    route = [lane_id]
    while lanes[route[-1]].successor_ids and len(route) < 6:
        route.append(int(rng.choice(lanes[route[-1]].successor_ids)))
    return tuple(map(int, route))


def _start_speed(path: Path, along_m: float, reds: list[bool], rng: np.random.Generator) -> float:
    """A speed from which the vehicle can obey the bend, the lights and their like ahead."""
    speed = float(path.speed_mps[min(int(along_m), len(path.speed_mps) - 1)]) * rng.uniform(0.7, 0.95)
    for stop_m, index in zip(path.stop_m, path.stop_index, strict=True):
        to_line_m = stop_m - along_m - 6.0
        if reds[index] and to_line_m > -4:
            speed = min(speed, np.sqrt(2 * 1.2 * max(0.0, to_line_m)))
    return speed


def _moving_vehicles(
    road: RoadMap, ego_path: Path, ego_m: float, ego_mps: float, reds: list[bool], rng: np.random.Generator
) -> list[_Agent]:
    """Vehicles on every lane near the ego, with room to brake between them and around the ego."""
    agents: list[_Agent] = []
    taken = [(ego_path.pose_at(ego_m + 1.4), 9.0 + 1.2 * ego_mps)]
    density_m = rng.uniform(28, 100)
    ego_xy = ego_path.pose_at(ego_m)[:2]
    for lane in road.lanes:
        points_m = resample(lane.centerline_m, 1.0)
        headings = headings_of(points_m)
        along_m = rng.uniform(2, density_m)
        while along_m < len(points_m) - 2:
            pose = np.r_[points_m[int(along_m)], headings[int(along_m)]]
            size = _vehicle_size(rng)
            clear = all(
                np.hypot(*(pose[:2] - p[:2])) > (room if np.cos(pose[2] - p[2]) > 0 else 8.0)
                or (abs(_side(p, pose[:2])) > 3.0 and abs(np.cos(pose[2] - p[2])) > 0.95)
                for p, room in taken
            )
            if clear and np.hypot(*(pose[:2] - ego_xy)) < NEAR_M:
                route = _random_route(road, lane.lane_id, rng)
                path = path_along(road, route)
                speed = _start_speed(path, along_m, reds, rng)
                agents.append(
                    _Agent(
                        kind=TrackKind.VEHICLE, size_m=size, pose=path.pose_at(along_m), lane_ids=route,
                        along_m=along_m, speed_mps=speed,
                    )
                )  # fmt: skip
                taken.append((pose, 7.0 + 0.5 * size[0] + 0.9 * speed))
            along_m += size[0] + rng.uniform(0.6, 1.6) * density_m
    return agents


def _side(pose: FloatArray, xy_m: FloatArray) -> float:
    """How far to the left of ``pose`` a point lies."""
    d = xy_m - pose[:2]
    return float(-np.sin(pose[2]) * d[0] + np.cos(pose[2]) * d[1])


def _kerbside(road: Layout, rng: np.random.Generator) -> list[_Agent]:
    """Parked cars, or cyclists, on the parking strips."""
    agents = []
    for strip_m in road.shoulders:
        points_m = resample(strip_m, 1.0)
        headings = headings_of(points_m)
        if rng.random() < 0.25:  # a cycle strip
            for start_m in np.arange(rng.uniform(10, 60), len(points_m) - 70, rng.uniform(30, 80)):
                agents.append(_cyclist(points_m, float(start_m), rng.uniform(3.5, 6.5)))
            continue
        along_m, fill = rng.uniform(13, 25), rng.uniform(0.1, 0.6)
        while along_m < len(points_m) - 14:
            length_m, width_m, height_m = _vehicle_size(rng)
            if rng.random() < fill and length_m < 7:
                index = int(along_m + length_m / 2)
                pose = np.r_[points_m[index], headings[index] + rng.normal(0, 0.02)]
                agents.append(_Agent(kind=TrackKind.VEHICLE, size_m=(length_m, width_m, height_m), pose=pose))
            along_m += length_m + rng.uniform(0.8, 2.5)
    return agents


def _cyclist(line_m: FloatArray, along_m: float, speed_mps: float) -> _Agent:
    """Somebody on a bicycle, who gives way."""
    pose = path_on(line_m, speed_mps, 0).pose_at(along_m)
    return _Agent(
        kind=TrackKind.CYCLIST, size_m=(1.8, 0.6, 1.75), pose=pose, line_m=line_m, wanted_mps=speed_mps,
        along_m=along_m, speed_mps=speed_mps,
    )  # fmt: skip


def _pedestrian(line_m: FloatArray, along_m: float, speed_mps: float, height_m: float, priority: int) -> _Agent:
    """Somebody on foot; a negative ``along_m`` waits."""
    pose = path_on(line_m, speed_mps, priority).pose_at(along_m)
    return _Agent(
        kind=TrackKind.PEDESTRIAN, size_m=(0.5, 0.6, height_m), pose=pose, line_m=line_m, wanted_mps=speed_mps,
        priority=priority, along_m=along_m, speed_mps=speed_mps if along_m >= 0 else 0.0,
    )  # fmt: skip


def _pedestrians(road: Layout, states: NDArray[np.int8], ego_xy: FloatArray, rng: np.random.Generator) -> list[_Agent]:
    """People on the pavements, and on crossings that no green light leads over."""
    people = []
    for edge_m in road.road_edges:
        pavement_m = resample(edge_m, 1.0)
        heading = headings_of(pavement_m)
        pavement_m = pavement_m + 1.8 * np.stack([np.sin(heading), -np.cos(heading)], -1)
        near = np.flatnonzero(np.hypot(*(pavement_m - ego_xy).T) < 90)
        for _ in range(rng.poisson(1.5) if len(near) > 40 else 0):
            start = int(rng.choice(near))
            line_m = (
                pavement_m[start : start + 30] if rng.random() < 0.5 else pavement_m[max(0, start - 30) : start][::-1]
            )
            if len(line_m) > 15:
                people.append(_pedestrian(line_m, 0.0, rng.uniform(0.8, 1.7), rng.uniform(1.5, 1.9), 0))
    for index, zebra_m in enumerate(road.crosswalks):
        if road.signals and np.any(states[index] != LightState.RED):
            continue
        for _ in range(rng.poisson(0.8)):
            a, b = (zebra_m[0] + zebra_m[1]) / 2, (zebra_m[2] + zebra_m[3]) / 2
            a, b = (a, b) if rng.random() < 0.5 else (b, a)
            over = (b - a) / np.hypot(*(b - a))
            shift = rng.uniform(-1, 1) * np.array([-over[1], over[0]])
            line_m = np.array([a - 1.0 * over + shift, b + 1.5 * over + shift])
            speed = rng.uniform(1.0, 1.8)
            wait_m = rng.uniform(-4, 4) * speed
            people.append(_pedestrian(line_m, wait_m, speed, rng.uniform(1.5, 1.9), 2))
    return people


def _attempt(
    seed: int, attempt: int, kind: str | None, look: Look | None, simple: bool, num_steps: int
) -> Scene | None:
    """One scene warmed up to step 0 and driven by the expert, or None where the warm-up went wrong."""
    rng = np.random.default_rng([seed, attempt])
    drawn_kind, drawn_look = _draw(rng, KIND_SHARES), _draw(rng, LOOK_SHARES)
    kind = drawn_kind if kind is None else kind
    layout = MAPS[kind](rng)
    if simple:
        limited = (replace(lane, speed_limit_mps=_slow(lane.speed_limit_mps)) for lane in layout.lanes)
        layout, drawn_look = replace(layout, lanes=tuple(limited)), Look.SLABS
    route = layout.ego_routes[int(rng.integers(len(layout.ego_routes)))]
    road = layout.road_map()
    path = path_along(road, route.lane_ids)
    states = _light_schedule(layout, WARM_UP_STEPS + num_steps, rng)
    at_zero_m = rng.uniform(*route.start_m)
    speed = float(path.speed_mps[max(0, int(at_zero_m) - 20)]) * rng.uniform(0.75, 1.0)
    start_m = max(2.0, at_zero_m - speed * DT_S * (WARM_UP_STEPS + 8))
    speed = min(speed, float(path.speed_mps[int(start_m)]))
    reds = [bool(s[20] != LightState.GREEN) for s in states]
    agents = _moving_vehicles(road, path, start_m, speed, reds, rng)
    agents += _kerbside(layout, rng)
    first_round = states[:, : WARM_UP_STEPS + NUM_FRAMES]  # so that a longer schedule leaves every scene as it was
    agents += _pedestrians(layout, first_round, path.pose_at(at_zero_m)[:2], rng)
    focus_m = path.pose_at(at_zero_m + 30)[:2]
    agents = [a for a in agents if np.hypot(*(a.pose[:2] - focus_m)) < NEAR_M]
    buildings, trees = ((), ()) if simple else verge(layout, focus_m, NEAR_M, rng)
    tracks = [agent.track(i, WARM_UP_STEPS + num_steps) for i, agent in enumerate(agents)]
    ego = _Agent(
        kind=TrackKind.VEHICLE,
        size_m=(CAR.length_m, CAR.width_m, CAR.height_m),
        pose=center_poses(path.pose_at(start_m), CAR),
        speed_mps=speed,
    )
    scene = Scene(
        scene_id=f"{kind}-{seed}",
        source="generated",
        dt_s=DT_S,
        now_step=WARM_UP_STEPS + NOW_STEP,
        road=road,
        light_states=states,
        tracks=(*tracks, ego.track(len(tracks), WARM_UP_STEPS + num_steps)),
        ego_index=len(tracks),
        ego_vehicle=CAR,
        ego_steer_rad=np.zeros(WARM_UP_STEPS + num_steps),
        route_lane_ids=tuple(map(int, route.lane_ids)),
        goal_m=road.lane_by_id[route.lane_ids[-1]].centerline_m[-1],
        scenery=Scenery(look=drawn_look if look is None else look, buildings=buildings, trees=trees),
    )
    return _driven_by_the_expert(scene, num_steps)


def _slow(limit_mps: float | None) -> float:
    return SIMPLE_LIMIT_MPS if limit_mps is None else min(limit_mps, SIMPLE_LIMIT_MPS)


def _driven_by_the_expert(scene: Scene, num_steps: int) -> Scene | None:
    """What the expert makes of a scene that is known at its first step, less the warm-up.

    None if it touches something before t = 0, or hardly moves when the history begins.
    """
    simulation = Simulation(scene, step=0)
    expert = Driver("expert")
    warm = record(simulation, expert, WARM_UP_STEPS)
    if simulation.contact is not None or warm.executed[-1, 3] < 1.0:
        return None
    history = record(simulation, expert, NOW_STEP)
    if simulation.contact is not None:
        return None
    rest = record(simulation, expert, num_steps - 1 - NOW_STEP)
    log = recorded_scene(scene, warm.then(history).then(rest), 0)
    there = [t for i, t in enumerate(log.tracks) if t.valid[WARM_UP_STEPS] or i == log.ego_index]
    return replace(
        log,
        now_step=NOW_STEP,
        tracks=tuple(_from_step(replace(t, track_id=i), WARM_UP_STEPS) for i, t in enumerate(there)),
        ego_index=len(there) - 1,
        light_states=log.light_states[:, WARM_UP_STEPS:],
        ego_steer_rad=None if log.ego_steer_rad is None else log.ego_steer_rad[WARM_UP_STEPS:],
    )


def _from_step(track: Track, step: int) -> Track:
    """The track without what lies before ``step``."""
    intent = track.intent
    return replace(
        track,
        poses=track.poses[step:],
        velocity_mps=track.velocity_mps[step:],
        valid=track.valid[step:],
        intent=None if intent is None else replace(intent, along_m=intent.along_m[step:]),
    )


def generate_scene(
    seed: int,
    *,
    kind: str | None = None,
    look: Look | None = None,
    simple: bool = False,
    num_steps: int = NUM_FRAMES,
) -> Scene:
    """The scene of this seed, a log of the expert's drive: a pure function of its arguments.

    ``kind`` and ``look`` None are drawn from the seed. ``simple`` is the world of the tiny model: no lane's limit above
    SIMPLE_LIMIT_MPS, by day, on slabs, without buildings and trees. The traffic has already run for some seconds at
    step 0; ``num_steps`` is the length of the log, and a longer one begins with the shorter. Where the ego crashed or
    stood still before t = 0, the same seed's next draw is taken. Raises ValueError for an unknown kind.
    """
    if kind is not None and kind not in MAPS:
        raise ValueError(f"unknown kind of scene {kind!r}; choose one of {', '.join(MAPS)}")
    if num_steps <= NOW_STEP + 1:
        raise ValueError(f"num_steps {num_steps}: a scene has at least {NOW_STEP + 2}, its history and one more")
    for attempt in range(MAX_ATTEMPTS):
        scene = _attempt(seed, attempt, kind, look, simple, num_steps)
        if scene is not None:
            return scene
    raise ValueError(f"no usable scene of kind {kind} in {MAX_ATTEMPTS} draws of seed {seed}; choose another seed")
