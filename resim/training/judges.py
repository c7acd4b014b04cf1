"""The training of the models that judge (inverse dynamics, Video2Reward): the supervised loop on true drives."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.modeling_utils import ModelMixin

from resim.data.drives import DriveData, Drives, collate_drives
from resim.runtime.fit import FitConfig, fit
from resim.runtime.optim import OptimConfig

# Draws of one step come from this generator alone.
Loss = Callable[[torch.nn.Module, Drives, torch.Generator], torch.Tensor]
Evaluate = Callable[[torch.nn.Module, list[Drives]], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class DrivesConfig:
    """On which drives, and on which others it is measured."""

    # Stores of true drives to train on.
    stores: tuple[Path, ...]
    # Store of held-out drives to measure on.
    held_out: Path
    # Held-out clips that are measured.
    num_validation_clips: int = 96
    # Every reading process decodes a clip once and keeps its frames.
    keep_in_memory: bool = False


def tiny_drives(*stores: str) -> DrivesConfig:
    """Drives that ``make tiny`` simulates, measured on its held-out ones of the simple world."""
    data = Path("outputs/tiny/data")
    return DrivesConfig(
        stores=tuple(data / store for store in stores),
        held_out=data / "simple_held_out",
        num_validation_clips=24,
        keep_in_memory=True,
    )


def tiny_fit(name: str, *, max_train_steps: int, train_batch_size: int) -> FitConfig:
    """A run of the tiny model's judge ``name``, written to ``outputs/tiny/<name>``."""
    return FitConfig(
        output_dir=Path("outputs/tiny") / name,
        max_train_steps=max_train_steps,
        train_batch_size=train_batch_size,
        optim=OptimConfig(
            learning_rate=1e-3,
            lr_scheduler="cosine",
            lr_warmup_steps=50,
            adam_beta2=0.99,
            adam_weight_decay=0.01,
            max_grad_norm=1.0,
        ),
        dataloader_num_workers=0,
    )


def fit_judge(
    model: ModelMixin,
    drives: DrivesConfig,
    config: FitConfig,
    loss: Loss,
    evaluate: Evaluate,
    inputs: Iterable[Path] = (),
) -> dict[str, float]:
    """:func:`resim.runtime.fit.fit` on drives of the size that ``model.config`` names, and measured on held-out ones.

    ``inputs`` is what the command reads beside what the configs name. Raises as ``fit``, and ValueError for a store
    without labels or with fewer held-out clips than asked for.
    """
    size = {"height_px": model.config.height_px, "width_px": model.config.width_px}
    data = DriveData(drives.stores, seed=config.seed, keep_in_memory=drives.keep_in_memory, **size)
    held_out = load_held_out(drives, config.train_batch_size, **size)
    return fit(
        model,
        config,
        data,
        collate_drives,
        loss,
        lambda trained: evaluate(trained, held_out),
        data_settings={"content of --stores": [store.fingerprint for store in data.stores]},
        inputs=[*drives.stores, drives.held_out, *inputs],
    )


def load_held_out(drives: DrivesConfig, batch_size: int, *, height_px: int, width_px: int) -> list[Drives]:
    """The first held-out clips in batches. Raises ValueError where the store has fewer than asked for."""
    data = DriveData([drives.held_out], seed=0, height_px=height_px, width_px=width_px)
    count = drives.num_validation_clips
    if count > len(data.places):
        raise ValueError(f"--num_validation_clips {count}: {drives.held_out} has {len(data.places)}")
    return [
        collate_drives([data[n] for n in range(start, min(start + batch_size, count))])
        for start in range(0, count, batch_size)
    ]
