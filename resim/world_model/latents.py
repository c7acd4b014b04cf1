"""Frames <-> latents through CogVideoX's causal VAE (4x in time; 8x in space)."""

import math

import torch
from diffusers import AutoencoderKLCogVideoX
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from einops import rearrange


def pixel_block(vae: AutoencoderKLCogVideoX) -> int:
    """Side r of the pixel blocks that the VAE sees as channels: 1 for CogVideoX (RGB), 2 for the tiny one (12)."""
    return math.isqrt(vae.config.in_channels // 3)


def spatial_factor(vae: AutoencoderKLCogVideoX) -> int:
    """Pixels per latent, along height and width."""
    return pixel_block(vae) * 2 ** (len(vae.config.block_out_channels) - 1)


def to_vae_input(vae: AutoencoderKLCogVideoX, frames_BTCHW: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """uint8 frames (B, T, 3, H, W) -> (B, 3 r r, T, H / r, W / r) in [-1, 1], the VAE's layout."""
    r = pixel_block(vae)
    return rearrange(frames_BTCHW.to(dtype) / 127.5 - 1, "b t c (h r) (w s) -> b (c r s) t h w", r=r, s=r)


def encode_posterior(vae: AutoencoderKLCogVideoX, frames_BTCHW: torch.Tensor) -> DiagonalGaussianDistribution:
    """Posterior over unscaled latents (B, C, F, h, w) of uint8 frames (B, T, 3, H, W)."""
    return vae.encode(to_vae_input(vae, frames_BTCHW, vae.dtype)).latent_dist


def normalise_latents(vae: AutoencoderKLCogVideoX, latents_BCFHW: torch.Tensor, *, shift: bool = True) -> torch.Tensor:
    """The VAE's latents (B, C, F, h, w) at the scale that the diffusion expects.

    (latents - latents_mean) * scaling_factor / latents_std, mean and standard deviation by channel where the VAE's
    config has them; CogVideoX's has only the factor. Standard deviations are scaled alike, without the ``shift``.
    """
    config = vae.config
    if config.latents_std is not None:
        mean, std = (
            torch.tensor(values, dtype=latents_BCFHW.dtype, device=latents_BCFHW.device)[:, None, None, None]
            for values in (config.latents_mean, config.latents_std)
        )
        latents_BCFHW = (latents_BCFHW - mean if shift else latents_BCFHW) / std
    return latents_BCFHW * config.scaling_factor


def denormalise_latents(vae: AutoencoderKLCogVideoX, latents_BCFHW: torch.Tensor) -> torch.Tensor:
    """Inverse of :func:`normalise_latents`."""
    config = vae.config
    latents_BCFHW = latents_BCFHW / config.scaling_factor
    if config.latents_std is None:
        return latents_BCFHW
    mean, std = (
        torch.tensor(values, dtype=latents_BCFHW.dtype, device=latents_BCFHW.device)[:, None, None, None]
        for values in (config.latents_mean, config.latents_std)
    )
    return latents_BCFHW * std + mean


@torch.no_grad()
def encode_frames(
    vae: AutoencoderKLCogVideoX, frames_BTCHW: torch.Tensor, generator: torch.Generator | None = None
) -> torch.Tensor:
    """uint8 frames (B, T, 3, H, W) -> scaled latents (B, F, C, h, w), F = (T - 1) / 4 + 1.

    A sample of the posterior when a ``generator`` is given, its mean otherwise. The VAE is causal: the latents of the
    first 9 frames are the same bit for bit whether 9 or 49 frames are encoded.
    """
    posterior = encode_posterior(vae, frames_BTCHW)
    latents = posterior.mode() if generator is None else posterior.sample(generator)
    return normalise_latents(vae, latents).permute(0, 2, 1, 3, 4)


@torch.no_grad()
def decode_latents(vae: AutoencoderKLCogVideoX, latents_BFCHW: torch.Tensor) -> torch.Tensor:
    """Scaled latents (B, F, C, h, w) -> uint8 frames (B, T, 3, H, W)."""
    latents = denormalise_latents(vae, latents_BFCHW.to(vae.dtype).permute(0, 2, 1, 3, 4))
    r = pixel_block(vae)
    frames = rearrange(vae.decode(latents).sample, "b (c r s) t h w -> b t c (h r) (w s)", r=r, s=r)
    return ((frames.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
