"""The batches of a run: what is trained on, in order, and the fixed held-out clips."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from torch.utils.data import DataLoader

from resim.data.batch import Batch
from resim.data.collate import collate
from resim.data.latents import vae_fingerprint
from resim.data.mixture import MixtureEntry, RankBatchSampler, TrainingData
from resim.training.config import DataConfig, TrainConfig


def placed(entries: Iterable[MixtureEntry], data_root: Path) -> list[MixtureEntry]:
    """The entries with their stores under ``data_root``."""
    return [replace(entry, store=data_root / entry.store) for entry in entries]


def training_data(config: DataConfig, seed: int, model_folder: Path) -> TrainingData:
    """The mixture that is trained on; cached latents must be those of the VAE in ``model_folder``."""
    return TrainingData(
        placed(config.entries, config.data_root),
        seed=seed,
        height_px=config.height_px,
        width_px=config.width_px,
        use_latents=config.use_latents,
        vae_fingerprint=vae_fingerprint(model_folder / "vae") if config.use_latents else None,
        text_dropout=config.text_dropout,
        command_dropout=config.command_dropout,
        heading_dropout=config.heading_dropout,
    )


def validation_data(config: DataConfig, model_folder: Path) -> TrainingData:
    """The held-out clips in a fixed order; prompts and headings are never dropped."""
    return TrainingData(
        placed(config.validation_entries, config.data_root),
        seed=0,
        height_px=config.height_px,
        width_px=config.width_px,
        use_latents=config.use_latents,
        vae_fingerprint=vae_fingerprint(model_folder / "vae") if config.use_latents else None,
        text_dropout=0.0,
        command_dropout=0.0,
        heading_dropout=0.0,
    )


def training_batches(
    data: TrainingData, config: TrainConfig, *, start: int, rank: int, world_size: int
) -> Iterator[Batch]:
    """Batches of one rank from optimizer step ``start`` on. They have no state, so a resume just starts later."""
    passes = config.gradient_accumulation_steps(world_size)
    sampler = RankBatchSampler(
        start_step=start * passes,
        num_steps=(config.max_train_steps - start) * passes,
        batch_size=config.train_batch_size,
        rank=rank,
        world_size=world_size,
    )
    workers = config.data.dataloader_num_workers
    return iter(DataLoader(data, batch_sampler=sampler, collate_fn=collate, num_workers=workers))


def first_batches(data: TrainingData, num_clips: int, batch_size: int) -> list[Batch]:
    """The first ``num_clips`` clips of ``data`` in batches. Raises ValueError when an epoch has fewer."""
    if num_clips > data.epoch_length:
        raise ValueError(f"--num_validation_clips {num_clips}, but the held-out stores give {data.epoch_length}")
    starts = range(0, num_clips, batch_size)
    return [collate([data[n] for n in range(i, min(i + batch_size, num_clips))]) for i in starts]
