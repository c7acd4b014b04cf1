"""Frames per second of the painter on one core, by resolution and kind of scene, whole clips with their set-up.

Counts the process's CPU time, so that other programs on the machine disturb little. Example:
``python benchmarks/painter.py --clips 3``.
"""

import time

import cv2

from resim.datatypes.geometry import simulation_camera
from resim.datatypes.scene import Look, Scene
from resim.entry_point import run
from resim.simulation.generator.generate import MAPS, generate_scene
from resim.simulation.painter.painter import paint_clip
from resim.simulation.simulate import drive

SIZES_PX = ((64, 112), (256, 448), (512, 896))


def frames_per_second(scenes: list[Scene], height_px: int, width_px: int) -> float:
    camera = simulation_camera(height_px, width_px)
    start_s = time.process_time()
    frames = sum(len(paint_clip(scene, camera)) for scene in scenes)
    return frames / (time.process_time() - start_s)


def main(clips: int = 3, seed: int = 0) -> None:
    """Measure ``clips`` clips of 49 frames per kind of scene, with looks in turn, from ``seed`` on."""
    cv2.setNumThreads(1)
    print("| scene | " + " | ".join(f"{h}x{w}" for h, w in SIZES_PX) + " |")
    print("|---" * (len(SIZES_PX) + 1) + "|")
    rows = []
    for kind in MAPS:
        looks = [Look(i % len(Look)) for i in range(clips)]
        made = [generate_scene(seed + i, kind=kind, look=look) for i, look in enumerate(looks)]
        scenes = [drive(scene, "expert").scene for scene in made]
        rows.append([frames_per_second(scenes, h, w) for h, w in SIZES_PX])
        print(f"| {kind} | " + " | ".join(f"{fps:.0f}" for fps in rows[-1]) + " |", flush=True)
    print("| mean | " + " | ".join(f"{sum(column) / len(rows):.0f}" for column in zip(*rows, strict=True)) + " |")


if __name__ == "__main__":
    run(main)
