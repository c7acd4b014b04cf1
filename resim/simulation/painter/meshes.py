"""Meshes: coloured polygons hung on owners (tracks, lights, trees, walls), and what builds them a group at a time.

They know nothing of time: where owners are, and whether their lamps are lit, comes with each moment.

A vertex is [x, y, z, w, s]: metres in its owner's frame (x forward, y left, z up), ``w`` metres to the camera's left
(so that trunks, heads and limbs show a width from every side), and ``s`` metres that swing along x with its stride.
A polygon without ``w`` is seen only from the side from which its corners run counter-clockwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.geometry import FloatArray
from resim.simulation.painter.looks import Colour, Palette
from resim.simulation.painter.moment import Moment

CORNERS = 8  # vertices stored per polygon; shorter ones repeat their last
ALWAYS_M = 1e6
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
    poses: FloatArray  # (O, 3) world, of what stands
    track: NDArray[np.int64]  # (O,) whose track among the others it is; -1 = nobody's
    light: NDArray[np.int64]  # (O,) which stop of the map it is the lamp of; -1 = of none
    stride_m: FloatArray  # (O,) distance over which limbs swing once
    phase_rad: FloatArray  # (O,) where in the swing it begins
    radii_m: FloatArray  # (O,)
    flat: NDArray[np.bool_]  # (O,) a wall, seen only from the side to which its heading points

    def at(self, moment: Moment) -> "Placed":
        """Where the owners are at one moment."""
        moved, lamps = self.track >= 0, self.light >= 0
        track = self.track[moved]
        poses, valid, states = self.poses.copy(), np.ones(len(moved), bool), np.zeros(len(moved), np.int64)
        poses[moved], valid[moved], states[moved] = moment.poses[track], moment.valid[track], moment.braking[track]
        states[lamps] = moment.light_states[self.light[lamps]]
        swing = np.zeros(len(moved))
        swing[moved] = np.sin(2 * np.pi * moment.gone_m[track] / self.stride_m[moved] + self.phase_rad[moved])
        return Placed(poses=poses, valid=valid, states=states, swing=swing)


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Owners (O) at one moment."""

    poses: FloatArray  # (O, 3) world
    valid: NDArray[np.bool_]  # (O,)
    states: NDArray[np.int64]  # (O,) BRAKING or a LightState
    swing: FloatArray  # (O,) in [-1, 1]


