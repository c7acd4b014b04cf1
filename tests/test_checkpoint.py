"""The folder that a run leaves: complete, checked by hashes, never half-written, never silently restarted."""

import errno
import json
import os
import shutil
from dataclasses import replace

import pytest
from safetensors.torch import load_file
from tiny_run import write_world

from resim.data.files import kind_of, mark
from resim.training.checkpoint import (
    copy_part,
    describe,
    find_checkpoint,
    link_or_copy,
    list_checkpoints,
    prepare_output_dir,
    require_same_run,
    verify_manifest,
)
from resim.world_model.lora import has_lora
from resim.world_model.pipeline import ReSimPipeline
from train.train_world_model import train_world_model


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """The config of a LoRA run of three steps that keeps two checkpoints."""
    out = tmp_path_factory.mktemp("runs") / "run"
    config = world.config(out, trains="lora", max_train_steps=3, checkpointing_steps=1, checkpoints_total_limit=2)
    train_world_model(config)
    return config


def test_run_folder_and_checkpoint_are_pipelines_with_the_averaged_weights(finished):
    checkpoint = finished.output_dir / "checkpoint-000003"
    average = load_file(checkpoint / "training_state" / "average.safetensors")
    for folder in (finished.output_dir, checkpoint):
        pipeline = ReSimPipeline.from_pretrained(folder)
        assert has_lora(pipeline.transformer)
        parameters = dict(pipeline.world_model.named_parameters())
        trained = [p for name, p in parameters.items() if ".lora_" in name or name.startswith("trajectory_encoder.")]
        assert len(trained) == len(average)
        for parameter, expected in zip(trained, average.values(), strict=True):
            assert parameter.equal(expected)


def test_frozen_parts_are_the_same_bytes(finished, world):
    for part in ("vae", "text_encoder", "tokenizer"):
        for file in (world.model / part).iterdir():
            assert (finished.output_dir / part / file.name).read_bytes() == file.read_bytes()


def inodes(folder, leave_out=()):
    """Which files on the disk stand behind the names in ``folder``."""
    files = [path for path in folder.rglob("*") if path.is_file() and not set(path.parts) & set(leave_out)]
    return {(path.stat().st_dev, path.stat().st_ino): path for path in files}


def test_nothing_but_frozen_weights_shares_its_file_with_a_checkpoint_or_the_starting_model(finished, world):
    checkpoints = list_checkpoints(finished.output_dir)
    kept = inodes(world.model) | {inode: path for folder in checkpoints for inode, path in inodes(folder).items()}
    written = inodes(finished.output_dir, leave_out=[folder.name for folder in checkpoints])
    shared = sorted(written[inode].relative_to(finished.output_dir).as_posix() for inode in written.keys() & kept)
    assert shared == ["text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"]
    for folder in checkpoints:
        others = kept.keys() - inodes(folder).keys() | inodes(world.model).keys()
        own = sorted(path.name for inode, path in inodes(folder).items() if inode in others)
        assert own == ["diffusion_pytorch_model.safetensors", "model.safetensors"]


def test_a_finished_run_that_is_resumed_keeps_its_checkpoints_whole(world, tmp_path):
    config = world.config(tmp_path, max_train_steps=1)
    train_world_model(config)
    checkpoint = tmp_path / "checkpoint-000001"
    before = (checkpoint / "train_config.json").read_bytes()
    os.link(checkpoint / "train_config.json", tmp_path / "linked")  # as earlier releases did
    (tmp_path / "linked").replace(tmp_path / "train_config.json")
    train_world_model(replace(config, resume_from_checkpoint="latest", logging_steps=7))
    assert (checkpoint / "train_config.json").read_bytes() == before
    verify_manifest(checkpoint)
    verify_manifest(tmp_path)


