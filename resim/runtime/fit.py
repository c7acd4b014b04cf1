"""The loop for the models that judge (inverse dynamics, Video2Reward): supervised, on one device, resumable."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from tqdm import tqdm

from resim.data.drives import DriveData, Drives, collate_drives
from resim.data.files import append_line, new_folder, require_free
from resim.data.mixture import RankBatchSampler
from resim.runtime.config import flatten
from resim.runtime.optim import OptimConfig, make_optimizer, require_finite_norm, set_learning_rate
from resim.runtime.resume import restore_state, save_state

METRICS_FILE = "metrics.jsonl"
MODEL_FOLDER = "model"
# What a continued run may change, because no weight depends on it; stores are compared by what they hold.
FREE_TO_CHANGE = {
    "stores",
    "held_out",
    "output_dir",
    "checkpointing_steps",
    "num_validation_clips",
    "dataloader_num_workers",
    "keep_in_memory",
}


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How long, on what, and where to."""

    # Stores of true drives to train on.
    stores: tuple[Path, ...]
    # Store of held-out drives to measure on.
    held_out: Path
    # Folder for the model and its metrics; an unfinished run in it is continued.
    output_dir: Path
    # Folder of the same network trained before, to start from its weights; from nothing without it.
    init_from: Path | None = None
    # Optimizer steps in all.
    max_train_steps: int
    # Clips a step.
    train_batch_size: int = 16
    optim: OptimConfig
    # 'no', 'fp16' or 'bf16'
    mixed_precision: str = "no"
    # Every so many steps the state is written and the held-out clips are measured.
    checkpointing_steps: int = 200
    # Held-out clips that are measured.
    num_validation_clips: int = 96
    # Processes that read clips; 0 reads in the training process.
    dataloader_num_workers: int = 1
    # Every reading process decodes a clip once and keeps its frames.
    keep_in_memory: bool = False
    # Of the order of the clips and of every draw.
    seed: int = 0


def tiny_fit(
    name: str, *, max_train_steps: int, train_batch_size: int, stores: Sequence[str], held_out: str
) -> FitConfig:
    """A run on the drives that ``make tiny`` simulates, written to ``outputs/tiny/<name>``."""
    data = Path("outputs/tiny/data")
    return FitConfig(
        stores=tuple(data / store for store in stores),
        held_out=data / held_out,
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
        num_validation_clips=24,
        dataloader_num_workers=0,
        keep_in_memory=True,
    )


# Draws of one step come from this generator alone.
Loss = Callable[[torch.nn.Module, Drives, torch.Generator], torch.Tensor]
Evaluate = Callable[[torch.nn.Module, list[Drives]], dict[str, float]]


