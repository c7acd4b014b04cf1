"""The seeded procedural generator: a road map, filled with traffic, people, parked cars, buildings and trees."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.clip import NUM_FRAMES
from resim.datatypes.polyline import headings_of, resample
from resim.datatypes.scene import LightState, Look, TrackKind
from resim.simulation.drivers import Plan
from resim.simulation.generator.junctions import intersection_map, roundabout_map
from resim.simulation.generator.roads import RoadMap, curve_map, merge_map, straight_map
from resim.simulation.generator.scenery import verge
from resim.simulation.scenario import DT_S, MAX_STEPS, Agent, Path, Scenario, path_along
from resim.simulation.simulate import NOW_STEP, Simulation

FloatArray = NDArray[np.floating]

MAPS: dict[str, Callable[[np.random.Generator], RoadMap]] = {
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


def _light_schedule(road: RoadMap, rng: np.random.Generator) -> NDArray[np.int8]:
    """States (lights, steps) over warm-up and MAX_STEPS: one phase after the other gets green, from a random moment."""
    phase_s = GREEN_S + YELLOW_S + ALL_RED_S
    count = 4
    # The ego comes from phase 0: in half of the scenes its light is green or yellow around t = 0.
    start_s = rng.uniform(-5.0, 9.0) if rng.random() < 0.5 else rng.uniform(phase_s, count * phase_s - 3.0)
    times_s = start_s + DT_S * np.arange(WARM_UP_STEPS + MAX_STEPS)
    states = np.full((len(road.signals), len(times_s)), LightState.RED, np.int8)
    for i, signal in enumerate(road.signals):
        into_s = np.mod(times_s - signal.phase * phase_s, count * phase_s)
        states[i, into_s < GREEN_S] = LightState.GREEN
        states[i, (into_s >= GREEN_S) & (into_s < GREEN_S + YELLOW_S)] = LightState.YELLOW
    return states


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
    lanes = {lane.lane_id: lane for lane in road.lanes}
    route = [lane_id]
    while lanes[route[-1]].successor_ids and len(route) < 6:
        route.append(int(rng.choice(lanes[route[-1]].successor_ids)))
    return tuple(route)


def _start_speed(path: Path, along_m: float, red: bool, rng: np.random.Generator) -> float:
    """A speed from which the vehicle can obey the bend, the light and its like ahead."""
    speed = float(path.speed_mps[min(int(along_m), len(path.speed_mps) - 1)]) * rng.uniform(0.7, 0.95)
    to_line_m = path.stop_m - along_m - 6.0
    return min(speed, np.sqrt(2 * 1.2 * max(0.0, to_line_m))) if red and to_line_m > -4 else speed


def _moving_vehicles(
    road: RoadMap, ego_path: Path, ego_m: float, ego_mps: float, reds: list[bool], rng: np.random.Generator
) -> list[Agent]:
    """Vehicles on every lane near the ego, with room to brake between them and around the ego."""
    agents: list[Agent] = []
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
                path = path_along(road, _random_route(road, lane.lane_id, rng))
                speed = _start_speed(path, along_m, path.signal >= 0 and reds[path.signal], rng)
                agents.append(_vehicle(size, path, along_m, speed))
                taken.append((pose, 7.0 + 0.5 * size[0] + 0.9 * speed))
            along_m += size[0] + rng.uniform(0.6, 1.6) * density_m
    return agents


def _side(pose: FloatArray, xy_m: FloatArray) -> float:
    """How far to the left of ``pose`` a point lies."""
    d = xy_m - pose[:2]
    return float(-np.sin(pose[2]) * d[0] + np.cos(pose[2]) * d[1])


def _vehicle(size: tuple[float, float, float], path: Path, along_m: float, speed_mps: float) -> Agent:
    """A moving vehicle."""
    return Agent(
        kind=TrackKind.VEHICLE,
        length_m=size[0],
        width_m=size[1],
        height_m=size[2],
        path=path,
        along_m=along_m,
        speed_mps=speed_mps,
    )


def _kerbside(road: RoadMap, rng: np.random.Generator) -> list[Agent]:
    """Parked cars, or cyclists, on the parking strips."""
    agents = []
    for strip_m in road.shoulders:
        points_m = resample(strip_m, 1.0)
        headings = headings_of(points_m)
        if rng.random() < 0.25:  # a cycle strip
            for start_m in np.arange(rng.uniform(10, 60), len(points_m) - 70, rng.uniform(30, 80)):
                path = _walk(points_m, 1)
                agents.append(_cyclist(path, float(start_m), rng.uniform(3.5, 6.5)))
            continue
        along_m, fill = rng.uniform(13, 25), rng.uniform(0.1, 0.6)
        while along_m < len(points_m) - 14:
            length_m, width_m, height_m = _vehicle_size(rng)
            if rng.random() < fill and length_m < 7:
                index = int(along_m + length_m / 2)
                pose = np.r_[points_m[index], headings[index] + rng.normal(0, 0.02)]
                agents.append(
                    Agent(kind=TrackKind.VEHICLE, length_m=length_m, width_m=width_m, height_m=height_m, pose=pose)
                )
            along_m += length_m + rng.uniform(0.8, 2.5)
    return agents


def _walk(points_m: FloatArray, priority: int) -> Path:
    """A path walked or cycled at a steady pace."""
    points_m = resample(points_m, 1.0)
    return Path(
        points_m=points_m,
        headings_rad=headings_of(points_m),
        speed_mps=np.full(len(points_m), 6.0),
        priority=np.full(len(points_m), priority, np.int8),
    )


def _cyclist(path: Path, along_m: float, speed_mps: float) -> Agent:
    """Somebody on a bicycle."""
    path = replace(path, speed_mps=np.full(len(path.points_m), speed_mps), priority=0 * path.priority)
    return Agent(
        kind=TrackKind.CYCLIST, length_m=1.8, width_m=0.6, height_m=1.75, path=path, along_m=along_m,
        speed_mps=speed_mps,
    )  # fmt: skip


def _pedestrian(points_m: FloatArray, along_m: float, speed_mps: float, height_m: float, priority: int) -> Agent:
    """Somebody on foot; a negative ``along_m`` waits."""
    return Agent(
        kind=TrackKind.PEDESTRIAN, length_m=0.5, width_m=0.6, height_m=height_m, path=_walk(points_m, priority),
        along_m=along_m, speed_mps=speed_mps,
    )  # fmt: skip


def _pedestrians(road: RoadMap, states: NDArray[np.int8], ego_xy: FloatArray, rng: np.random.Generator) -> list[Agent]:
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


def _attempt(seed: int, attempt: int, kind: str | None, look: Look | None, simple: bool) -> Scenario | None:
    """One scenario warmed up to step 0, or None where the warm-up went wrong."""
    rng = np.random.default_rng([seed, attempt])
    drawn_kind, drawn_look = _draw(rng, KIND_SHARES), _draw(rng, LOOK_SHARES)
    kind = drawn_kind if kind is None else kind
    road = MAPS[kind](rng)
    if simple:
        limited = (replace(lane, speed_limit_mps=min(lane.speed_limit_mps, SIMPLE_LIMIT_MPS)) for lane in road.lanes)
        road, drawn_look = replace(road, lanes=tuple(limited)), Look.SLABS
    route = road.ego_routes[int(rng.integers(len(road.ego_routes)))]
    path = path_along(road, route.lane_ids)
    states = _light_schedule(road, rng)
    at_zero_m = rng.uniform(*route.start_m)
    speed = float(path.speed_mps[max(0, int(at_zero_m) - 20)]) * rng.uniform(0.75, 1.0)
    start_m = max(2.0, at_zero_m - speed * DT_S * (WARM_UP_STEPS + 8))
    speed = min(speed, float(path.speed_mps[int(start_m)]))
    reds = [bool(s[20] != LightState.GREEN) for s in states]
    pose = path.pose_at(start_m)
    agents = _moving_vehicles(road, path, start_m, speed, reds, rng)
    agents += _kerbside(road, rng)
    first_round = states[:, : WARM_UP_STEPS + NUM_FRAMES]  # so that a longer schedule leaves every scene as it was
    agents += _pedestrians(road, first_round, path.pose_at(at_zero_m)[:2], rng)
    focus_m = path.pose_at(at_zero_m + 30)[:2]
    agents = [a for a in agents if np.hypot(*(_position(a) - focus_m)) < NEAR_M]
    buildings, trees = ((), ()) if simple else verge(road, focus_m, NEAR_M, rng)
    scenario = Scenario(
        scene_id=f"{kind}-{seed}",
        kind=kind,
        road=road,
        agents=tuple(agents),
        light_states=states,
        ego_path=path,
        ego_state=np.r_[pose, speed, 0.0],
        ego_along_m=start_m,
        look=drawn_look if look is None else look,
        buildings=buildings,
        trees=trees,
    )
    return _warmed_up(scenario)


def _position(agent: Agent) -> FloatArray:
    """Where an agent is at its start."""
    return agent.pose[:2] if agent.path is None else agent.path.pose_at(agent.along_m)[:2]  # type: ignore[index]


def _warmed_up(scenario: Scenario) -> Scenario | None:
    """The scenario after WARM_UP_STEPS of expert driving, or None if the ego crashed, brakes hard or hardly moves."""
    simulation = Simulation(scenario)
    for _ in range(WARM_UP_STEPS):
        simulation.step(Plan(), 0.0)
    speeds = simulation.state[3]
    if simulation.contact is not None or speeds < 1.0:
        return None
    traffic, agents = simulation.traffic, list(scenario.agents)
    valid = traffic.valid()
    for row, index in enumerate(traffic.moving):
        agents[index] = replace(
            agents[index], along_m=float(traffic.along_m[row]), speed_mps=float(traffic.speed_mps[row])
        )
    warm = replace(
        scenario,
        agents=tuple(a for a, there in zip(agents, valid, strict=True) if there),
        light_states=scenario.light_states[:, WARM_UP_STEPS:],
        ego_state=simulation.state,
        ego_along_m=simulation.driver.along_m,
    )
    return warm if _history_is_clean(warm) else None


def _history_is_clean(scenario: Scenario) -> bool:
    """Whether the expert reaches t = 0 without touching anything."""
    simulation = Simulation(scenario)
    for _ in range(NOW_STEP):
        simulation.step(Plan(), 0.0)
    return simulation.contact is None


def generate_scenario(
    seed: int, *, kind: str | None = None, look: Look | None = None, simple: bool = False
) -> Scenario:
    """The scenario of this seed: a pure function of its arguments; ``kind`` and ``look`` None are drawn from the seed.

    ``simple`` is the world of the tiny model: no lane's limit above SIMPLE_LIMIT_MPS, by day, on slabs, without
    buildings and trees. The traffic has already run for some seconds at step 0. Where the ego crashed or stood still,
    the same seed's next draw is taken. Raises ValueError for an unknown kind.
    """
    if kind is not None and kind not in MAPS:
        raise ValueError(f"unknown kind of scene {kind!r}; choose one of {', '.join(MAPS)}")
    for attempt in range(MAX_ATTEMPTS):
        scenario = _attempt(seed, attempt, kind, look, simple)
        if scenario is not None:
            return scenario
    raise ValueError(f"no usable scenario of kind {kind} in {MAX_ATTEMPTS} draws of seed {seed}; choose another seed")
