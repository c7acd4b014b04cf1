"""Road maps made of polylines: the parts every map is built from, and the open roads (straight, curve, merge).

Right-hand traffic. A road runs along a reference line; its forward lanes lie to the right of it. Road edges are
directed so that the drivable surface lies to their left. Junctions are in ``junctions.py``.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from resim.datatypes.geometry import FloatArray
from resim.datatypes.polyline import POINT_STEP_M, headings_of, inside, offset, resample
from resim.datatypes.road_map import (
    Lane,
    LineStyle,
    RoadLine,
    RoadMap,
    StopKind,
    StopLine,
    Surface,
    SurfaceKind,
)

LANE_WIDTH_M = 3.5


@dataclass(frozen=True, kw_only=True)
class Signal:
    """A traffic light without its schedule; signals of the same ``phase`` are green together."""

    lane_ids: tuple[int, ...]
    stop_line_m: FloatArray  # (2, 2)
    position_m: FloatArray  # (3,)
    heading_rad: float
    phase: int


@dataclass(frozen=True, kw_only=True)
class EgoRoute:
    """Lanes the ego may follow, and where along them (metres) its axle may be at t = 0."""

    lane_ids: tuple[int, ...]
    start_m: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A road map in the making: its parts, and what the generator needs to fill it with life."""

    lanes: tuple[Lane, ...]
    road_edges: tuple[FloatArray, ...]
    drivable: tuple[FloatArray, ...]
    road_lines: tuple[RoadLine, ...]
    ego_routes: tuple[EgoRoute, ...] = ()
    crosswalks: tuple[FloatArray, ...] = ()
    signals: tuple[Signal, ...] = ()
    shoulders: tuple[FloatArray, ...] = ()  # centre lines of parking strips, in driving direction
    priority_lane_ids: frozenset[int] = field(default=frozenset())  # lanes to which the others give way

    def road_map(self) -> RoadMap:
        """The finished map."""
        before: dict[int, list[int]] = {lane.lane_id: [] for lane in self.lanes}
        for lane in self.lanes:
            for following in lane.successor_ids:
                before[following].append(lane.lane_id)
        lanes = [
            replace(
                lane,
                lane_id=int(lane.lane_id),  # numpy's integers where ids were counted with it
                successor_ids=tuple(map(int, lane.successor_ids)),
                left_ids=tuple(map(int, lane.left_ids)),
                right_ids=tuple(map(int, lane.right_ids)),
                predecessor_ids=tuple(map(int, before[lane.lane_id])),
                priority=int(lane.lane_id in self.priority_lane_ids),
            )
            for lane in self.lanes
        ]
        surfaces = [Surface(kind=SurfaceKind.DRIVABLE, polygon_m=polygon) for polygon in self.drivable]
        surfaces += [Surface(kind=SurfaceKind.CROSSWALK, polygon_m=polygon) for polygon in self.crosswalks]
        return RoadMap(
            lanes=tuple(lanes),
            surfaces=tuple(surfaces),
            edges=self.road_edges,
            lines=self.road_lines,
            stops=tuple(
                StopLine(
                    stop_id=index,
                    kind=StopKind.LIGHT,
                    lane_ids=tuple(map(int, signal.lane_ids)),
                    line_m=signal.stop_line_m,
                    lamp_m=signal.position_m,
                    heading_rad=signal.heading_rad,
                )
                for index, signal in enumerate(self.signals)
            ),
        )


def chain_of_arcs(segments: list[tuple[float, float]]) -> FloatArray:
    """Polyline from the origin along +x through ``(length_m, curvature_1pm)`` pieces, curvature blended over 10 m."""
    curvature = np.concatenate([np.full(round(length_m), c) for length_m, c in segments])
    curvature = np.convolve(np.pad(curvature, 5, mode="edge"), np.ones(11) / 11, mode="valid")
    heading_rad = np.cumsum(curvature)
    middle_rad = heading_rad - curvature / 2
    steps = np.stack([np.cos(middle_rad), np.sin(middle_rad)], axis=-1)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])[::2]


def connect(start: FloatArray, end: FloatArray) -> FloatArray:
    """A smooth curve from pose ``start`` to pose ``end`` (x, y, heading): a cubic Bezier, near a circle for a turn."""
    turn_rad = abs((end[2] - start[2] + np.pi) % (2 * np.pi) - np.pi)
    chord_m = np.hypot(*(end[:2] - start[:2]))
    # For an arc of angle a and chord c the handles are 4/3 tan(a/4) R with R = c / (2 sin(a/2)).
    handle_m = chord_m / 3 if turn_rad < 0.1 else 2 / 3 * np.tan(turn_rad / 4) * chord_m / np.sin(turn_rad / 2)
    a = start[:2] + handle_m * np.array([np.cos(start[2]), np.sin(start[2])])
    b = end[:2] - handle_m * np.array([np.cos(end[2]), np.sin(end[2])])
    t = np.linspace(0, 1, 25)[:, None]
    curve = (1 - t) ** 3 * start[:2] + 3 * (1 - t) ** 2 * t * a + 3 * (1 - t) * t**2 * b + t**3 * end[:2]
    return resample(curve, 1.0)


