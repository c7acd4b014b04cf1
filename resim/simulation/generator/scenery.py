"""Buildings and trees along the road, never on it."""

import numpy as np

from resim.datatypes.boxes import box_corners
from resim.datatypes.geometry import FloatArray
from resim.datatypes.polyline import headings_of, inside, resample
from resim.datatypes.scene import Building, Tree
from resim.simulation.generator.roads import Layout

CLEARANCE_M = 3.0  # between the road edge and anything that stands: the pavement


def _clear(points_m: FloatArray, edges_m: FloatArray, polygons: tuple[FloatArray, ...], margin_m: float) -> bool:
    """Whether all points (N, 2) are off the road and further than ``margin_m`` from its edge points (M, 2)."""
    d = points_m[:, None] - edges_m
    if np.min((d**2).sum(-1)) < margin_m**2:
        return False
    return not any(inside(points_m, polygon).any() for polygon in polygons)


def verge(
    road: Layout, focus_m: FloatArray, radius_m: float, rng: np.random.Generator
) -> tuple[tuple[Building, ...], tuple[Tree, ...]]:
    """Scenery beside every road edge within ``radius_m`` of ``focus_m``: a built-up, a mixed or a wooded place."""
    town = float(rng.choice([0.15, 0.5, 0.85]))
    edges_m = np.concatenate([resample(e, 2.0) for e in road.road_edges])
    buildings: list[Building] = []
    trees: list[Tree] = []
    for edge_m in road.road_edges:
        points_m = resample(edge_m, 1.0)
        heading = headings_of(points_m)
        along = int(rng.integers(0, 8))
        while along < len(points_m):
            outwards = np.array([np.sin(heading[along]), -np.cos(heading[along])])
            spot = points_m[along]
            width_m = 2.0
            if np.hypot(*(spot - focus_m)) > radius_m:
                along += 10
                continue
            if rng.random() < town:
                width_m, depth_m = rng.uniform(8, 22), rng.uniform(8, 14)
                middle = spot + outwards * (CLEARANCE_M + 1.5 + rng.exponential(3.0) + depth_m / 2)
                pose = np.r_[middle, heading[along]]
                rim = box_corners(pose, width_m, depth_m)
                rim = np.concatenate([rim, (rim + np.roll(rim, 1, axis=0)) / 2])
                if _clear(rim, edges_m, road.drivable, CLEARANCE_M):
                    height_m, shade = float(rng.uniform(4, 18)), float(rng.random())
                    buildings.append(
                        Building(pose=pose, length_m=width_m, width_m=depth_m, height_m=height_m, shade=shade)
                    )
            if rng.random() < 0.6:
                xy_m = spot + outwards * (CLEARANCE_M + rng.exponential(2.5))
                if _clear(xy_m[None], edges_m, road.drivable, CLEARANCE_M - 0.1):
                    trees.append(Tree(xy_m=xy_m, height_m=float(rng.uniform(3.5, 11))))
            along += int(rng.uniform(0.6, 1.2) * width_m + rng.uniform(2, 9))
    return tuple(buildings), tuple(trees)
