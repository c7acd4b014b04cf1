"""A small CogVideoX VAE for the tiny model: 4x in time, 8x in space, trained from nothing."""

import torch
from diffusers import AutoencoderKLCogVideoX
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXResnetBlock3D
from torch import nn


def small_vae(
    *, height_px: int, width_px: int, channels: tuple[int, ...] = (32, 64, 64), latent_channels: int = 64
) -> AutoencoderKLCogVideoX:
    """AutoencoderKLCogVideoX of diffusers with one entry of ``channels`` per resolution, halved in space between them.

    It sees blocks of 2 x 2 pixels as 12 channels, which leaves the costliest resolution out. Residual branches start
    at zero, so that the network starts as a pyramid of single convolutions.
    """
    vae = AutoencoderKLCogVideoX(
        in_channels=12,
        out_channels=12,
        down_block_types=("CogVideoXDownBlock3D",) * len(channels),
        up_block_types=("CogVideoXUpBlock3D",) * len(channels),
        block_out_channels=channels,
        latent_channels=latent_channels,
        layers_per_block=1,
        norm_num_groups=8,
        temporal_compression_ratio=4,
        sample_height=height_px,
        sample_width=width_px,
        scaling_factor=1.0,
    )
    for module in vae.modules():
        if isinstance(module, CogVideoXResnetBlock3D):
            nn.init.zeros_(module.conv2.conv.weight)
            nn.init.zeros_(module.conv2.conv.bias)
    return vae


def vae_losses(
    vae: AutoencoderKLCogVideoX, frames_BCTHW: torch.Tensor, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """Scalar losses per element on frames (B, C, T, H, W) in [-1, 1]: L1, L2, and the posterior's KL to N(0, 1)."""
    posterior = vae.encode(frames_BCTHW).latent_dist
    reconstruction = vae.decode(posterior.sample(generator)).sample
    error = reconstruction.float() - frames_BCTHW
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    return {
        "l1": error.abs().mean(),
        "l2": error.square().mean(),
        "kl": 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean(),
    }


def psnr_db(frames: torch.Tensor, reference: torch.Tensor) -> float:
    """Peak signal-to-noise ratio of uint8 frames of one shape, in dB over all their pixels."""
    mse = (frames.float() - reference.float()).square().mean()
    return float(10 * torch.log10(255.0**2 / mse))
