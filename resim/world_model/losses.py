"""Training losses of ReSim (arXiv 2506.09981, Eq. 1 and 2) and the random draws that they are a function of.

Both losses are divided by the number of predicted latent elements, so that their ratio is the paper's and their size
does not depend on the resolution.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from resim.world_model.diffusion import (
    DiffusionConfig,
    add_noise,
    alphas_cumprod,
    sample_context_timesteps,
    sample_num_context,
    sample_timesteps,
    velocity,
    x_from_velocity,
)
from resim.world_model.model import WorldModel

# Below this mean motion (in units of the latents' standard deviation) a clip counts as standing still, and the
# dynamics loss is no longer scaled up.
MOTION_FLOOR = 0.1


@dataclass(frozen=True, kw_only=True)
class TrainingDraws:
    """Everything random in one training step."""

    timestep_B: torch.Tensor
    noise_BFCHW: torch.Tensor
    num_context: int
    context_timestep_B: torch.Tensor
    context_noise_BFCHW: torch.Tensor

    def to(self, device: torch.device | str) -> "TrainingDraws":
        """The same draws with every tensor on ``device``."""
        moved: dict[str, Any] = {
            f.name: getattr(self, f.name).to(device)
            for f in fields(self)
            if isinstance(getattr(self, f.name), torch.Tensor)
        }
        return replace(self, **moved)


def draw(latents_shape: torch.Size, generator: torch.Generator, config: DiffusionConfig) -> TrainingDraws:
    """Draw timesteps, noise, number of context latents and context augmentation for latents (B, F, C, h, w)."""
    batch_size = latents_shape[0]
    return TrainingDraws(
        timestep_B=sample_timesteps(batch_size, config, generator),
        noise_BFCHW=torch.randn(latents_shape, generator=generator),
        num_context=sample_num_context(config, generator),
        context_timestep_B=sample_context_timesteps(batch_size, config, generator),
        context_noise_BFCHW=torch.randn(latents_shape, generator=generator),
    )


def diffusion_loss(v_pred: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Eq. 1 on the predicted latents (B, N, C, h, w) -> (B,): v-MSE, the x-MSE weighted by 1 / (1 - abar_t)."""
    return (v_pred.float() - v).square().flatten(1).mean(dim=1)


def dynamics_loss(d: torch.Tensor, x: torch.Tensor, num_intervals: int) -> torch.Tensor:
    """Eq. 2 on the predicted latents (B, N, C, h, w) -> (B,): the estimate d must move as the truth x moves.

    sum_j sum_i (1 / s_j) || (d[i+j] - d[i]) - (x[i+j] - x[i]) ||^2 for j = 1 .. K, with s_j the mean absolute true
    motion of the clip at interval j, bounded below by MOTION_FLOOR. The release divides by (mean |dx| + 1) instead
    and leaves the term switched off.
    """
    total = torch.zeros(len(x), device=x.device)
    for j in range(1, min(num_intervals, x.shape[1] - 1) + 1):
        motion = x[:, j:] - x[:, :-j]
        s_j = motion.abs().flatten(1).mean(dim=1).clamp(min=MOTION_FLOOR)
        error = (d[:, j:] - d[:, :-j]) - motion
        total = total + error.square().flatten(1).sum(dim=1) / s_j
    return total / x[0].numel()


def training_losses(
    model: WorldModel | torch.nn.Module,
    latents_BFCHW: torch.Tensor,
    prompt_embeds_BLD: torch.Tensor,
    waypoints_B83: torch.Tensor,
    has_waypoints_B: torch.Tensor,
    draws: TrainingDraws,
    config: DiffusionConfig,
) -> dict[str, torch.Tensor]:
    """Losses by name, one value per clip (B,), in float32. ``model`` may be wrapped: only its ``__call__`` is used."""
    x = latents_BFCHW.float()
    k = draws.num_context
    abar = alphas_cumprod(config).to(x.device)
    abar_t, abar_aug = abar[draws.timestep_B], abar[draws.context_timestep_B]
    context = x[:, :k]
    if config.max_context_timestep > 0:
        context = add_noise(context, draws.context_noise_BFCHW[:, :k], abar_aug)
    x, noise = x[:, k:], draws.noise_BFCHW[:, k:]
    x_t = add_noise(x, noise, abar_t)

    v_pred = model(
        context_BFCHW=context,
        noisy_BFCHW=x_t,
        prompt_embeds_BLD=prompt_embeds_BLD,
        waypoints_B83=waypoints_B83,
        has_waypoints_B=has_waypoints_B,
        timestep_B=draws.timestep_B,
        context_timestep_B=draws.context_timestep_B,
    )
    return {
        "diffusion": diffusion_loss(v_pred, velocity(x, noise, abar_t)),
        "dynamics": dynamics_loss(x_from_velocity(x_t, v_pred, abar_t), x, config.dynamics_intervals),
    }
