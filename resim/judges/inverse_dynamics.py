"""Inverse dynamics: video -> the waypoints that its camera drove. Trained on true video only, it reads generated ones.

The 4 s from t = 0 are cut into 8 segments of 0.5 s, each with the frames at both its ends. A timm backbone sees the
frames of one segment as channels and gives one token; pre-LN transformer layers let segments see each other; a linear
layer gives each segment's motion [dx_m, dy_m, dheading_rad] in the ego frame at its beginning, and the motions are
composed on SE(2) into waypoints.
"""

import timm
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import nn

from resim.datatypes.clip import FPS, NUM_FRAMES, NUM_HISTORY_FRAMES, NUM_WAYPOINTS, WAYPOINT_DT_S
from resim.world_model.trajectory_encoder import TrajectoryLayer

FRAMES_PER_SEGMENT = round(WAYPOINT_DT_S * FPS)
# Typical motion of a segment; the network's outputs are in these units.
MOTION_SCALE = (5.0, 0.5, 0.2)


def compose_motions(motions_BN3: torch.Tensor) -> torch.Tensor:
    """Motions (B, N, 3), each in the frame where it begins -> poses (B, N, 3) after each, in the frame of the first.

    Headings are summed and not wrapped: a path of 4 s turns by less than pi.
    """
    heading_after = motions_BN3[..., 2].cumsum(1)
    heading_before = heading_after - motions_BN3[..., 2]
    cos, sin = heading_before.cos(), heading_before.sin()
    dx, dy = motions_BN3[..., 0], motions_BN3[..., 1]
    x, y = (cos * dx - sin * dy).cumsum(1), (sin * dx + cos * dy).cumsum(1)
    return torch.stack([x, y, heading_after], dim=-1)


def motions_between(poses_BN3: torch.Tensor) -> torch.Tensor:
    """Inverse of :func:`compose_motions`: poses (B, N, 3) -> the motion to each, in the frame of the one before."""
    before = torch.cat([torch.zeros_like(poses_BN3[:, :1]), poses_BN3[:, :-1]], dim=1)
    dx, dy, turn = (poses_BN3 - before).unbind(-1)
    cos, sin = before[..., 2].cos(), before[..., 2].sin()
    return torch.stack([cos * dx + sin * dy, cos * dy - sin * dx, turn], dim=-1)


def segments(frames_BTCHW: torch.Tensor) -> torch.Tensor:
    """uint8 clips (B, 49, 3, H, W) -> the future's segments (B, 8, 6 * 3, H, W) in [-1, 1]; neighbours share a frame.

    Raises ValueError for another dtype or number of frames.
    """
    if frames_BTCHW.dtype != torch.uint8 or frames_BTCHW.ndim != 5 or frames_BTCHW.shape[1:3] != (NUM_FRAMES, 3):
        raise ValueError(
            f"inverse dynamics reads uint8 clips (B, {NUM_FRAMES}, 3, H, W), got {frames_BTCHW.dtype} "
            f"{tuple(frames_BTCHW.shape)}"
        )
    future = frames_BTCHW[:, NUM_HISTORY_FRAMES - 1 :]
    windows = future.unfold(1, FRAMES_PER_SEGMENT + 1, FRAMES_PER_SEGMENT)
    return rearrange(windows, "b n c h w t -> b n (t c) h w").float() / 127.5 - 1


class InverseDynamics(ModelMixin, ConfigMixin):
    """uint8 clips (B, 49, 3, H, W) -> waypoints (B, 8, 3) [x_m, y_m, heading_rad] in the ego frame at t = 0.

    ``backbone`` is a timm model; ``height_px`` x ``width_px`` is the only size that is read.
    """

    @register_to_config
    def __init__(
        self,
        backbone: str = "resnet10t",
        height_px: int = 64,
        width_px: int = 112,
        width: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
    ):
        super().__init__()
        self.vision = timm.create_model(backbone, in_chans=3 * (FRAMES_PER_SEGMENT + 1), num_classes=0)
        features: int = self.vision.num_features  # type: ignore[assignment]  # timm's models say so
        self.embed = nn.Linear(features, width)
        self.positions = nn.Parameter(torch.zeros(NUM_WAYPOINTS, width))
        head_dim = width // num_heads
        self.layers = nn.ModuleList([TrajectoryLayer(width, num_heads, head_dim, 4 * width) for _ in range(num_layers)])
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 3)
        nn.init.zeros_(self.out.bias)
        with torch.no_grad():
            self.out.bias[0] = 1.0  # straight on at 10 m/s, until something is learnt

    def load_pretrained_backbone(self) -> None:
        """Take the backbone's weights from the hub (timm spreads the first layer over the channels)."""
        channels = 3 * (FRAMES_PER_SEGMENT + 1)
        self.vision = timm.create_model(self.config.backbone, pretrained=True, in_chans=channels, num_classes=0)

    def forward(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """Waypoints (B, 8, 3). Raises ValueError for frames of another dtype, number or size."""
        size_px = (self.config.height_px, self.config.width_px)
        if tuple(frames_BTCHW.shape[-2:]) != size_px:
            raise ValueError(f"this model reads frames of {size_px} pixels, got {tuple(frames_BTCHW.shape[-2:])}")
        windows = segments(frames_BTCHW)
        features = self.vision(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])
        tokens = self.embed(features) + self.positions
        for layer in self.layers:
            tokens = layer(tokens)
        motions = self.out(self.norm(tokens)).float()
        return compose_motions(motions * torch.tensor(MOTION_SCALE, device=motions.device))


def motion_loss(predicted_B83: torch.Tensor, truth_B83: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of the segments' motions in units of MOTION_SCALE; scalar.

    Of motions rather than waypoints: an early segment's error does not move the targets of the later ones. Headings of
    truth may be wrapped.
    """
    error = motions_between(predicted_B83) - motions_between(truth_B83)
    turn = torch.atan2(error[..., 2].sin(), error[..., 2].cos())
    error = torch.stack([error[..., 0], error[..., 1], turn], dim=-1)
    return (error.abs() / error.new_tensor(MOTION_SCALE)).mean()


def mirrored(frames_BTCHW: torch.Tensor, waypoints_B83: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same drives seen in a mirror: left is right."""
    return frames_BTCHW.flip(-1), waypoints_B83 * waypoints_B83.new_tensor([1.0, -1.0, -1.0])
