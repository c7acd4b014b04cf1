"""Everything that stands on the ground: vehicles, walkers, riders, traffic lights, buildings and trees as meshes."""

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.geometry import FloatArray, from_frame
from resim.datatypes.road_map import StopKind, StopLine
from resim.datatypes.scene import Building, LightState, Scene, Track, TrackKind, Tree
from resim.simulation.painter import looks
from resim.simulation.painter.looks import Colour, Palette, mixed, pick, scaled, unit_hash
from resim.simulation.painter.meshes import OCTAGON, MeshBuilder, Meshes
from resim.simulation.paths import stop_pose

DETAIL_M = 45.0  # wheels, pillars and bumpers are left out beyond this distance
TALL_M = 2.0  # vehicles above this are vans, trucks and buses
FLOOR_M = 3.2
LAMPLIGHT: Colour = (255, 206, 120)
ORANGE: Colour = (232, 108, 30)
BRAKING = 1  # owner state of a vehicle whose brake lamps are on


def build_meshes(scene: Scene, palette: Palette) -> Meshes:
    """Polygons for everything in ``scene`` but the ego."""
    build = MeshBuilder(scene.scene_id, palette)
    others = list(enumerate(scene.others()))
    vehicles = [item for item in others if item[1].kind == TrackKind.VEHICLE]
    for tall in (False, True):
        if group := [item for item in vehicles if (item[1].height_m > TALL_M) == tall]:
            _vehicles(build, *_unzip(group), tall)
    for kind, builder in (
        (TrackKind.PEDESTRIAN, _pedestrians),
        (TrackKind.CYCLIST, _cyclists),
        (TrackKind.STATIC, _statics),
    ):
        if group := [item for item in others if item[1].kind == kind]:
            builder(build, *_unzip(group))
    lights = [(i, s) for i, s in enumerate(scene.road.stops) if s.kind == StopKind.LIGHT and s.lamp_m is not None]
    lamps = [(i, s, pose[1]) for i, s in lights if (pose := stop_pose(scene.road, s)) is not None]
    if lamps:
        _lights(build, lamps)
    if scene.scenery is not None and scene.scenery.buildings:
        _buildings(build, scene.scenery.buildings)
    if scene.scenery is not None and scene.scenery.trees:
        _trees(build, scene.scenery.trees)
    return build.build()


def _unzip(items: list[tuple[int, Track]]) -> tuple[NDArray[np.int64], list[Track]]:
    return np.array([index for index, _ in items], np.int64), [track for _, track in items]


def _picks(build: MeshBuilder, colours: tuple[Colour, ...], tracks: list[Track], what: str) -> FloatArray:
    """A colour (N, 3) for each track."""
    return np.array([pick(colours, build.scene_id, track.track_id, what) for track in tracks])


def _phases(tracks: list[Track]) -> FloatArray:
    """Where in their stride they begin, so that no two walk in step."""
    return np.array([float(t.track_id) if isinstance(t.track_id, int) else 7 * unit_hash(t.track_id) for t in tracks])


