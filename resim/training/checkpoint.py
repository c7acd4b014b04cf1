"""The folder that training leaves, and how a run comes back from it.

``output_dir/checkpoint-000500/`` is a whole model that ``ReSimPipeline.from_pretrained`` reads (averaged weights), with

    train_config.json   resolved config, git commit, library versions, fingerprints of the data
    training_state/     weights as trained, optimizer, moving average, progress.json
    manifest.json       sha256 of every other file

It is written aside and renamed. When the run ends, the last one's model is put into ``output_dir`` itself.
"""

import errno
import json
import os
import re
import shutil
import subprocess
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors import safe_open
from safetensors.torch import save_file

from resim.data.files import (
    MARKER_FILE,
    UNFINISHED,
    kind_of,
    mark,
    new_folder,
    partial_folder,
    partial_of,
    require_own,
    sha256_of,
    write_aside,
)
from resim.runtime.config import flatten
from resim.runtime.resume import require_same_settings
from resim.training.config import TrainConfig
from resim.training.run import TrainingRun, averaged_weights
from resim.world_model.lora import has_lora, save_lora, without_lora
from resim.world_model.pipeline import LORA_FOLDER, ReSimPipeline

RUN_KIND, CHECKPOINT_KIND = "training run", "checkpoint"
CONFIG_FILE = "train_config.json"
MANIFEST_FILE = "manifest.json"
INDEX_FILE = "model_index.json"
STATE_FOLDER = "training_state"
PROGRESS_FILE = "progress.json"
AVERAGE_FILE = "average.safetensors"
FROZEN_PARTS = ("vae", "text_encoder", "tokenizer")
LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "peft", "numpy")
# What a resumed run may change, because no weight depends on it.
FREE_TO_CHANGE = {
    "output_dir",
    "init_from",
    "resume_from_checkpoint",
    "overwrite",
    "checkpointing_steps",
    "checkpoints_total_limit",
    "logging_steps",
    "data.data_root",
    "data.dataloader_num_workers",
}


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run has come."""

    step: int  # optimizer steps taken
    samples: int  # clips consumed by them, over all processes
    num_processes: int


def prepare_output_dir(config: TrainConfig) -> None:
    """Make ``output_dir`` for a new run; a resumed run goes on in its own. Only the main process calls this.

    Raises FileExistsError when output_dir holds something and neither --overwrite nor --resume_from_checkpoint is
    given, or something that this program did not write would be in the way; ValueError when both flags are given, or
    --overwrite would delete the model to start from or a store.
    """
    out = config.output_dir
    if config.resume_from_checkpoint is not None:
        if config.overwrite:
            raise ValueError("--overwrite and --resume_from_checkpoint exclude each other")
        require_nothing_in_the_way(config)
    elif out.exists() and any(out.iterdir()):
        if not config.overwrite:
            raise FileExistsError(f"{out} exists: give --overwrite to delete it, or --resume_from_checkpoint latest")
        entries = (*config.data.entries, *config.data.validation_entries)
        stores = [config.data.data_root / entry.store for entry in entries]
        require_own(out, kind=RUN_KIND, inputs=[config.init_from, *stores])
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)


def require_nothing_in_the_way(config: TrainConfig) -> None:
    """Raise FileExistsError for what a resumed run would have to delete and is not its own.

    Asked at the start, since the run itself would ask at its next checkpoint or at its end.
    """
    out, checkpoint = config.output_dir, find_checkpoint(config)
    assert checkpoint is not None  # it was asked for
    if out.exists() and any(out.iterdir()) and checkpoint.parent.resolve() != out.resolve():
        raise FileExistsError(
            f"{out} holds something else than the run of {checkpoint}: give --output_dir {checkpoint.parent} to go on "
            "there, or a new folder"
        )
    for partial in (*out.glob("checkpoint-*.partial"), *out.glob("model.partial")):
        require_own(partial, kind=UNFINISHED, inputs=[checkpoint])
    for later in list_checkpoints(out):
        if later.name > checkpoint.name:
            require_own(later, kind=CHECKPOINT_KIND, inputs=())


def find_checkpoint(config: TrainConfig) -> Path | None:
    """The folder that ``resume_from_checkpoint`` means, None for a new run.

    Raises FileNotFoundError when it is missing: a resume never starts afresh.
    """
    if config.resume_from_checkpoint is None:
        return None
    if config.resume_from_checkpoint == "latest":
        found = list_checkpoints(config.output_dir)
        if not found:
            raise FileNotFoundError(f"{config.output_dir} has no checkpoint to resume from")
        return found[-1]
    folder = Path(config.resume_from_checkpoint)
    if not (folder / STATE_FOLDER).is_dir():
        raise FileNotFoundError(f"{folder / STATE_FOLDER} does not exist: {folder} is no checkpoint to resume from")
    return folder


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    if not output_dir.is_dir():
        return []
    return sorted(path for path in output_dir.iterdir() if re.fullmatch(r"checkpoint-\d{6,}", path.name))


def save_checkpoint(run: TrainingRun, step: int) -> Path:
    """Write ``output_dir/checkpoint-<step>`` aside and rename it; ``step`` steps were taken. Every process calls it."""
    config, accelerator = run.config, run.accelerator
    progress = Progress(step=step, samples=step * config.global_batch_size, num_processes=accelerator.num_processes)
    final = config.output_dir / f"checkpoint-{step:06d}"
    folder: AbstractContextManager[Path] = nullcontext(partial_of(final))
    if accelerator.is_main_process:
        # Overwritten is what an interrupted run left that this one was resumed before.
        folder = new_folder(final, kind=CHECKPOINT_KIND, inputs=[run.model_folder], overwrite=True)
    with folder as partial:
        accelerator.wait_for_everyone()
        accelerator.save_state(str(partial / STATE_FOLDER), safe_serialization=True)
        if accelerator.is_main_process:
            save_average(run.ema, partial / STATE_FOLDER)
            with averaged_weights(run.ema, run.parameters):
                # The newest, because checkpoints_total_limit deletes the one that was resumed.
                save_model(run.pipeline, partial, [run.model_folder, *list_checkpoints(config.output_dir)][-1])
            write_json(partial / STATE_FOLDER / PROGRESS_FILE, asdict(progress))
            write_json(partial / CONFIG_FILE, describe(config, run.data_fingerprints))
            write_manifest(partial)
    if accelerator.is_main_process and config.checkpoints_total_limit is not None:
        for old in list_checkpoints(config.output_dir)[: -config.checkpoints_total_limit]:
            if kind_of(old) == CHECKPOINT_KIND:
                shutil.rmtree(old)
    accelerator.wait_for_everyone()
    return final


def save_model(pipeline: ReSimPipeline, folder: Path, model_folder: Path) -> None:
    """Write what ``ReSimPipeline.from_pretrained`` reads; the frozen parts come from ``model_folder``."""
    transformer = pipeline.transformer
    if has_lora(transformer):
        save_lora(transformer, folder / LORA_FOLDER)
        transformer = without_lora(transformer)
    transformer.save_pretrained(folder / "transformer", safe_serialization=True)
    pipeline.trajectory_encoder.save_pretrained(folder / "trajectory_encoder", safe_serialization=True)
    pipeline.scheduler.save_pretrained(folder / "scheduler")
    for part in FROZEN_PARTS:
        copy_part(model_folder / part, folder / part)
    pipeline.save_config(folder)


def write_run_config(run: TrainingRun) -> None:
    """Write train_config.json into output_dir when the run begins, and mark the folder as a run's."""
    if run.accelerator.is_main_process:
        mark(run.config.output_dir, RUN_KIND)
        write_json(run.config.output_dir / CONFIG_FILE, describe(run.config, run.data_fingerprints))


