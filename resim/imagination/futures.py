"""Futures of several paths from one history: generated with the same noise, drawn side by side, and reported."""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from resim.datatypes.clip import FPS, NUM_HISTORY_FRAMES
from resim.datatypes.geometry import FloatArray
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


def future_differences(futures: Mapping[str, Frames]) -> list[dict[str, object]]:
    """Mean absolute difference in grey levels of each pair of futures, over the whole 4 s and in the last frame."""
    rows: list[dict[str, object]] = []
    for a, b in combinations(futures, 2):
        first, second = (futures[name][NUM_HISTORY_FRAMES:].astype(np.float32) for name in (a, b))
        by_frame = np.abs(first - second).mean(axis=(1, 2, 3))
        rows.append({"paths": f"{a}, {b}", "mean over 4 s": float(by_frame.mean()), "at 4 s": float(by_frame[-1])})
    return rows
