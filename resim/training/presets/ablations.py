"""The runs of benchmarks/ablations.py."""

from dataclasses import replace
from pathlib import Path

from resim.training.config import TrainConfig
from resim.training.presets.tiny import tiny_simple, tiny_stage1


def tiny_ablation() -> TrainConfig:
    """tiny_simple for the comparisons of benchmarks/ablations.py: a smaller model, minutes on one core."""
    base = tiny_simple()
    return replace(
        base,
        preset="tiny_ablation",
        init_from=Path("outputs/ablations/seed0/pretrained"),
        output_dir=Path("outputs/ablations/seed0/base"),
        mixed_precision="bf16",
        ema_decay=0.99,
        max_train_steps=650,
        global_batch_size=4,
        train_batch_size=4,
        checkpointing_steps=325,
        checkpoints_total_limit=None,
        data=replace(base.data, data_root=Path("outputs/tiny/data"), entries=base.data.entries[1:2]),
        optim=replace(base.optim, learning_rate=3e-3),
        validation=replace(base.validation, validation_steps=10_000, num_validation_clips=24, num_validation_videos=0),
    )


def tiny_experts() -> TrainConfig:
    """tiny_ablation without non-expert drivers."""
    base = tiny_ablation()
    (everyone,) = base.data.entries
    experts = replace(everyone, store=Path(f"{everyone.store}_experts"))
    return replace(
        base,
        preset="tiny_experts",
        output_dir=Path("outputs/ablations/seed0/experts_only"),
        data=replace(base.data, entries=(experts,)),
    )


def tiny_video() -> TrainConfig:
    """The common start of all variants: tiny_stage1 on the experts' videos, without their paths."""
    base = tiny_experts()
    (experts,) = base.data.entries
    (held_out_clips,) = base.data.validation_entries
    return replace(
        base,
        preset="tiny_video",
        init_from=Path("outputs/ablations/seed0/init"),
        output_dir=Path("outputs/ablations/seed0/pretrained"),
        trains=tiny_stage1().trains,
        max_train_steps=150,
        data=replace(
            base.data,
            entries=(replace(experts, trajectory_dropout=1.0),),
            validation_entries=(replace(held_out_clips, trajectory_dropout=1.0),),
        ),
    )
