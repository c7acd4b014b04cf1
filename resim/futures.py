"""Futures of several paths from one history: generated with the same noise, drawn side by side, and reported."""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from resim.clip import FPS, NUM_FRAMES, NUM_HISTORY_FRAMES
from resim.data.video import write_video
from resim.geometry import Camera, FloatArray
from resim.overlay import BirdEyeView, draw_path_video, enlarge, side_by_side
from resim.report import Report
from resim.scene import Scene
from resim.world_model.latents import spatial_factor
from resim.world_model.pipeline import ReSimPipeline

Frames = NDArray[np.uint8]  # T H W C, RGB
Waypoints = NDArray[np.float32]  # 8 3
Precision = Literal["float32", "bfloat16"]


def load_pipeline(model: Path, dtype: Precision) -> ReSimPipeline:
    """The checkpoint ``model`` in this precision, on the GPU where there is one."""
    pipe = ReSimPipeline.from_pretrained(model, dtype=getattr(torch, dtype))
    return pipe.to("cuda" if torch.cuda.is_available() else "cpu")


def model_size_px(pipe: ReSimPipeline) -> tuple[int, int]:
    """Height and width in pixels that the model was made for."""
    factor = spatial_factor(pipe.vae)
    return pipe.transformer.config.sample_height * factor, pipe.transformer.config.sample_width * factor


def speed_at_start_mps(history_poses: FloatArray) -> float:
    """Speed at t = 0 from the last 0.3 s of the history's poses (9, 3)."""
    return float(np.linalg.norm(np.diff(history_poses[-4:, :2], axis=0), axis=1).mean() * FPS)


def generate_futures(
    pipe: ReSimPipeline,
    history: Frames,
    paths: Mapping[str, Waypoints],
    *,
    seed: int,
    num_inference_steps: int,
    guidance_scale: float | None,
) -> dict[str, Frames]:
    """One future (49, H, W, 3) per path, from the same history (9, H, W, 3) and the same noise, as one batch."""
    names = list(paths)
    output = pipe(
        history,
        np.stack([paths[name] for name in names]),
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        generator=[torch.Generator().manual_seed(seed) for _ in names],
    )
    return dict(zip(names, output.frames, strict=True))


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


def future_differences(futures: Mapping[str, Frames]) -> list[dict[str, object]]:
    """Mean absolute difference in grey levels of each pair of futures, over the whole 4 s and in the last frame."""
    rows: list[dict[str, object]] = []
    for a, b in combinations(futures, 2):
        first, second = (futures[name][NUM_HISTORY_FRAMES:].astype(np.float32) for name in (a, b))
        by_frame = np.abs(first - second).mean(axis=(1, 2, 3))
        rows.append({"paths": f"{a}, {b}", "mean over 4 s": float(by_frame.mean()), "at 4 s": float(by_frame[-1])})
    return rows


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
        report.video(folder / compared, f"{shown}: 0.8 s of history, then 4 s")
        described.append(
            {"name": shown, "waypoints": paths[shown].tolist(), "video": str(video), "compared": str(compared)}
        )
    report.picture(keyframes(futures), f"Generated at 0, 1, 2, 3 and 4 s; rows: {', '.join(futures)}")
    differences = future_differences(futures)
    report.paragraph("Mean absolute difference between the generated futures, in grey levels of 255:")
    report.table(differences)
    return {"scene": name, "paths": described, "differences": differences}
