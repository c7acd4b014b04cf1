"""What a run holds: the accelerator, and the model with its optimizer, average and data, set up from a config."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from diffusers import AutoencoderKLCogVideoX
from diffusers.training_utils import EMAModel
from torch import nn
from transformers import AutoTokenizer, T5EncoderModel

from resim.data.mixture import TrainingData
from resim.runtime.optim import make_optimizer
from resim.training.config import TrainConfig
from resim.training.data import training_data
from resim.training.steps import BatchEncoder, choose_trainable
from resim.world_model.latents import spatial_factor
from resim.world_model.model import WorldModel, from_cogvideox
from resim.world_model.pipeline import ReSimPipeline, make_scheduler


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """Everything that the loop works on. ``model`` may be wrapped; ``pipeline`` holds the same weights unwrapped."""

    config: TrainConfig
    accelerator: Accelerator
    model_folder: Path  # where the model came from: init_from, or the checkpoint that is resumed
    pipeline: ReSimPipeline
    model: nn.Module
    parameters: list[nn.Parameter]  # the trainable ones
    optimizer: torch.optim.Optimizer
    ema: EMAModel
    encode: BatchEncoder
    data: TrainingData
    data_fingerprints: dict[str, str]


def make_accelerator(config: TrainConfig) -> Accelerator:
    """The accelerator of this process, with the accumulation that reaches the global batch."""
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision, log_with="tensorboard", project_dir=config.output_dir
    )
    passes = config.gradient_accumulation_steps(accelerator.num_processes)
    accelerator.gradient_accumulation_steps = passes
    if accelerator.distributed_type == DistributedType.DEEPSPEED:  # it accumulates and clips inside backward
        accelerator.state.deepspeed_plugin.deepspeed_config.update(
            train_micro_batch_size_per_gpu=config.train_batch_size,
            gradient_accumulation_steps=passes,
            gradient_clipping=config.optim.max_grad_norm,
        )
    return accelerator


def load_pipeline(folder: Path, config: TrainConfig) -> ReSimPipeline:
    """A ReSim folder, or a fresh ReSim from a CogVideoX-2b folder.

    Raises FileNotFoundError when there is no model, ValueError when it is another one.
    """
    index_file = folder / "model_index.json"
    if not index_file.is_file():
        raise FileNotFoundError(f"{index_file} does not exist: --init_from needs the folder of a model")
    kind = json.loads(index_file.read_text())["_class_name"]
    if kind == "ReSimPipeline":
        return ReSimPipeline.from_pretrained(folder)
    if kind != "CogVideoXPipeline":
        raise ValueError(f"{index_file} describes a {kind}; --init_from takes a ReSim or a CogVideoX-2b folder")
    model = from_cogvideox(folder)
    return ReSimPipeline(
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder=T5EncoderModel.from_pretrained(folder / "text_encoder", use_safetensors=True),
        vae=AutoencoderKLCogVideoX.from_pretrained(folder / "vae", use_safetensors=True),
        transformer=model.transformer,
        trajectory_encoder=model.trajectory_encoder,
        scheduler=make_scheduler(config.diffusion),
    )


def set_up(config: TrainConfig, accelerator: Accelerator, model_folder: Path) -> TrainingRun:
    """Open the data, load the model of ``model_folder`` and prepare it for training as ``config.trains`` says."""
    pipeline = load_pipeline(model_folder, config)
    data = training_data(config.data, config.seed, model_folder)
    # Not the pipeline's own, which also samples: accelerate gives the one it prepares another forward.
    model = WorldModel(pipeline.transformer, pipeline.trajectory_encoder).float()
    factor = spatial_factor(pipeline.vae)  # the published model says which size it was trained at
    pipeline.transformer.register_to_config(
        sample_height=config.data.height_px // factor, sample_width=config.data.width_px // factor
    )
    if config.gradient_checkpointing:
        pipeline.transformer.enable_gradient_checkpointing()
    parameters = choose_trainable(model, config)
    ema = EMAModel(parameters, decay=config.ema_decay, foreach=True)
    ema.to(accelerator.device)
    pipeline.set_progress_bar_config(leave=False, desc="validation video")
    if config.mixed_precision == "bf16":
        pipeline.vae.to(torch.bfloat16)
    prepared, optimizer = accelerator.prepare(model, make_optimizer(parameters, config.optim))
    return TrainingRun(
        config=config,
        accelerator=accelerator,
        model_folder=model_folder,
        pipeline=pipeline,
        model=prepared,
        parameters=parameters,
        optimizer=optimizer,
        ema=ema,
        encode=BatchEncoder(pipeline, accelerator.device),
        data=data,
        data_fingerprints={
            entry.name: store.fingerprint for entry, store in zip(data.entries, data.stores, strict=True)
        },
    )


@contextmanager
def averaged_weights(ema: EMAModel, parameters: list[nn.Parameter]) -> Iterator[None]:
    """Inside, the parameters hold their moving averages."""
    ema.store(parameters)
    ema.copy_to(parameters)
    try:
        yield
    finally:
        ema.restore(parameters)
