"""The paper's three stages."""

from dataclasses import replace
from pathlib import Path

from resim.data.mixture import MixtureEntry
from resim.runtime.optim import OptimConfig
from resim.training.config import DataConfig, TrainConfig, ValidationConfig


def entry(name: str, weight: float = 1.0, trajectory_dropout: float = 0.0, turn_repeats: int = 5) -> MixtureEntry:
    """The store ``name`` under ``data_root`` as an entry of the mixture."""
    return MixtureEntry(
        name=name,
        store=Path(name),
        weight=weight,
        trajectory_dropout=trajectory_dropout,
        turn_repeats=turn_repeats,
    )


def held_out(name: str, trajectory_dropout: float = 0.0) -> tuple[MixtureEntry, ...]:
    """A store of held-out clips as the only entry, every clip once."""
    return (entry(name, trajectory_dropout=trajectory_dropout, turn_repeats=1),)


def stage1() -> TrainConfig:
    """The whole transformer learns driving from video without actions."""
    return TrainConfig(
        preset="stage1",
        init_from=Path("checkpoints/CogVideoX-2b"),
        output_dir=Path("outputs/stage1"),
        trains="transformer",
        max_train_steps=20_000,
        global_batch_size=80,
        data=DataConfig(
            data_root=Path("data"),
            entries=(entry("opendv", trajectory_dropout=1.0),),
            validation_entries=held_out("opendv_val", trajectory_dropout=1.0),
            height_px=512,
            width_px=896,
        ),
        optim=OptimConfig(learning_rate=1e-5),
        validation=ValidationConfig(validation_steps=1_000),
    )


def stage2() -> TrainConfig:
    """Actions: LoRA and the trajectory encoder learn from all three sources at half the size, the DiT is frozen."""
    base = stage1()
    return replace(
        base,
        preset="stage2",
        init_from=Path("outputs/stage1"),
        output_dir=Path("outputs/stage2"),
        trains="lora",
        max_train_steps=80_000,
        global_batch_size=160,
        train_batch_size=4,
        data=replace(
            base.data,
            entries=(
                entry("opendv", weight=1.0, trajectory_dropout=1.0),
                entry("navsim", weight=40.0, trajectory_dropout=0.5),
                entry("carla", weight=2.0, trajectory_dropout=0.0),
            ),
            validation_entries=held_out("navsim_val"),
            height_px=256,
            width_px=448,
        ),
        optim=replace(base.optim, learning_rate=5e-5),
    )


def stage3() -> TrainConfig:
    """Everything learns together at full size."""
    base = stage2()
    return replace(
        base,
        preset="stage3",
        init_from=Path("outputs/stage2"),
        output_dir=Path("outputs/stage3"),
        trains="everything",
        max_train_steps=50_000,
        global_batch_size=80,
        train_batch_size=1,
        data=replace(base.data, height_px=512, width_px=896),
    )
