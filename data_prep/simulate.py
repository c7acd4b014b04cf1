"""Simulate, paint and store clips: the embedded source of training data. Clip n of scene seed s depends on s alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from resim.data.store import StoreWriter
from resim.datatypes.geometry import simulation_camera
from resim.datatypes.scene import Look, Scene
from resim.datatypes.seeds import seeds_from
from resim.entry_point import run
from resim.simulation.drivers import DRIVERS, POLICIES, Driver
from resim.simulation.generator.generate import generate_scene
from resim.simulation.painter.painter import Painter
from resim.simulation.simulate import Simulation

DRIVER_STREAM = 1  # keeps the choice of drivers apart from the other draws made from a scene's seed


@dataclass(frozen=True, kw_only=True)
class SimulateArgs:
    """What to simulate."""

    # The store to write.
    output_dir: Path
    # Clips in all.
    num_clips: int = 100
    # Seed of the first scene; scene i has seed + i. resim/datatypes/seeds.py says which are whose.
    seed: int = 0
    # Size of the frames.
    height: int = 64
    width: int = 112
    # Drivers to draw from, each scene its own; one given several times is drawn more often.
    drivers: tuple[str, ...] = ("expert",)
    # Clips made of each scene, by different drivers from the same history.
    drivers_per_scene: int = 1
    # The world of the tiny model: slow, by day, on slabs, without buildings and trees.
    simple: bool = False
    # Weather and time of day of every scene; drawn for each one without it.
    look: Literal["day", "dusk", "rain", "slabs", "night"] | None = None
    # Leave the waypoints, the command and the infractions out: video as a dash camera gives it.
    without_waypoints: bool = False
    # Keep every scene beside its clips, 50 kB each, to drive and paint it again.
    with_scenes: bool = False
    # Name of the source in the store.
    source: str = "simulation"
    # Processes that simulate and paint.
    num_workers: int = 2
    # Replace the store of an earlier run.
    overwrite: bool = False


@dataclass(frozen=True)
class PaintedClip:
    """Frames (49, H, W, 3) uint8 and the other arguments of StoreWriter.add."""

    frames_THWC: NDArray[np.uint8]
    fields: dict[str, Any]


def simulate_scene(scene_seed: int, args: SimulateArgs) -> tuple[Scene, list[PaintedClip]]:
    """A scene and its clips: a pure function of the seed and the flags."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng([scene_seed, DRIVER_STREAM])
    names = list(dict.fromkeys(rng.permutation(args.drivers).tolist()))[: args.drivers_per_scene]
    look = None if args.look is None else Look[args.look.upper()]
    scene = generate_scene(scene_seed, simple=args.simple, look=look)
    camera = simulation_camera(args.height, args.width)
    simulation, painter = Simulation(scene), Painter(scene, camera)
    clips = []
    for name in names:
        result = simulation.drive(Driver(name, seed=scene_seed), name)
        fields: dict[str, Any] = {"clip_id": f"{scene.scene_id}-{name}", "scene_id": scene.scene_id}
        if not args.without_waypoints:
            fields |= {
                "driver": name,
                "waypoints": result.waypoints,
                "executed_waypoints": result.executed_waypoints,
                "history_poses": result.history_poses,
                "infractions": result.infractions,
            }
        clips.append(PaintedClip(painter.paint_log(result.scene), fields | {"camera": camera}))
    return scene, clips


@contextmanager
def ordered_map(num_workers: int) -> Iterator[Any]:
    """A lazy map that keeps the order: the built-in one, or one over processes."""
    if num_workers == 1:
        yield map
        return
    with get_context("spawn").Pool(num_workers) as pool:
        yield pool.imap


def simulate(args: Annotated[SimulateArgs, tyro.conf.arg(name="")]) -> None:
    """Write a store of simulated clips."""
    known = (*DRIVERS, *POLICIES)
    unknown = sorted(set(args.drivers) - set(known))
    if unknown or not args.drivers:
        raise ValueError(f"--drivers {' '.join(unknown)}: unknown; choose from {', '.join(known)}")
    if min(args.num_clips, args.num_workers, args.drivers_per_scene, args.height, args.width) < 1:
        raise ValueError("--num_clips, --num_workers, --drivers_per_scene, --height, --width start at 1")
    if args.drivers_per_scene > len(set(args.drivers)):
        raise ValueError(f"--drivers_per_scene {args.drivers_per_scene}: only {len(set(args.drivers))} drivers given")
    scenes = seeds_from(args.seed, -(-args.num_clips // args.drivers_per_scene))
    writer = StoreWriter(
        args.output_dir,
        source=args.source,
        height_px=args.height,
        width_px=args.width,
        inputs=(),
        overwrite=args.overwrite,
    )
    with (
        writer,
        tqdm(total=args.num_clips, desc=f"simulate {args.output_dir.name}", unit="clip") as progress,
        ordered_map(args.num_workers) as over,
    ):
        for scene, clips in over(partial(simulate_scene, args=args), scenes):
            if args.with_scenes:
                writer.add_scene(scene)
            for clip in clips[: args.num_clips - progress.n]:
                writer.add(clip.frames_THWC, **clip.fields)
                progress.update()


if __name__ == "__main__":
    run(simulate)
