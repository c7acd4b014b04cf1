"""Named training runs. Each stage is written as what it changes in the one before, so the curriculum reads as a diff.

stage1 .. stage3 have the paper's numbers (arXiv 2506.09981, Sec. 3 and appendix); tiny_stage1 .. 3 have the same shape
at 64 x 112 for a CPU; debug takes seconds.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import tyro

from resim.config import DataConfig, OptimConfig, TrainConfig, ValidationConfig
from resim.data.mixture import MixtureEntry
from resim.world_model.diffusion import DiffusionConfig


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


def tiny_stage1() -> TrainConfig:
    """stage1 for a CPU."""
    base = stage1()
    return replace(
        base,
        preset="tiny_stage1",
        init_from=Path("outputs/tiny/init"),
        output_dir=Path("outputs/tiny/stage1"),
        mixed_precision="no",
        gradient_checkpointing=False,
        ema_decay=0.995,
        # Whole, nearly clean history, as at inference: the paper's draws show that in one clip of twelve (docs/log.md).
        diffusion=DiffusionConfig(context_probabilities=(0.0, 0.0, 0.0, 1.0), max_context_timestep=100),
        max_train_steps=800,
        global_batch_size=8,
        train_batch_size=8,
        checkpointing_steps=250,
        checkpoints_total_limit=2,
        data=DataConfig(
            data_root=Path("data/tiny"),
            entries=(entry("video", trajectory_dropout=1.0),),
            validation_entries=held_out("held_out", trajectory_dropout=1.0),
            height_px=64,
            width_px=112,
            use_latents=True,
            dataloader_num_workers=0,
        ),
        optim=OptimConfig(learning_rate=2e-3, lr_scheduler="cosine", lr_warmup_steps=50, max_grad_norm=1.0),
        validation=ValidationConfig(validation_steps=500, num_inference_steps=10),
    )


def tiny_stage2() -> TrainConfig:
    """stage2 for a CPU."""
    base = tiny_stage1()
    return replace(
        base,
        preset="tiny_stage2",
        init_from=Path("outputs/tiny/stage1"),
        output_dir=Path("outputs/tiny/stage2"),
        trains="lora",
        max_train_steps=150,
        lora_rank=16,
        lora_alpha=16.0,
        data=replace(
            base.data,
            entries=(
                entry("video", weight=1.0, trajectory_dropout=1.0),
                entry("logs", weight=1.0, trajectory_dropout=0.5),
                entry("simulation", weight=2.0, trajectory_dropout=0.0),
            ),
            validation_entries=held_out("held_out"),
        ),
    )


def tiny_stage3() -> TrainConfig:
    """stage3 for a CPU."""
    return replace(
        tiny_stage2(),
        preset="tiny_stage3",
        init_from=Path("outputs/tiny/stage2"),
        output_dir=Path("outputs/tiny/stage3"),
        trains="everything",
        max_train_steps=5_500,
    )


def tiny_simple() -> TrainConfig:
    """tiny_stage3 on the simple world, where a small model learns to obey: slow, by day, on slabs, no scenery."""
    base = tiny_stage3()
    stores = ("simple", "simple_more", "simple_scenes")
    simple = tuple(entry(name, trajectory_dropout=0.1, turn_repeats=1) for name in stores)
    return replace(
        base,
        preset="tiny_simple",
        init_from=Path("outputs/tiny/stage3"),
        output_dir=Path("outputs/tiny/simple"),
        max_train_steps=8_000,
        # Headings stay: a latent that is told its pose without one cannot know which way it looks.
        data=replace(base.data, entries=simple, validation_entries=held_out("simple_held_out"), heading_dropout=0.0),
    )


def tiny_deep() -> TrainConfig:
    """tiny_simple with two layers more, on clips of other scenes each."""
    base = tiny_simple()
    scenes = tuple(entry(name, trajectory_dropout=0.1, turn_repeats=1) for name in ("simple_scenes", "simple_strays"))
    return replace(
        base,
        preset="tiny_deep",
        init_from=Path("outputs/tiny/deep_init"),
        output_dir=Path("outputs/tiny/deep"),
        max_train_steps=5_500,
        data=replace(base.data, entries=scenes),
        optim=replace(base.optim, learning_rate=1.5e-3),
    )


def tiny_long() -> TrainConfig:
    """tiny_deep on fresh scenes, nearly for as long as all before it: minutes on a GPU, half a day on two cores."""
    base = tiny_deep()
    scenes = tuple(entry(name, trajectory_dropout=0.1, turn_repeats=1) for name in ("fresh_scenes", "fresh_strays"))
    return replace(
        base,
        preset="tiny_long",
        init_from=Path("outputs/tiny/deep"),
        output_dir=Path("outputs/tiny/long"),
        max_train_steps=3_800,
        global_batch_size=64,
        train_batch_size=64,
        data=replace(base.data, entries=scenes, dataloader_num_workers=12),
        optim=replace(base.optim, learning_rate=2e-3, lr_warmup_steps=100),
        validation=replace(base.validation, num_validation_clips=48, num_validation_videos=0),
    )


def tiny_finetune() -> TrainConfig:
    """A short run of the tiny model on the single store that --data_root names."""
    base = tiny_stage3()
    clips = replace(entry("clips", turn_repeats=1), store=Path("."))
    return replace(
        base,
        preset="tiny_finetune",
        init_from=Path("checkpoints/tiny"),
        output_dir=Path("outputs/tiny/finetune"),
        max_train_steps=100,
        data=replace(base.data, entries=(clips,), validation_entries=(clips,), use_latents=False),
        optim=replace(base.optim, learning_rate=2e-4, lr_warmup_steps=10),
        validation=replace(base.validation, validation_steps=100, num_validation_clips=1, num_validation_videos=1),
    )


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


def debug() -> TrainConfig:
    """tiny_stage3 for a few steps, to see that the machinery runs."""
    base = tiny_stage3()
    return replace(
        base,
        preset="debug",
        output_dir=Path("outputs/debug"),
        max_train_steps=4,
        global_batch_size=2,
        train_batch_size=2,
        checkpointing_steps=2,
        logging_steps=1,
        diffusion=DiffusionConfig(),
        optim=replace(base.optim, learning_rate=1e-3, lr_scheduler="constant", lr_warmup_steps=0),
        validation=ValidationConfig(
            validation_steps=4, num_validation_clips=1, num_validation_videos=0, num_inference_steps=2
        ),
    )


PRESETS: dict[str, Callable[[], TrainConfig]] = {
    preset.__name__: preset
    for preset in (
        stage1,
        stage2,
        stage3,
        tiny_stage1,
        tiny_stage2,
        tiny_stage3,
        tiny_simple,
        tiny_deep,
        tiny_long,
        tiny_finetune,
        tiny_video,
        tiny_ablation,
        tiny_experts,
        debug,
    )
}


def parse_command_line(args: Sequence[str] | None = None) -> TrainConfig:
    """``PRESET --learning_rate 1e-5 ...`` -> config; every field of the config is a flag without prefix.

    An unknown flag or preset ends the program with exit code 2 and a suggestion.
    """
    choices = {name: (preset.__doc__ or "", preset()) for name, preset in PRESETS.items()}
    return tyro.extras.overridable_config_cli(
        choices,
        args=args,
        use_underscores=True,
        description="Train ReSim. Flags such as --output_dir or --learning_rate override the values of a preset.",
        config=(tyro.conf.OmitArgPrefixes,),
    )
