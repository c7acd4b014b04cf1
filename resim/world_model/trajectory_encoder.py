"""Trajectory encoder: 8 waypoints -> 9 tokens behind the text tokens (arXiv 2506.09981, Sec. 3), and poses of latents.

The tokens are the paper's. Beside them every predicted latent is told the pose of its own moment: attention then need
not find out which token speaks of which moment, and a small model uses its path after minutes that all but ignored it
before (measured, docs/ablations.md).
"""

import math

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import get_1d_sincos_pos_embed_from_grid
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from resim.datatypes.clip import FPS, NUM_FUTURE_FRAMES, NUM_WAYPOINTS, WAYPOINT_DT_S
from resim.world_model.diffusion import NUM_CONTEXT_LATENTS, NUM_LATENTS

NUM_TRAJECTORY_TOKENS = NUM_WAYPOINTS + 1  # CLS in front
# Typical size of x, y and heading over 4 s. The input layer's weights are drawn in these units, so that the LayerNorm
# behind it, which removes scale, still sees a bias of the same size and with it the length of the path.
WAYPOINT_SCALE = (20.0, 4.0, 0.5)
NUM_FUTURE_LATENTS = NUM_LATENTS - NUM_CONTEXT_LATENTS
# Radians per metre, metre and radian in the fastest of the waves that a pose is told in; each next one is half as fast.
POSE_RATE = (3.0, 3.0, 30.0)
NUM_POSE_WAVES = 8


def latent_poses(waypoints_B83: torch.Tensor) -> torch.Tensor:
    """Poses (B, 10, 3) in the middle of each predicted latent's four frames, linear between the waypoints (B, 8, 3)."""
    frames_per_latent = NUM_FUTURE_FRAMES // NUM_FUTURE_LATENTS
    frame = torch.arange(NUM_FUTURE_LATENTS, device=waypoints_B83.device) * frames_per_latent
    middle_s = (frame + (frames_per_latent + 1) / 2) / FPS  # the first future frame is at 1 / FPS
    waypoint_s = WAYPOINT_DT_S * torch.arange(1, NUM_WAYPOINTS + 1, device=waypoints_B83.device)
    # The pose at t = 0 is the origin, so that its share is simply missing.
    weights = (1 - (middle_s[:, None] - waypoint_s).abs() / WAYPOINT_DT_S).clamp(min=0)
    # Not a matrix product: autocast would round metres to bfloat16.
    return (weights[:, :, None] * waypoints_B83[:, None]).sum(dim=2)


class PoseEmbedding(nn.Module):
    """Poses (B, N, 3) -> (B, N, out_width): sines and cosines at wavelengths from 2 m to 270 m, and an MLP.

    Its output is zero at the start.
    """

    rate_3W: torch.Tensor

    def __init__(self, width: int, out_width: int):
        super().__init__()
        rate = torch.tensor(POSE_RATE)[:, None] * 0.5 ** torch.arange(NUM_POSE_WAVES)
        self.register_buffer("rate_3W", rate, persistent=False)
        self.hidden = nn.Linear(2 * rate.numel(), width)
        self.out = nn.Linear(width, out_width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, poses_BN3: torch.Tensor) -> torch.Tensor:
        """The embedding; sines in float32."""
        phase = poses_BN3.float()[..., None] * self.rate_3W.float()
        waves = torch.cat([phase.sin(), phase.cos()], dim=-1).flatten(2).to(self.hidden.weight.dtype)
        return self.out(nn.functional.silu(self.hidden(waves)))


class TrajectoryLayer(nn.Module):
    """Pre-LN transformer layer on (B, N, width)."""

    def __init__(self, width: int, num_heads: int, head_dim: int, mlp_dim: int):
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * num_heads * head_dim)
        self.out = nn.Linear(num_heads * head_dim, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_dim), nn.GELU(), nn.Linear(mlp_dim, width))

    def forward(self, tokens_BND: torch.Tensor) -> torch.Tensor:
        """Self-attention and MLP, each with a residual."""
        qkv = self.qkv(self.norm1(tokens_BND)).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        tokens_BND = tokens_BND + self.out(attended.transpose(1, 2).flatten(2))
        return tokens_BND + self.mlp(self.norm2(tokens_BND))


class TrajectoryEncoder(ModelMixin, ConfigMixin):
    """Waypoints (B, 8, 3) -> tokens (B, 9, text_embed_dim) and embedded poses (B, 10, video_width).

    A clip without a trajectory contributes zeros to both. With ``video_width`` None there are no poses, as in the
    paper; otherwise it is the transformer's width.

    The tokens: Linear 3 -> width and LayerNorm, a learned CLS in front, fixed sin-cos positions, pre-LN layers,
    LayerNorm, and a zero-initialised Linear to the text width. A fresh encoder changes nothing whatever the path is.
    """

    @register_to_config
    def __init__(
        self,
        text_embed_dim: int = 4096,
        width: int = 1024,
        num_layers: int = 2,
        num_heads: int = 8,
        head_dim: int = 64,
        mlp_dim: int = 2048,
        video_width: int | None = None,
    ):
        super().__init__()
        self.embed = nn.Linear(3, width)
        self.embed_norm = nn.LayerNorm(width)
        self.cls = nn.Parameter(torch.zeros(width))
        self.layers = nn.ModuleList([TrajectoryLayer(width, num_heads, head_dim, mlp_dim) for _ in range(num_layers)])
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, text_embed_dim)
        positions = get_1d_sincos_pos_embed_from_grid(width, torch.arange(NUM_TRAJECTORY_TOKENS, dtype=torch.float32))
        self.register_buffer("positions", positions.float(), persistent=False)
        self.reset_parameters()
        self.poses = None if video_width is None else PoseEmbedding(width, video_width)

    def reset_parameters(self) -> None:
        """Initialise: input layer in WAYPOINT_SCALE units, output layer zero."""
        nn.init.normal_(self.embed.weight, std=1.0)
        with torch.no_grad():
            self.embed.weight.div_(torch.tensor(WAYPOINT_SCALE, device=self.embed.weight.device))
        nn.init.normal_(self.embed.bias, std=1.0)
        nn.init.normal_(self.cls, std=1 / math.sqrt(self.config.width))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, waypoints_B83: torch.Tensor, has_waypoints_B: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Tokens and poses of waypoints (metres, radians), zero where ``has_waypoints_B`` is False."""
        # Absent waypoints may hold anything; masked before the maths so that not even a NaN among them gets through.
        given = has_waypoints_B[:, None, None]
        waypoints = torch.where(given, waypoints_B83, 0.0)
        tokens = self.embed_norm(self.embed(waypoints.to(self.embed.weight.dtype)))
        tokens = torch.cat([self.cls.expand(len(tokens), 1, -1), tokens], dim=1) + self.positions.to(tokens.dtype)
        for layer in self.layers:
            tokens = layer(tokens)
        tokens = self.out(self.norm(tokens)) * given
        return tokens, None if self.poses is None else self.poses(latent_poses(waypoints)) * given
