"""Futures of several paths from one history, from the same noise."""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from resim.datatypes.clip import FPS, NUM_HISTORY_FRAMES
from resim.datatypes.geometry import FloatArray
from resim.imagination.sampling import Sampling
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


def imagine(pipe: ReSimPipeline, history: Frames, paths_NR83: Waypoints | None, sampling: Sampling) -> Frames:
    """Futures of one history along N paths of R rounds of 4 s, as one batch.

    All start from the same noise, so that they differ by their paths alone; each round goes on from the one before.

    Args:
        pipe: the world model.
        history: uint8 (9, H, W, 3), RGB at 10 Hz; the last frame is t = 0.
        paths_NR83: waypoints (N, R, 8, 3), each in the ego frame where its round begins; None leaves the model free,
            which gives one future of one round.
        sampling: noise, steps and guidance.

    Returns:
        uint8 (N, 9 + 40 R, H, W, 3), each with its history.

    Raises ValueError for paths of another shape, and naming what the pipeline finds wrong.
    """
    if paths_NR83 is not None and np.ndim(paths_NR83) != 4:
        raise ValueError(f"paths must be (N, R, 8, 3), N paths of R rounds, got {np.shape(paths_NR83)}")
    num_futures = 1 if paths_NR83 is None else len(paths_NR83)
    output = pipe(
        history,
        None if paths_NR83 is None else list(np.swapaxes(paths_NR83, 0, 1)),
        num_inference_steps=sampling.num_inference_steps,
        guidance_scale=sampling.guidance_scale,
        generator=[torch.Generator().manual_seed(sampling.seed) for _ in range(num_futures)],
    )
    return np.asarray(output.frames)


def future_differences(futures: Mapping[str, Frames]) -> list[dict[str, object]]:
    """Mean absolute difference in grey levels of each pair of futures, over the whole 4 s and in the last frame."""
    rows: list[dict[str, object]] = []
    for a, b in combinations(futures, 2):
        first, second = (futures[name][NUM_HISTORY_FRAMES:].astype(np.float32) for name in (a, b))
        by_frame = np.abs(first - second).mean(axis=(1, 2, 3))
        rows.append({"paths": f"{a}, {b}", "mean over 4 s": float(by_frame.mean()), "at 4 s": float(by_frame[-1])})
    return rows
