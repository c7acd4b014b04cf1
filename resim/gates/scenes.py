"""The scenes of the gates, drawn from the simulator: who drives in them, and what comes of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from resim.datatypes.clip import Waypoints
from resim.datatypes.geometry import Camera, FloatArray
from resim.datatypes.seeds import seeds_from
from resim.metrics.trajectory import path_distance_m
from resim.simulation.drivers import DRIVERS, Driver
from resim.simulation.generator.generate import generate_scene
from resim.simulation.painter.painter import Painter
from resim.simulation.simulate import Drive, Simulation

NUM_PATHS = 3
# Mean distance over 4 s by which every two paths of a scene differ at least.
MIN_APART_M = 2.0


@dataclass(frozen=True, kw_only=True)
class GateScene:
    """One history with the true videos of three paths."""

    scene_id: str
    drivers: tuple[str, ...]
    waypoints_P83: Waypoints
    truths_PTHWC: np.ndarray  # uint8, 49 frames; the first 9 are the common history


@dataclass(frozen=True, kw_only=True)
class CandidateScene:
    """One history with every candidate's path, execution and true video; N candidates, the expert first."""

    scene_id: str
    names: tuple[str, ...]
    waypoints_N83: FloatArray  # intended
    executed_N83: FloatArray
    score_N: FloatArray
    collided_N: NDArray[np.bool_]
    truths_NTHWC: NDArray[np.uint8]


def draw_scene(seed: int, camera: Camera, simple: bool) -> GateScene | None:
    """The scene of ``seed`` with its first three drivers, in random order, that hit nothing and are apart.

    None where it has no three of them. ``simple`` is generate_scene's.
    """
    scene = generate_scene(seed, simple=simple)
    simulation, painter = Simulation(scene), Painter(scene, camera)
    order = np.random.default_rng([seed, 1]).permutation(len(DRIVERS))
    drives: list[Drive] = []
    for driver in (DRIVERS[i] for i in order):
        done = simulation.drive(Driver(driver), driver)
        apart = all(path_distance_m(done.waypoints, other.waypoints) >= MIN_APART_M for other in drives)
        if apart and not done.infractions.collision:
            drives.append(done)
        if len(drives) == NUM_PATHS:
            return GateScene(
                scene_id=scene.scene_id,
                drivers=tuple(done.driver for done in drives),
                waypoints_P83=np.stack([done.waypoints for done in drives]),
                truths_PTHWC=np.stack([painter.paint_log(done.scene) for done in drives]),
            )
    return None


def draw_scenes(first_seed: int, num_scenes: int, camera: Camera, simple: bool) -> tuple[list[GateScene], int]:
    """``num_scenes`` scenes from ``first_seed`` on, and how many seeds were looked at for them.

    Raises ValueError where the range of ``first_seed`` (resim/datatypes/seeds.py) holds fewer.
    """
    scenes: list[GateScene] = []
    with tqdm(total=num_scenes, desc="simulate", unit="scene") as progress:
        for seed in seeds_from(first_seed):
            scene = draw_scene(seed, camera, simple)
            if scene is not None:
                scenes.append(scene)
                progress.update()
            if len(scenes) == num_scenes:
                return scenes, seed - first_seed + 1
    raise ValueError(f"{len(scenes)} scenes with three paths apart from seed {first_seed} on, not {num_scenes}")


def draw_candidates(seed: int, camera: Camera, simple: bool, policies: Sequence[str]) -> CandidateScene:
    """The scene of ``seed`` with what the expert and ``policies`` do and see. ``simple``: generate_scene's."""
    scene = generate_scene(seed, simple=simple)
    simulation, painter = Simulation(scene), Painter(scene, camera)
    drives = [simulation.drive(Driver(name, seed=seed), name) for name in ("expert", *policies)]
    return CandidateScene(
        scene_id=scene.scene_id,
        names=tuple(done.driver for done in drives),
        waypoints_N83=np.stack([done.waypoints for done in drives]),
        executed_N83=np.stack([done.executed_waypoints for done in drives]),
        score_N=np.array([done.infractions.score for done in drives]),
        collided_N=np.array([done.infractions.collision for done in drives]),
        truths_NTHWC=np.stack([painter.paint_log(done.scene) for done in drives]),
    )
