"""Frames <-> latents through CogVideoX's causal VAE (4x in time; 8x in space at full size)."""

import torch
from diffusers import AutoencoderKLCogVideoX


def to_unit_range(frames_BTCHW: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """uint8 frames (B, T, C, H, W) -> (B, C, T, H, W) in [-1, 1], the VAE's layout."""
    return (frames_BTCHW.to(dtype) / 127.5 - 1).permute(0, 2, 1, 3, 4)


@torch.no_grad()
def encode_frames(
    vae: AutoencoderKLCogVideoX, frames_BTCHW: torch.Tensor, generator: torch.Generator | None = None
) -> torch.Tensor:
    """uint8 frames (B, T, C, H, W) -> scaled latents (B, F, C, h, w), F = (T - 1) / 4 + 1.

    A sample of the posterior when a ``generator`` is given, its mean otherwise. The VAE is causal: the latents of the
    first 9 frames are the same bit for bit whether 9 or 49 frames are encoded.
    """
    posterior = vae.encode(to_unit_range(frames_BTCHW, vae.dtype)).latent_dist
    latents = posterior.mode() if generator is None else posterior.sample(generator)
    return latents.permute(0, 2, 1, 3, 4) * vae.config.scaling_factor


@torch.no_grad()
def decode_latents(vae: AutoencoderKLCogVideoX, latents_BFCHW: torch.Tensor) -> torch.Tensor:
    """Scaled latents (B, F, C, h, w) -> uint8 frames (B, T, C, H, W)."""
    latents = latents_BFCHW.to(vae.dtype).permute(0, 2, 1, 3, 4) / vae.config.scaling_factor
    frames = vae.decode(latents).sample
    return ((frames.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 1, 3, 4)
