"""Junction maps: a four-way intersection with traffic lights, and a roundabout.

Both stand on four arms around the origin. In an arm's own frame x runs outwards and y to the left, so its outbound
lanes lie at negative y and its inbound lanes at positive y (right-hand traffic).
"""

from dataclasses import replace

import numpy as np

from resim.datatypes.geometry import FloatArray, from_frame, points_from_frame
from resim.datatypes.polyline import headings_of, resample
from resim.datatypes.road_map import Lane, LaneKind, LineStyle, RoadLine
from resim.simulation.generator.roads import LANE_WIDTH_M, EgoRoute, Layout, Signal, connect, join, road

ARM_LENGTH_M = 170.0
W = LANE_WIDTH_M


def _arm_pose(arm: int) -> FloatArray:
    """Frame of an arm: at the junction's centre, x outwards."""
    return np.array([0.0, 0.0, arm * np.pi / 2])


def _arm(arm: int, start_m: float, count: int, shoulder_m: float, limit_mps: float) -> Layout:
    """One arm from ``start_m`` outwards; lane ids arm * 10 + k outbound, arm * 10 + count + k inbound."""
    x_m = np.arange(start_m, ARM_LENGTH_M, 2.0)
    reference_m = points_from_frame(np.stack([x_m, 0 * x_m], -1), _arm_pose(arm))
    return road(reference_m, count, count, shoulder_m, limit_mps, first_id=arm * 10)


def _end_pose(lane: Lane, index: int) -> FloatArray:
    """Pose at the start (index 0) or the end (-1) of a lane."""
    return np.r_[lane.centerline_m[index], headings_of(lane.centerline_m)[index]]


def _connector(lane_id: int, source: Lane, target: Lane, limit_mps: float) -> Lane:
    """The lane that leads from the end of ``source`` to the start of ``target``."""
    curve_m = connect(_end_pose(source, -1), _end_pose(target, 0))
    return Lane(
        lane_id=lane_id,
        centerline_m=curve_m,
        width_m=W,
        speed_limit_mps=limit_mps,
        successor_ids=(target.lane_id,),
        kind=LaneKind.CONNECTOR,
        in_intersection=True,
    )


def _corner(arm: int, half_m: float, next_half_m: float, radius_m: float) -> FloatArray:
    """Rounded kerb from the left edge of ``arm`` to the right edge of the next arm counter-clockwise."""
    angle_rad = np.linspace(-np.pi / 2, -np.pi, 9)
    x_m = next_half_m + radius_m + radius_m * np.cos(angle_rad)
    y_m = half_m + radius_m + radius_m * np.sin(angle_rad)
    return points_from_frame(np.stack([x_m, y_m], -1), _arm_pose(arm))


def _signal(arm: int, start_m: float, half_m: float, lane_ids: tuple[int, ...]) -> Signal:
    """Light of an arm's inbound lanes: its lamp hangs on the far side, to the right of those who look at it."""
    frame = _arm_pose(arm)
    stop_line_m = points_from_frame(np.array([[start_m + 4.5, 0.2], [start_m + 4.5, half_m - 0.3]]), frame)
    lamp_m = points_from_frame(np.array([-start_m - 0.5, half_m + 0.8]), frame)
    heading_rad = float((frame[2] + 2 * np.pi) % (2 * np.pi) - np.pi)
    return Signal(
        lane_ids=lane_ids, stop_line_m=stop_line_m, position_m=np.r_[lamp_m, 4.6], heading_rad=heading_rad, phase=arm
    )


