"""Train what is missing: every run in a process of its own on one thread, several side by side, finished ones kept."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any

from ablation.variants import Run, Schedule, Training, pretraining, trainings, without_poses
from diffusers import AutoencoderKLCogVideoX
from tqdm import tqdm

from resim.data.files import new_folder
from resim.data.latents import INDEX_NAME, LATENTS_FOLDER
from resim.runtime.config import flatten
from resim.runtime.log import read_metrics
from resim.runtime.resume import require_same_settings
from resim.training.checkpoint import CONFIG_FILE, INDEX_FILE, list_checkpoints
from resim.training.presets.ablations import tiny_ablation, tiny_experts
from resim.training.presets.command_line import parse_command_line
from resim.training.presets.starts import ABLATION
from resim.world_model.pipeline import ReSimPipeline, small_pipeline
from resim.world_model.trajectory_encoder import TrajectoryEncoder

REPOSITORY = Path(__file__).resolve().parents[2]
PARSING = Lock()  # tyro's parser is not made for two threads at once


def prepare(schedule: Schedule, vae: Path) -> None:
    """The store without non-expert drivers, and an untrained model for each seed around a trained VAE."""
    source, experts = (preset().data.entries[-1].store for preset in (tiny_ablation, tiny_experts))
    if not (schedule.data_root / source).is_dir():
        raise FileNotFoundError(f"{schedule.data_root / source} does not exist: make tiny simulates it")
    store = schedule.data_root / experts
    if not (store / LATENTS_FOLDER / INDEX_NAME).is_file():
        script = REPOSITORY / "data_prep" / "select_drivers.py"
        flags = ["--store", schedule.data_root / source, "--drivers", "expert", "--output_dir", store]
        again = ["--overwrite"] if store.exists() else []  # stopped before its latents
        start([sys.executable, script, *flags, *again], store.with_suffix(".log"))
    for seed in range(schedule.num_seeds):
        folder = pretraining(schedule, seed).folder.with_name("init")
        if not folder.exists():
            pipeline = small_pipeline(AutoencoderKLCogVideoX.from_pretrained(vae), **asdict(ABLATION), seed=seed)
            with new_folder(folder, kind="model", inputs=[vae], overwrite=False) as partial:
                pipeline.save_pretrained(partial)


def remove_poses(model: Path, folder: Path) -> None:
    """Copy ``model`` to ``folder`` with a trajectory encoder that has no poses, where that is not done yet."""
    if folder.exists():
        return
    pipeline = ReSimPipeline.from_pretrained(model)
    old = pipeline.trajectory_encoder
    encoder = TrajectoryEncoder.from_config(old.config, video_width=None)
    encoder.load_state_dict({name: old.state_dict()[name] for name in encoder.state_dict()})
    pipeline.register_modules(trajectory_encoder=encoder)
    with new_folder(folder, kind="model", inputs=[model], overwrite=False) as partial:
        pipeline.save_pretrained(partial)


def start(command: Sequence[object], log: Path) -> None:
    """Run a script to its end, its output in ``log``. Raises ChildProcessError where it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        done = subprocess.run([str(part) for part in command], stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        raise ChildProcessError(f"{Path(str(command[1])).name} ended with status {done.returncode}: see {log}")


def is_finished(training: Training) -> bool:
    """Whether ``training`` has left its model. Raises ValueError where that was trained with other settings."""
    if not (training.folder / INDEX_FILE).is_file():
        return False
    saved = json.loads((training.folder / CONFIG_FILE).read_text())["config"]
    with PARSING:
        wanted = flatten(parse_command_line(training.flags))
    require_same_settings(saved, wanted, training.folder, free_to_change={"resume_from_checkpoint", "overwrite"})
    return True


def train(training: Training) -> None:
    """Train, or continue from the newest checkpoint; does nothing where it is finished."""
    if is_finished(training):
        return
    begun = ("--resume_from_checkpoint", "latest") if list_checkpoints(training.folder) else ("--overwrite",)
    script = REPOSITORY / "train" / "train_world_model.py"
    start([sys.executable, script, *training.flags, *begun], training.folder.with_suffix(".log"))


def train_all(schedule: Schedule, runs: Sequence[Run], num_workers: int) -> None:
    """First every seed's common start, then every variant, ``num_workers`` processes at a time."""

    def train_run(run: Run) -> None:
        variant, seed = run
        if not variant.poses:
            remove_poses(pretraining(schedule, seed).folder, without_poses(schedule, seed))
        for training in trainings(schedule, *run):
            train(training)

    def train_start(seed: int) -> None:
        train(pretraining(schedule, seed))

    side_by_side(train_start, sorted({seed for _, seed in runs}), num_workers, "pretrain")
    side_by_side(train_run, runs, num_workers, "train")


def side_by_side(work: Callable, items: Sequence, num_workers: int, what: str) -> None:
    """``work`` on every item from ``num_workers`` threads; the first failure is raised once what runs has ended."""
    with ThreadPoolExecutor(num_workers) as pool:
        for _ in tqdm(pool.map(work, items), total=len(items), desc=what, unit="run"):
            pass


def training_rows(training: Training) -> list[dict[str, Any]]:
    """The rows of a finished training's log that are about its steps."""
    return [row for row in read_metrics(training.folder) if row["kind"] == "train"]


def training_seconds(training: Training) -> float:
    """Time in optimizer steps alone, from the log of a finished training."""
    batch = parse_command_line(training.flags).global_batch_size
    seconds, before = 0.0, 0
    for row in training_rows(training):
        seconds += (row["step"] - before) * batch / row["samples_per_s"]
        before = row["step"]
    return seconds