def load_state(run: TrainingRun, folder: Path) -> Progress:
    """Bring weights, optimizer and moving average back from a checkpoint.

    Raises ValueError naming the file that is damaged, or the setting that differs from the run that wrote it.
    """
    config, accelerator = run.config, run.accelerator
    verify_manifest(folder)
    saved = json.loads((folder / CONFIG_FILE).read_text())
    progress = Progress(**json.loads((folder / STATE_FOLDER / PROGRESS_FILE).read_text()))
    require_same_run(saved, describe(config, run.data_fingerprints), folder)
    if progress.num_processes != accelerator.num_processes:
        raise ValueError(
            f"{folder} was written by {progress.num_processes} processes, this run has {accelerator.num_processes}: "
            "start from its model with --init_from, or use as many processes"
        )
    accelerator.load_state(str(folder / STATE_FOLDER))
    load_average(run.ema, folder / STATE_FOLDER, accelerator.device)
    return progress


def require_same_run(saved: dict[str, Any], current: dict[str, Any], folder: Path) -> None:
    """Raise ValueError naming the settings and data sets that would make the resumed run another run."""
    free = set(FREE_TO_CHANGE)
    if current["config"]["optim.lr_scheduler"] == "constant":
        free.add("max_train_steps")
    was, now = (
        run["config"] | {f"content of {name}": v for name, v in run["data"].items()} for run in (saved, current)
    )
    require_same_settings(was, now, folder, free_to_change=free, otherwise="start a new run with --init_from")