def intersection_map(rng: np.random.Generator) -> Layout:
    """Four-way intersection, one green arm at a time; the ego comes from arm 0 and goes straight, left or right."""
    counts = rng.choice([1, 2], size=2, p=[0.6, 0.4])
    shoulder_m, radius_m, limit_mps = float(rng.choice([0.5, 2.4])), rng.uniform(5, 9), rng.uniform(9, 15)
    halves_m = counts * W + shoulder_m
    starts_m = halves_m[::-1] + radius_m  # an arm begins where the kerb of the crossing road has been rounded
    arms = [_arm(a, starts_m[a % 2], counts[a % 2], shoulder_m, limit_mps) for a in range(4)]
    lanes = {lane.lane_id: lane for arm in arms for lane in arm.lanes}
    next_id, routes, connectors = 100, [], []
    for a in range(4):
        count = int(counts[a % 2])
        for k in range(count):
            source = lanes[a * 10 + count + k]
            turns = [((a + 2) % 4) * 10 + k]
            if k == 0:
                turns.append(((a + 3) % 4) * 10)  # left, into the innermost lane
            if k == count - 1:
                turns.append(((a + 1) % 4) * 10 + int(counts[(a + 1) % 2]) - 1)  # right, into the outermost
            ids = tuple(range(next_id, next_id + len(turns)))
            connectors += [_connector(i, source, lanes[t], limit_mps) for i, t in zip(ids, turns, strict=True)]
            lanes[source.lane_id] = replace(source, successor_ids=ids)
            next_id += len(turns)
            if a == 0:
                length_m = ARM_LENGTH_M - starts_m[0]
                weights = (1, 2, 2) if len(turns) == 3 else (1, 3)  # turns show more than another straight drive
                for i, t, n in zip(ids, turns, weights, strict=False):
                    routes += [EgoRoute(lane_ids=(source.lane_id, i, t), start_m=(length_m - 38, length_m - 2))] * n
    kerbs = [_corner(a, halves_m[a % 2], halves_m[(a + 1) % 2], radius_m) for a in range(4)]
    edges = [
        np.concatenate([arms[a].road_edges[1][:-1], kerbs[a], arms[(a + 1) % 4].road_edges[0][1:]]) for a in range(4)
    ]
    zebras = []
    for a in range(4):
        s, h = starts_m[a % 2], halves_m[a % 2]
        zebras.append(points_from_frame(np.array([[s, -h], [s + 3, -h], [s + 3, h], [s, h]]), _arm_pose(a)))
    signals = [
        _signal(a, starts_m[a % 2], halves_m[a % 2], tuple(a * 10 + counts[a % 2] + k for k in range(counts[a % 2])))
        for a in range(4)
    ]
    return join(
        arms,
        lanes=tuple([*lanes.values(), *connectors]),
        road_edges=tuple(edges),
        drivable=(*(arm.drivable[0] for arm in arms), np.concatenate(kerbs)),
        crosswalks=tuple(zebras),
        signals=tuple(signals),
        ego_routes=tuple(routes),
    )


def _circle_pose(radius_m: float, angle_rad: float) -> FloatArray:
    """Pose on a circle driven counter-clockwise."""
    return np.array([radius_m * np.cos(angle_rad), radius_m * np.sin(angle_rad), angle_rad + np.pi / 2])


def _ring_arc(radius_m: float, start_rad: float, end_rad: float) -> FloatArray:
    """Points on a circle between two angles, counter-clockwise."""
    count = max(3, int(radius_m * (end_rad - start_rad)))
    angle_rad = np.linspace(start_rad, end_rad, count)
    return radius_m * np.stack([np.cos(angle_rad), np.sin(angle_rad)], -1)


