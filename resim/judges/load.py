"""Loading the two models that judge futures, with one line about what is wrong where they cannot be loaded."""

import json
from pathlib import Path
from typing import TypeVar

import torch
from diffusers.models.modeling_utils import ModelMixin

from resim.judges.inverse_dynamics import InverseDynamics
from resim.judges.video2reward import Video2Reward

Judge = TypeVar("Judge", InverseDynamics, Video2Reward)


def load_inverse_dynamics(folder: Path, *, height_px: int, width_px: int) -> InverseDynamics:
    """The reader of ``folder``, for futures of this size, in evaluation mode.

    Raises FileNotFoundError where there is none, ValueError where it reads another size or its files do not agree.
    """
    model = _load(InverseDynamics, folder, made_by="train/train_inverse_dynamics.py")
    size_px = (model.config.height_px, model.config.width_px)
    if size_px != (height_px, width_px):
        raise ValueError(
            f"{folder} reads frames of {size_px[0]}x{size_px[1]} pixels and the world model makes "
            f"{height_px}x{width_px}: train a reader for this size"
        )
    return model


def load_video2reward(folder: Path) -> Video2Reward:
    """The reward model of ``folder`` in evaluation mode; it resizes what it sees.

    Raises FileNotFoundError where there is none, ValueError where its weights are of another size than its config says
    or its config does not name its outputs.
    """
    config = folder / "config.json"
    settings = json.loads(config.read_text()) if config.is_file() else {}
    if settings.get("_class_name") == Video2Reward.__name__ and "outputs" not in settings:
        raise ValueError(f'{config} does not name the outputs: add "outputs" with the names in the order of training')
    return _load(Video2Reward, folder, made_by="train/train_video2reward.py")


def _load(kind: type[Judge], folder: Path, *, made_by: str) -> Judge:
    config, weights = folder / "config.json", folder / "diffusion_pytorch_model.safetensors"
    for file in (config, weights):
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist: {made_by} makes such a folder")
    name = kind.load_config(str(folder))["_class_name"]
    if name != kind.__name__:
        raise ValueError(f"{config} describes a {name}, not a {kind.__name__}")
    try:
        model: ModelMixin = kind.from_pretrained(
            str(folder.resolve()), use_safetensors=True, low_cpu_mem_usage=False, torch_dtype=torch.float32
        )
    except (RuntimeError, ValueError) as error:  # diffusers lists every tensor; the first line names one
        raise ValueError(
            f"the weights in {weights} do not fit {config}, as when it was trained for another resolution: "
            f"{str(error).splitlines()[0]}"
        ) from error
    assert isinstance(model, kind)
    return model.eval()