def _vehicles(build: MeshBuilder, index: NDArray[np.int64], tracks: list[Track], tall: bool) -> None:
    """Cars, or when ``tall`` vans, trucks and buses; tail lamps brighten while they brake."""
    x, y = (np.array([getattr(t, size) / 2 for t in tracks]) for size in ("length_m", "width_m"))
    h = np.array([t.height_m for t in tracks])
    colour = np.array([pick(looks.CAR_COLOURS, build.scene_id, "car", t.track_id) for t in tracks])
    own = build.own(np.zeros(3), np.hypot(x, y) + 0.5, track=index)
    below = [(i * (x + 0.15), j * (y + 0.2), 0.01) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    build.add(own, below, scaled(build.palette.road, build.palette.shadow))
    build.box(own, (-x + 0.12, x - 0.12), (-y + 0.06, y - 0.06), (0.02, 0.4), (30, 30, 32), "fblr")
    belt = 0.42 * h if tall else 0.58 * h
    build.box(own, (-x, x), (-y, y), (0.3, belt), colour)
    for wheel_x in (-0.62 * x, 0.62 * x):
        for side in (-1, 1):
            for radius_m, shade, gap in ((0.34, looks.TYRE, 0.01), (0.19, (120.0, 122.0, 126.0), 0.02)):
                ring = [(wheel_x + side * radius_m * -c, side * (y + gap), 0.34 + radius_m * s) for c, s in OCTAGON]
                build.add(own, ring, shade, reach_m=DETAIL_M)
    if tall:
        build.box(own, (-x, x), (-y, y), (belt, h), scaled(colour, 1.06))
        build.pane(own, x + 0.01, (-0.85 * y, 0.85 * y), (belt, 0.82 * h), looks.GLASS, True)
        build.pane(own, -x - 0.01, (-0.7 * y, 0.7 * y), (belt + 0.1, 0.8 * h), looks.GLASS, False, reach_m=DETAIL_M)
        for side in (-1, 1):
            ends = (0.35 * x, 0.9 * x) if side < 0 else (0.9 * x, 0.35 * x)
            pane = [(ends[0], belt), (ends[1], belt), (ends[1], 0.8 * h), (ends[0], 0.8 * h)]
            build.add(own, [(px, side * (y + 0.01), pz) for px, pz in pane], looks.GLASS)
    else:
        _cabins(build, own, x, y, belt, h, colour)
    lamp_z = (np.where(belt < 1.2, 0.72 * belt, 0.75), np.where(belt < 1.2, 0.98 * belt, 1.05))
    _lamps(build, own, x, y, lamp_z, belt)


def _cabins(
    build: MeshBuilder,
    own: NDArray[np.int64],
    x: FloatArray,
    y: FloatArray,
    belt: FloatArray,
    h: FloatArray,
    colour: FloatArray,
) -> None:
    """The glass houses of cars with their roofs and pillars."""
    low_x, top_x = (-0.9 * x, 0.42 * x), (-0.62 * x, 0.08 * x)
    low_y, top_y = (-0.93 * y, 0.93 * y), (-0.74 * y, 0.74 * y)
    build.frustum(own, low_x, low_y, top_x, top_y, (belt, h), looks.GLASS, "fblr")
    build.add(own, [(top_x[i], top_y[j], h) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))], colour)
    for side in (-1, 1):  # the middle pillar and the roof's edge, seen from the side and from behind
        pillar = [(-0.3 * x, belt, 0.94), (-0.22 * x, belt, 0.94), (-0.24 * x, h, 0.75), (-0.32 * x, h, 0.75)]
        corners = [(px, side * py * y, pz) for px, pz, py in (pillar if side < 0 else pillar[::-1])]
        build.add(own, corners, colour, reach_m=DETAIL_M)
        low = h - 0.12
        rail = [(top_x[0] - 0.1, low, 0.78), (top_x[1] + 0.1, low, 0.78), (top_x[1], h, 0.75), (top_x[0], h, 0.75)]
        corners = [(px, side * py * y, pz) for px, pz, py in (rail if side < 0 else rail[::-1])]
        build.add(own, corners, colour)
    for forward, low, top in ((True, low_x[1], top_x[1]), (False, low_x[0], top_x[0])):
        z = h - 0.12
        edge = top + (low - top) * 0.12 / (h - belt)
        bar = [(edge, -0.78 * y, z), (edge, 0.78 * y, z), (top, 0.74 * y, h), (top, -0.74 * y, h)]
        build.add(own, bar if forward else bar[::-1], colour)


def _lamps(
    build: MeshBuilder, own: NDArray[np.int64], x: FloatArray, y: FloatArray, z: tuple, belt: FloatArray
) -> None:
    """Tail lamps between the heights ``z``, head lamps, bumpers and plates."""
    dark = build.palette.headlights > 0
    idle = scaled(looks.BRAKE_OFF, 1.5) if dark else looks.BRAKE_OFF
    head = looks.HEADLAMP_ON if dark else looks.HEADLAMP_OFF
    build.pane(own, -x - 0.01, (-y, y), (0.3, 0.45), (44, 44, 48), False, reach_m=DETAIL_M)
    build.pane(own, x + 0.01, (-y, y), (0.3, 0.45), (44, 44, 48), True, reach_m=DETAIL_M)
    build.pane(own, x + 0.01, (-0.5 * y, 0.5 * y), (0.5, 0.7 * belt), (52, 52, 56), True, reach_m=DETAIL_M)
    build.pane(own, -x - 0.02, (-0.28, 0.28), (0.48, 0.62), (214, 214, 206), False, reach_m=DETAIL_M)
    for span in ((-0.99 * y, -0.58 * y), (0.58 * y, 0.99 * y)):
        build.pane(own, -x - 0.02, span, z, idle, False, lit=(BRAKING, looks.BRAKE_ON), glows=dark)
        build.pane(own, x + 0.02, span, (z[0] - 0.1, z[1] - 0.1), head, True, glows=dark)


