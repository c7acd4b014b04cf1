"""Scenes, drives and frames a second of the simulator on one core, one driver a scene and several.

Counts the process's CPU time, so that other programs on the machine disturb little. Example:
``python benchmarks/simulation.py --scenes 12``.
"""

import time
from collections.abc import Callable

import cv2

from resim.datatypes.geometry import simulation_camera
from resim.datatypes.scene import Scene
from resim.datatypes.seeds import Seeds
from resim.entry_point import run
from resim.simulation.drivers import DRIVERS, Driver
from resim.simulation.generator.generate import generate_scene
from resim.simulation.painter.painter import Painter
from resim.simulation.simulate import Drive, Simulation

HEIGHT_PX, WIDTH_PX = 64, 112


def seconds(work: Callable[[], object]) -> float:
    start_s = time.process_time()
    work()
    return time.process_time() - start_s


def main(scenes: int = 12, first_seed: int = Seeds.BENCHMARKS.first, simple: bool = True) -> None:
    """Generate ``scenes`` scenes from ``first_seed`` on, drive each with one and with four drivers, and paint them."""
    cv2.setNumThreads(1)
    camera = simulation_camera(HEIGHT_PX, WIDTH_PX)
    made: list[Scene] = []
    drives: list[list[Drive]] = []

    def generate() -> None:
        made[:] = [generate_scene(first_seed + i, simple=simple) for i in range(scenes)]

    def drive(names: tuple[str, ...]) -> None:
        drives[:] = []
        for scene in made:
            simulation = Simulation(scene)
            drives.append([simulation.drive(Driver(name), name) for name in names])

    def paint() -> None:
        for scene, done in zip(made, drives, strict=True):
            painter = Painter(scene, camera)
            for one in done:
                painter.paint_log(one.scene)

    generate()  # once to warm up
    print("| drivers a scene | generate, ms a scene | drive, ms | paint, ms a clip of 49 frames | clips/s in all |")
    print("|---|---|---|---|---|")
    for names in (DRIVERS[1:2], DRIVERS[:4]):
        generate_s, drive_s, paint_s = seconds(generate), seconds(lambda names=names: drive(names)), seconds(paint)
        clips = scenes * len(names)
        total_s = generate_s + drive_s + paint_s
        times = (1e3 * generate_s / scenes, 1e3 * drive_s / clips, 1e3 * paint_s / clips, clips / total_s)
        print(f"| {len(names)} | " + " | ".join(f"{value:.1f}" for value in times) + " |", flush=True)


if __name__ == "__main__":
    run(main)
