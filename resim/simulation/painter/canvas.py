"""Canvas: a piece of the world from above, and what draws shapes given in metres into it."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from resim.datatypes.geometry import FloatArray
from resim.simulation.painter.looks import Colour, lattice, mixed

SNAP_M = 8.0  # canvases start and end on multiples of this, so that one place is painted alike in all of them
SHIFT = 4  # fixed-point bits of the coordinates that OpenCV draws


@dataclass(frozen=True, kw_only=True, eq=False)
class Shapes:
    """N polylines or polygons and the boxes around them, so that those far away are passed over quickly."""

    points_m: list[FloatArray]  # each (K, 2)
    low_m: FloatArray  # (N, 2)
    high_m: FloatArray  # (N, 2)

    @classmethod
    def of(cls, points_m: list[FloatArray], *, longest: int | None = None) -> "Shapes":
        """With their boxes; polylines of more than ``longest`` points are cut into pieces that share their ends."""
        if longest is not None:
            points_m = [p[i : i + longest] for p in points_m for i in range(0, max(len(p) - 1, 1), longest - 1)]
        low, high = ([getattr(p, how)(axis=0) for p in points_m] for how in ("min", "max"))
        return cls(points_m=points_m, low_m=np.array(low).reshape(-1, 2), high_m=np.array(high).reshape(-1, 2))


class Quads:
    """Convex quads (N, 4, 2) with their colours (N, 3), and the boxes around them (2, N)."""

    def __init__(self, corners_m: FloatArray, colours: FloatArray) -> None:
        self.corners_m, self.colours = corners_m, colours
        self.low_m, self.high_m = corners_m.min(axis=1).T, corners_m.max(axis=1).T


class Canvas:
    """A bird's-eye image: column = world x, row = world y, ``texel_m`` metres each, from the corner ``origin_m``.

    ``pixels`` (rows, columns, 3) may be a view into a larger image; its size gives the canvas its own.
    """

    def __init__(self, origin_m: FloatArray, texel_m: float, pixels: NDArray[np.uint8]):
        self.origin_m, self.texel_m, self.pixels = origin_m, texel_m, pixels
        self.size_m = np.array(pixels.shape[1::-1]) * texel_m

    def fixed_point(self, points_m: FloatArray) -> NDArray[np.int32]:
        """World points (..., 2) in OpenCV's fixed-point pixel coordinates."""
        pixels = (points_m - self.origin_m) / self.texel_m - 0.5
        return np.round(np.clip(pixels, -30000, 30000) * (1 << SHIFT)).astype(np.int32)

    def quads(self, quads: "Quads") -> None:
        """Paint convex quads in their order."""
        high_m = self.origin_m + self.size_m
        (x, y), (low_x, low_y), (right_x, right_y) = self.origin_m, quads.low_m, quads.high_m
        near = (right_x > x) & (right_y > y) & (low_x < high_m[0]) & (low_y < high_m[1])
        colours = quads.colours[near].tolist()
        for quad, colour in zip(self.fixed_point(quads.corners_m[near]), colours, strict=True):
            cv2.fillConvexPoly(self.pixels, quad, colour, cv2.LINE_AA, SHIFT)

    def lines(self, lines: Shapes, widest_m: float) -> list[NDArray[np.int32]]:
        """Those of the polylines that a band of ``widest_m`` along them would show, for :meth:`strokes`."""
        return [self.fixed_point(lines.points_m[index]) for index in seen(lines, self, widest_m)]

    def strokes(self, lines: list[NDArray[np.int32]], width_m: float, colour: Colour) -> None:
        """Paint wide bands along polylines."""
        width_px = max(1, round(width_m / self.texel_m))
        cv2.polylines(self.pixels, lines, False, tuple(colour), width_px, cv2.LINE_AA, SHIFT)

    def noise(self, seed: int, scale_m: float) -> NDArray[np.uint8]:
        """Smooth world-anchored noise with blobs of ``scale_m``, as large as the canvas."""
        pad = 2
        first = np.round(self.origin_m / scale_m).astype(int) - pad
        cells = np.round(self.size_m / scale_m).astype(int) + 2 * pad
        pad_px = round(pad * scale_m / self.texel_m)
        rows, columns = self.pixels.shape[:2]
        size = (columns + 2 * pad_px, rows + 2 * pad_px)
        cell_values = lattice(seed, first[0], first[1], (cells[1], cells[0]))
        values = cv2.resize(cell_values, size, interpolation=cv2.INTER_CUBIC)
        return values[pad_px : pad_px + rows, pad_px : pad_px + columns]


def seen(shapes: Shapes, canvas: Canvas, margin_m: float = 0.0) -> list[int]:
    """Which shapes have boxes that touch the canvas."""
    high_m = canvas.origin_m + canvas.size_m + margin_m
    touches = np.all(shapes.high_m > canvas.origin_m - margin_m, axis=1) & np.all(shapes.low_m < high_m, axis=1)
    return np.flatnonzero(touches).tolist()


def bar_quads(bars_m: FloatArray, width_m: float, texel_m: float) -> FloatArray:
    """Straight bars (N, 2, 2), from end to end, of ``width_m`` -> quads (N, 4, 2) to paint at this texel size.

    OpenCV's anti-aliased fill is about 1.4 px wider than asked: allowed for here.
    """
    along = bars_m[:, 1] - bars_m[:, 0]
    along = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    half_m = max(width_m - 1.4 * texel_m, 0.0) / 2
    side = np.stack([-along[:, 1], along[:, 0]], -1) * half_m
    return np.stack([bars_m[:, 0] + side, bars_m[:, 1] + side, bars_m[:, 1] - side, bars_m[:, 0] - side], 1)


def bars(kinds: Sequence[tuple[FloatArray, float, Colour]], below: Colour, texel_m: float) -> Quads:
    """Bars (N, 2, 2) of several kinds, each with a width in metres and a colour, to paint over ``below``.

    The fill is never thinner than 1.8 px, so thinner bars fade instead.
    """
    quads = [bar_quads(bars_m, width_m, texel_m) for bars_m, width_m, _ in kinds]
    colours = [mixed(below, colour, min(1.0, width_m / texel_m / 1.8)) for _, width_m, colour in kinds]
    each = [np.tile(colour, (len(part), 1)) for colour, part in zip(colours, quads, strict=True)]
    return Quads(np.concatenate(quads), np.concatenate(each))
