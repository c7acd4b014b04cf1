"""LoRA on the attention of the transformer (stage 2), through peft."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file

from resim.world_model.transformer import ReSimTransformer3DModel

TARGET_MODULES = ["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"]
WEIGHTS_FILE = "adapter_model.safetensors"
ADAPTER = "default"


def add_lora(transformer: ReSimTransformer3DModel, *, rank: int, alpha: float) -> None:
    """Freeze the transformer and add trainable adapters on q, k, v and the output of every block's attention.

    They start as identity. The update is scaled by alpha / rank (the authors' code: rank 128, alpha 1).
    """
    transformer.requires_grad_(False)
    # Full names: peft matches by suffix, and a bare 'to_q' would reach modules of other rooms.
    names = [name for name, _ in transformer.named_modules() if any(name.endswith(t) for t in TARGET_MODULES)]
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=names, init_lora_weights=True)
    transformer.add_adapter(config, adapter_name=ADAPTER)


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
    """Write the adapter as peft does: adapter_config.json and adapter_model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    transformer.peft_config[ADAPTER].save_pretrained(folder)
    weights = get_peft_model_state_dict(transformer, adapter_name=ADAPTER)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / WEIGHTS_FILE)


def load_lora(transformer: ReSimTransformer3DModel, folder: Path) -> None:
    """Add the adapter saved in ``folder``. Raises FileNotFoundError, or ValueError when it fits another model."""
    if not (folder / WEIGHTS_FILE).is_file():
        raise FileNotFoundError(f"{folder / WEIGHTS_FILE} does not exist: no LoRA adapter was saved there")
    config = LoraConfig.from_pretrained(folder)
    transformer.requires_grad_(False)
    transformer.add_adapter(config, adapter_name=ADAPTER)
    result = set_peft_model_state_dict(transformer, load_file(folder / WEIGHTS_FILE), adapter_name=ADAPTER)
    missing = [name for name in result.missing_keys if "lora_" in name]
    if missing or result.unexpected_keys:
        raise ValueError(f"the adapter in {folder} does not fit: missing {missing}, left over {result.unexpected_keys}")