@pytest.mark.parametrize("name", ["ENOSYS", "EPERM", "EXDEV", "EMLINK", "ENOTSUP", "EOPNOTSUPP", "EINVAL", "EACCES"])
def test_without_hard_links_weights_are_copied(tmp_path, monkeypatch, name):
    def no_link(source, target):
        raise OSError(getattr(errno, name), name)

    monkeypatch.setattr(os, "link", no_link)
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "a.safetensors").write_bytes(b"weights")
    copy_part(tmp_path / "vae", tmp_path / "copy")
    assert (tmp_path / "copy" / "a.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT"])
def test_a_full_disk_is_an_error(tmp_path, monkeypatch, name):
    def full(source, target):
        raise OSError(getattr(errno, name), name)

    monkeypatch.setattr(os, "link", full)
    (tmp_path / "a.safetensors").write_bytes(b"weights")
    with pytest.raises(OSError, match=name):
        link_or_copy(tmp_path / "a.safetensors", tmp_path / "b.safetensors")


def test_train_config_says_what_was_run(finished):
    saved = json.loads((finished.output_dir / "train_config.json").read_text())
    assert saved["config"]["optim.learning_rate"] == finished.optim.learning_rate
    assert saved["data"].keys() == {"video", "logs", "simulation"}
    assert saved["versions"].keys() >= {"torch", "diffusers"}


def test_only_whole_and_the_newest_checkpoints(finished):
    assert [path.name for path in list_checkpoints(finished.output_dir)] == ["checkpoint-000002", "checkpoint-000003"]
    assert not list(finished.output_dir.rglob("*.partial"))
    (finished.output_dir / "checkpoint-000009.partial").mkdir()
    assert find_checkpoint(replace(finished, resume_from_checkpoint="latest")).name == "checkpoint-000003"
    (finished.output_dir / "checkpoint-000009.partial").rmdir()


def test_a_flipped_byte_or_a_missing_file_is_named(finished):
    folder = finished.output_dir / "checkpoint-000002"
    verify_manifest(folder)
    weights = folder / "trajectory_encoder" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match=r"trajectory_encoder.*is damaged"):
        train_world_model(replace(finished, resume_from_checkpoint=str(folder)))
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="trajectory_encoder"):
        verify_manifest(folder)


def test_existing_output_dir_is_not_touched_without_overwrite(finished):
    before = sorted(finished.output_dir.rglob("*"))
    with pytest.raises(FileExistsError, match="--overwrite"):
        train_world_model(finished)
    assert sorted(finished.output_dir.rglob("*")) == before
    no_run = finished.output_dir / "checkpoint-000003" / "vae"
    with pytest.raises(FileExistsError, match="no training run"):
        prepare_output_dir(replace(finished, output_dir=no_run, overwrite=True))
    assert no_run.is_dir()
    with pytest.raises(ValueError, match="exclude each other"):
        prepare_output_dir(replace(finished, overwrite=True, resume_from_checkpoint="latest"))


def test_overwrite_never_deletes_the_starting_model(finished):
    config = replace(finished, overwrite=True, init_from=finished.output_dir / "checkpoint-000003")
    with pytest.raises(ValueError, match="checkpoint-000003, which this command reads"):
        prepare_output_dir(config)
    assert config.init_from.is_dir()


