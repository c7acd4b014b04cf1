"""The VAE's layout and causality, and that its training continues where it was stopped."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLCogVideoX
from tiny_models import tiny_vae

from resim.data.store import StoreWriter
from resim.world_model.latents import (
    decode_latents,
    denormalise_latents,
    encode_frames,
    normalise_latents,
    pixel_block,
    spatial_factor,
    to_vae_input,
)
from resim.world_model.vae import latent_moments, principal_axes, psnr_db, with_principal_latents

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "train"))
import train_vae  # noqa: E402


def random_frames(num_frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (1, num_frames, 3, 32, 48), generator=generator, dtype=torch.uint8)


def test_pixel_blocks_are_channels():
    vae = tiny_vae()
    assert pixel_block(vae) == 2 and spatial_factor(vae) == 8
    frames = random_frames(1)
    seen = to_vae_input(vae, frames, torch.float32)
    assert seen.shape == (1, 12, 1, 16, 24)
    # Channel c r r + row r + column of a block is that colour at that place of the block.
    assert seen[0, 1 * 4 + 1 * 2 + 0, 0, 5, 7].item() == pytest.approx(frames[0, 0, 1, 11, 14].item() / 127.5 - 1)
    with torch.device("meta"):
        full_size = AutoencoderKLCogVideoX()
    assert pixel_block(full_size) == 1 and spatial_factor(full_size) == 8


def test_history_latents_do_not_know_the_future():
    vae, frames = tiny_vae(), random_frames(49)
    latents = encode_frames(vae, frames)
    assert latents.shape == (1, 13, 4, 4, 6)
    assert torch.equal(latents[:, :3], encode_frames(vae, frames[:, :9]))
    decoded = decode_latents(vae, latents)
    assert decoded.shape == frames.shape and decoded.dtype == torch.uint8


def test_latents_are_normalised_by_channel_and_back():
    vae = tiny_vae()
    raw = torch.randn(1, 4, 13, 4, 6, generator=torch.Generator().manual_seed(0))
    vae.register_to_config(scaling_factor=0.5)  # as CogVideoX: one factor
    assert torch.equal(normalise_latents(vae, raw), raw * 0.5)
    vae.register_to_config(scaling_factor=1.0, latents_mean=[1.0, 0.0, -2.0, 0.0], latents_std=[2.0, 1.0, 1.0, 4.0])
    normal = normalise_latents(vae, raw)
    assert torch.allclose(normal[:, 0], (raw[:, 0] - 1) / 2) and torch.allclose(normal[:, 2], raw[:, 2] + 2)
    assert torch.allclose(normalise_latents(vae, raw, shift=False)[:, 3], raw[:, 3] / 4)
    assert torch.allclose(denormalise_latents(vae, normal), raw, atol=1e-6)


def test_posterior_samples_follow_the_generator():
    vae, frames = tiny_vae(), random_frames(9)
    first, again, other = (encode_frames(vae, frames, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_psnr_by_hand():
    black = torch.zeros(2, 3, dtype=torch.uint8)
    assert psnr_db(black + 255, black) == pytest.approx(0.0)
    assert psnr_db(black + 10, black) == pytest.approx(20 * np.log10(25.5))


def moments_of(vae: AutoencoderKLCogVideoX):
    # Not plain noise: smooth clips of different colours, so that channels vary and are correlated.
    colours = torch.rand(6, 12, 1, 1, 1, generator=torch.Generator().manual_seed(1)) * 2 - 1
    ramp = torch.linspace(0, 1, 24).expand(9, 16, 24)
    clips = [(colour * ramp)[None] for colour in colours]
    return latent_moments(vae, clips, torch.Generator().manual_seed(2))


def test_principal_latents_keep_the_reconstruction_and_scale_the_channels():
    vae, frames = tiny_vae(), random_frames(9)
    moments = moments_of(vae)
    raw = vae.encode(to_vae_input(vae, frames, torch.float32)).latent_dist.mode()
    vae.register_to_config(latents_mean=[0.0] * 4, latents_std=[1.0] * 4)
    before = decode_latents(vae, encode_frames(vae, frames))
    turned = with_principal_latents(vae, moments, keep=4, detail_exponent=0.5)
    assert (decode_latents(turned, encode_frames(turned, frames)).int() - before.int()).abs().max() <= 1

    to_axes, from_axes, variances = principal_axes(moments, 4)
    assert torch.allclose(from_axes @ to_axes, torch.eye(4), atol=1e-3)
    latents = turned.encode(to_vae_input(vae, frames, torch.float32)).latent_dist.mode()
    assert torch.allclose(latents, torch.einsum("kc,bcthw->bkthw", to_axes, raw), atol=1e-4)
    # The axes have the variances that they claim, and no correlation.
    turned_covariance = to_axes @ moments.covariance_CC @ to_axes.T
    assert torch.allclose(turned_covariance, variances.diag(), atol=1e-3 * variances[0].item())
    normalised_std = variances.sqrt() / torch.tensor(turned.config.latents_std)
    assert normalised_std.square().mean().item() == pytest.approx(1.0, rel=1e-4)
    assert normalised_std[0] / normalised_std[2] == pytest.approx(float(variances[0] / variances[2]) ** 0.25, rel=1e-4)
    whitened = with_principal_latents(vae, moments, keep=4, detail_exponent=0.0)
    assert torch.allclose(variances.sqrt() / torch.tensor(whitened.config.latents_std), torch.ones(4), atol=1e-4)


def test_a_channel_that_does_not_show_is_dropped_without_loss():
    vae, frames = tiny_vae(), random_frames(9)
    with torch.no_grad():
        for name, weight in vae.decoder.named_parameters():
            if name.endswith(("conv_y.conv.weight", "conv_b.conv.weight")) or name == "conv_in.conv.weight":
                weight[:, 2] = 0  # the decoder does not look at channel 2
    moments = moments_of(vae)
    with pytest.raises(ValueError, match="4 asked for, only 3"):
        principal_axes(moments, 4)
    before = decode_latents(vae, encode_frames(vae, frames))
    turned = with_principal_latents(vae, moments, keep=3, detail_exponent=0.5)
    latents = encode_frames(turned, frames)
    assert latents.shape[2] == 3 and turned.config.latent_channels == 3
    assert (decode_latents(turned, latents).int() - before.int()).abs().max() <= 1


def test_the_pixel_metric_of_one_probe_a_clip_is_the_jacobians():
    """J^T J by the full Jacobian, averaged over positions, against the average over many random probes."""
    vae = tiny_vae()
    clip = to_vae_input(vae, random_frames(1)[..., :16, :16], torch.float32)
    latents = vae.encode(clip).latent_dist.mode()
    jacobian = torch.autograd.functional.jacobian(lambda z: vae.decode(z).sample, latents)
    jacobian = jacobian.reshape(-1, 4, latents[0, 0].numel())
    exact = torch.einsum("ocp,odp->cd", jacobian, jacobian) / jacobian.shape[-1]
    estimate = latent_moments(vae, [clip] * 400, torch.Generator().manual_seed(0)).pixel_metric_CC
    assert torch.allclose(estimate, exact, atol=0.15 * exact.diagonal().max().item())


def test_training_continues_bitwise(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path / "store", source="test", height_px=32, width_px=48, inputs=()) as store:
        for i in range(2):
            store.add(rng.integers(0, 256, (49, 32, 48, 3), dtype=np.uint8), clip_id=str(i), scene_id=str(i))

    def args(name: str) -> train_vae.VaeArgs:
        return train_vae.VaeArgs(
            store=tmp_path / "store",
            held_out=tmp_path / "store",
            output_dir=tmp_path / name,
            max_train_steps=4,
            train_batch_size=1,
            checkpointing_steps=2,
            latent_channels=3,
        )

    monkeypatch.setattr(train_vae, "small_vae", lambda height_px, width_px: tiny_vae())
    (tmp_path / "whole" / "vae.partial").mkdir(parents=True)
    with pytest.raises(FileExistsError, match=r"vae\.partial is no unfinished output"):
        train_vae.train_vae(args("whole"))
    (tmp_path / "whole" / "vae.partial").rmdir()
    train_vae.train_vae(args("whole"))

    class Stop(Exception):
        pass

    step = train_vae.Optimizers.step

    def stop_at_three(self, number):
        if number == 3:
            raise Stop
        step(self, number)

    with monkeypatch.context() as broken, pytest.raises(Stop):
        broken.setattr(train_vae.Optimizers, "step", stop_at_three)
        train_vae.train_vae(args("stopped"))
    assert not (tmp_path / "stopped" / "vae").exists()
    with pytest.raises(ValueError, match="cannot continue .*stopped: --kl_weight was 0.0001, now 0.1"):
        train_vae.train_vae(replace(args("stopped"), kl_weight=0.1))
    train_vae.train_vae(args("stopped"))
    whole, stopped = (AutoencoderKLCogVideoX.from_pretrained(tmp_path / name / "vae") for name in ("whole", "stopped"))
    assert whole.config.latents_std == stopped.config.latents_std and len(whole.config.latents_std) == 3
    for (name, a), (_, b) in zip(whole.named_parameters(), stopped.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_decoder_goes_on_alone(tmp_path):
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path / "store", source="test", height_px=32, width_px=48, inputs=()) as store:
        store.add(rng.integers(0, 256, (49, 32, 48, 3), dtype=np.uint8), clip_id="0", scene_id="0")
    tiny_vae().save_pretrained(tmp_path / "first")
    args = train_vae.VaeArgs(
        store=tmp_path / "store",
        held_out=tmp_path / "store",
        output_dir=tmp_path / "second",
        decoder_of=tmp_path / "first",
        max_train_steps=2,
        train_batch_size=1,
    )
    for name, value in (("kl_weight", 0.1), ("latent_channels", 3), ("detail_exponent", 1.0)):
        with pytest.raises(ValueError, match=f"--{name}: --decoder_of leaves the latents as they are"):
            train_vae.train_vae(replace(args, **{name: value}))
    train_vae.train_vae(args)
    first, second = (AutoencoderKLCogVideoX.from_pretrained(tmp_path / name) for name in ("first", "second/vae"))
    frames = random_frames(9)
    assert torch.equal(encode_frames(first, frames), encode_frames(second, frames))
    moved = {
        name
        for (name, a), (_, b) in zip(first.named_parameters(), second.named_parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert moved and all(name.startswith("decoder.") for name in moved)
