"""The losses against hand-computed values, and training against sampling."""

import pytest
import torch
from tiny_models import TEXT_WIDTH, tiny_pipeline, tiny_world_model

from resim.datatypes.clip import prompt_for
from resim.world_model.diffusion import DiffusionConfig, add_noise, alphas_cumprod, velocity, x_from_velocity
from resim.world_model.losses import MOTION_FLOOR, TrainingDraws, diffusion_loss, draw, dynamics_loss, training_losses

CONFIG = DiffusionConfig()


def video(*values: float) -> torch.Tensor:
    """One clip (1, N, 1, 1, 1) with one number per latent frame."""
    return torch.tensor(values).reshape(1, -1, 1, 1, 1)


def test_dynamics_loss_by_hand():
    x, d = video(0.0, 1.0, 3.0), video(0.0, 2.0, 3.0)
    # j = 1: motion 1, 2 against 2, 1: s = 1.5, errors 1, -1; j = 2: motion 3 against 3: no error; three elements.
    assert dynamics_loss(d, x, 4).item() == pytest.approx((1 + 1) / 1.5 / 3)
    # A wrong second frame, told apart by j = 2 as well.
    d = video(1.0, 1.0, 3.0)
    assert dynamics_loss(d, x, 1).item() == pytest.approx((1 / 1.5) / 3)
    assert dynamics_loss(d, x, 2).item() == pytest.approx((1 / 1.5 + 1 / 3) / 3)
    assert dynamics_loss(d, x, 0).item() == 0.0
    # A constant offset moves as the truth does.
    assert dynamics_loss(x + 5, x, 4).item() == pytest.approx(0.0)
    # A clip that stands still is scaled by the floor, not by infinity.
    still = video(1.0, 1.0)
    assert dynamics_loss(video(1.0, 2.0), still, 4).item() == pytest.approx(1 / MOTION_FLOOR / 2)


def test_diffusion_loss_is_the_weighted_x_loss():
    generator = torch.Generator().manual_seed(0)
    x, noise, v_pred = torch.randn(3, 2, 5, 4, 3, 3, generator=generator).unbind(0)
    abar = alphas_cumprod(CONFIG)[torch.tensor([120, 840])]
    x_t = add_noise(x, noise, abar)
    d = x_from_velocity(x_t, v_pred, abar)
    weighted = (d - x).square().flatten(1).mean(1) / (1 - abar.float())
    assert torch.allclose(diffusion_loss(v_pred, velocity(x, noise, abar)), weighted, rtol=1e-4)


def batch(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "latents_BFCHW": torch.randn(2, 13, 4, 8, 12, generator=generator),
        "prompt_embeds_BLD": torch.randn(2, 32, TEXT_WIDTH, generator=generator),
        "waypoints_B83": torch.randn(2, 8, 3, generator=generator),
        "has_waypoints_B": torch.tensor([True, False]),
    }


def test_losses_have_the_weights_keys_and_ignore_the_context():
    inputs = batch()
    draws = draw(inputs["latents_BFCHW"].shape, torch.Generator().manual_seed(3), CONFIG)
    losses = training_losses(tiny_world_model(), **inputs, draws=draws, config=CONFIG)
    assert losses.keys() == CONFIG.loss_weights.keys()
    assert all(value.shape == (2,) and value.dtype == torch.float32 for value in losses.values())

    class Oracle(torch.nn.Module):
        """Predicts the true velocity of the future."""

        def forward(self, noisy_BFCHW, timestep_B, **conditions):
            k = conditions["context_BFCHW"].shape[1]
            abar = alphas_cumprod(CONFIG)[timestep_B]
            assert noisy_BFCHW.shape[1] == 13 - k
            return velocity(inputs["latents_BFCHW"][:, k:], draws.noise_BFCHW[:, k:], abar)

    for value in training_losses(Oracle(), **inputs, draws=draws, config=CONFIG).values():
        assert torch.allclose(value, torch.zeros(2), atol=1e-8)


def test_context_is_clean_at_level_zero_and_noised_above():
    inputs, seen = batch(), {}

    class Spy(torch.nn.Module):
        def forward(self, context_BFCHW, noisy_BFCHW, **conditions):
            seen["context"] = context_BFCHW
            return torch.zeros_like(noisy_BFCHW)

    draws = draw(inputs["latents_BFCHW"].shape, torch.Generator().manual_seed(3), CONFIG)
    levels = TrainingDraws(**{**vars(draws), "num_context": 3, "context_timestep_B": torch.tensor([0, 650])})
    training_losses(Spy(), **inputs, draws=levels, config=CONFIG)
    difference = (seen["context"] - inputs["latents_BFCHW"][:, :3]).abs().flatten(1).mean(1)
    assert difference[0] < 0.05 < 0.3 < difference[1]


@torch.no_grad()
def test_one_sampling_step_is_the_training_forward():
    """The v that sampling computes at t = 999 is the v that the training loss sees for the same context and noise."""
    pipeline, inputs = tiny_pipeline(), {}
    world_model = pipeline.world_model
    hook = world_model.transformer.register_forward_hook(
        lambda module, args, kwargs, out: inputs.update(kwargs, v=out), with_kwargs=True
    )
    history = torch.randint(0, 256, (1, 9, 32, 48, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    waypoints = torch.linspace(1, 8, 8)[:, None] * torch.tensor([4.0, 0.2, 0.01])
    pipeline(
        history, waypoints.numpy(), num_inference_steps=1, guidance_scale=0, generator=torch.Generator().manual_seed(5)
    )
    sampled = dict(inputs)
    hook.remove()

    context, noisy = sampled["hidden_states"].split([3, 10], dim=1)
    latents = torch.cat([context, torch.zeros_like(noisy)], dim=1)
    noise = torch.cat([torch.zeros_like(context), noisy], dim=1)
    draws = TrainingDraws(
        timestep_B=torch.tensor([999]),
        noise_BFCHW=noise,
        num_context=3,
        context_timestep_B=torch.tensor([0]),
        context_noise_BFCHW=torch.zeros_like(noise),
    )
    config = DiffusionConfig(max_context_timestep=0)
    embeds = pipeline.prompt_encoder([prompt_for("forward")])
    losses = training_losses(world_model, latents, embeds, waypoints[None], torch.tensor([True]), draws, config)
    # At t = 999 nothing of x is left in x_t, so the loss of sampling's v against the true v = -x = 0 is its square.
    assert losses["diffusion"].item() == pytest.approx(sampled["v"][:, 3:].square().mean().item(), rel=1e-6)
