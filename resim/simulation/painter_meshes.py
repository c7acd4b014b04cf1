"""Everything that stands on the ground, as coloured polygons hung on owners (tracks, lights, trees, walls).

A vertex is [x, y, z, w, s]: metres in its owner's frame (x forward, y left, z up), ``w`` metres to the camera's left
(so that trunks, heads and limbs show a width from every side), and ``s`` metres that swing along x with its stride.
A polygon without ``w`` is seen only from the side from which its corners run counter-clockwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resim.geometry import FloatArray, points_from_frame
from resim.scene import Building, LightState, Scene, Track, TrackKind, TrafficLight, Tree
from resim.simulation import painter_looks as looks
from resim.simulation.painter_looks import Colour, Palette, mixed, pick, scaled, unit_hash

CORNERS = 8  # vertices stored per polygon; shorter ones repeat their last
ALWAYS_M = 1e6
DETAIL_M = 45.0  # wheels, pillars and faces are left out beyond this distance
LAMPLIGHT: Colour = (255, 206, 120)
BRAKING = 1  # owner state of a vehicle whose brake lamps are on
OCTAGON = np.stack([np.cos(np.arange(8) * np.pi / 4 + np.pi / 8), np.sin(np.arange(8) * np.pi / 4 + np.pi / 8)], -1)


@dataclass(frozen=True, kw_only=True)
class Meshes:
    """Polygons (P) in drawing order within their owner, and owners (O) over T steps."""

    vertices: NDArray[np.float32]  # (5, CORNERS, P): x, y, z, w, s
    normals: NDArray[np.float32]  # (3, P) unit vectors in the owner's frame, for the one-sided
    counts: NDArray[np.int64]  # (P,) corners in use
    owners: NDArray[np.int64]  # (P,)
    colours: NDArray[np.float32]  # (P, 3)
    lit_colours: NDArray[np.float32]  # (P, 3) while the owner's state equals ``lit_states``
    lit_states: NDArray[np.int64]  # (P,) -1 = never
    glowing: NDArray[np.bool_]  # (P,) shines by itself also when not lit
    two_sided: NDArray[np.bool_]  # (P,)
    reach_m: NDArray[np.float32]  # (P,) drawn up to this distance
    fade_colours: NDArray[np.float32]  # (P, 3) taken on towards that distance
    poses: FloatArray  # (T, O, 3) world
    valid: NDArray[np.bool_]  # (T, O)
    states: NDArray[np.int64]  # (T, O)
    strides: FloatArray  # (T, O) in [-1, 1]
    radii_m: FloatArray  # (O,)
    flat: NDArray[np.bool_]  # (O,) a wall, seen only from the side to which its heading points


class _Builder:
    """Collects owners and their polygons."""

    def __init__(self, scene: Scene, palette: Palette):
        self.scene, self.palette = scene, palette
        self.polygons: list[tuple] = []
        self.owners: list[tuple] = []

    def own(
        self,
        poses: FloatArray,
        radius_m: float,
        valid: NDArray[np.bool_] | bool = True,
        states: NDArray[np.integer] | int = 0,
        strides: FloatArray | float = 0.0,
        flat: bool = False,
    ) -> None:
        """Start a new owner; polygons added from here on hang on it."""
        self.owners.append((poses, valid, states, strides, radius_m, flat))

    def add(
        self,
        points: Sequence[tuple[float, ...]],
        colour: Colour,
        *,
        reach_m: float = ALWAYS_M,
        fades_to: Colour | None = None,
        lit: tuple[int, Colour] = (-1, (0.0, 0.0, 0.0)),
        glows: bool = False,
    ) -> None:
        """One polygon of N corners (x, y, z) or (x, y, z, w, s)."""
        corners = [(*point, 0.0, 0.0)[:5] for point in points]
        two_sided = any(corner[3] or corner[4] for corner in corners)
        corners += corners[-1:] * (CORNERS - len(corners))
        owner, fade = len(self.owners) - 1, colour if fades_to is None else fades_to
        self.polygons.append((corners, len(points), owner, colour, lit[1], lit[0], glows, two_sided, reach_m, fade))

    def box(self, x: tuple, y: tuple, z: tuple, colour: Colour, faces: str = "fblrt") -> None:
        """Faces (front, back, left, right, top) of an upright box; ``x``, ``y``, ``z`` are (low, high)."""
        self.frustum(x, y, x, y, z, colour, faces)

    def frustum(self, x: tuple, y: tuple, top_x: tuple, top_y: tuple, z: tuple, colour: Colour, faces: str) -> None:
        """Like :meth:`box`, with another rectangle at the top."""
        lo = [(x[i], y[j], z[0]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
        hi = [(top_x[i], top_y[j], z[1]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
        sides = {"r": (0, 1), "f": (1, 2), "l": (2, 3), "b": (3, 0)}
        for face in faces:
            if face == "t":
                self.add(hi, colour)
            else:
                a, b = sides[face]
                self.add([lo[a], lo[b], hi[b], hi[a]], colour)

    def pane(self, x: float, y: tuple, z: tuple, colour: Colour, forward: bool, **options: Any) -> None:
        """An upright rectangle at ``x`` that faces forward or backward."""
        corners = [(x, y[0], z[0]), (x, y[1], z[0]), (x, y[1], z[1]), (x, y[0], z[1])]
        self.add(corners if forward else corners[::-1], colour, **options)

    def blob(
        self, z_m: float, radius_w_m: float, radius_z_m: float, colour: Colour, *, w_m: float = 0.0, x_m: float = 0.0
    ) -> None:
        """A round shape that faces the camera."""
        self.add([(x_m, 0, z_m + radius_z_m * s, w_m + radius_w_m * c, 0) for c, s in OCTAGON], colour)

    def limb(self, start: tuple, end: tuple, width_m: float, colour: Colour) -> None:
        """A band from ``start`` to ``end`` ((x, y, z, swing) each), as wide from every side."""
        h = width_m / 2
        self.add([(*p[:3], w, p[3]) for p, w in ((start, -h), (start, h), (end, h), (end, -h))], colour)

    def build(self, num_steps: int) -> Meshes:
        """The arrays."""
        full, counts, owners, colours, lit_colours, lit_states, glowing, two_sided, reach, fade = (
            zip(*self.polygons, strict=True) if self.polygons else [()] * 10
        )
        n, t = len(self.owners), num_steps
        poses, valid = np.zeros((t, n, 3)), np.zeros((t, n), bool)
        states, strides = np.zeros((t, n), int), np.zeros((t, n))
        for i, owner in enumerate(self.owners):
            poses[:, i], valid[:, i], states[:, i], strides[:, i] = owner[:4]
        vertices = np.ascontiguousarray(np.array(full, np.float32).reshape(-1, CORNERS, 5).T)
        return Meshes(
            vertices=vertices,
            normals=_normals(vertices[:3]),
            counts=np.array(counts, int),
            owners=np.array(owners, int),
            colours=np.array(colours, np.float32).reshape(-1, 3),
            lit_colours=np.array(lit_colours, np.float32).reshape(-1, 3),
            lit_states=np.array(lit_states, int),
            glowing=np.array(glowing, bool),
            two_sided=np.array(two_sided, bool),
            reach_m=np.array(reach, np.float32),
            fade_colours=np.array(fade, np.float32).reshape(-1, 3),
            poses=poses, valid=valid, states=states, strides=strides,
            radii_m=np.array([owner[4] for owner in self.owners]),
            flat=np.array([owner[5] for owner in self.owners], bool),
        )  # fmt: skip


def _normals(corners: FloatArray) -> FloatArray:
    """Unit normals (3, P) of polygons from their first three corners (3, CORNERS, P)."""
    (ax, ay, az), (bx, by, bz) = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normals = np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])
    return normals / np.maximum(np.sqrt((normals**2).sum(0)), 1e-9)


def build_meshes(scene: Scene, palette: Palette) -> Meshes:
    """Polygons for everything in ``scene`` but the ego."""
    build = _Builder(scene, palette)
    for index, track in enumerate(scene.tracks):
        if index == scene.ego_index:
            continue
        if track.kind == TrackKind.VEHICLE:
            _vehicle(build, track)
        elif track.kind == TrackKind.PEDESTRIAN:
            _pedestrian(build, track)
        else:
            _cyclist(build, track)
    for light in scene.lights:
        _light(build, light)
    for index, building in enumerate(scene.buildings):
        _building(build, building, index)
    for index, tree in enumerate(scene.trees):
        _tree(build, tree, index)
    return build.build(scene.num_steps)


def _braking(track: Track, dt_s: float) -> NDArray[np.int64]:
    """1 where a vehicle slows down, or stands after it has moved; looks only at the past."""
    speed_mps = np.abs(track.speed_mps)
    slows = np.diff(speed_mps, prepend=speed_mps[0]) / dt_s < -0.7
    stands = (speed_mps < 0.3) & (np.maximum.accumulate(np.where(track.valid, speed_mps, 0.0)) > 0.5)
    return np.where(slows | stands, BRAKING, 0)


def _stride(track: Track, dt_s: float, length_m: float) -> FloatArray:
    """Swing of limbs in [-1, 1] from the distance gone."""
    return np.sin(2 * np.pi * np.cumsum(np.abs(track.speed_mps)) * dt_s / length_m + track.track_id)


def _vehicle(build: _Builder, track: Track) -> None:
    """A car, or above 2 m a van, truck or bus; tail lamps brighten while it brakes."""
    palette = build.palette
    x, y, h = track.length_m / 2, track.width_m / 2, track.height_m
    colour = pick(looks.CAR_COLOURS, build.scene.scene_id, "car", track.track_id)
    build.own(track.poses, np.hypot(x, y) + 0.5, track.valid, _braking(track, build.scene.dt_s))
    shadow = scaled(palette.road, palette.shadow)
    below = [(i * (x + 0.15), j * (y + 0.2), 0.01) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    build.add(below, shadow)
    build.box((-x + 0.12, x - 0.12), (-y + 0.06, y - 0.06), (0.02, 0.4), (30, 30, 32), "fblr")
    tall = h > 2.0
    belt = 0.42 * h if tall else 0.58 * h
    build.box((-x, x), (-y, y), (0.3, belt), colour)
    for wheel_x in (-0.62 * x, 0.62 * x):
        for side in (-1, 1):
            for radius_m, shade, gap in ((0.34, looks.TYRE, 0.01), (0.19, (120.0, 122.0, 126.0), 0.02)):
                ring = [(wheel_x + side * radius_m * -c, side * (y + gap), 0.34 + radius_m * s) for c, s in OCTAGON]
                build.add(ring, shade, reach_m=DETAIL_M)
    if tall:
        build.box((-x, x), (-y, y), (belt, h), scaled(colour, 1.06))
        build.pane(x + 0.01, (-0.85 * y, 0.85 * y), (belt, 0.82 * h), looks.GLASS, True)
        build.pane(-x - 0.01, (-0.7 * y, 0.7 * y), (belt + 0.1, 0.8 * h), looks.GLASS, False, reach_m=DETAIL_M)
        for side in (-1, 1):
            ends = (0.35 * x, 0.9 * x) if side < 0 else (0.9 * x, 0.35 * x)
            pane = [(ends[0], belt), (ends[1], belt), (ends[1], 0.8 * h), (ends[0], 0.8 * h)]
            build.add([(px, side * (y + 0.01), pz) for px, pz in pane], looks.GLASS)
    else:
        _cabin(build, x, y, belt, h, colour)
    _lamps(build, x, y, belt)


def _cabin(build: _Builder, x: float, y: float, belt: float, h: float, colour: Colour) -> None:
    """The glass house of a car with its roof and pillars."""
    low_x, top_x = (-0.9 * x, 0.42 * x), (-0.62 * x, 0.08 * x)
    low_y, top_y = (-0.93 * y, 0.93 * y), (-0.74 * y, 0.74 * y)
    build.frustum(low_x, low_y, top_x, top_y, (belt, h), looks.GLASS, "fblr")
    build.add([(top_x[i], top_y[j], h) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))], colour)
    for side in (-1, 1):  # the middle pillar and the roof's edge, seen from the side and from behind
        pillar = [(-0.3 * x, belt, 0.94), (-0.22 * x, belt, 0.94), (-0.24 * x, h, 0.75), (-0.32 * x, h, 0.75)]
        pillar = [(px, side * py * y, pz) for px, pz, py in (pillar if side < 0 else pillar[::-1])]
        build.add(pillar, colour, reach_m=DETAIL_M)
        low = h - 0.12
        rail = [(top_x[0] - 0.1, low, 0.78), (top_x[1] + 0.1, low, 0.78), (top_x[1], h, 0.75), (top_x[0], h, 0.75)]
        build.add([(px, side * py * y, pz) for px, pz, py in (rail if side < 0 else rail[::-1])], colour)
    for forward, low, top in ((True, low_x[1], top_x[1]), (False, low_x[0], top_x[0])):
        z = h - 0.12
        edge = top + (low - top) * 0.12 / (h - belt)
        bar = [(edge, -0.78 * y, z), (edge, 0.78 * y, z), (top, 0.74 * y, h), (top, -0.74 * y, h)]
        build.add(bar if forward else bar[::-1], colour)


def _lamps(build: _Builder, x: float, y: float, belt: float) -> None:
    """Tail lamps, head lamps, bumpers and plates."""
    dark = build.palette.headlights > 0
    z = (0.72 * belt, 0.98 * belt) if belt < 1.2 else (0.75, 1.05)
    idle = scaled(looks.BRAKE_OFF, 1.5) if dark else looks.BRAKE_OFF
    head = looks.HEADLAMP_ON if dark else looks.HEADLAMP_OFF
    build.pane(-x - 0.01, (-y, y), (0.3, 0.45), (44, 44, 48), False, reach_m=DETAIL_M)
    build.pane(x + 0.01, (-y, y), (0.3, 0.45), (44, 44, 48), True, reach_m=DETAIL_M)
    build.pane(x + 0.01, (-0.5 * y, 0.5 * y), (0.5, 0.7 * belt), (52, 52, 56), True, reach_m=DETAIL_M)
    build.pane(-x - 0.02, (-0.28, 0.28), (0.48, 0.62), (214, 214, 206), False, reach_m=DETAIL_M)
    for side in (-1, 1):
        span = tuple(sorted((side * 0.99 * y, side * 0.58 * y)))
        build.pane(-x - 0.02, span, z, idle, False, lit=(BRAKING, looks.BRAKE_ON), glows=dark)
        build.pane(x + 0.02, span, (z[0] - 0.1, z[1] - 0.1), head, True, glows=dark)


def _pedestrian(build: _Builder, track: Track) -> None:
    """Two legs and two arms that swing with the stride, a torso and a head."""
    h = track.height_m
    names = (build.scene.scene_id, track.track_id)
    shirt, trousers = pick(looks.CLOTHES, *names, "shirt"), scaled(pick(looks.CLOTHES, *names, "legs"), 0.6)
    build.own(track.poses, 0.6, track.valid, strides=_stride(track, build.scene.dt_s, 1.5))
    shade = scaled(build.palette.road, build.palette.shadow)
    build.add([(0.35 * c, 0.35 * s, 0.01) for c, s in OCTAGON], shade)
    for side in (-1, 1):
        build.limb((0, 0.1 * side, 0.5 * h, 0), (0, 0.1 * side, 0, 0.36 * side), 0.17, trousers)
    for side in (-1, 1):
        build.limb((0, 0.22 * side, 0.8 * h, 0), (0, 0.24 * side, 0.46 * h, -0.26 * side), 0.12, scaled(shirt, 0.85))
    build.limb((0, 0, 0.84 * h, 0), (0, 0, 0.47 * h, 0), 0.42, shirt)
    build.blob(0.92 * h, 0.125, 0.15, looks.SKIN)


def _cyclist(build: _Builder, track: Track) -> None:
    """Two wheels, a frame, and a rider who leans forward and pedals."""
    h = track.height_m
    names = (build.scene.scene_id, track.track_id)
    shirt, frame = pick(looks.CLOTHES, *names, "shirt"), pick(looks.CAR_COLOURS, *names, "frame")
    build.own(track.poses, 1.1, track.valid, strides=_stride(track, build.scene.dt_s, 4.0))
    shade = scaled(build.palette.road, build.palette.shadow)
    build.add([(0.9 * c, 0.3 * s, 0.01) for c, s in OCTAGON], shade)
    for wheel_x in (-0.52, 0.52):
        for radius_m, colour in ((0.34, looks.TYRE), (0.26, (118.0, 120.0, 118.0))):
            rim = [(wheel_x + radius_m * c, 0, 0.34 + radius_m * s, 0.04 * np.sign(c), 0) for c, s in OCTAGON]
            build.add(rim, colour)
    for start, end in (((-0.52, 0.34), (-0.1, 0.85)), ((-0.1, 0.85), (0.42, 0.9)), ((0.42, 0.95), (0.52, 0.34)),
                       ((0.0, 0.35), (0.42, 0.85))):  # fmt: skip
        build.limb((start[0], 0, start[1], 0), (end[0], 0, end[1], 0), 0.07, frame)
    for side in (-1, 1):
        build.limb((-0.15, 0.1 * side, 0.92, 0), (0.05, 0.1 * side, 0.3, 0.2 * side), 0.15, (52, 54, 64))
    build.limb((-0.2, 0, 0.85, 0), (0.12, 0, 0.82 * h, 0), 0.4, shirt)
    build.limb((0.12, 0.15, 0.78 * h, 0), (0.42, 0.2, 0.98, 0), 0.1, looks.SKIN)
    build.blob(0.91 * h, 0.13, 0.15, looks.SKIN, x_m=0.2)
    build.blob(0.96 * h, 0.14, 0.09, frame, x_m=0.2)


def _light(build: _Builder, light: TrafficLight) -> None:
    """A pole, a dark housing with a pale rim, and three lamps seen by the traffic that the light governs."""
    x, y, z = light.position_m
    build.own(np.array([x, y, light.heading_rad]), 1.5, states=light.states)
    pole: Colour = (70, 74, 76)
    build.limb((0.1, 0, 0, 0), (0.1, 0, z, 0), 0.22, pole)
    build.box((-0.3, 0.3), (-0.5, 0.5), (z - 1.2, z + 1.2), (36, 38, 38), "blrf")
    for state, offset_m in ((LightState.RED, 0.75), (LightState.YELLOW, 0.0), (LightState.GREEN, -0.75)):
        lit = looks.LAMPS[int(state) - 1]
        ring = [(-0.32, 0.33 * -c, z + offset_m + 0.33 * s) for c, s in OCTAGON]
        build.add(ring, mixed(scaled(lit, 0.22), (30, 30, 30), 0.4), lit=(int(state), lit))


def _tree(build: _Builder, tree: Tree, index: int) -> None:
    """A trunk and a crown of three blobs, lighter on top."""
    h = tree.height_m
    draws = [unit_hash(build.scene.scene_id, "tree", index, i) for i in range(4)]
    green = mixed((58, 92, 44), (98, 116, 48), draws[0])
    build.own(np.array([*tree.xy_m, 0.0]), 0.4 * h)
    build.limb((0, 0, 0, 0), (0, 0, 0.5 * h, 0), 0.06 * h, (86, 68, 52))
    build.blob(0.62 * h, 0.27 * h, 0.26 * h, scaled(green, 0.78))
    build.blob(0.68 * h, 0.19 * h, 0.18 * h, green, w_m=(draws[1] - 0.3) * 0.14 * h)
    build.blob(0.8 * h, 0.15 * h, 0.16 * h, scaled(green, 1.2), w_m=(draws[2] - 0.5) * 0.2 * h)


def _building(build: _Builder, building: Building, index: int) -> None:
    """Four walls of panels about 5 m wide, each its own owner so that trees and corners hide one another rightly."""
    base = pick(looks.WALLS, build.scene.scene_id, "wall", index)
    wall = mixed(scaled(base, 0.7), scaled(base, 1.15), building.shade)
    floor_m = 3.2
    floors = max(1, int(building.height_m / floor_m))
    x, y, heading = building.pose
    half = (building.length_m / 2, building.width_m / 2)
    for side in range(4):
        out_m, wide_m = half[side % 2], 2 * half[1 - side % 2]
        count = max(1, round(wide_m / 5.0))
        angle = heading + side * np.pi / 2
        panel_m = wide_m / count
        for k in range(count):
            along_m = (k + 0.5) * panel_m - wide_m / 2
            centre = points_from_frame(np.array([out_m, along_m]), np.array([x, y, angle]))
            build.own(np.array([*centre, angle]), 0.5 * panel_m + 0.1, flat=True)
            build.pane(0, (-panel_m / 2, panel_m / 2), (0, building.height_m), wall, True)
            build.pane(
                0.01, (-panel_m / 2, panel_m / 2), (0, 0.7), scaled(wall, 0.7), True, reach_m=90.0, fades_to=wall
            )
            for floor in range(floors):
                lit = unit_hash(build.scene.scene_id, index, side, k, floor) < build.palette.lit_windows
                z = floor * floor_m + 1.0
                span, height = (-0.32 * panel_m, 0.32 * panel_m), (z, z + 1.6)
                if lit:
                    build.pane(0.02, span, height, LAMPLIGHT, True, glows=True)
                else:
                    build.pane(0.02, span, height, build.palette.window, True, reach_m=90.0, fades_to=wall)