class MeshBuilder:
    """Collects owners and their polygons, a whole group at a time: N things of one kind whose sizes are arrays (N,)."""

    def __init__(self, scene_id: str, palette: Palette):
        self.scene_id, self.palette = scene_id, palette
        self.polygons: list[tuple] = []
        self.owners: list[tuple] = []
        self.num_owners = 0

    def own(
        self,
        poses: FloatArray,
        radii_m: FloatArray,
        *,
        track: NDArray[np.int64] | int = -1,
        light: NDArray[np.int64] | int = -1,
        stride_m: float = np.inf,
        phase_rad: FloatArray | float = 0.0,
        flat: bool = False,
    ) -> NDArray[np.int64]:
        """N new owners (see Meshes); ``poses`` (N, 3) count for what stands only. Returns their indices (N,)."""
        n = len(radii_m)
        shaped = (np.broadcast_to(value, n) for value in (track, light, stride_m, phase_rad))
        self.owners.append((np.broadcast_to(poses, (n, 3)), *shaped, radii_m, np.full(n, flat)))
        self.num_owners += n
        return np.arange(self.num_owners - n, self.num_owners)

    def add(
        self,
        owners: NDArray[np.int64],
        points: Sequence[tuple],
        colour: Colour,
        *,
        reach_m: float = ALWAYS_M,
        fades_to: Colour | None = None,
        lit: tuple[int, Colour] = (-1, (0.0, 0.0, 0.0)),
        glows: bool = False,
    ) -> None:
        """One polygon for each of N owners; corners (x, y, z) or (x, y, z, w, s) of numbers or arrays (N,)."""
        n = len(owners)
        corners = np.zeros((5, CORNERS, n), np.float32)
        for i, point in enumerate(points):
            for j, value in enumerate(point):
                corners[j, i] = value
        corners[:, len(points) :] = corners[:, len(points) - 1 : len(points)]
        fade = colour if fades_to is None else fades_to
        colours = (np.broadcast_to(np.asarray(c, np.float32), (n, 3)) for c in (colour, lit[1], fade))
        two_sided = len(points[0]) == 5
        each = (np.full(n, value) for value in (len(points), lit[0], glows, two_sided, reach_m))
        self.polygons.append((corners, owners, *colours, *each))

    def box(
        self, owners: NDArray[np.int64], x: tuple, y: tuple, z: tuple, colour: Colour, faces: str = "fblrt"
    ) -> None:
        """Faces (front, back, left, right, top) of upright boxes; ``x``, ``y``, ``z`` are (low, high)."""
        self.frustum(owners, x, y, x, y, z, colour, faces)

    def frustum(
        self,
        owners: NDArray[np.int64],
        x: tuple,
        y: tuple,
        top_x: tuple,
        top_y: tuple,
        z: tuple,
        colour: Colour,
        faces: str,
    ) -> None:
        """Like :meth:`box`, with another rectangle at the top."""
        lo = [(x[i], y[j], z[0]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
        hi = [(top_x[i], top_y[j], z[1]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
        sides = {"r": (0, 1), "f": (1, 2), "l": (2, 3), "b": (3, 0)}
        for face in faces:
            if face == "t":
                self.add(owners, hi, colour)
            else:
                a, b = sides[face]
                self.add(owners, [lo[a], lo[b], hi[b], hi[a]], colour)

    def pane(
        self,
        owners: NDArray[np.int64],
        x: FloatArray | float,
        y: tuple,
        z: tuple,
        colour: Colour,
        forward: bool,
        **options: Any,
    ) -> None:
        """Upright rectangles at ``x`` that face forward or backward."""
        corners = [(x, y[0], z[0]), (x, y[1], z[0]), (x, y[1], z[1]), (x, y[0], z[1])]
        self.add(owners, corners if forward else corners[::-1], colour, **options)

    def blob(
        self,
        owners: NDArray[np.int64],
        z_m: FloatArray,
        radii_m: tuple,
        colour: Colour,
        *,
        w_m: FloatArray | float = 0.0,
        x_m: float = 0.0,
    ) -> None:
        """Round shapes that face the camera, with ``radii_m`` (sideways, upwards)."""
        self.add(owners, [(x_m, 0, z_m + radii_m[1] * s, w_m + radii_m[0] * c, 0) for c, s in OCTAGON], colour)

    def limb(
        self, owners: NDArray[np.int64], start: tuple, end: tuple, width_m: FloatArray | float, colour: Colour
    ) -> None:
        """Bands from ``start`` to ``end`` ((x, y, z, swing) each), as wide from every side."""
        h = width_m / 2
        self.add(owners, [(*p[:3], w, p[3]) for p, w in ((start, -h), (start, h), (end, h), (end, -h))], colour)

    def build(self) -> Meshes:
        """The arrays."""
        if not self.owners:  # one that nobody sees, so that every array has its shape
            ids = self.own(np.full((1, 3), 1e9), np.zeros(1))
            self.add(ids, [(0, 0, 0)] * 3, (0.0, 0.0, 0.0))
        corners, owners, colours, lit_colours, fades, counts, lit_states, glowing, two_sided, reach = (
            np.concatenate(chunks, axis=-1 if k == 0 else 0)
            for k, chunks in enumerate(zip(*self.polygons, strict=True))
        )
        poses, track, light, stride_m, phase_rad, radii_m, flat = (
            np.concatenate(chunks) for chunks in zip(*self.owners, strict=True)
        )
        return Meshes(
            vertices=corners, normals=_normals(corners[:3]), counts=counts, owners=owners, colours=colours,
            lit_colours=lit_colours, lit_states=lit_states, glowing=glowing, two_sided=two_sided, reach_m=reach,
            fade_colours=fades, poses=poses, track=track, light=light, stride_m=stride_m, phase_rad=phase_rad,
            radii_m=radii_m, flat=flat,
        )  # fmt: skip


def _normals(corners: FloatArray) -> FloatArray:
    """Unit normals (3, P) of polygons from their first three corners (3, CORNERS, P)."""
    (ax, ay, az), (bx, by, bz) = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normals = np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])
    return normals / np.maximum(np.sqrt((normals**2).sum(0)), 1e-9)
