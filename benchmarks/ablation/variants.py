"""The variants: the base recipe, and one choice of it changed at a time. Each is told as flags of the training loop."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What every variant shares: where it lies, on what it learns, and for how long."""

    # Where the runs, their measures and results.json go; kept, so that an interrupted call continues.
    output_dir: Path = Path("outputs/ablations")
    # Folder of the stores that make tiny simulates.
    data_root: Path = Path("outputs/tiny/data")
    # Steps on video without actions, once per seed, before every variant.
    pretrain_steps: int = 150
    # Steps of LoRA and trajectory encoder with the transformer frozen.
    lora_steps: int = 150
    # Steps of everything after that; without LoRA first, everything learns for both.
    joint_steps: int = 650
    # Steps between the checkpoints that the curves are measured on.
    checkpointing_steps: int = 325
    # Every variant is trained so many times.
    num_seeds: int = 2


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One recipe. ``flags`` go to every training of it that knows actions."""

    name: str
    differs_in: str
    preset: str = "tiny_ablation"
    flags: tuple[str, ...] = ()
    lora_first: bool = True
    # Whether latents are told their poses; otherwise the path is in the trajectory tokens alone, as in the paper.
    poses: bool = True


Run = tuple[Variant, int]  # a variant and its seed

BASE = Variant(
    name="base", differs_in="non-expert data, K = 4, P(t high) = 2/3, noised context, LoRA first, poses at the latents"
)
VARIANTS = (
    BASE,
    Variant(name="experts_only", differs_in="no clips of non-expert drivers, equal steps", preset="tiny_experts"),
    Variant(name="dynamics_0", differs_in="no dynamics loss", flags=("--dynamics_intervals", "0")),
    Variant(name="dynamics_1", differs_in="dynamics loss with K = 1", flags=("--dynamics_intervals", "1")),
    Variant(name="high_noise_1_2", differs_in="P(t high) = 1/2", flags=("--high_noise_probability", "0.5")),
    Variant(name="high_noise_3_4", differs_in="P(t high) = 3/4", flags=("--high_noise_probability", "0.75")),
    Variant(name="clean_context", differs_in="no context augmentation", flags=("--max_context_timestep", "0")),
    Variant(name="tokens_only", differs_in="latents are not told their poses, as in the paper", poses=False),
    Variant(name="full_from_start", differs_in="everything learns from the start, no LoRA", lora_first=False),
)


@dataclass(frozen=True, kw_only=True)
class Training:
    """One run of train/train_world_model.py: ``flags`` is its command line, ``folder`` what it leaves."""

    folder: Path
    flags: tuple[str, ...]


def seed_folder(schedule: Schedule, seed: int) -> Path:
    """What belongs to one seed."""
    return schedule.output_dir / f"seed{seed}"


def run_folder(schedule: Schedule, variant: Variant, seed: int) -> Path:
    """What one variant leaves for one seed: its trainings and its measures."""
    return seed_folder(schedule, seed) / variant.name


def _training(schedule: Schedule, preset: str, folder: Path, init_from: Path, seed: int, *flags: object) -> Training:
    shared = ("--data_root", schedule.data_root, "--checkpointing_steps", schedule.checkpointing_steps)
    places = ("--init_from", init_from, "--output_dir", folder, "--seed", seed)
    return Training(folder=folder, flags=tuple(map(str, (preset, *places, *shared, *flags))))


def pretraining(schedule: Schedule, seed: int) -> Training:
    """Stage 1, on video without actions: the common start of all variants of one seed."""
    folder = seed_folder(schedule, seed)
    return _training(
        schedule, "tiny_video", folder / "pretrained", folder / "init", seed,
        "--max_train_steps", schedule.pretrain_steps,
    )  # fmt: skip


def without_poses(schedule: Schedule, seed: int) -> Path:
    """Where the common start lies for variants whose latents are not told their poses."""
    return seed_folder(schedule, seed) / "pretrained_without_poses"


def trainings(schedule: Schedule, variant: Variant, seed: int) -> tuple[Training, ...]:
    """What a variant trains after the common start, in order: stages 2 and 3, or stage 3 for the steps of both."""
    folder = run_folder(schedule, variant, seed)
    model = pretraining(schedule, seed).folder if variant.poses else without_poses(schedule, seed)
    stages = [("everything", schedule.lora_steps + schedule.joint_steps)]
    if variant.lora_first:
        stages = [("lora", schedule.lora_steps), ("everything", schedule.joint_steps)]
    found: list[Training] = []
    for trains, steps in stages:
        flags = ("--trains", trains, "--max_train_steps", steps, *variant.flags)
        found.append(_training(schedule, variant.preset, folder / trains, model, seed, *flags))
        model = found[-1].folder
    return tuple(found)
