"""Validation while training: a loss on fixed clips with fixed noise, and videos (history | truth | generated)."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from resim.data.batch import Batch
from resim.data.files import require_plain_name
from resim.data.mixture import TrainingData
from resim.data.video import write_video
from resim.datatypes.clip import NUM_HISTORY_FRAMES
from resim.training.config import ValidationConfig
from resim.training.steps import BatchEncoder, step_generator, weighted_sum
from resim.world_model.diffusion import NUM_CONTEXT_LATENTS, DiffusionConfig
from resim.world_model.losses import TrainingDraws, training_losses
from resim.world_model.pipeline import ReSimPipeline

TIMESTEP_FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)
NOISE_SEED = 1234


def validation_draws(shape: torch.Size, timestep: int, index: int) -> TrainingDraws:
    """Noise of batch ``index`` at one timestep, with the whole, clean history as context."""
    generator = step_generator(NOISE_SEED, index, 0, timestep)
    return TrainingDraws(
        timestep_B=torch.full((shape[0],), timestep),
        noise_BFCHW=torch.randn(shape, generator=generator),
        num_context=NUM_CONTEXT_LATENTS,
        context_timestep_B=torch.zeros(shape[0], dtype=torch.int64),
        context_noise_BFCHW=torch.zeros(shape),
    )


@torch.no_grad()
def validation_losses(
    model: nn.Module, encode: BatchEncoder, batches: Iterable[Batch], config: DiffusionConfig
) -> dict[str, float]:
    """Mean weighted loss per timestep, as {'100': .., '300': ..}; the same clips and noise in every call."""
    by_timestep: dict[str, float] = {}
    encoded = []
    for index, batch in enumerate(batches):
        on_device = batch.to(encode.device)
        encoded.append((on_device, *encode(on_device, step_generator(NOISE_SEED, index, 1, 0))))
    for timestep in (int(fraction * config.num_timesteps) for fraction in TIMESTEP_FRACTIONS):
        totals = []
        for index, (batch, latents, prompt_embeds) in enumerate(encoded):
            draws = validation_draws(latents.shape, timestep, index).to(encode.device)
            losses = training_losses(model, latents, prompt_embeds, batch.waypoints, batch.has_waypoints, draws, config)
            totals.append(weighted_sum(losses, config.loss_weights))
        by_timestep[str(timestep)] = torch.cat(totals).mean().item()
    return by_timestep


def write_validation_videos(
    pipeline: ReSimPipeline, data: TrainingData, config: ValidationConfig, folder: Path, step: int
) -> list[Path]:
    """Sample the first held-out clips with fixed seeds and write truth and generated future side by side as mp4.

    Raises ValueError for a mixture entry whose name cannot be part of a file's name.
    """
    files = []
    pipeline.text_encoder.to(pipeline.vae.device)  # it waits on the CPU while training
    for n in range(config.num_validation_videos):
        entry, index = data.epoch_order(0)[n]
        store = data.stores[entry]
        truth = store.read_frames(int(index), data.height_px, data.width_px)
        sample = data[n]
        require_plain_name(sample.source, what="name of a mixture entry")  # the clip's id was checked by its store
        output = pipeline(
            truth[:NUM_HISTORY_FRAMES],
            sample.waypoints.numpy() if sample.has_waypoints else None,
            prompt=sample.prompt,
            num_inference_steps=config.num_inference_steps,
            guidance_scale=config.guidance_scale,
            generator=torch.Generator().manual_seed(n),
        )
        file = folder / f"step-{step:06d}" / f"{sample.source}-{sample.clip_id}.mp4"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_video(file, np.concatenate([truth, output.frames[0]], axis=2))
        files.append(file)
    pipeline.text_encoder.to("cpu")
    return files