def road(
    reference_m: FloatArray, forward: int, backward: int, shoulder_m: float, limit_mps: float, first_id: int = 0
) -> Layout:
    """A road with ``forward`` lanes right of the reference line and ``backward`` lanes left of it.

    Ids count from ``first_id``: forward lanes from the centre outwards, then backward lanes from the centre outwards.
    """
    w, lanes, lines, shoulders = LANE_WIDTH_M, [], [], []
    for count, side in ((forward, -1), (backward, 1)):
        base = first_id + (0 if side < 0 else forward)
        for k in range(count):
            center_m = offset(reference_m, side * (k + 0.5) * w)
            lanes.append(
                Lane(
                    lane_id=base + k,
                    centerline_m=center_m if side < 0 else center_m[::-1],
                    width_m=w,
                    speed_limit_mps=limit_mps,
                    left_ids=tuple(range(base, base + k))[::-1],
                    right_ids=tuple(range(base + k + 1, base + count)),
                )
            )
            style = LineStyle.DASHED if k + 1 < count else LineStyle.SOLID
            border_m = side * (k + 1) * w - (0 if style == LineStyle.DASHED else side * 0.15)
            lines.append(RoadLine(points_m=offset(reference_m, border_m), style=style))
        if shoulder_m > 2.0 and count:
            strip_m = offset(reference_m, side * (count * w + shoulder_m / 2))
            shoulders.append(strip_m if side < 0 else strip_m[::-1])
    center = RoadLine(
        points_m=offset(reference_m, 0.0 if backward else -0.15),
        style=LineStyle.DOUBLE if backward else LineStyle.SOLID,
    )
    right_m = offset(reference_m, -(forward * w + shoulder_m))
    left_m = offset(reference_m, backward * w + (shoulder_m if backward else 0.5))[::-1]
    return Layout(
        lanes=tuple(lanes),
        road_edges=(right_m, left_m),
        drivable=(np.concatenate([right_m, left_m]),),
        road_lines=(*lines, center),
        shoulders=tuple(shoulders),
    )


def join(maps: list[Layout], **changes: object) -> Layout:
    """One map with the lanes, edges, surfaces, lines and parking strips of all; other fields through ``changes``."""
    names = ("lanes", "road_edges", "drivable", "road_lines", "shoulders", "crosswalks", "signals")
    joined = {name: tuple(item for m in maps for item in getattr(m, name)) for name in names}
    return Layout(**(joined | changes))  # type: ignore[arg-type]


def crosswalk(reference_m: FloatArray, at_m: float, left_m: float, right_m: float) -> FloatArray:
    """A 3 m deep zebra crossing (4, 2) over a road, ``at_m`` along its reference line."""
    index = int(np.argmin(np.abs(np.r_[0, np.cumsum(np.hypot(*np.diff(reference_m, axis=0).T))] - at_m)))
    heading_rad = headings_of(reference_m)[index]
    ahead, left = np.array([np.cos(heading_rad), np.sin(heading_rad)]), None
    left = np.array([-ahead[1], ahead[0]])
    corners = ((-1.5, -right_m), (1.5, -right_m), (1.5, left_m), (-1.5, left_m))
    return np.array([reference_m[index] + a * ahead + b * left for a, b in corners])


def _open_road(
    rng: np.random.Generator, reference_m: FloatArray, limit_mps: float, start_m: tuple[float, float]
) -> Layout:
    """A road without junctions; the ego drives on one of its forward lanes."""
    forward = int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))
    backward = int(rng.choice([0, forward], p=[0.15, 0.85]))
    shoulder_m = float(rng.choice([0.5, 2.4]))
    built = road(reference_m, forward, backward, shoulder_m, limit_mps)
    zebras: tuple[FloatArray, ...] = ()
    if rng.random() < 0.35:
        left_m = backward * LANE_WIDTH_M + (shoulder_m if backward else 0.5)
        at_m = start_m[1] + rng.uniform(25, 55)
        zebras = (crosswalk(reference_m, at_m, left_m, forward * LANE_WIDTH_M + shoulder_m),)
    routes = tuple(EgoRoute(lane_ids=(k,), start_m=start_m) for k in range(forward))
    return replace(built, crosswalks=zebras, ego_routes=routes)


