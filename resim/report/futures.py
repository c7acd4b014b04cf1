"""Futures of several paths, side by side, and in a report."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from resim.data.video import Frames, write_video
from resim.datatypes.clip import FPS, NUM_FRAMES, NUM_HISTORY_FRAMES, Waypoints
from resim.datatypes.geometry import Camera
from resim.datatypes.scene import Scene
from resim.metrics.pixels import future_differences
from resim.report.overlay import BirdEyeView, draw_path_video, enlarge, side_by_side
from resim.report.page import Report


def compare_video(
    generated: Frames,
    truth: Frames | None,
    camera: Camera,
    paths: Mapping[str, Waypoints],
    shown: str,
    *,
    scene: Scene | None = None,
    truth_caption: str = "history | truth",
    height_px: int = 256,
) -> Frames:
    """49 frames side by side: history and truth, history and generated future, the same with the path, the map.

    ``truth`` (49, H, W, 3) may be None where nothing was recorded; its panel then holds the history and stays dark.
    """
    recorded = generated.copy()
    recorded[NUM_HISTORY_FRAMES:] = 0
    bird_eye = BirdEyeView(paths, shown=shown, scene=scene, height_px=height_px, width_px=height_px)
    panels = [
        (
            truth_caption if truth is not None else "history (no recording after it)",
            recorded if truth is None else truth,
        ),
        ("history | generated", enlarge(generated, height_px)),
        (f"commanded: {shown}", draw_path_video(generated, camera, paths[shown], height_px=height_px)),
        ("bird's eye view, metres", bird_eye.video(NUM_FRAMES)),
    ]
    return side_by_side(panels, height_px=height_px)


def keyframes(futures: Mapping[str, Frames], *, height_px: int = 160) -> Frames:
    """One row per future with its frames at 0, 1, 2, 3 and 4 s -> a picture (H, W, 3)."""
    at = [NUM_HISTORY_FRAMES - 1 + round(second * FPS) for second in range(5)]
    return np.concatenate([np.concatenate(list(enlarge(frames[at], height_px)), axis=1) for frames in futures.values()])


def report_futures(
    report: Report,
    folder: Path,
    name: str,
    paths: Mapping[str, Waypoints],
    futures: Mapping[str, Frames],
    truths: Mapping[str, Frames],
    camera: Camera,
    *,
    scenes: Mapping[str, Scene],
) -> dict[str, object]:
    """A section of the report: one video per path, key frames, and how far the futures differ.

    Args:
        report: gets the section.
        folder: gets ``videos/<name>_<path>.mp4`` (generated alone) and ``.._compared.mp4``.
        name: the scene's.
        paths: waypoints (8, 3) by name.
        futures: generated clips (49, H, W, 3) by path name.
        truths: recorded or simulated clips of those paths for which there is one.
        camera: of the clips.
        scenes: the Scene of those paths for which there is one, drawn into the map.

    Returns:
        What report.json holds for a scene: ``{"scene", "paths": [{"name", "waypoints", "video", ..}], "differences"}``.
    """
    (folder / "videos").mkdir(exist_ok=True)
    report.heading(name)
    described = []
    for shown, generated in futures.items():
        video = Path("videos") / f"{name}_{shown}.mp4"
        compared = video.with_name(f"{video.stem}_compared.mp4")
        picture = compare_video(generated, truths.get(shown), camera, paths, shown, scene=scenes.get(shown))
        write_video(folder / video, generated[NUM_HISTORY_FRAMES:])
        write_video(folder / compared, picture)
        report.video(folder / compared, f"{shown}: 0.9 s of history, then 4 s")
        described.append(
            {"name": shown, "waypoints": paths[shown].tolist(), "video": str(video), "compared": str(compared)}
        )
    report.picture(keyframes(futures), f"Generated at 0, 1, 2, 3 and 4 s; rows: {', '.join(futures)}")
    differences = future_differences(futures)
    report.paragraph("Mean absolute difference between the generated futures, in grey levels of 255:")
    report.table(differences)
    return {"scene": name, "paths": described, "differences": differences}
