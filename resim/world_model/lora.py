"""LoRA on the attention of the transformer (stage 2), through peft, in diffusers' file of a CogVideoX LoRA."""

import json
from pathlib import Path

import torch
from diffusers.loaders import CogVideoXLoraLoaderMixin
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY, LORA_WEIGHT_NAME_SAFE
from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import safe_open

from resim.world_model.transformer import ReSimTransformer3DModel

TARGET_MODULES = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0")
OLD_WEIGHTS_FILE = "adapter_model.safetensors"  # what the first versions wrote, and no other program reads right
ADAPTER = "default"


def add_lora(transformer: ReSimTransformer3DModel, *, rank: int, alpha: float) -> None:
    """Freeze the transformer and add trainable adapters on q, k, v and the output of every block's attention.

    They start as identity. The update is scaled by alpha / rank (the authors' code: rank 128, alpha 1).
    """
    transformer.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=target_names(transformer), init_lora_weights=True)
    transformer.add_adapter(config, adapter_name=ADAPTER)


def target_names(transformer: ReSimTransformer3DModel) -> list[str]:
    """The modules that are adapted, by full names: peft matches by suffix, and 'to_q' would reach other modules."""
    return [name for name, _ in transformer.named_modules() if name.endswith(TARGET_MODULES)]


def has_lora(transformer: ReSimTransformer3DModel) -> bool:
    """Whether adapters are present and not merged away."""
    return any(isinstance(module, BaseTunerLayer) for module in transformer.modules())


def merge_lora(transformer: ReSimTransformer3DModel) -> None:
    """Fold the adapters into the weights and remove them, in place."""
    transformer.fuse_lora()
    transformer.unload_lora()


def without_lora(transformer: ReSimTransformer3DModel) -> ReSimTransformer3DModel:
    """The transformer underneath the adapters: its own, unmerged weights, shared and not copied."""
    weights = {
        name.replace(".base_layer.", "."): weight
        for name, weight in transformer.state_dict().items()
        if ".lora_" not in name
    }
    with torch.device("meta"):
        plain = ReSimTransformer3DModel.from_config(transformer.config)
    plain.load_state_dict(weights, strict=True, assign=True)
    return plain


def save_lora(transformer: ReSimTransformer3DModel, folder: Path) -> None:
    """Write the adapter as diffusers does for CogVideoX: pytorch_lora_weights.safetensors, with r, alpha and targets.

    ``transformer.load_lora_adapter(folder, use_safetensors=True)`` and a CogVideoX pipeline's ``load_lora_weights``
    read it.
    """
    weights = get_peft_model_state_dict(transformer, adapter_name=ADAPTER)
    CogVideoXLoraLoaderMixin.save_lora_weights(
        folder,
        transformer_lora_layers={name: weight.contiguous() for name, weight in weights.items()},
        transformer_lora_adapter_metadata=transformer.peft_config[ADAPTER].to_dict(),
    )


def adapter_settings(folder: Path) -> tuple[int, float]:
    """Rank and alpha of the adapter saved in ``folder``.

    Raises FileNotFoundError without one, ValueError where it does not say them.
    """
    file = folder / LORA_WEIGHT_NAME_SAFE
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist: no LoRA adapter was saved there")
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    if metadata is None or LORA_ADAPTER_METADATA_KEY not in metadata:
        raise ValueError(f"{file} has no {LORA_ADAPTER_METADATA_KEY}, so its alpha is unknown: save it with diffusers")
    settings = json.loads(metadata[LORA_ADAPTER_METADATA_KEY])
    if not {"transformer.r", "transformer.lora_alpha"} <= settings.keys():
        raise ValueError(f"{file} does not say the rank and alpha of a transformer's adapter: save it with diffusers")
    return settings["transformer.r"], settings["transformer.lora_alpha"]


def load_lora(transformer: ReSimTransformer3DModel, folder: Path) -> None:
    """Freeze the transformer and add the adapter saved in ``folder``.

    Raises FileNotFoundError, or ValueError where it has the first versions' format, does not say its alpha, or fits
    another model.
    """
    if (folder / OLD_WEIGHTS_FILE).is_file():
        raise ValueError(
            f"{folder / OLD_WEIGHTS_FILE} is from before adapters had diffusers' format: with the version that wrote "
            "it, load the model, merge_lora(pipe.transformer) and save_pretrained to a new folder"
        )
    file = folder / LORA_WEIGHT_NAME_SAFE
    adapter_settings(folder)  # raises where it does not say its alpha
    with safe_open(file, framework="pt") as opened:
        names = set(opened.keys())
    # diffusers only warns about tensors that are left over, and not at all about modules without one.
    expected = {f"transformer.{name}.lora_{part}.weight" for name in target_names(transformer) for part in "AB"}
    if names != expected:
        raise ValueError(
            f"{file} does not fit this transformer: missing {sorted(expected - names)}, left over "
            f"{sorted(names - expected)}"
        )
    transformer.requires_grad_(False)
    try:
        transformer.load_lora_adapter(folder, use_safetensors=True, adapter_name=ADAPTER)
    except RuntimeError as error:  # tensors of other sizes
        raise ValueError(f"{file} does not fit this transformer: {' '.join(str(error).split())}") from error
