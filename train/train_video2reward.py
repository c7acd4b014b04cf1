"""Train Video2Reward, a future -> its infraction score, on true drives. Stops and continues where it was."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch.nn import functional

from resim.data.drives import LABELS, Drives, blurred_and_recoloured
from resim.entry_point import run
from resim.judges.features import FeatureCache
from resim.judges.video2reward import REWARD, Video2Reward, seen_frames
from resim.metrics.reward import share_of_ordered_pairs
from resim.runtime.fit import FitConfig, require_one_process
from resim.training.judges import DrivesConfig, Loss, fit_judge, tiny_drives, tiny_fit


@dataclass(frozen=True, kw_only=True)
class Video2RewardArgs:
    """The network; the data is in DrivesConfig, the run in FitConfig."""

    # 'tiny' is a small ViT that is trained too; the others are timm's DINOv2, frozen.
    vit: str = "tiny"
    # Local safetensors file with the ViT's weights; without it they come from the hub. Not for 'tiny'.
    vit_weights: str | None = None
    # Folder that keeps the features of a frozen ViT, one file a clip; not for 'tiny'.
    feature_cache: Path | None = None


TINY_VIT = {"patch_size": (16, 8), "embed_dim": 128, "depth": 4, "num_heads": 4}
TINY_DRIVES = tiny_drives("simple_more", "simple_scenes", "simple_vae")
TINY = tiny_fit("video2reward", max_train_steps=2600, train_batch_size=16)


def build(args: Video2RewardArgs, seed: int) -> Video2Reward:
    """The network with its eye as ``args`` say; a pretrained eye is frozen."""
    torch.manual_seed(seed)
    if args.vit == "tiny":
        if args.vit_weights is not None:
            raise ValueError("--vit_weights: the tiny ViT has no pretrained weights; give a DINOv2 as --vit")
        size = {"height_px": 64, "width_px": 112, "width": 128, "num_heads": 4}
        return Video2Reward(LABELS, vit="vit_tiny_patch16_224", vit_options=TINY_VIT, **size)
    model = Video2Reward(LABELS, vit=args.vit)
    model.load_eye(args.vit_weights)
    model.eye.requires_grad_(False)
    return model


def make_loss(cache: FeatureCache | None) -> Loss:
    """Cross-entropy of the infractions, of blurred and recoloured drives, or of kept features as they are.

    The score and the progress are fractions: there its minimum is the conditional mean, as it is of squared error. The
    score counts as much as all the others together.

    No mirror: it would put traffic on the wrong side of the road.
    """

    def loss(model: Video2Reward, drives: Drives, generator: torch.Generator) -> torch.Tensor:
        device = next(model.parameters()).device
        if cache is None:
            seen = blurred_and_recoloured(seen_frames(drives.frames_BTCHW), generator)
            features = model.features_of_seen(seen.to(device))
        else:
            features = cache(drives.frames_BTCHW, drives.clip_id).to(device).float()
        target = drives.infractions_BL[:, [LABELS.index(name) for name in model.outputs]].to(device)
        error = functional.binary_cross_entropy_with_logits(model.logits_of(features), target, reduction="none")
        is_reward = torch.tensor([name == REWARD for name in model.outputs], device=device)
        return error[:, is_reward].mean() + error[:, ~is_reward].mean()

    return loss


def evaluate(model: torch.nn.Module, held_out: list[Drives]) -> dict[str, float]:
    """On true held-out drives: error of the score, that of always saying the mean, and the share of ordered pairs."""
    device = next(model.parameters()).device
    reward = torch.cat([model(drives.frames_BTCHW.to(device)).cpu() for drives in held_out])
    score = torch.cat([drives.score_B for drives in held_out])
    return {
        "mse": (reward - score).square().mean().item(),
        "mse_of_the_mean": score.var(correction=0).item(),
        "ordered_pairs": share_of_ordered_pairs(reward.numpy(), score.numpy()),
    }


def train_video2reward(
    model: Annotated[Video2RewardArgs, tyro.conf.arg(name="")],
    drives: Annotated[DrivesConfig, tyro.conf.arg(name="")] = TINY_DRIVES,
    config: Annotated[FitConfig, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes] = TINY,
) -> None:
    """Train, or continue; the model is written to ``output_dir/model``."""
    require_one_process()
    network = build(model, config.seed)
    if model.vit == "tiny" and model.feature_cache is not None:
        raise ValueError("--feature_cache: the tiny ViT is trained, so its features change; it is for a frozen one")
    if config.init_from is not None and model.feature_cache is not None:
        raise ValueError("--feature_cache: it knows the eye before --init_from replaces it; give one of the two")
    cache = None if model.feature_cache is None else FeatureCache(model.feature_cache, network)
    inputs = [Path(path) for path in (model.vit_weights, model.feature_cache) if path is not None]
    fit_judge(network, drives, config, make_loss(cache), evaluate, inputs)


if __name__ == "__main__":
    run(train_video2reward)