def describe(config: TrainConfig, data_fingerprints: dict[str, str]) -> dict[str, Any]:
    """What train_config.json holds."""
    return {
        "config": flatten(config),
        "data": data_fingerprints,
        "git_commit": git_commit(),
        "versions": {name: version(name) for name in LIBRARIES},
    }


def git_commit() -> str | None:
    """The commit of the checkout that this file is in; None for an installed package."""
    git = shutil.which("git")
    if git is None:
        return None
    asked = subprocess.run(
        [git, "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() if asked.returncode == 0 else None


def save_average(ema: EMAModel, folder: Path) -> None:
    """Write the moving average of the trainable weights, in their order."""
    tensors = {f"{i:05d}": tensor.contiguous() for i, tensor in enumerate(ema.shadow_params)}
    save_file(tensors, folder / AVERAGE_FILE, metadata={"optimization_step": str(ema.optimization_step)})


def load_average(ema: EMAModel, folder: Path, device: torch.device) -> None:
    """Read what :func:`save_average` wrote. Raises ValueError when it belongs to other weights."""
    with safe_open(folder / AVERAGE_FILE, framework="pt", device=str(device)) as file:
        tensors = [file.get_tensor(name) for name in sorted(file.keys())]
        step = int(file.metadata()["optimization_step"])
    if [t.shape for t in tensors] != [t.shape for t in ema.shadow_params]:
        raise ValueError(f"{folder / AVERAGE_FILE} does not fit the weights that train in this run")
    ema.shadow_params, ema.optimization_step = tensors, step


def publish(checkpoint: Path, output_dir: Path) -> None:
    """Put the model of ``checkpoint`` into ``output_dir`` itself; its index comes last and makes it complete."""
    with partial_folder(output_dir / "model", inputs=[checkpoint]) as aside:
        for entry in sorted(checkpoint.iterdir()):
            if entry.is_dir() and entry.name != STATE_FOLDER:
                copy_part(entry, aside / entry.name)
            elif entry.name in (CONFIG_FILE, INDEX_FILE):
                shutil.copyfile(entry, aside / entry.name)
        write_manifest(aside)
        (output_dir / INDEX_FILE).unlink(missing_ok=True)
        entries = [path for path in aside.iterdir() if path.name != MARKER_FILE]  # output_dir has its own
        for entry in sorted(entries, key=lambda path: path.name == INDEX_FILE):
            if (output_dir / entry.name).is_dir():
                shutil.rmtree(output_dir / entry.name)
            entry.replace(output_dir / entry.name)


def copy_part(source: Path, target: Path) -> None:
    """Copy a folder of a model's files, so that writing to a copy leaves the original alone.

    Only the weights of FROZEN_PARTS are hard links: T5 has 9 GB, and nothing rewrites them.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source} does not exist: the model folder is incomplete")
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.name in FROZEN_PARTS and file.suffix == ".safetensors":
            link_or_copy(file, place)
        else:
            shutil.copyfile(file, place)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link one file, or copy it where the file system has no such link. Raises OSError when the disk is full."""
    try:
        os.link(source.resolve(), target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        shutil.copyfile(source, target)


def write_manifest(folder: Path) -> None:
    """Write the sha256 of every file in ``folder`` but the marker, which changes when the folder takes its name."""
    left_out = (MANIFEST_FILE, MARKER_FILE)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in left_out)
    write_json(folder / MANIFEST_FILE, {path.relative_to(folder).as_posix(): sha256_of(path) for path in files})


def verify_manifest(folder: Path) -> None:
    """Raise FileNotFoundError or ValueError naming the first file that is missing or differs from the manifest."""
    manifest = folder / MANIFEST_FILE
    if not manifest.is_file():
        raise FileNotFoundError(f"{manifest} does not exist: {folder} is incomplete")
    for name, sha256 in json.loads(manifest.read_text()).items():
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing, though {manifest} lists it")
        if sha256_of(folder / name) != sha256:
            raise ValueError(f"{folder / name} is damaged: its sha256 is not the one in {manifest}")


def write_json(file: Path, value: dict[str, Any]) -> None:
    """Write indented JSON; a checkpoint that an earlier release linked to ``file`` keeps its own."""
    write_aside(file, json.dumps(value, indent=2) + "\n")
