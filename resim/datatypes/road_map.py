"""RoadMap: lanes, surfaces, lines and stops in one fixed world frame; what a map does not say is None, never a guess.

World frame: metres, x and y in the ground plane, headings counter-clockwise. Polylines are (N, 2), polygons (N, 2)
without repeating the first corner.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from shapely import STRtree
from shapely.geometry import LineString, Point

from resim.datatypes.geometry import FloatArray
from resim.datatypes.polyline import offset, resample

DENSE_M = 3.0


class LaneKind(StrEnum):
    """What a lane is for."""

    LANE = "lane"
    CONNECTOR = "connector"  # through a junction, from the end of one lane to the start of another
    BIKE = "bike"


class SurfaceKind(StrEnum):
    """What an area of the ground is."""

    DRIVABLE = "drivable"
    INTERSECTION = "intersection"
    CARPARK = "carpark"
    CROSSWALK = "crosswalk"
    WALKWAY = "walkway"
    STOP_ZONE = "stop zone"
    SPEED_BUMP = "speed bump"


class LineStyle(StrEnum):
    """How a line is painted on the road."""

    SOLID = "solid"
    DASHED = "dashed"
    DOUBLE = "double"  # yellow centre line
    UNKNOWN = "unknown"


class StopKind(StrEnum):
    """Why one stops: for a light that says so, always, or for who has priority."""

    LIGHT = "light"
    STOP = "stop"
    YIELD = "yield"


@dataclass(frozen=True, kw_only=True, eq=False)
class Lane:
    """One lane. ``centerline_m`` runs in driving direction; neighbours are lanes of the same direction.

    ``priority`` ranks who gives way: lanes of rank 0 give way to those of rank 1 (main road, ring of a roundabout).
    ``group_id`` names the lanes that lie side by side in one direction (a roadblock).
    """

    lane_id: int
    centerline_m: FloatArray
    kind: LaneKind = LaneKind.LANE
    left_boundary_m: FloatArray | None = None
    right_boundary_m: FloatArray | None = None
    width_m: float | None = None
    polygon_m: FloatArray | None = None
    speed_limit_mps: float | None = None
    predecessor_ids: tuple[int, ...] = ()
    successor_ids: tuple[int, ...] = ()
    left_ids: tuple[int, ...] = ()
    right_ids: tuple[int, ...] = ()
    group_id: int | None = None
    in_intersection: bool = False
    priority: int = 0

    @cached_property
    def dense_m(self) -> FloatArray:
        """The centre line with a point at least every DENSE_M metres, for what looks for the nearest one."""
        steps_m = np.hypot(*np.diff(self.centerline_m, axis=0).T)
        return self.centerline_m if steps_m.max() <= DENSE_M else resample(self.centerline_m, DENSE_M)

    @property
    def outline_m(self) -> FloatArray | None:
        """Polygon of the lane: as given, or from its boundaries or its width; None where the map says none of them."""
        if self.polygon_m is not None:
            return self.polygon_m
        if self.left_boundary_m is not None and self.right_boundary_m is not None:
            return np.concatenate([self.left_boundary_m, self.right_boundary_m[::-1]])
        if self.width_m is None:
            return None
        left_m, right_m = (offset(self.centerline_m, side * self.width_m / 2) for side in (1, -1))
        return np.concatenate([left_m, right_m[::-1]])


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """An area of the ground, less its holes."""

    kind: SurfaceKind
    polygon_m: FloatArray
    holes_m: tuple[FloatArray, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class RoadLine:
    """A painted line (N, 2)."""

    points_m: FloatArray
    style: LineStyle


@dataclass(frozen=True, kw_only=True, eq=False)
class StopLine:
    """Where those who drive through ``lane_ids`` may have to stop, and why.

    ``line_m`` (2, 2) are the line's ends, ``point_m`` (2,) a place on it, ``lamp_m`` (3,) the lamp's housing, and
    ``heading_rad`` the direction of those who stop. Maps that know no more than the lanes leave all four None.
    """

    stop_id: int
    kind: StopKind
    lane_ids: tuple[int, ...]
    point_m: FloatArray | None = None
    line_m: FloatArray | None = None
    lamp_m: FloatArray | None = None
    heading_rad: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class RoadMap:
    """The still parts of a scene that drive and are driven on. ``edges`` are polylines where the road's surface ends.

    Procedural maps direct an edge so that the surface lies to its left.
    """

    lanes: tuple[Lane, ...]
    surfaces: tuple[Surface, ...] = ()
    edges: tuple[FloatArray, ...] = ()
    lines: tuple[RoadLine, ...] = ()
    stops: tuple[StopLine, ...] = ()

    @cached_property
    def lane_by_id(self) -> dict[int, Lane]:
        """The lanes by their ids."""
        return {lane.lane_id: lane for lane in self.lanes}

    @cached_property
    def _lane_tree(self) -> STRtree:
        return STRtree([LineString(lane.centerline_m) for lane in self.lanes])

    def lanes_near(self, xy_m: FloatArray, radius_m: float) -> list[Lane]:
        """Lanes whose centre line comes within ``radius_m`` of a place (2,), in the map's order."""
        found = self._lane_tree.query(Point(*xy_m), predicate="dwithin", distance=radius_m)
        return [self.lanes[i] for i in sorted(found.tolist())]

    def polygons(self, kinds: Iterable[SurfaceKind]) -> Iterator[FloatArray]:
        """Outer polygons of the surfaces of these kinds, in the map's order."""
        wanted = set(kinds)
        return (surface.polygon_m for surface in self.surfaces if surface.kind in wanted)
