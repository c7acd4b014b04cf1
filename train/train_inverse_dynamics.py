"""Train the inverse dynamics model, video -> waypoints, on true video. Stops and continues where it was."""

from dataclasses import dataclass
from typing import Annotated

import torch
import tyro

from resim.data.drives import Drives, blurred_and_recoloured
from resim.entry_point import run
from resim.judges.inverse_dynamics import InverseDynamics, mirrored, motion_loss
from resim.runtime.fit import FitConfig, require_one_process
from resim.training.judges import DrivesConfig, fit_judge, tiny_drives, tiny_fit


@dataclass(frozen=True, kw_only=True)
class InverseDynamicsArgs:
    """The network; the data is in DrivesConfig, the run in FitConfig."""

    # A timm model.
    backbone: str = "resnet10t"
    # Start from timm's pretrained weights of the backbone.
    pretrained: bool = False
    # Size of the frames that it reads.
    height_px: int = 64
    # Size of the frames that it reads.
    width_px: int = 112


TINY_DRIVES = tiny_drives("simple_more", "simple_vae", "simulation", "logs")
TINY = tiny_fit("inverse_dynamics", max_train_steps=3000, train_batch_size=8)


def loss(model: torch.nn.Module, drives: Drives, generator: torch.Generator) -> torch.Tensor:
    """Motion loss of augmented drives, every other batch in the mirror."""
    frames, waypoints = blurred_and_recoloured(drives.frames_BTCHW, generator), drives.executed_waypoints_B83
    if torch.rand((), generator=generator) < 0.5:
        frames, waypoints = mirrored(frames, waypoints)
    device = next(model.parameters()).device
    return motion_loss(model(frames.to(device)), waypoints.to(device))


def evaluate(model: torch.nn.Module, held_out: list[Drives]) -> dict[str, float]:
    """Errors on true held-out video: mean over waypoints, at 4 s, and of the heading."""
    device = next(model.parameters()).device
    error = torch.cat([model(b.frames_BTCHW.to(device)).cpu() - b.executed_waypoints_B83 for b in held_out])
    distance_m = error[..., :2].norm(dim=-1)
    return {
        "error_m": distance_m.mean().item(),
        "error_at_4s_m": distance_m[:, -1].mean().item(),
        "heading_error_rad": error[..., 2].abs().mean().item(),
    }


def train_inverse_dynamics(
    model: Annotated[InverseDynamicsArgs, tyro.conf.arg(name="")],
    drives: Annotated[DrivesConfig, tyro.conf.arg(name="")] = TINY_DRIVES,
    config: Annotated[FitConfig, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes] = TINY,
) -> None:
    """Train, or continue; the model is written to ``output_dir/model``."""
    require_one_process()
    torch.manual_seed(config.seed)
    network = InverseDynamics(backbone=model.backbone, height_px=model.height_px, width_px=model.width_px)
    if model.pretrained:
        network.load_pretrained_backbone()
    fit_judge(network, drives, config, loss, evaluate)


if __name__ == "__main__":
    run(train_inverse_dynamics)