def fit(
    model: ModelMixin, config: FitConfig, loss: Loss, evaluate: Evaluate, inputs: Iterable[Path] = ()
) -> dict[str, float]:
    """Train ``model``, or continue, and write it to ``output_dir/model``; returns the last held-out measurement.

    ``inputs`` is what the command reads beside what ``config`` names. Raises FloatingPointError before the optimizer
    step where the gradients are not finite, ValueError where the run in ``output_dir`` was made with other settings,
    FileExistsError for a ``model`` that this program did not write.
    """
    inputs = [*config.stores, config.held_out, *([] if config.init_from is None else [config.init_from]), *inputs]
    model_folder = config.output_dir / MODEL_FOLDER
    require_free(model_folder, kind="model", inputs=inputs, overwrite=True)  # not only when all is trained
    accelerator = Accelerator(mixed_precision=config.mixed_precision)
    if config.init_from is not None:
        load_trained(model, config.init_from)
    size = {"height_px": model.config.height_px, "width_px": model.config.width_px}
    data = DriveData(config.stores, seed=config.seed, keep_in_memory=config.keep_in_memory, **size)
    held_out = load_held_out(config, **size)
    optimizer = make_optimizer([p for p in model.parameters() if p.requires_grad], config.optim)
    settings = what_weights_depend_on(model, config, data)
    model, optimizer = accelerator.prepare(model, optimizer)
    config.output_dir.mkdir(parents=True, exist_ok=True)
    state = {"model": model, "optimizer": optimizer}
    start = restore_state(config.output_dir, state, settings)
    sampler = RankBatchSampler(
        start_step=start,
        num_steps=config.max_train_steps - start,
        batch_size=config.train_batch_size,
        rank=0,
        world_size=1,
    )
    loader = DataLoader(
        data, batch_sampler=sampler, collate_fn=collate_drives, num_workers=config.dataloader_num_workers
    )
    found: dict[str, float] = {}
    progress = tqdm(loader, initial=start, total=config.max_train_steps, desc="train", unit="step")
    for step, drives in enumerate(progress, start=start):
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        set_learning_rate(optimizer, step, config.max_train_steps, config.optim)
        with accelerator.autocast():
            value = loss(model, drives, generator)
        accelerator.backward(value)
        norm = accelerator.clip_grad_norm_(model.parameters(), config.optim.max_grad_norm)
        require_finite_norm(float(norm), step, drives.clip_id)
        optimizer.step()
        optimizer.zero_grad()
        progress.set_postfix(loss=f"{value.item():.4f}", refresh=False)
        done = step + 1
        if done % config.checkpointing_steps == 0 or done == config.max_train_steps:
            found = measure(model, held_out, evaluate)
            log(config, {"step": done, "loss": value.item(), **found})
            save_state(config.output_dir, state, settings, done)
    with new_folder(model_folder, kind="model", inputs=inputs, overwrite=True) as folder:
        accelerator.unwrap_model(model).save_pretrained(folder)
    return found


def load_trained(model: ModelMixin, folder: Path) -> None:
    """Give ``model`` the weights that the same network learnt before.

    Raises FileNotFoundError where ``folder`` holds no model, ValueError naming what differs where it is another one.
    """
    for file in (config_file := folder / CONFIG_NAME, weights := folder / SAFETENSORS_WEIGHTS_NAME):
        if not file.is_file():
            raise FileNotFoundError(f"--init_from: {file} does not exist")
    trained = json.loads(config_file.read_text())
    network = {name: value for name, value in model.config.items() if not name.startswith("_")}
    for name, value in {"_class_name": type(model).__name__, **network}.items():
        if json.loads(json.dumps(value)) != trained.get(name):
            raise ValueError(f"--init_from: {config_file} says {name} {trained.get(name)}, this network has {value}")
    model.load_state_dict(load_file(weights))


def load_held_out(config: FitConfig, height_px: int, width_px: int) -> list[Drives]:
    """The first held-out clips in batches. Raises ValueError where the store has fewer than asked for."""
    data = DriveData([config.held_out], seed=0, height_px=height_px, width_px=width_px)
    if config.num_validation_clips > len(data.places):
        raise ValueError(f"--num_validation_clips {config.num_validation_clips}: {config.held_out} has fewer")
    starts = range(0, config.num_validation_clips, config.train_batch_size)
    ends = [min(start + config.train_batch_size, config.num_validation_clips) for start in starts]
    return [collate_drives([data[n] for n in range(a, b)]) for a, b in zip(starts, ends, strict=True)]


@torch.no_grad()
def measure(model: torch.nn.Module, held_out: list[Drives], evaluate: Evaluate) -> dict[str, float]:
    """``evaluate`` in evaluation mode."""
    model.eval()
    found = evaluate(model, held_out)
    model.train()
    return found


def log(config: FitConfig, row: dict[str, float]) -> None:
    """Print a measurement and keep it in metrics.jsonl."""
    print(row, flush=True)
    append_line(config.output_dir / METRICS_FILE, json.dumps(row))


def what_weights_depend_on(model: ModelMixin, config: FitConfig, data: DriveData) -> dict[str, str]:
    """Settings, network and stores of a run, each as JSON."""
    values = {f"--{name}": value for name, value in flatten(config).items() if name not in FREE_TO_CHANGE}
    network = {f"network {name}": value for name, value in model.config.items() if not name.startswith("_")}
    stores = {"content of --stores": [store.fingerprint for store in data.stores]}
    return {name: json.dumps(value) for name, value in (values | network | stores).items()}
