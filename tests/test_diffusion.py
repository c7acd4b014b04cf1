"""The diffusion maths against diffusers and closed forms."""

import math

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler
from diffusers.schedulers.scheduling_ddim_cogvideox import rescale_zero_terminal_snr
from hypothesis import given, settings
from hypothesis import strategies as st

from resim.world_model.diffusion import (
    DiffusionConfig,
    add_noise,
    alphas_cumprod,
    context_level,
    guidance_weight,
    sample_context_timesteps,
    sample_num_context,
    sample_timesteps,
    velocity,
    x_from_velocity,
)
from resim.world_model.pipeline import make_scheduler

CONFIG = DiffusionConfig()
SCHEDULERS = (CogVideoXDPMScheduler, CogVideoXDDIMScheduler)


def diffusers_scheduler(kind, config):
    """A scheduler with a v-predicting schedule of these numbers, written without ours."""
    return kind(
        num_train_timesteps=config.num_timesteps, beta_start=config.beta_start, beta_end=config.beta_end,
        beta_schedule="scaled_linear", snr_shift_scale=config.snr_shift, prediction_type="v_prediction",
        rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False,
    )  # fmt: skip


def test_schedule_equals_diffusers():
    abar = alphas_cumprod(CONFIG)
    assert torch.equal(abar, make_scheduler(CONFIG).alphas_cumprod)
    assert torch.equal(abar, diffusers_scheduler(CogVideoXDDIMScheduler, CONFIG).alphas_cumprod)
    assert abar[-1] == 0.0  # zero terminal SNR: at t = 999 nothing of the clean latents is left
    assert torch.all(abar[1:] < abar[:-1])


@given(
    num_timesteps=st.integers(10, 1500), beta_start=st.floats(1e-4, 5e-3), range_of_betas=st.floats(1e-3, 2e-2),
    snr_shift=st.floats(0.5, 8),
)  # fmt: skip
@settings(max_examples=25)
def test_schedules_of_other_numbers_equal_diffusers(num_timesteps, beta_start, range_of_betas, snr_shift):
    config = DiffusionConfig(
        num_timesteps=num_timesteps,
        beta_start=beta_start,
        beta_end=beta_start + range_of_betas,
        snr_shift=snr_shift,
    )
    abar = alphas_cumprod(config)
    for kind in SCHEDULERS:
        assert torch.equal(abar, diffusers_scheduler(kind, config).alphas_cumprod)
    # And by parts: the shift divides the signal-to-noise ratio, then Algorithm 1 of Lin et al. makes the last one zero.
    plain = torch.cumprod(1 - diffusers_scheduler(CogVideoXDDIMScheduler, config).betas, dim=0)
    snr = plain / (1 - plain) / snr_shift
    assert torch.allclose(abar, rescale_zero_terminal_snr(snr / (1 + snr)), atol=1e-12)


@pytest.mark.parametrize("kind", SCHEDULERS)
@given(timesteps=st.lists(st.integers(0, 999), min_size=3, max_size=3), seed=st.integers(0, 1000))
@settings(max_examples=25)
def test_noise_velocity_and_clean_estimate_equal_diffusers(kind, timesteps, seed):
    scheduler = diffusers_scheduler(kind, CONFIG)
    scheduler.set_timesteps(1000)
    t = torch.tensor(timesteps)
    x, noise, v = torch.randn(3, 3, 4, 5, generator=torch.Generator().manual_seed(seed)).unbind(0)
    level = alphas_cumprod(CONFIG)[t]
    assert torch.allclose(add_noise(x, noise, level), scheduler.add_noise(x, noise, t), atol=1e-5)
    assert torch.allclose(velocity(x, noise, level), scheduler.get_velocity(x, noise, t), atol=1e-5)
    estimates = x_from_velocity(x, v, level)  # v stands for any prediction, at the noisy latent x
    for b, step in enumerate(timesteps):
        if kind is CogVideoXDDIMScheduler:
            clean = scheduler.step(v[b], step, x[b]).pred_original_sample
        else:
            _, clean = scheduler.step(v[b], None, step, None, x[b])
        assert torch.allclose(estimates[b], clean.float(), atol=1e-5)


def test_two_thirds_of_the_timesteps_are_in_the_noisier_half():
    t = sample_timesteps(200_000, CONFIG, torch.Generator().manual_seed(0))
    assert t.min() == 0 and t.max() == 999
    # Standard error 0.001, so five of them.
    assert (t >= 500).float().mean().item() == pytest.approx(2 / 3, abs=0.005)
    for half in (t[t < 500], t[t >= 500] - 500):  # uniform inside each half
        histogram = torch.histc(half.float(), bins=5, min=0, max=500) / len(half)
        assert torch.allclose(histogram, torch.full((5,), 0.2), atol=0.006)


def test_context_draws_follow_their_probabilities():
    generator = torch.Generator().manual_seed(0)
    counts = torch.bincount(torch.tensor([sample_num_context(CONFIG, generator) for _ in range(4000)]), minlength=4)
    assert torch.allclose(counts / 4000, torch.tensor(CONFIG.context_probabilities), atol=0.03)
    t_aug = sample_context_timesteps(20_000, CONFIG, generator)
    assert t_aug.min() == 0 and t_aug.max() == 699
    assert context_level(torch.tensor([0, 99, 100, 699])).tolist() == [0, 0, 100, 600]
    off = sample_context_timesteps(4, DiffusionConfig(max_context_timestep=0), generator)
    assert off.tolist() == [0, 0, 0, 0]


@given(abar=st.floats(0.0, 1.0), seed=st.integers(0, 1000))
@settings(max_examples=25)
def test_x_comes_back_out_of_its_velocity(abar, seed):
    x, noise = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed)).unbind(0)
    level = torch.full((3,), abar)
    x_t = add_noise(x, noise, level)
    assert torch.allclose(x_from_velocity(x_t, velocity(x, noise, level), level), x, atol=1e-5)


def test_guidance_rises_from_one_to_the_full_scale():
    assert guidance_weight(0, 50, 6.0, 5.0) == 1.0
    assert guidance_weight(25, 50, 6.0, 5.0) == pytest.approx(1 + 3 * (1 - math.cos(math.pi / 32)), abs=1e-6)
    assert guidance_weight(50, 50, 6.0, 5.0) == pytest.approx(7.0)
    assert guidance_weight(10, 50, 0.0, 5.0) == 1.0
    assert {guidance_weight(step, 50, 1.0, 0.0) for step in (0, 1, 49)} == {2.0}
