"""ReSimPipeline: what goes in and out, equal noise, rollouts, saving and loading."""

import numpy as np
import pytest
import torch
from tiny_models import randomise, tiny_pipeline

from resim.imagination.futures import load_pipeline
from resim.imagination.manoeuvres import manoeuvre
from resim.world_model import lora
from resim.world_model.pipeline import ReSimPipeline

STEPS = {"num_inference_steps": 2}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pipeline() -> ReSimPipeline:
    return tiny_pipeline()


@pytest.fixture(scope="module")
def history() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), dtype=np.uint8)


LEFT, RIGHT = manoeuvre("left_turn", 8.0), manoeuvre("right_turn", 8.0)


def test_the_history_comes_first_and_the_path_matters(pipeline, history):
    left = pipeline(history, LEFT, generator=seeded(), **STEPS).frames
    assert left.shape == (1, 49, 32, 48, 3) and left.dtype == np.uint8
    assert np.array_equal(left[0, :9], history)
    assert np.array_equal(pipeline(history, LEFT, generator=seeded(), **STEPS).frames, left)
    assert not np.array_equal(pipeline(history, RIGHT, generator=seeded(), **STEPS).frames, left)
    assert not np.array_equal(pipeline(history, None, generator=seeded(), **STEPS).frames, left)
    assert not np.array_equal(pipeline(history, LEFT, generator=seeded(1), **STEPS).frames, left)


def test_a_batch_is_its_entries_with_equal_noise_for_equal_seeds(pipeline, history):
    batch = np.repeat(history[None], 2, axis=0)
    both = pipeline(
        batch, np.stack([LEFT, RIGHT]), generator=[seeded(), seeded()], output_type="latent", **STEPS
    ).frames
    for row, path in zip(both, (LEFT, RIGHT), strict=True):
        alone = pipeline(history, path, generator=seeded(), output_type="latent", **STEPS).frames[0]
        assert torch.allclose(row, alone, atol=1e-4)


def test_one_history_serves_all_paths_of_a_batch(pipeline, history):
    paths, generators = np.stack([LEFT, RIGHT]), [seeded(), seeded()]
    shared = pipeline(history, paths, generator=generators, **STEPS).frames
    repeated = pipeline(np.repeat(history[None], 2, axis=0), paths, generator=[seeded(), seeded()], **STEPS).frames
    assert shared.shape == (2, 49, 32, 48, 3) and np.array_equal(shared[1, :9], history)
    assert np.abs(shared.astype(int) - repeated).max() <= 1
    with pytest.raises(ValueError, match=r"\(8, 3\) or \(2, 8, 3\)"):
        pipeline(np.repeat(history[None], 2, axis=0), np.stack([LEFT, RIGHT, LEFT]), **STEPS)


def test_a_rollout_takes_one_path_per_round_and_starts_from_its_own_last_latents(pipeline, history):
    latents = pipeline(history, [LEFT, RIGHT], generator=seeded(), output_type="latent", **STEPS).frames
    assert latents.shape == (1, 3 + 2 * 10, 4, 4, 6)
    first = pipeline(history, LEFT, generator=seeded(), output_type="latent", **STEPS).frames
    assert torch.equal(latents[:, :13], first)
    other = pipeline(history, [LEFT, LEFT], generator=seeded(), output_type="latent", **STEPS).frames
    assert torch.equal(other[:, :13], first) and not torch.equal(other, latents)
    assert pipeline(history, [LEFT, RIGHT], generator=seeded(), **STEPS).frames.shape[1] == 9 + 2 * 40
    assert pipeline(history, None, num_rounds=2, generator=seeded(), **STEPS).frames.shape[1] == 9 + 2 * 40


def test_the_callback_sees_and_may_replace_the_latents(pipeline, history):
    seen = []

    def zero_at_the_end(pipe, step, timestep, state):
        seen.append((step, timestep, state["latents"].shape))
        return {"latents": torch.zeros_like(state["latents"])} if step == 1 else {}

    latents = pipeline(
        history, LEFT, generator=seeded(), output_type="latent", callback_on_step_end=zero_at_the_end, **STEPS
    ).frames
    assert seen == [(0, 999, (1, 10, 4, 4, 6)), (1, 499, (1, 10, 4, 4, 6))]
    assert latents[:, 3:].abs().sum() == 0


