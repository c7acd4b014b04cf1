"""The diffusion maths against diffusers and closed forms."""

import math

import pytest
import torch
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


def test_schedule_equals_diffusers():
    abar = alphas_cumprod(CONFIG)
    assert torch.equal(abar, make_scheduler(CONFIG).alphas_cumprod)
    assert abar[-1] == 0.0  # zero terminal SNR: at t = 999 nothing of the clean latents is left
    assert torch.all(abar[1:] < abar[:-1])


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
