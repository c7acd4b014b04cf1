"""Futures of several paths from one history, from the same noise."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from resim.data.video import Frames
from resim.datatypes.clip import Waypoints
from resim.imagination.sampling import Sampling
from resim.world_model.latents import spatial_factor
from resim.world_model.pipeline import ReSimPipeline

Precision = Literal["float32", "bfloat16"]


def load_pipeline(model: Path, dtype: Precision) -> ReSimPipeline:
    """The checkpoint ``model`` in this precision, on the GPU where there is one."""
    pipe = ReSimPipeline.from_pretrained(model, dtype=getattr(torch, dtype))
    return pipe.to("cuda" if torch.cuda.is_available() else "cpu")


def model_size_px(pipe: ReSimPipeline) -> tuple[int, int]:
    """Height and width in pixels that the model was made for."""
    factor = spatial_factor(pipe.vae)
    return pipe.transformer.config.sample_height * factor, pipe.transformer.config.sample_width * factor


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
