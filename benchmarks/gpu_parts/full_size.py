"""Steps of the full-size model with random weights in bfloat16, beside diffusers' own CogVideoX of the same size.

Text tokens and latents are random and the VAE is left out: what is timed is the transformer, with its losses.
Activations are recomputed in the backward pass (gradient checkpointing), as in the presets.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import CogVideoXTransformer3DModel

from gpu_parts.timing import device, timed
from resim.world_model.diffusion import (
    NUM_CONTEXT_LATENTS,
    NUM_LATENTS,
    DiffusionConfig,
    add_noise,
    alphas_cumprod,
    velocity,
)
from resim.world_model.lora import add_lora
from resim.world_model.losses import draw, training_losses
from resim.world_model.model import WorldModel, full_size_encoder
from resim.world_model.transformer import ReSimTransformer3DModel

CONFIG = DiffusionConfig()
# CogVideoX-2B is what diffusers and ReSim build by default.
DRY_SIZE = {"num_layers": 2, "num_attention_heads": 2, "text_embed_dim": 64, "time_embed_dim": 32}
DRY_PIXELS = (64, 96)
LORA_RANK, LORA_ALPHA, LORA_BATCH = 128, 1.0, 4  # stage 2's


def sampling_256x448(dry_run: bool) -> dict[str, object]:
    """See :func:`sampling`."""
    return sampling(256, 448, dry_run)


def sampling_512x896(dry_run: bool) -> dict[str, object]:
    """See :func:`sampling`."""
    return sampling(512, 896, dry_run)


def training_256x448(dry_run: bool) -> dict[str, object]:
    """See :func:`training`."""
    return training(256, 448, dry_run)


def training_512x896(dry_run: bool) -> dict[str, object]:
    """See :func:`training`."""
    return training(512, 896, dry_run)


def sampling(height_px: int, width_px: int, dry_run: bool) -> dict[str, object]:
    """One denoising step of two clips: with the conditions and without them, as guidance needs."""
    latents, text = inputs(2, height_px, width_px, dry_run)
    return {
        "resim": resim_sampling(latents, text, dry_run),
        "diffusers": stock_sampling(latents, text, dry_run),
    }


def training(height_px: int, width_px: int, dry_run: bool) -> dict[str, object]:
    """Forward, backward and AdamW of one clip; all weights learn."""
    latents, text = inputs(1, height_px, width_px, dry_run)
    return {
        "resim": resim_training(resim_model(dry_run), latents, text, dry_run),
        "diffusers": stock_training(latents, text, dry_run),
    }


def lora_256x448(dry_run: bool) -> dict[str, object]:
    """A step of stage 2: LoRA and trajectory encoder learn, four clips in one pass."""
    latents, text = inputs(1 if dry_run else LORA_BATCH, 256, 448, dry_run)
    model = resim_model(dry_run)
    add_lora(model.transformer, rank=LORA_RANK, alpha=LORA_ALPHA)
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return {"learning_parameters": learning, "resim": resim_training(model, latents, text, dry_run)}


def resim_sampling(latents: torch.Tensor, text: torch.Tensor, dry_run: bool) -> dict[str, object]:
    """Seconds and memory of a forward with the history in place."""
    model = resim_model(dry_run).eval()
    zero = torch.zeros(len(latents), dtype=torch.int64, device=latents.device)
    context, noisy = latents[:, :NUM_CONTEXT_LATENTS], latents[:, NUM_CONTEXT_LATENTS:]

    @torch.no_grad()
    def step() -> None:
        model(context, noisy, **conditions(text), timestep_B=zero + 500, context_timestep_B=zero)

    return timed(step, dry_run)


def stock_sampling(latents: torch.Tensor, text: torch.Tensor, dry_run: bool) -> dict[str, object]:
    """Seconds and memory of diffusers' forward."""
    model = stock_model(latents, dry_run).eval()
    noisy, text = latents.bfloat16(), text.bfloat16()
    timestep = torch.full((len(latents),), 500, device=latents.device)

    @torch.no_grad()
    def step() -> None:
        model(hidden_states=noisy, encoder_hidden_states=text, timestep=timestep)

    return timed(step, dry_run)


def resim_training(model: WorldModel, latents: torch.Tensor, text: torch.Tensor, dry_run: bool) -> dict[str, object]:
    """Seconds and memory of the step that the training loop does, on everything that requires gradients."""
    model.transformer.enable_gradient_checkpointing()
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-5, fused=True)
    draws = draw(latents.shape, torch.Generator().manual_seed(0), CONFIG).to(latents.device)

    def step() -> None:
        losses = training_losses(model, latents, **conditions(text), draws=draws, config=CONFIG)
        learn(sum(CONFIG.loss_weights[name] * loss.mean() for name, loss in losses.items()), optimizer)

    return timed(step, dry_run)


def stock_training(latents: torch.Tensor, text: torch.Tensor, dry_run: bool) -> dict[str, object]:
    """Seconds and memory of the same step of diffusers' model, without history and dynamics loss."""
    model = stock_model(latents, dry_run)
    model.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    timestep = torch.full((len(latents),), 500, device=latents.device)
    abar, noise = alphas_cumprod(CONFIG).to(latents.device)[timestep], torch.randn_like(latents)
    x_t, text = add_noise(latents, noise, abar).bfloat16(), text.bfloat16()

    def step() -> None:
        v = model(hidden_states=x_t, encoder_hidden_states=text, timestep=timestep).sample
        learn((v.float() - velocity(latents, noise, abar)).square().mean(), optimizer)

    return timed(step, dry_run)


def learn(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Backward and one step of the optimizer. Raises FloatingPointError when the loss is not finite."""
    if not bool(loss.isfinite()):
        raise FloatingPointError(f"the loss is {float(loss)}")
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def inputs(batch: int, height_px: int, width_px: int, dry_run: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Random latents (B, 13, 16, h, w) of clips of this size, and text tokens (B, 226, D), float32."""
    height_px, width_px = DRY_PIXELS if dry_run else (height_px, width_px)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(batch, NUM_LATENTS, 16, height_px // 8, width_px // 8, generator=generator)
    text = torch.randn(batch, 226, DRY_SIZE["text_embed_dim"] if dry_run else 4096, generator=generator)
    return latents.to(device(dry_run)), text.to(device(dry_run))


def conditions(text: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the world model is told, besides the latents and their levels."""
    return {
        "prompt_embeds_BLD": text,
        "waypoints_B83": torch.zeros(len(text), 8, 3, device=text.device),
        "has_waypoints_B": torch.ones(len(text), dtype=torch.bool, device=text.device),
    }


def resim_model(dry_run: bool) -> WorldModel:
    """ReSim with random weights."""
    with random_weights(dry_run):
        transformer = ReSimTransformer3DModel(**DRY_SIZE if dry_run else {})
        return WorldModel(transformer, full_size_encoder(transformer))


def stock_model(latents: torch.Tensor, dry_run: bool) -> CogVideoXTransformer3DModel:
    """diffusers' CogVideoX with random weights, and its table of positions for this size."""
    size = {"sample_frames": 49, "sample_height": latents.shape[-2], "sample_width": latents.shape[-1]}
    with random_weights(dry_run):
        return CogVideoXTransformer3DModel(**size, **DRY_SIZE if dry_run else {})


@contextmanager
def random_weights(dry_run: bool) -> Iterator[None]:
    """Inside, new modules are made in bfloat16 where they will run."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device(dry_run):
            yield
    finally:
        torch.set_default_dtype(torch.float32)
