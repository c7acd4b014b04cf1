"""2 steps + resume to 4 is 4 uninterrupted steps, bit for bit, for a full and for a LoRA stage."""

import json
from dataclasses import replace

import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import write_world

from resim.runtime.log import read_metrics
from resim.training.checkpoint import list_checkpoints
from train.train_world_model import train_world_model


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


def files_of(folder):
    """Contents of every weight file below a checkpoint, and its progress."""
    weights = {p.relative_to(folder).as_posix(): load_file(p) for p in sorted(folder.rglob("*.safetensors"))}
    return weights, json.loads((folder / "training_state" / "progress.json").read_text())


@pytest.mark.parametrize("trains", ["everything", "lora"])
def test_two_steps_and_resume_to_four_equals_four(world, tmp_path, trains):
    whole = world.config(tmp_path / "whole", trains=trains)
    train_world_model(whole)
    first = replace(whole, output_dir=tmp_path / "parts", max_train_steps=2)
    train_world_model(first)
    train_world_model(replace(first, max_train_steps=4, resume_from_checkpoint="latest"))

    expected, expected_progress = files_of(whole.output_dir / "checkpoint-000004")
    found, found_progress = files_of(first.output_dir / "checkpoint-000004")
    assert found_progress == expected_progress == {"step": 4, "samples": 8, "num_processes": 1}
    assert found.keys() == expected.keys()
    assert ("transformer_lora/pytorch_lora_weights.safetensors" in found) == (trains == "lora")
    for file, tensors in expected.items():
        for name, tensor in tensors.items():
            assert tensor.equal(found[file][name]), f"{file}: {name}"

    steps = [json.loads(line)["step"] for line in (first.output_dir / "metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 1, 2, 2, 3, 4, 4]
    before, _ = files_of(first.output_dir / "checkpoint-000002")
    changed = (
        "transformer_lora/pytorch_lora_weights.safetensors" if trains == "lora" else "training_state/model.safetensors"
    )
    assert any(not tensor.equal(found[changed][name]) for name, tensor in before[changed].items())


def test_the_log_of_a_resumed_run_forgets_what_came_after_its_checkpoint(world, tmp_path):
    whole = world.config(tmp_path, max_train_steps=3, checkpointing_steps=1, checkpoints_total_limit=None)
    train_world_model(whole)
    train_world_model(replace(whole, max_train_steps=2, resume_from_checkpoint=str(tmp_path / "checkpoint-000001")))
    rows = read_metrics(tmp_path)
    assert [(row["kind"], row["step"]) for row in rows if row["step"] > 0] == [
        ("train", 1),
        ("train", 2),
        ("validation", 2),
    ]
    shown = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for tag, find in (
        ("train/loss", lambda row: row["loss"]),
        ("train_loss_by_name/diffusion", lambda row: row["loss_by_name"]["diffusion"]),
    ):
        expected = [(row["step"], pytest.approx(find(row))) for row in rows if row["kind"] == "train"]
        assert [(event.step, event.value) for event in shown.Scalars(tag)] == expected
    assert [event.step for event in shown.Scalars("validation/val_loss")] == [0, 2]


def test_resumed_run_outlives_the_checkpoint_that_it_came_from(world, tmp_path):
    first = world.config(tmp_path, trains="lora", max_train_steps=1, checkpointing_steps=1, checkpoints_total_limit=1)
    train_world_model(first)
    # At step 3, that of step 1 is long gone.
    train_world_model(replace(first, max_train_steps=4, resume_from_checkpoint="latest"))
    assert [folder.name for folder in list_checkpoints(tmp_path)] == ["checkpoint-000004"]
    for part in ("vae", "text_encoder", "tokenizer"):
        for file in (world.model / part).iterdir():
            assert (tmp_path / part / file.name).read_bytes() == file.read_bytes()
