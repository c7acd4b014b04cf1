"""A small CogVideoX VAE for the tiny model: 4x in time, 8x in space, trained from nothing."""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLCogVideoX
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXResnetBlock3D, CogVideoXSpatialNorm3D
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


@dataclass(frozen=True)
class LatentMoments:
    """How a VAE's latent channels vary and how much they show, over some clips. C channels, in the VAE's own units."""

    mean_C: torch.Tensor
    # Covariance of the posterior's mean over clips and positions, and the posterior's own mean variance.
    covariance_CC: torch.Tensor
    noise_variance_C: torch.Tensor
    # E[J^T J] of the decoder at one position: the squared change of the decoded clip per squared change of its latent.
    pixel_metric_CC: torch.Tensor


def latent_moments(vae: AutoencoderKLCogVideoX, clips: list[torch.Tensor], generator: torch.Generator) -> LatentMoments:
    """Moments over ``clips`` (B, C, T, H, W) in [-1, 1], the pixel metric with one random probe a clip (Hutchinson)."""
    means: list[torch.Tensor] = []
    variances: list[torch.Tensor] = []
    probes: list[torch.Tensor] = []
    for clip in clips:
        with torch.no_grad():
            posterior = vae.encode(clip).latent_dist
        latents = posterior.mode().clone().requires_grad_()
        decoded = vae.decode(latents).sample
        (probe,) = torch.autograd.grad(decoded, latents, torch.randn(decoded.shape, generator=generator))
        for values, rows in ((latents.detach(), means), (posterior.var, variances), (probe, probes)):
            rows.append(values.movedim(1, -1).flatten(0, -2))
    mean_NC, probe_NC = torch.cat(means), torch.cat(probes)
    return LatentMoments(
        mean_C=mean_NC.mean(0),
        covariance_CC=torch.cov(mean_NC.T),
        noise_variance_C=torch.cat(variances).mean(0),
        pixel_metric_CC=probe_NC.T @ probe_NC / len(probe_NC),
    )


def principal_axes(moments: LatentMoments, keep: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The ``keep`` directions of the latents that show most, in pixel units.

    With M the pixel metric and S the covariance, the axes are the eigenvectors of M^1/2 S M^1/2, largest first: what
    principal components are to linear codes. Returns (to_axes (keep, C), from_axes (C, keep), variances (keep,)), a
    variance being a component's share in the variance of the decoded clip. Raises ValueError where fewer show at all.
    """
    values, vectors = torch.linalg.eigh(moments.pixel_metric_CC.double())
    shows = values > 1e-9 * values[-1]
    if keep > shows.sum():
        raise ValueError(f"latent_channels: {keep} asked for, only {shows.sum()} directions of the latents show at all")
    values, vectors = values[shows].sqrt(), vectors[:, shows]
    root, inverse_root = (vectors * values) @ vectors.T, (vectors / values) @ vectors.T
    variances, axes = torch.linalg.eigh(root @ moments.covariance_CC.double() @ root)
    variances, axes = variances.flip(0)[:keep], axes.flip(1)[:, :keep]
    return (axes.T @ root).float(), (inverse_root @ axes).float(), variances.float()


@torch.no_grad()
def with_principal_latents(
    vae: AutoencoderKLCogVideoX, moments: LatentMoments, keep: int, detail_exponent: float
) -> AutoencoderKLCogVideoX:
    """The same VAE with its latents turned to their ``keep`` principal axes (:func:`principal_axes`).

    A network spreads what it sees evenly over its channels, and most of their directions show nothing: a diffusion
    model would spend its loss on them. Here the encoder's last layer is multiplied by the axes and the decoder's first
    ones by their inverse, so that reconstructions stay, and ``latents_std`` is chosen such that normalised component i
    has a standard deviation proportional to variance_i ^ (detail_exponent / 2), 1 in the mean square over components:
    0 whitens, 1 gives every pixel its own weight.
    """
    to_axes, from_axes, variances = principal_axes(moments, keep)
    turned = AutoencoderKLCogVideoX.from_config({**vae.config, "latent_channels": keep})
    weights = dict(vae.state_dict())
    last, channels = "encoder.conv_out.conv.", vae.config.latent_channels
    kernel, bias = weights[last + "weight"][:channels], weights[last + "bias"][:channels]
    # The turned posterior keeps its mean variance, at every position.
    logvar = (to_axes.square() @ moments.noise_variance_C).log()
    kernel = torch.einsum("kc,c...->k...", to_axes, kernel)
    weights[last + "weight"] = torch.cat([kernel, torch.zeros_like(kernel)])
    weights[last + "bias"] = torch.cat([to_axes @ bias, logvar])
    # What the dropped components hold on average stays: as a bias.
    offset_C = moments.mean_C - from_axes @ (to_axes @ moments.mean_C)
    readers = [name for name, module in vae.decoder.named_modules() if isinstance(module, CogVideoXSpatialNorm3D)]
    for layer in ("conv_in", *(f"{name}.{part}" for name in readers for part in ("conv_y", "conv_b"))):
        name = f"decoder.{layer}.conv."
        kernel = weights[name + "weight"]
        weights[name + "bias"] = weights[name + "bias"] + kernel.sum((2, 3, 4)) @ offset_C
        weights[name + "weight"] = torch.einsum("oc...,ck->ok...", kernel, from_axes)
    turned.load_state_dict(weights)
    spread = variances ** (detail_exponent / 2)
    scale = spread / spread.square().mean().sqrt()
    turned.register_to_config(
        latents_mean=(to_axes @ moments.mean_C).tolist(), latents_std=(variances.sqrt() / scale).tolist()
    )
    return turned.eval()
