"""Diffusion maths of CogVideoX and ReSim as pure functions, in the notation of the papers.

abar_t is the cumulative signal level: x_t = sqrt(abar_t) x + sqrt(1 - abar_t) eps (forward process), and the model
predicts v = sqrt(abar_t) eps - sqrt(1 - abar_t) x (Salimans & Ho 2022, v-prediction).
"""

import math
from dataclasses import dataclass

import torch

NUM_CONTEXT_LATENTS = 3  # latents of the 9 history frames
NUM_LATENTS = 13  # latents of the 49 frames of a clip


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """Noise schedule of CogVideoX-2B and what ReSim adds to its training (arXiv 2506.09981, Sec. 3 and appendix)."""

    num_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.0120
    snr_shift: float = 3.0
    # P(t in the noisier half): 1/2 would be uniform.
    high_noise_probability: float = 2 / 3
    # P(0), P(1), .. context latents, drawn once per batch.
    context_probabilities: tuple[float, ...] = (0.10, 0.15, 0.15, 0.60)
    # Context augmentation t_aug ~ U{0 .. max_context_timestep - 1}; 0 leaves the context clean.
    max_context_timestep: int = 700
    # K of Eq. 2; 0 switches the dynamics-consistency loss off.
    dynamics_intervals: int = 4
    # Weight of each loss; the keys are exactly those that training_losses returns.
    diffusion_weight: float = 1.0
    dynamics_weight: float = 0.1

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weight by loss name."""
        return {"diffusion": self.diffusion_weight, "dynamics": self.dynamics_weight}


def alphas_cumprod(config: DiffusionConfig) -> torch.Tensor:
    """abar_t (num_timesteps,) in float64: scaled-linear betas, SNR divided by ``snr_shift``, zero terminal SNR.

    The SNR shift is CogVideoX's (abar / (s + (1 - s) abar)); the rescaling to zero terminal SNR is Algorithm 1 of
    Lin et al. 2023 (arXiv 2305.08891).
    """
    betas = torch.linspace(config.beta_start**0.5, config.beta_end**0.5, config.num_timesteps, dtype=torch.float64) ** 2
    abar = torch.cumprod(1.0 - betas, dim=0)
    abar = abar / (config.snr_shift + (1.0 - config.snr_shift) * abar)
    root = abar.sqrt()
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    return root**2


def _like(abar_B: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return abar_B.to(device=x.device, dtype=torch.float32).reshape(-1, *[1] * (x.ndim - 1))


def add_noise(x: torch.Tensor, noise: torch.Tensor, abar_B: torch.Tensor) -> torch.Tensor:
    """Forward process x_t of x (B, ...) at signal levels ``abar_B`` (B,), float32."""
    abar = _like(abar_B, x)
    return abar.sqrt() * x.float() + (1 - abar).sqrt() * noise.float()


def velocity(x: torch.Tensor, noise: torch.Tensor, abar_B: torch.Tensor) -> torch.Tensor:
    """Training target v (B, ...), float32."""
    abar = _like(abar_B, x)
    return abar.sqrt() * noise.float() - (1 - abar).sqrt() * x.float()


def x_from_velocity(x_t: torch.Tensor, v: torch.Tensor, abar_B: torch.Tensor) -> torch.Tensor:
    """The model's estimate D(x_t; t) of the clean x from its v, float32."""
    abar = _like(abar_B, x_t)
    return abar.sqrt() * x_t.float() - (1 - abar).sqrt() * v.float()


def sample_timesteps(batch_size: int, config: DiffusionConfig, generator: torch.Generator) -> torch.Tensor:
    """Timesteps (B,) int64: the noisier half [T/2, T) with ``high_noise_probability``, uniform inside each half.

    The release re-draws only inside its micro-batch and so falls short of the paper's 2/3; here it is drawn directly.
    """
    half = config.num_timesteps // 2
    low = torch.randint(0, half, (batch_size,), generator=generator)
    high = torch.randint(half, config.num_timesteps, (batch_size,), generator=generator)
    is_high = torch.rand(batch_size, generator=generator) < config.high_noise_probability
    return torch.where(is_high, high, low)


def sample_num_context(config: DiffusionConfig, generator: torch.Generator) -> int:
    """How many context latents this batch sees, from ``context_probabilities``."""
    weights = torch.tensor(config.context_probabilities)
    return int(torch.multinomial(weights, 1, generator=generator))


def sample_context_timesteps(batch_size: int, config: DiffusionConfig, generator: torch.Generator) -> torch.Tensor:
    """Context augmentation timesteps t_aug (B,) int64; all zero when the augmentation is off."""
    if config.max_context_timestep == 0:
        return torch.zeros(batch_size, dtype=torch.int64)
    return torch.randint(0, config.max_context_timestep, (batch_size,), generator=generator)


def context_level(context_timestep_B: torch.Tensor) -> torch.Tensor:
    """The level the model is told: floor(t_aug / 100) * 100."""
    return context_timestep_B // 100 * 100


def guidance_weight(step: int, num_steps: int, guidance_scale: float, guidance_power: float) -> float:
    """w(i) = 1 + s (1 - cos(pi (i / n)^p)) / 2 at step i of n: 1 at first, 1 + s at the end; p = 0 is 1 + s throughout.

    The release uses s = 6, p = 5, n = 50.
    """
    return 1 + guidance_scale * (1 - math.cos(math.pi * (step / num_steps) ** guidance_power)) / 2