def roundabout_map(rng: np.random.Generator) -> Layout:
    """One-lane roundabout with four arms; traffic in the ring has priority; the ego takes exit 1, 2 or 3."""
    island_m, ring_width_m, limit_mps = rng.uniform(7, 15), 5.5, rng.uniform(8, 12)
    middle_m, outer_m, start_m = island_m + ring_width_m / 2, island_m + ring_width_m, island_m + ring_width_m + 9
    join_rad, half_m = 0.42, W + 0.5
    kerb_rad = np.arctan2(half_m + 3.0, outer_m)
    arms = [_arm(a, start_m, 1, 0.5, limit_mps) for a in range(4)]
    lanes = {lane.lane_id: lane for arm in arms for lane in arm.lanes}
    edges, mouths, routes, right_kerbs, left_kerbs = [], [], [], [], []
    for a in range(4):
        frame = _arm_pose(a)
        angle_rad, after_rad, after = frame[2], frame[2] + np.pi / 2, (a + 1) % 4
        ring = {
            100 + a: (_ring_arc(middle_m, angle_rad - join_rad, angle_rad + join_rad), (110 + a,)),
            110 + a: (_ring_arc(middle_m, angle_rad + join_rad, after_rad - join_rad), (100 + after, 130 + after)),
        }
        inbound, outbound = lanes[a * 10 + 1], lanes[a * 10]
        entry_m = connect(_end_pose(inbound, -1), _circle_pose(middle_m, angle_rad + join_rad))
        exit_m = connect(_circle_pose(middle_m, angle_rad - join_rad), _end_pose(outbound, 0))
        ring |= {120 + a: (entry_m, (110 + a,)), 130 + a: (exit_m, (a * 10,))}
        for lane_id, (line_m, successors) in ring.items():
            lanes[lane_id] = Lane(
                lane_id=lane_id, centerline_m=line_m, width_m=W, speed_limit_mps=limit_mps, successor_ids=successors
            )
        lanes[a * 10 + 1] = replace(inbound, successor_ids=(120 + a,))
        left_start = from_frame(np.array([start_m, half_m, np.pi]), frame)
        right_end = from_frame(np.array([start_m, -half_m, 0.0]), frame)
        left_kerbs.append(connect(left_start, _circle_pose(outer_m, angle_rad + kerb_rad)))
        right_kerbs.append(connect(_circle_pose(outer_m, angle_rad - kerb_rad), right_end))
        mouth_arc_m = _ring_arc(outer_m - 0.5, angle_rad - kerb_rad, angle_rad + kerb_rad)
        mouths.append(np.concatenate([right_kerbs[-1], left_kerbs[-1], mouth_arc_m[::-1]]))
    for a in range(4):
        arc_m = _ring_arc(outer_m, a * np.pi / 2 + kerb_rad, (a + 1) * np.pi / 2 - kerb_rad)
        parts = [arms[a].road_edges[1][:-1], left_kerbs[a][:-1], arc_m[:-1], right_kerbs[(a + 1) % 4]]
        edges.append(np.concatenate([*parts, arms[(a + 1) % 4].road_edges[0][1:]]))
    edges.append(_ring_arc(island_m, 0, 2 * np.pi)[::-1])
    quarters = []
    for a in range(4):
        ends_rad = (a * np.pi / 2, (a + 1) * np.pi / 2)
        quarters.append(np.concatenate([_ring_arc(outer_m, *ends_rad), _ring_arc(island_m, *ends_rad)[::-1]]))
    length_m = ARM_LENGTH_M - start_m
    for exit_arm in (1, 2, 3):
        ring_ids = [i for a in range(exit_arm) for i in ((110 + a,) if a == 0 else (100 + a, 110 + a))]
        route = (1, 120, *ring_ids, 130 + exit_arm, exit_arm * 10)
        routes.append(EgoRoute(lane_ids=route, start_m=(length_m - 30, length_m + 25)))
    give_way = []
    for a in range(4):
        arc_m = resample(_ring_arc(outer_m, a * np.pi / 2, a * np.pi / 2 + kerb_rad))
        give_way.append(RoadLine(points_m=arc_m, style=LineStyle.DASHED))
    return join(
        arms,
        lanes=tuple(lanes.values()),
        road_edges=tuple(edges),
        drivable=(*(arm.drivable[0] for arm in arms), *quarters, *mouths),
        road_lines=(*(line for arm in arms for line in arm.road_lines), *give_way),
        ego_routes=tuple(routes),
        priority_lane_ids=frozenset([*range(100, 104), *range(110, 114)]),
    )
