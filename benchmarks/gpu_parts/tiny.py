"""The tiny model of checkpoints/tiny on the device against the CPU: the same losses, gradients and futures."""

from pathlib import Path

import numpy as np
import torch

from gpu_parts.timing import device, timed
from resim.world_model.diffusion import NUM_LATENTS, DiffusionConfig
from resim.world_model.losses import draw, training_losses
from resim.world_model.pipeline import ReSimPipeline

TINY = Path(__file__).resolve().parents[2] / "checkpoints" / "tiny"
CPU = torch.device("cpu")
CONFIG = DiffusionConfig()
# float32 sums in another order; a wrong kernel is off by far more.
MAX_RELATIVE_DIFFERENCE = 1e-3
MAX_MEAN_GREY_LEVELS = 0.5


def training(dry_run: bool) -> dict[str, object]:
    """Forward and backward: relative differences of losses and gradients to those of the CPU.

    Raises ArithmeticError where one is above MAX_RELATIVE_DIFFERENCE.
    """
    batch = 1 if dry_run else 8
    pipe = load(CPU)
    expected = losses_and_gradients(pipe, batch)
    pipe.to(device(dry_run))
    found = losses_and_gradients(pipe, batch)
    differences = {name: float((found[name] - value).norm() / value.norm()) for name, value in expected.items()}
    if not max(differences.values()) <= MAX_RELATIVE_DIFFERENCE:
        raise ArithmeticError(f"relative differences to the CPU {differences}, allowed {MAX_RELATIVE_DIFFERENCE}")
    step = timed(lambda: losses_and_gradients(pipe, batch), dry_run)
    return {"relative_differences": differences, "forward_and_backward": step}


def generation(dry_run: bool) -> dict[str, object]:
    """A future of 4 s: differences to that of the CPU in grey levels of 255.

    Raises ArithmeticError where the mean is above MAX_MEAN_GREY_LEVELS.
    """
    size, num_steps = ((16, 32), 1) if dry_run else ((64, 112), 10)
    pipe = load(CPU)
    expected = future(pipe, size, num_steps)
    pipe.to(device(dry_run))
    difference = np.abs(future(pipe, size, num_steps).astype(int) - expected)
    mean, largest = float(difference.mean()), int(difference.max())
    if not mean <= MAX_MEAN_GREY_LEVELS:
        raise ArithmeticError(f"mean difference to the CPU {mean} grey levels, allowed {MAX_MEAN_GREY_LEVELS}")
    generated = timed(lambda: future(pipe, size, num_steps), dry_run)
    return {"mean_difference": mean, "largest_difference": largest, "denoising_steps": num_steps, "future": generated}


def load(there: torch.device) -> ReSimPipeline:
    """The pipeline in float32, whose convolutions are not to be rounded to TF32."""
    torch.backends.cudnn.allow_tf32 = False
    pipe = ReSimPipeline.from_pretrained(TINY).to(there)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def losses_and_gradients(pipe: ReSimPipeline, batch: int) -> dict[str, torch.Tensor]:
    """Losses (B,) by name and all gradients of a module in one row, on the CPU; the noise is always the same."""
    model, generator = pipe.world_model, torch.Generator().manual_seed(0)
    config = model.transformer.config
    shape = torch.Size((batch, NUM_LATENTS, config.in_channels, config.sample_height, config.sample_width))
    latents = torch.randn(shape, generator=generator)
    text = torch.randn(batch, config.max_text_seq_length, config.text_embed_dim, generator=generator)
    waypoints = torch.randn(batch, 8, 3, generator=generator)
    losses = training_losses(
        model,
        latents.to(pipe.device),
        prompt_embeds_BLD=text.to(pipe.device),
        waypoints_B83=waypoints.to(pipe.device),
        has_waypoints_B=torch.ones(batch, dtype=torch.bool, device=pipe.device),
        draws=draw(shape, generator, CONFIG).to(pipe.device),
        config=CONFIG,
    )
    model.zero_grad()
    sum(loss.mean() for loss in losses.values()).backward()
    found = {name: loss.detach().cpu() for name, loss in losses.items()}
    for name, part in model.named_children():
        rows = [parameter.grad.flatten() for parameter in part.parameters() if parameter.grad is not None]
        found[f"gradient of {name}"] = torch.cat(rows).cpu()
    return found


def future(pipe: ReSimPipeline, size_px: tuple[int, int], num_steps: int) -> np.ndarray:
    """Frames uint8 (1, 49, H, W, 3) of one path from a soft random history; the noise is drawn on the CPU."""
    generator = torch.Generator().manual_seed(0)
    soft = torch.nn.functional.interpolate(torch.rand(9, 3, 4, 7, generator=generator), size_px, mode="bilinear")
    history = (soft * 255).to(torch.uint8).permute(0, 2, 3, 1)
    along_s = np.arange(1, 9) / 2
    path = np.stack([8.0 * along_s, 0.1 * along_s**2, 0.025 * along_s], axis=-1)
    return pipe(history, path, num_inference_steps=num_steps, generator=generator).frames