def _pedestrians(build: MeshBuilder, index: NDArray[np.int64], tracks: list[Track]) -> None:
    """Two legs and two arms that swing with the stride, a torso and a head."""
    h = np.array([t.height_m for t in tracks])
    shirt, trousers = _picks(build, looks.CLOTHES, tracks, "shirt"), _picks(build, looks.CLOTHES, tracks, "legs") * 0.6
    radii_m = np.full(len(tracks), 0.6)
    own = build.own(np.zeros(3), radii_m, track=index, stride_m=1.5, phase_rad=_phases(tracks))
    build.add(own, [(0.35 * c, 0.35 * s, 0.01) for c, s in OCTAGON], scaled(build.palette.road, build.palette.shadow))
    for side in (-1, 1):
        build.limb(own, (0, 0.1 * side, 0.5 * h, 0), (0, 0.1 * side, 0, 0.36 * side), 0.17, trousers)
    for side in (-1, 1):
        hand = (0, 0.24 * side, 0.46 * h, -0.26 * side)
        build.limb(own, (0, 0.22 * side, 0.8 * h, 0), hand, 0.12, scaled(shirt, 0.85))
    build.limb(own, (0, 0, 0.84 * h, 0), (0, 0, 0.47 * h, 0), 0.42, shirt)
    build.blob(own, 0.92 * h, (0.125, 0.15), looks.SKIN)


def _cyclists(build: MeshBuilder, index: NDArray[np.int64], tracks: list[Track]) -> None:
    """Two wheels, a frame, and a rider who leans forward and pedals."""
    h = np.array([t.height_m for t in tracks])
    shirt, frame = _picks(build, looks.CLOTHES, tracks, "shirt"), _picks(build, looks.CAR_COLOURS, tracks, "frame")
    radii_m = np.full(len(tracks), 1.1)
    own = build.own(np.zeros(3), radii_m, track=index, stride_m=4.0, phase_rad=_phases(tracks))
    build.add(own, [(0.9 * c, 0.3 * s, 0.01) for c, s in OCTAGON], scaled(build.palette.road, build.palette.shadow))
    for wheel_x in (-0.52, 0.52):
        for radius_m, colour in ((0.34, looks.TYRE), (0.26, (118.0, 120.0, 118.0))):
            rim = [(wheel_x + radius_m * c, 0, 0.34 + radius_m * s, 0.04 * np.sign(c), 0) for c, s in OCTAGON]
            build.add(own, rim, colour)
    for start, end in (((-0.52, 0.34), (-0.1, 0.85)), ((-0.1, 0.85), (0.42, 0.9)), ((0.42, 0.95), (0.52, 0.34)),
                       ((0.0, 0.35), (0.42, 0.85))):  # fmt: skip
        build.limb(own, (start[0], 0, start[1], 0), (end[0], 0, end[1], 0), 0.07, frame)
    for side in (-1, 1):
        build.limb(own, (-0.15, 0.1 * side, 0.92, 0), (0.05, 0.1 * side, 0.3, 0.2 * side), 0.15, (52, 54, 64))
    build.limb(own, (-0.2, 0, 0.85, 0), (0.12, 0, 0.82 * h, 0), 0.4, shirt)
    build.limb(own, (0.12, 0.15, 0.78 * h, 0), (0.42, 0.2, 0.98, 0), 0.1, looks.SKIN)
    build.blob(own, 0.91 * h, (0.13, 0.15), looks.SKIN, x_m=0.2)
    build.blob(own, 0.96 * h, (0.14, 0.09), frame, x_m=0.2)


def _statics(build: MeshBuilder, index: NDArray[np.int64], tracks: list[Track]) -> None:
    """Cones, barriers and the like: boxes, striped where they are high enough."""
    x, y = (np.array([getattr(t, size) / 2 for t in tracks]) for size in ("length_m", "width_m"))
    h = np.array([t.height_m for t in tracks])
    own = build.own(np.zeros(3), np.hypot(x, y) + 0.2, track=index)
    for low, high, colour in ((0.0, 0.4, ORANGE), (0.4, 0.7, looks.STRIPE), (0.7, 1.0, ORANGE)):
        build.box(own, (-x, x), (-y, y), (low * h, high * h), colour)


