"""The training loop: what learns in which stage, when it stops, what it logs, and how it spreads over processes."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from tiny_run import HEIGHT_PX, WIDTH_PX, write_world

from resim.data.collate import collate
from resim.data.files import sha256_of
from resim.data.video import read_clip
from resim.runtime.log import read_metrics
from resim.runtime.optim import require_finite_norm
from resim.training.data import training_batches, training_data
from resim.training.run import load_pipeline
from resim.world_model.losses import training_losses
from resim.world_model.pipeline import ReSimPipeline
from train import train_world_model as script
from train.train_world_model import train_world_model

GOLDEN = Path(__file__).parent / "golden" / "losses.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def stages(world, tmp_path_factory):
    """Output folders of three stages of one step, each starting from the one before."""
    folders, init_from = [], world.model
    for trains in ("transformer", "lora", "everything"):
        out = tmp_path_factory.mktemp("stages") / trains
        train_world_model(replace(world.config(out, trains=trains, max_train_steps=1), init_from=init_from))
        folders.append(out)
        init_from = out
    return folders


def test_stage1_trains_the_transformer_only(world, stages):
    part = f"trajectory_encoder/{WEIGHTS}"
    assert sha256_of(stages[0] / part) == sha256_of(world.model / part)
    before, after = load_file(world.model / "transformer" / WEIGHTS), load_file(stages[0] / "transformer" / WEIGHTS)
    assert all(not after[name].equal(weight) for name, weight in before.items() if "attn1.to_q.weight" in name)


def test_stage2_leaves_every_weight_of_the_transformer_unchanged(stages):
    stage1, stage2, _ = stages
    assert sha256_of(stage2 / "transformer" / WEIGHTS) == sha256_of(stage1 / "transformer" / WEIGHTS)
    adapter = load_file(stage2 / "transformer_lora" / "pytorch_lora_weights.safetensors")
    assert any(weight.abs().max() > 0 for name, weight in adapter.items() if "lora_B" in name)  # they begin at zero
    assert sha256_of(stage2 / "trajectory_encoder" / WEIGHTS) != sha256_of(stage1 / "trajectory_encoder" / WEIGHTS)


def test_stage3_trains_everything(stages):
    _, stage2, stage3 = stages
    for part in ("transformer", "trajectory_encoder"):
        assert sha256_of(stage3 / part / WEIGHTS) != sha256_of(stage2 / part / WEIGHTS)
    adapter = "transformer_lora/pytorch_lora_weights.safetensors"
    assert sha256_of(stage3 / adapter) != sha256_of(stage2 / adapter)


def test_a_stage_begins_exactly_where_the_one_before_ended(stages):
    losses = [[row["val_loss"] for row in read_metrics(folder) if row["kind"] == "validation"] for folder in stages]
    assert losses[0][-1] == losses[1][0]  # a fresh LoRA is the identity
    assert losses[1][-1] == losses[2][0]


def test_stage1_refuses_a_model_with_lora(world, stages, tmp_path):
    with pytest.raises(ValueError, match="has a LoRA adapter"):
        train_world_model(replace(world.config(tmp_path / "out", trains="transformer"), init_from=stages[1]))


def test_golden_losses(world, tmp_path):
    """Four steps give the losses in golden/losses.json; RESIM_WRITE_GOLDEN=1 writes them anew."""
    train_world_model(world.config(tmp_path / "out"))
    rows = read_metrics(tmp_path / "out")
    found = {
        "train": [row["loss_by_name"] | {"grad_norm": row["grad_norm"]} for row in rows if row["kind"] == "train"],
        "validation": [row["val_loss_by_timestep"] for row in rows if row["kind"] == "validation"],
    }
    if os.environ.get("RESIM_WRITE_GOLDEN") == "1":
        GOLDEN.write_text(json.dumps(found, indent=2) + "\n")
    expected = json.loads(GOLDEN.read_text())
    for kind in ("train", "validation"):
        assert len(found[kind]) == len(expected[kind])
        for now, stored in zip(found[kind], expected[kind], strict=True):
            assert now == pytest.approx(stored, rel=1e-3)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(world, tmp_path, monkeypatch):
    calls = []

    def broken(*args):
        losses = training_losses(*args)
        calls.append(args)
        bad = torch.tensor([1.0, math.nan]) if len(calls) > 1 else 1.0
        return {name: loss * bad for name, loss in losses.items()}

    monkeypatch.setattr(script, "training_losses", broken)
    config = world.config(tmp_path / "out", checkpointing_steps=1)
    batch = collate([training_data(config.data, config.seed, world.model)[n] for n in (2, 3)])
    with pytest.raises(FloatingPointError, match=f"step 1: the loss of {batch.clip_id[1]} is not finite"):
        train_world_model(config)
    assert len(calls) == 2
    assert [path.name for path in config.output_dir.glob("checkpoint-*")] == ["checkpoint-000001"]


def test_a_gradient_norm_that_is_not_finite_stops_and_names_the_clips():
    require_finite_norm(1.0, 7, ["a"])
    with pytest.raises(FloatingPointError, match=r"step 7: gradient norm inf .* a, b"):
        require_finite_norm(math.inf, 7, ["a", "b"])


def test_log_from_frames_with_accumulation_and_videos(world, tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)  # the other tests of this process are in float32
    config = world.config(tmp_path / "out", global_batch_size=2, train_batch_size=1, max_train_steps=1)
    config = replace(
        config,
        data=replace(config.data, use_latents=False),
        validation=replace(config.validation, num_validation_videos=1),
        mixed_precision="bf16",
        gradient_checkpointing=True,
    )
    train_world_model(config)
    AcceleratorState._reset_state(reset_partial_state=True)
    (row,) = [row for row in read_metrics(config.output_dir) if row["kind"] == "train"]
    assert sum(row["mixture"].values()) == sum(row["timestep_histogram"].values()) == 2
    total = row["loss_by_name"]["diffusion"] + 0.1 * row["loss_by_name"]["dynamics"]
    assert row["loss"] == pytest.approx(total, rel=1e-5)
    by_source = [row["loss_by_source"][name] * n for name, n in row["mixture"].items() if n > 0]
    assert row["loss"] == pytest.approx(sum(by_source) / 2, rel=1e-5)
    assert row["grad_norm"] > 0 and row["samples_per_s"] > 0
    videos = sorted((config.output_dir / "validation").rglob("*.mp4"))
    assert [video.parent.name for video in videos] == ["step-000000", "step-000001"]
    for video in videos:
        assert read_clip(video).shape == (49, HEIGHT_PX, 2 * WIDTH_PX, 3)


def test_a_validation_video_stays_in_its_folder(world, tmp_path):
    config = world.config(tmp_path / "out", max_train_steps=1)
    entry = replace(config.data.validation_entries[0], name="../../../x")
    config = replace(
        config,
        data=replace(config.data, validation_entries=(entry,)),
        validation=replace(config.validation, num_validation_videos=1),
    )
    with pytest.raises(ValueError, match=r"name of a mixture entry is '\.\./\.\./\.\./x': give a plain name"):
        train_world_model(config)
    assert not list(tmp_path.rglob("*.mp4"))


def test_ranks_share_the_order_of_one_process(world):
    config = world.config(Path("unused"), global_batch_size=8)
    data = training_data(config.data, config.seed, world.model)

    def order(batch_size, rank, world_size, start=0):
        one = replace(config, train_batch_size=batch_size)
        batches = training_batches(data, one, start=start, rank=rank, world_size=world_size)
        return [batch.clip_id for batch in batches]

    together = [a + b for a, b in zip(order(2, 0, 2), order(2, 1, 2), strict=True)]
    assert together == order(4, 0, 1)
    passes_per_step = 2
    assert order(2, 1, 2, start=3) == order(2, 1, 2)[3 * passes_per_step :]


def test_two_processes(world, tmp_path):
    """They take the same clips as one process, and begin with the same validation loss."""
    config = world.config(tmp_path / "one", max_train_steps=1, train_batch_size=2, global_batch_size=4)
    train_world_model(config)
    flags = {
        "init_from": world.model,
        "output_dir": tmp_path / "two",
        "data_root": world.stores,
        "height_px": HEIGHT_PX,
        "width_px": WIDTH_PX,
        "max_train_steps": 1,
        "train_batch_size": 2,
        "global_batch_size": 4,
    }
    # accelerate launch starts several CPU processes only through mpirun, so torchrun does it here.
    command = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "train/train_world_model.py", "debug"]
    command += [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=os.environ | {"ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert [row["kind"] for row in two] == [row["kind"] for row in one] == ["validation", "train", "validation"]
    assert two[0]["val_loss"] == pytest.approx(one[0]["val_loss"], rel=1e-5)
    assert two[1]["mixture"] == one[1]["mixture"]
    progress = json.loads((tmp_path / "two" / "checkpoint-000001" / "training_state" / "progress.json").read_text())
    assert progress == {"step": 1, "samples": 4, "num_processes": 2}


def test_stage1_starts_from_a_cogvideox_folder(world, tmp_path):
    """A fresh ReSim is CogVideoX: before the first step both have the same loss."""
    folder = tmp_path / "cogvideox"
    parts = ("tokenizer", "text_encoder", "vae", "transformer")
    for part in parts:
        shutil.copytree(world.model / part, folder / part)
    weights = load_file(folder / "transformer" / WEIGHTS)
    save_file({k: v for k, v in weights.items() if "context_level_proj" not in k}, folder / "transformer" / WEIGHTS)
    config_file = folder / "transformer" / "config.json"
    config_file.write_text(config_file.read_text().replace("ReSimTransformer3DModel", "CogVideoXTransformer3DModel"))
    (folder / "model_index.json").write_text('{"_class_name": "CogVideoXPipeline"}')

    config = world.config(tmp_path / "out", trains="transformer", max_train_steps=1)
    config = replace(config, init_from=folder, data=replace(config.data, entries=config.data.entries[:1]))
    train_world_model(config)
    video_only = replace(config, init_from=world.model, output_dir=tmp_path / "same")
    train_world_model(video_only)
    expected, found = read_metrics(video_only.output_dir), read_metrics(config.output_dir)
    assert [row["step"] for row in found] == [0, 1, 1]
    assert found[1]["loss"] == expected[1]["loss"]
    assert ReSimPipeline.from_pretrained(config.output_dir).transformer.config.num_layers == 2


@pytest.mark.parametrize(
    ("name", "processes", "precision"),
    [("cpu", 1, "no"), ("single_gpu", 1, "bf16"), ("ddp", 8, "bf16"), ("zero2", 8, "bf16")],
)
def test_accelerate_configs_are_read_by_accelerate(name, processes, precision):
    config = load_config_from_file(f"train/accelerate/{name}.yaml")
    assert (config.num_processes, config.mixed_precision) == (processes, precision)
    assert config.deepspeed_config.get("zero_stage") == (2 if name == "zero2" else None)


def test_only_models_that_can_be_trained_are_loaded(world, tmp_path):
    config = world.config(tmp_path)
    with pytest.raises(FileNotFoundError, match="--init_from needs the folder of a model"):
        load_pipeline(tmp_path, config)
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(ValueError, match="describes a StableDiffusionPipeline"):
        load_pipeline(tmp_path, config)
