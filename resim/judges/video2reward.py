"""Video2Reward (arXiv 2506.09981, Sec. 3): frozen DINOv2 features of a future -> its infraction score in [0, 1].

Frames at t = 0, 0.5, .. 4.0 s, resized with antialiasing to the network's size, normalised with ImageNet's mean and
standard deviation; patch tokens of a frozen ViT of timm; two blocks of spatial, then temporal attention; an MLP on the
mean token. Trained on what the executed drive's infractions were: their score, which is the reward, and beside the
paper each kind of infraction and the progress, because a score alone does not say what in the video it comes from.
"""

from collections.abc import Sequence
from typing import Any

import timm
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn
from torch.nn import functional

from resim.datatypes.clip import FPS, NUM_FRAMES, NUM_HISTORY_FRAMES, WAYPOINT_DT_S
from resim.world_model.trajectory_encoder import TrajectoryLayer

STRIDE = round(WAYPOINT_DT_S * FPS)
REWARD = "score"  # the output that is the reward; what it comes from are the others
SEEN_FRAMES = range(NUM_HISTORY_FRAMES - 1, NUM_FRAMES, STRIDE)  # 8, 13, .. 48


class SpaceTimeBlock(nn.Module):
    """Attention among the patches of each frame, then among the frames at each patch; tokens (B, T, N, width)."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.space = TrajectoryLayer(width, num_heads, width // num_heads, 4 * width)
        self.time = TrajectoryLayer(width, num_heads, width // num_heads, 4 * width)

    def forward(self, tokens_BTND: torch.Tensor) -> torch.Tensor:
        """Both, each with its MLP."""
        batch, frames = tokens_BTND.shape[:2]
        tokens = self.space(tokens_BTND.flatten(0, 1))
        tokens = rearrange(tokens, "(b t) n d -> (b n) t d", b=batch, t=frames)
        return rearrange(self.time(tokens), "(b n) t d -> b t n d", b=batch)


def seen_frames(frames_BTCHW: torch.Tensor) -> torch.Tensor:
    """uint8 clips (B, 49, 3, H, W) -> the frames that are looked at (B, 9, 3, H, W).

    Raises ValueError for another dtype or number of frames.
    """
    if frames_BTCHW.dtype != torch.uint8 or frames_BTCHW.ndim != 5 or frames_BTCHW.shape[1:3] != (NUM_FRAMES, 3):
        raise ValueError(
            f"Video2Reward reads uint8 clips (B, {NUM_FRAMES}, 3, H, W), got {frames_BTCHW.dtype} "
            f"{tuple(frames_BTCHW.shape)}"
        )
    return frames_BTCHW[:, list(SEEN_FRAMES)]


class Video2Reward(ModelMixin, ConfigMixin):
    """uint8 clips (B, 49, 3, H, W) of any size -> reward (B,) in [0, 1], 1 = clean.

    ``outputs`` names what the head says, fields of Infractions with 'score' among them: the order of its weights is the
    checkpoint's, whatever fields there are today. ``vit`` is timm's name of the ViT, ``vit_options`` what is passed to
    it (the embedded default is a small ViT of the same class; DINOv2 takes none). ``height_px`` x ``width_px`` is what
    the ViT sees. Raises ValueError for outputs without 'score'.
    """

    @register_to_config
    def __init__(
        self,
        outputs: Sequence[str],
        vit: str = "vit_small_patch14_dinov2",
        vit_options: dict[str, Any] | None = None,
        height_px: int = 224,
        width_px: int = 224,
        width: int = 384,
        num_layers: int = 2,
        num_heads: int = 6,
    ):
        super().__init__()
        if REWARD not in outputs:
            raise ValueError(f"outputs are {', '.join(outputs)}: '{REWARD}' must be among them")
        options = {} if vit_options is None else vit_options
        self.eye = timm.create_model(vit, img_size=(height_px, width_px), num_classes=0, **options)
        features: int = self.eye.num_features  # type: ignore[assignment]  # timm's models say so
        self.embed = nn.Linear(features, width)
        self.time_positions = nn.Parameter(torch.zeros(len(SEEN_FRAMES), 1, width))
        self.blocks = nn.ModuleList([SpaceTimeBlock(width, num_heads) for _ in range(num_layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, len(outputs)))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the columns of :meth:`infractions`."""
        return tuple(self.config.outputs)

    def load_eye(self, weights: str | None) -> None:
        """Give the ViT its pretrained weights: timm's own from the hub, or a local safetensors file.

        Raises ValueError for a file of another kind, OSError naming what could not be had and how to go on offline.
        """
        if weights is not None and not weights.endswith(".safetensors"):
            raise ValueError(f"--vit_weights {weights}: only safetensors files are read")
        name, size_px = self.config.vit, (self.config.height_px, self.config.width_px)
        overlay = None if weights is None else {"file": weights}
        try:
            self.eye = timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay=overlay, img_size=size_px, num_classes=0
            )
        except (OSError, RuntimeError) as error:
            raise OSError(
                f"the weights of {name} could not be loaded from {weights or 'the hub'}: {error}; "
                "offline, give a local safetensors file with --vit_weights"
            ) from error

    def features(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """Patch features (B, 9, N, D) of the frames that are looked at. They can be computed once and kept."""
        return self.features_of_seen(seen_frames(frames_BTCHW))

    def features_of_seen(self, seen_BTCHW: torch.Tensor) -> torch.Tensor:
        """Patch features (B, 9, N, D) of :func:`seen_frames`."""
        seen = seen_BTCHW.flatten(0, 1).float() / 255
        size_px = (self.config.height_px, self.config.width_px)
        if tuple(seen.shape[-2:]) != size_px:
            seen = functional.interpolate(seen, size=size_px, mode="bilinear", antialias=True, align_corners=False)
        mean, std = (seen.new_tensor(values)[:, None, None] for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
        tokens = self.eye.forward_features((seen - mean) / std)  # type: ignore[operator]  # timm
        patches = tokens[:, self.eye.num_prefix_tokens :]
        return patches.unflatten(0, (len(seen_BTCHW), len(SEEN_FRAMES)))

    def forward(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """Reward (B,) in [0, 1]."""
        return self.infractions(frames_BTCHW)[:, self.outputs.index(REWARD)]

    def infractions(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """Each of ``outputs`` (B, O), in [0, 1]: the infractions' probabilities, the progress and the reward."""
        return self.logits_of(self.features(frames_BTCHW)).sigmoid()

    def logits_of(self, features_BTND: torch.Tensor) -> torch.Tensor:
        """Logits (B, O) of ``outputs``, float32, of :meth:`features`."""
        tokens = self.embed(features_BTND) + self.time_positions
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens).mean(dim=(1, 2))).float()