def straight_map(rng: np.random.Generator) -> Layout:
    """A nearly straight road, 1 to 3 lanes per direction."""
    curvature = rng.uniform(-0.001, 0.001)
    return _open_road(rng, chain_of_arcs([(400.0, curvature)]), rng.uniform(9, 16), (90.0, 150.0))


def curve_map(rng: np.random.Generator) -> Layout:
    """A bend of radius 25 to 150 m to either side, sometimes followed by one to the other side."""
    side = rng.choice([-1.0, 1.0])
    radius_m = np.exp(rng.uniform(np.log(25), np.log(150)))
    angle_rad = min(rng.uniform(0.8, 2.4), 160 / radius_m)
    bends = [(100.0, 0.0), (radius_m * angle_rad, side / radius_m)]
    if rng.random() < 0.4:
        second_m = rng.uniform(30, 120)
        bends += [(rng.uniform(5, 30), 0.0), (second_m * min(1.2, 100 / second_m), -side / second_m)]
    start_m = (80.0, 90.0 + 0.5 * radius_m * angle_rad)
    return _open_road(rng, chain_of_arcs([*bends, (180.0, 0.0)]), rng.uniform(9, 16), start_m)


def _outside_runs(edge_m: FloatArray, polygon_m: FloatArray) -> list[FloatArray]:
    """The pieces of a road edge that do not lie on the surface of another road."""
    keep = ~inside(edge_m, polygon_m)
    cuts = np.flatnonzero(np.diff(keep.astype(int))) + 1
    return [p for p, k in zip(np.split(edge_m, cuts), np.split(keep, cuts), strict=True) if k[0] and len(p) > 1]


def merge_map(rng: np.random.Generator) -> Layout:
    """A slip road that joins the rightmost of 1 to 3 lanes from the right; the main road has priority."""
    count, limit_mps = int(rng.integers(1, 4)), rng.uniform(11, 16)
    two_way = count if rng.random() < 0.6 else 0
    x_m = np.arange(-200.0, 262.0, POINT_STEP_M)
    strip_m = rng.uniform(20, 50)  # length of the acceleration lane
    main = road(np.stack([x_m, 0 * x_m], -1), count, two_way, 0.5, limit_mps)
    outer_m = -(count + 0.5) * LANE_WIDTH_M
    before_m = np.maximum(0, -x_m)
    bow_m = before_m**2 / rng.uniform(350, 700)
    rise = np.clip((x_m - strip_m) / 45.0, 0, 1)
    y_m = outer_m - bow_m + LANE_WIDTH_M * rise**2 * (3 - 2 * rise)
    end = int(np.argmax(rise == 1)) + 1
    ramp_m = np.stack([x_m, y_m], -1)[30:end]
    ramp = road(offset(ramp_m, LANE_WIDTH_M / 2), 1, 0, 0.5, limit_mps, first_id=100)
    right = main.lanes[count - 1]
    main_lanes = list(main.lanes)
    main_lanes[count - 1] = replace(right, centerline_m=right.centerline_m[:end], successor_ids=(101,))
    after = replace(right, lane_id=101, centerline_m=right.centerline_m[end - 1 :])
    lanes = (*main_lanes, replace(ramp.lanes[0], successor_ids=(101,)), after)
    edges = [p for e in main.road_edges for p in _outside_runs(e, ramp.drivable[0])]
    edges += [p for e in ramp.road_edges for p in _outside_runs(e, main.drivable[0])]
    outline = main.road_lines[count - 1]
    lines = [line for i, line in enumerate(main.road_lines) if i != count - 1]
    gore = (outline.points_m[:, 0] > -30) & (outline.points_m[:, 0] < strip_m + 20)
    border_m = offset(np.stack([x_m, 0 * x_m], -1), -count * LANE_WIDTH_M)
    for piece, style in (
        (x_m < -28, LineStyle.SOLID),
        (gore, LineStyle.DASHED),
        (x_m > strip_m + 45, LineStyle.SOLID),
    ):
        lines.append(RoadLine(points_m=border_m[piece], style=style))
    lines.append(ramp.road_lines[0])
    routes = [EgoRoute(lane_ids=(100, 101), start_m=(60.0, 130.0))] * count
    routes += [EgoRoute(lane_ids=(k,) if k < count - 1 else (k, 101), start_m=(140.0, 200.0)) for k in range(count)]
    return Layout(
        lanes=lanes,
        road_edges=tuple(edges),
        drivable=(*main.drivable, *ramp.drivable),
        road_lines=tuple(lines),
        ego_routes=tuple(routes),
        priority_lane_ids=frozenset([*range(count), 101]),
    )
