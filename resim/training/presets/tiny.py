"""The tiny model's runs."""

from dataclasses import replace
from pathlib import Path

from resim.runtime.optim import OptimConfig
from resim.training.config import DataConfig, TrainConfig, ValidationConfig
from resim.training.presets.paper import entry, held_out, stage1
from resim.world_model.diffusion import DiffusionConfig


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