def test_overwrite_never_deletes_a_store_or_what_is_no_run_of_ours(world, tmp_path):
    config = world.config(tmp_path / "run", overwrite=True)
    shutil.copytree(world.stores, tmp_path / "run" / "stores")
    mark(tmp_path / "run", "training run")
    inside = replace(config, data=replace(config.data, data_root=tmp_path / "run" / "stores"))
    with pytest.raises(ValueError, match="run/stores/video, which this command reads"):
        train_world_model(inside)
    (tmp_path / "run" / ".resim.json").unlink()
    (tmp_path / "run" / "train_config.json").write_text("{}")  # of somebody's own trainer, or an earlier release
    with pytest.raises(FileExistsError, match="no training run that this program marked .* delete it yourself or give"):
        train_world_model(config)
    assert (tmp_path / "run" / "stores" / "video" / "index.parquet").is_file()
    mark(tmp_path / "run", "training run")
    prepare_output_dir(config)
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("name", ["model.partial", "checkpoint-000004.partial", "checkpoint-000004"])
def test_a_resumed_run_deletes_nothing_of_somebody_else(finished, tmp_path, name):
    out = shutil.copytree(finished.output_dir, tmp_path / "run")
    config = replace(finished, output_dir=out, max_train_steps=4)
    config = replace(config, resume_from_checkpoint=str(out / "checkpoint-000003"))
    shutil.copytree(out / "checkpoint-000003", out / name)
    (out / name / ".resim.json").unlink()
    (out / name / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=f"{name} is no .* delete it yourself"):
        train_world_model(config)
    assert (out / name / "thesis.txt").read_text() == "mine"
    mark(out / name, "checkpoint" if name == "checkpoint-000004" else "unfinished output")  # as a killed run left it
    train_world_model(config)
    verify_manifest(out / "checkpoint-000004")
    assert not list(out.rglob("thesis.txt")) and not list(out.rglob("*.partial"))


def test_a_run_is_resumed_in_its_own_folder_or_a_new_one(finished, tmp_path):
    (tmp_path / "other" / "vae").mkdir(parents=True)
    (tmp_path / "other" / "vae" / "thesis.txt").write_text("mine")
    config = replace(finished, resume_from_checkpoint=str(finished.output_dir / "checkpoint-000003"))
    for _ in range(2):
        with pytest.raises(FileExistsError, match="other holds something else than the run of .*checkpoint-000003"):
            train_world_model(replace(config, output_dir=tmp_path / "other"))
        mark(tmp_path / "other", "training run")  # another run of ours is not this one either
    assert (tmp_path / "other" / "vae" / "thesis.txt").read_text() == "mine"
    train_world_model(replace(config, output_dir=tmp_path / "new"))

    unmarked = shutil.copytree(finished.output_dir, tmp_path / "run")  # of an earlier release
    for marker in unmarked.rglob(".resim.json"):
        marker.unlink()
    train_world_model(replace(finished, output_dir=unmarked, resume_from_checkpoint="latest", max_train_steps=4))
    assert kind_of(unmarked) == "training run"
    kept = [folder.name for folder in list_checkpoints(unmarked)]  # the limit of two deletes only what is marked
    assert kept == ["checkpoint-000002", "checkpoint-000003", "checkpoint-000004"]


def test_resume_never_starts_afresh(finished, tmp_path):
    for missing in ("latest", str(tmp_path / "checkpoint-000100")):
        with pytest.raises(FileNotFoundError, match="to resume from"):
            train_world_model(replace(finished, output_dir=tmp_path / "new", resume_from_checkpoint=missing))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed was 0, now 1"),
        ({"preset": "stage1"}, "preset was debug, now stage1"),
        ({"ema_decay": 0.5}, "ema_decay was"),
    ],
)
def test_resume_of_another_run_is_refused(finished, change, named):
    folder = finished.output_dir / "checkpoint-000003"
    with pytest.raises(ValueError, match=named):
        train_world_model(replace(finished, resume_from_checkpoint=str(folder), max_train_steps=4, **change))


def test_what_a_resume_may_change(finished):
    data = {"video": "a"}
    saved = describe(finished, data)
    longer = replace(finished, max_train_steps=9, checkpointing_steps=7)
    require_same_run(saved, describe(longer, data), finished.output_dir)
    with pytest.raises(
        ValueError, match="content of video was a, now b; set it back, or start a new run with --init_from"
    ):
        require_same_run(saved, describe(finished, {"video": "b"}), finished.output_dir)

    cosine = replace(finished, optim=replace(finished.optim, lr_scheduler="cosine"))
    with pytest.raises(ValueError, match="max_train_steps was 3, now 9"):  # the schedule is a function of it
        require_same_run(
            describe(cosine, data), describe(replace(cosine, max_train_steps=9), data), finished.output_dir
        )