@pytest.mark.parametrize("with_lora", [False, True], ids=["plain", "lora"])
def test_save_and_load_is_bitwise(history, tmp_path, with_lora):
    pipeline = tiny_pipeline()
    if with_lora:
        lora.add_lora(pipeline.transformer, rank=4, alpha=4.0)
        randomise(pipeline.transformer)
    pipeline.save_pretrained(tmp_path)
    assert not list(tmp_path.rglob("*.bin")) and not list(tmp_path.rglob("*.pkl"))
    again = ReSimPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert lora.has_lora(again.transformer) == with_lora
    for (name, a), (_, b) in zip(
        pipeline.world_model.named_parameters(), again.world_model.named_parameters(), strict=True
    ):
        assert torch.equal(a, b), name
    before, after = (p(history, LEFT, generator=seeded(), **STEPS).frames for p in (pipeline, again))
    assert np.array_equal(before, after)


def test_a_prompt_is_encoded_once_over_steps_rounds_and_calls(history):
    pipeline, encoded = tiny_pipeline(), []
    pipeline.text_encoder.register_forward_hook(lambda *_: encoded.append(1))
    for _ in range(2):
        pipeline(history, [LEFT, LEFT, RIGHT], generator=seeded(), **STEPS)
    assert len(encoded) == 3  # left, right, and none for guidance


def test_parts_that_are_replaced_are_followed(history):
    pipeline, other = tiny_pipeline(), tiny_pipeline(seed=1)
    before = pipeline(history, LEFT, generator=seeded(), **STEPS).frames
    model, prompts = pipeline.world_model, pipeline.prompt_encoder
    pipeline.register_modules(scheduler=other.scheduler)
    assert pipeline.world_model is model and pipeline.prompt_encoder is prompts
    pipeline.register_modules(transformer=other.transformer)
    pipeline.trajectory_encoder = other.trajectory_encoder
    pipeline.register_modules(text_encoder=other.text_encoder, tokenizer=other.tokenizer)
    assert pipeline.world_model.transformer is other.transformer
    assert pipeline.prompt_encoder.text_encoder is other.text_encoder
    pipeline.register_modules(vae=other.vae)
    after = pipeline(history, LEFT, generator=seeded(), **STEPS).frames
    assert np.any(after != before)
    np.testing.assert_array_equal(after, other(history, LEFT, generator=seeded(), **STEPS).frames)


def test_prompts_are_encoded_anew_in_another_precision(history):
    pipeline, fresh = tiny_pipeline(), tiny_pipeline().to(torch.bfloat16)
    pipeline(history, LEFT, generator=seeded(), **STEPS)
    pipeline.to(torch.bfloat16)
    expected = fresh(history, LEFT, generator=seeded(), **STEPS).frames
    np.testing.assert_array_equal(pipeline(history, LEFT, generator=seeded(), **STEPS).frames, expected)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere/model_index.json does not exist"):
        ReSimPipeline.from_pretrained(tmp_path / "nowhere")


def test_wrong_input_is_named(pipeline, history):
    broken = LEFT.copy()
    broken[3, 0] = np.nan
    cases = [
        ({"history": history[:8], "waypoints": LEFT}, r"history must be \(B, 9, H, W, 3\)"),
        ({"history": history.astype(np.float32), "waypoints": LEFT}, "must be uint8"),
        ({"history": history[:, :30], "waypoints": LEFT}, "multiples of 16"),
        ({"history": history, "waypoints": broken}, "NaN"),
        ({"history": history, "waypoints": LEFT[:5]}, r"waypoints must be \(8, 3\)"),
        ({"history": history, "waypoints": LEFT, "num_rounds": 2}, "num_rounds goes with"),
        ({"history": history, "waypoints": LEFT, "num_inference_steps": 7}, "must divide 1000"),
        ({"history": history, "waypoints": LEFT, "output_type": "pil"}, "output_type"),
        ({"history": history, "waypoints": LEFT, "prompt": ["a", "b"]}, "2 given for a batch of 1"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            pipeline(**(STEPS | arguments))


def test_bfloat16_imagines_nearly_the_same(tmp_path, history):
    tiny_pipeline().save_pretrained(tmp_path)
    futures = {}
    for dtype in ("float32", "bfloat16"):
        pipe = load_pipeline(tmp_path, dtype)
        assert {module.dtype for module in (pipe.vae, pipe.world_model.transformer)} == {getattr(torch, dtype)}
        futures[dtype] = pipe(history, LEFT, generator=seeded(), **STEPS).frames
    a, b = (frames[:, 9:].astype(np.float32) for frames in futures.values())
    assert 0 < np.abs(a - b).mean() < 0.1 * a.std()
