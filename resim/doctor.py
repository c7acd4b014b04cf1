"""``resim doctor``: what this machine has, and which training presets fit on it.

The memory that a preset needs is counted, not measured: parameters of the real classes on the meta device times bytes,
plus an estimate of the activations from what was measured on CogVideoX-2B.
"""

import json as json_format
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX
from rich.console import Console
from rich.table import Table

from resim.runtime.machine import GIB, as_text, machine
from resim.training.checkpoint import INDEX_FILE
from resim.training.config import TrainConfig
from resim.training.presets.command_line import PRESETS
from resim.training.presets.starts import STARTS, Parts
from resim.training.steps import choose_trainable
from resim.world_model.diffusion import NUM_LATENTS
from resim.world_model.latents import spatial_factor
from resim.world_model.lora import adapter_settings, add_lora
from resim.world_model.model import WorldModel, full_size_encoder
from resim.world_model.pipeline import LORA_FOLDER
from resim.world_model.trajectory_encoder import NUM_TRAJECTORY_TOKENS, TrajectoryEncoder
from resim.world_model.transformer import ReSimTransformer3DModel

NOTE = (
    "Memory of each process, counted and not measured. Encoding frames while training takes more: cache the latents. "
    "Full-size runs also keep the T5 text encoder, about 9 GiB, in each process's main memory."
)

# Bytes per token, layer and unit of width that the backward pass keeps in bf16, from CogVideoX-2B at batch 1: 58.6 GiB
# (512x896) and 15.1 GiB (256x448) without gradient checkpointing, 2.9 and 0.7 GiB with it (plus one block at a time).
ACTIVATION_BYTES = 46.4
CHECKPOINTED_BYTES = 2.3
PROCESS_GIB = 2.0  # libraries, and on a GPU its context and workspaces


@dataclass(frozen=True, kw_only=True)
class Need:
    """What one process of a preset's training run holds in memory."""

    parameters: int
    trainable: int
    state_gib: float  # weights, gradients, Adam's moments, EMA, frozen VAE
    activations_gib: float

    @property
    def total_gib(self) -> float:
        """All of it, with the process itself."""
        return self.state_gib + self.activations_gib + PROCESS_GIB


def doctor(*, json: bool = False) -> None:
    """Print what this machine has and which presets fit on it.

    Args:
        json: print one JSON object instead of tables.
    """
    found = machine()
    presets = [preset_row(name, preset(), found) for name, preset in PRESETS.items()]
    if json:
        print(json_format.dumps({"machine": found, "presets": presets}, indent=2))
        return
    console = Console(width=max(Console().width, 100))
    table = Table("machine", "", show_edge=False)
    for name, value in found.items():
        table.add_row(name, as_text(value))
    console.print(table, "")
    table = Table(*presets[0], show_edge=False)
    for row in presets:
        table.add_row(*(as_text(value) for value in row.values()))
    console.print(table, "", NOTE)


def preset_row(name: str, config: TrainConfig, found: dict[str, Any]) -> dict[str, Any]:
    """One line of the table of presets: what one process and each of eight hold, and whether ``found`` has room for it.

    On a machine with several GPUs the run is taken to be sharded over all of them with ZeRO-2.
    """
    gpus = found["gpus"]
    available_gib = min((gpu["memory_gib"] for gpu in gpus), default=found["memory_gib"])
    one = memory_need(config, num_processes=1)
    here = memory_need(config, num_processes=max(1, len(gpus)))
    return {
        "preset": name,
        "size": f"{config.data.height_px}x{config.data.width_px}",
        "parameters_m": round(one.parameters / 1e6, 1),
        "trainable_m": round(one.trainable / 1e6, 1),
        "one_process_gib": round(one.total_gib, 1),
        "zero2_on_8_gib": round(memory_need(config, num_processes=8).total_gib, 1),
        "fits": "yes" if here.total_gib <= available_gib else "no",
    }


def memory_need(config: TrainConfig, *, num_processes: int) -> Need:
    """Memory of each of ``num_processes`` processes, sharded with ZeRO-2 when there are several."""
    model, vae = meta_model(config)
    trainable = sum(parameter.numel() for parameter in choose_trainable(model, config))
    total = sum(parameter.numel() for parameter in model.parameters())
    mixed = config.mixed_precision == "bf16"
    if num_processes == 1:  # float32 weights, gradients, two moments, EMA; bf16 copies of what learns
        state = total * 4.0 + trainable * (4 + 8 + 4 + (2 if mixed else 0))
    else:  # bf16 weights and the whole EMA on each; float32 weights, gradients and moments divided
        state = total * 2 + trainable * 4 + trainable * (4 + 4 + 8) / num_processes
    state += sum(parameter.numel() for parameter in vae.parameters()) * (2 if mixed else 4)

    arch = model.transformer.config
    patch_px = spatial_factor(vae) * arch.patch_size
    video_tokens = NUM_LATENTS * (config.data.height_px // patch_px) * (config.data.width_px // patch_px)
    tokens = video_tokens + arch.max_text_seq_length + NUM_TRAJECTORY_TOKENS
    block = tokens * arch.num_attention_heads * arch.attention_head_dim * config.train_batch_size * (1 if mixed else 2)
    if config.gradient_checkpointing:
        activations = block * (arch.num_layers * CHECKPOINTED_BYTES + ACTIVATION_BYTES)
    else:
        activations = block * arch.num_layers * ACTIVATION_BYTES
    return Need(parameters=total, trainable=trainable, state_gib=state / GIB, activations_gib=activations / GIB)


def meta_model(config: TrainConfig) -> Parts:
    """The world model and VAE that a run begins with, on the meta device: shapes without storage.

    They are those in ``init_from``; where it is not made yet, what the preset that makes it would leave there, or what
    starts.py says. Raises FileNotFoundError where neither knows the folder.
    """
    with torch.device("meta"):
        if (config.init_from / INDEX_FILE).is_file():
            return parts_in(config.init_from)
        for preset in PRESETS.values():
            earlier = preset()
            if earlier.output_dir == config.init_from:
                model, vae = meta_model(earlier)
                choose_trainable(model, earlier)  # a LoRA that it adds stays in what it leaves
                return model, vae
        if config.init_from not in STARTS:
            raise FileNotFoundError(f"{config.init_from / INDEX_FILE} does not exist, and no preset makes it")
        return STARTS[config.init_from]()


def parts_in(folder: Path) -> Parts:
    """World model and VAE of a ReSim or CogVideoX-2b folder from its configs, without the weights."""
    transformer = empty_part(ReSimTransformer3DModel, folder / "transformer")
    encoder = (
        empty_part(TrajectoryEncoder, folder / "trajectory_encoder")
        if (folder / "trajectory_encoder").is_dir()
        else full_size_encoder(transformer)  # as training makes it for CogVideoX
    )
    if (folder / LORA_FOLDER).is_dir():
        rank, alpha = adapter_settings(folder / LORA_FOLDER)
        add_lora(transformer, rank=rank, alpha=alpha)
    return WorldModel(transformer, encoder), empty_part(AutoencoderKLCogVideoX, folder / "vae")


def empty_part(kind: Any, folder: Path) -> Any:
    """A part of a model from its config, without its weights."""
    return kind.from_config(kind.load_config(folder))
