"""The one supervised loop: any data set of examples, on one device, resumable bit for bit.

The model, what is trained on, the loss and what is measured are the caller's; the order of the data, the optimizer, the
log, the state and the finished model are here. The world model has a loop of its own (train/train_world_model.py).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import get_int_from_env
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from resim.data.files import new_folder, require_free
from resim.data.mixture import RankBatchSampler
from resim.runtime.config import flatten
from resim.runtime.log import append_row, begin_log, begin_tensorboard
from resim.runtime.optim import OptimConfig, make_optimizer, require_finite_norm, set_learning_rate
from resim.runtime.resume import restore_state, save_state

MODEL_FOLDER = "model"
# What a continued run may change, because no weight depends on it.
FREE_TO_CHANGE = {"output_dir", "checkpointing_steps", "dataloader_num_workers"}
# Where torchrun and the MPIs say how many processes they started; accelerate's own count misses them without a GPU.
LAUNCHED_PROCESSES = ["WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"]


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How long, and where to."""

    # Folder for the model and its metrics; an unfinished run in it is continued.
    output_dir: Path
    # Folder of the same network trained before, to start from its weights; from nothing without it.
    init_from: Path | None = None
    # Optimizer steps in all.
    max_train_steps: int
    # Examples a step.
    train_batch_size: int = 16
    optim: OptimConfig
    # 'no', 'fp16' or 'bf16'
    mixed_precision: str = "no"
    # Every so many steps the state is written and the held-out examples are measured.
    checkpointing_steps: int = 200
    # Processes that read examples; 0 reads in the training process.
    dataloader_num_workers: int = 1
    # Of the order of the examples and of every draw.
    seed: int = 0


class NamesItsClips(Protocol):
    """A batch of examples, each with an id by which an error can name it."""

    @property
    def clip_id(self) -> Sequence[str]:
        """One id an example."""


BatchT = TypeVar("BatchT", bound=NamesItsClips)


def fit(
    model: ModelMixin,
    config: FitConfig,
    data: Dataset[Any],
    collate: Callable[[list[Any]], BatchT],
    loss: Callable[[torch.nn.Module, BatchT, torch.Generator], torch.Tensor],
    evaluate: Callable[[torch.nn.Module], dict[str, float]],
    *,
    data_settings: Mapping[str, Any],
    inputs: Iterable[Path],
) -> dict[str, float]:
    """Train ``model``, or go on, and write it to ``output_dir/model``; returns the last measurement, {} if it was done.

    Args:
        model: its config says what network it is.
        config: the run.
        data: a map over the position n in the run, without end, whose item is a pure function of n.
        collate: items to a batch.
        loss: of a batch, a scalar; all its draws come from the generator. It moves the batch to the model's device.
        evaluate: held-out measurements of the model in evaluation mode, without gradients.
        data_settings: JSON values that tell ``data`` from any other, under names that a user knows.
        inputs: what the command reads beside ``init_from``.

    Raises ValueError where several processes run it or the run in ``output_dir`` had other settings, FloatingPointError
    before an update with gradients that are not finite, FileExistsError for a ``model`` of somebody else.
    """
    require_one_process()
    inputs = [*inputs, *([] if config.init_from is None else [config.init_from])]
    require_free(config.output_dir / MODEL_FOLDER, kind="model", inputs=inputs, overwrite=True)  # before it trains
    if config.init_from is not None:
        load_trained(model, config.init_from)
    settings = what_weights_depend_on(model, config, data_settings)
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision, log_with="tensorboard", project_dir=config.output_dir
    )
    optimizer = make_optimizer([p for p in model.parameters() if p.requires_grad], config.optim)
    model, optimizer = accelerator.prepare(model, optimizer)
    state = {"model": model, "optimizer": optimizer}
    config.output_dir.mkdir(parents=True, exist_ok=True)
    start = restore_state(config.output_dir, state, settings)
    begin_log(config.output_dir, start)
    begin_tensorboard(accelerator, start)
    found: dict[str, float] = {}
    progress = batches(data, collate, config, start)
    for step, batch in enumerate(progress, start=start):
        set_learning_rate(optimizer, step, config.max_train_steps, config.optim)
        with accelerator.autocast():
            value = loss(model, batch, torch.Generator().manual_seed(config.seed * 1_000_003 + step))
        update(accelerator, model, optimizer, value, step, batch.clip_id, config.optim)
        progress.set_postfix(loss=f"{value.item():.4f}", refresh=False)
        done = step + 1
        if done % config.checkpointing_steps == 0 or done == config.max_train_steps:
            found = measure(model, evaluate)
            write_row(accelerator, config.output_dir, done, {"loss": value.item(), **found})
            save_state(config.output_dir, state, settings, done)
    with new_folder(config.output_dir / MODEL_FOLDER, kind="model", inputs=inputs, overwrite=True) as folder:
        accelerator.unwrap_model(model).save_pretrained(folder)
    accelerator.end_training()
    return found


def require_one_process() -> None:
    """Raise ValueError where a launcher started several: each would train on the same batches, into the same files."""
    processes = get_int_from_env(LAUNCHED_PROCESSES, 1)
    if processes > 1:
        raise ValueError(f"{processes} processes were started, but this trains in one: give --num_processes 1")


def batches(
    data: Dataset[Any], collate: Callable[[list[Any]], BatchT], config: FitConfig, start: int
) -> "tqdm[BatchT]":
    """The batches from step ``start`` on, behind a progress bar."""
    sampler = RankBatchSampler(
        start_step=start,
        num_steps=config.max_train_steps - start,
        batch_size=config.train_batch_size,
        rank=0,
        world_size=1,
    )
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=collate, num_workers=config.dataloader_num_workers)
    return tqdm(loader, initial=start, total=config.max_train_steps, desc="train", unit="step")


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


def update(
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: torch.Tensor,
    step: int,
    clip_ids: Sequence[str],
    config: OptimConfig,
) -> None:
    """One optimizer step down ``loss``. Raises FloatingPointError before it where the gradients are not finite."""
    accelerator.backward(loss)
    norm = accelerator.clip_grad_norm_(model.parameters(), config.max_grad_norm)
    require_finite_norm(float(norm), step, clip_ids)
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def measure(model: torch.nn.Module, evaluate: Callable[[torch.nn.Module], dict[str, float]]) -> dict[str, float]:
    """``evaluate`` in evaluation mode."""
    model.eval()
    found = evaluate(model)
    model.train()
    return found


def write_row(accelerator: Accelerator, folder: Path, step: int, row: Mapping[str, float]) -> None:
    """Print what was measured after ``step`` steps, and keep it."""
    tqdm.write(f"step {step}: {row}")
    append_row(folder, {"step": step, **row})
    accelerator.log(dict(row), step)


def what_weights_depend_on(model: ModelMixin, config: FitConfig, data_settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings, network and data of a run, each as JSON."""
    values = {f"--{name}": value for name, value in flatten(config).items() if name not in FREE_TO_CHANGE}
    network = {f"network {name}": value for name, value in model.config.items() if not name.startswith("_")}
    return {name: json.dumps(value) for name, value in {**values, **network, **data_settings}.items()}