def _lights(build: MeshBuilder, lamps: list[tuple[int, StopLine, float]]) -> None:
    """Poles, dark housings, and three lamps each, seen by the traffic that the light governs."""
    places_m = [stop.lamp_m for _, stop, _ in lamps if stop.lamp_m is not None]
    z = np.array([place_m[2] for place_m in places_m])
    headings_rad = [heading_rad for _, _, heading_rad in lamps]
    poses = np.array([[*place_m[:2], turn] for place_m, turn in zip(places_m, headings_rad, strict=True)])
    own = build.own(poses, np.full(len(lamps), 1.5), light=np.array([index for index, _, _ in lamps], np.int64))
    build.limb(own, (0.1, 0, 0, 0), (0.1, 0, z, 0), 0.22, (70, 74, 76))
    build.box(own, (-0.3, 0.3), (-0.5, 0.5), (z - 1.2, z + 1.2), (36, 38, 38), "blrf")
    for state, offset_m in ((LightState.RED, 0.75), (LightState.YELLOW, 0.0), (LightState.GREEN, -0.75)):
        lit = looks.LAMPS[int(state) - 1]
        ring = [(-0.32, 0.33 * -c, z + offset_m + 0.33 * s) for c, s in OCTAGON]
        build.add(own, ring, mixed(scaled(lit, 0.22), (30, 30, 30), 0.4), lit=(int(state), lit))


def _trees(build: MeshBuilder, trees: tuple[Tree, ...]) -> None:
    """Trunks, and crowns of three blobs, lighter on top."""
    h = np.array([tree.height_m for tree in trees])
    draws = np.array([[unit_hash(build.scene_id, "tree", i, k) for k in range(3)] for i in range(len(trees))])
    green = mixed((58, 92, 44), (98, 116, 48), draws[:, :1])
    own = build.own(np.array([[*tree.xy_m, 0.0] for tree in trees]), 0.4 * h)
    build.limb(own, (0, 0, 0, 0), (0, 0, 0.5 * h, 0), 0.06 * h, (86, 68, 52))
    build.blob(own, 0.62 * h, (0.27 * h, 0.26 * h), scaled(green, 0.78))
    build.blob(own, 0.68 * h, (0.19 * h, 0.18 * h), green, w_m=(draws[:, 1] - 0.3) * 0.14 * h)
    build.blob(own, 0.8 * h, (0.15 * h, 0.16 * h), scaled(green, 1.2), w_m=(draws[:, 2] - 0.5) * 0.2 * h)


def _buildings(build: MeshBuilder, buildings: tuple[Building, ...]) -> None:
    """Walls of panels about 5 m wide, each its own owner so that trees and corners hide one another rightly."""
    scene_id, poses, sizes, walls, names = build.scene_id, [], [], [], []
    for index, building in enumerate(buildings):
        base = pick(looks.WALLS, scene_id, "wall", index)
        wall = mixed(scaled(base, 0.7), scaled(base, 1.15), building.shade)
        half = (building.length_m / 2, building.width_m / 2)
        for side in range(4):
            out_m, wide_m = half[side % 2], 2 * half[1 - side % 2]
            count = max(1, round(wide_m / 5.0))
            along_m = (np.arange(count) + 0.5) * wide_m / count - wide_m / 2
            outward = np.array([*building.pose[:2], building.pose[2] + side * np.pi / 2])
            poses.append(from_frame(np.stack([np.full(count, out_m), along_m, np.zeros(count)], -1), outward))
            sizes += [(wide_m / count, building.height_m)] * count
            walls += [wall] * count
            names += [(index, side, k) for k in range(count)]
    (panel_m, height_m), wall = np.array(sizes).T, np.array(walls)
    own = build.own(np.concatenate(poses), 0.5 * panel_m + 0.1, flat=True)
    build.pane(own, 0, (-panel_m / 2, panel_m / 2), (0, height_m), wall, True)
    build.pane(own, 0.01, (-panel_m / 2, panel_m / 2), (0, 0.7), scaled(wall, 0.7), True, reach_m=90.0, fades_to=wall)
    floors = np.maximum(1, (height_m / FLOOR_M).astype(int))
    for floor in range(floors.max()):
        share = build.palette.lit_windows
        lamps = np.array([share > 0 and unit_hash(scene_id, *name, floor) < share for name in names])
        z = (floor * FLOOR_M + 1.0, floor * FLOOR_M + 2.6)
        for some, lit in ((floors > floor) & lamps, True), ((floors > floor) & ~lamps, False):
            span = (-0.32 * panel_m[some], 0.32 * panel_m[some])
            if lit:
                build.pane(own[some], 0.02, span, z, LAMPLIGHT, True, glows=True)
            else:
                window = build.palette.window
                build.pane(own[some], 0.02, span, z, window, True, reach_m=90.0, fades_to=wall[some])
