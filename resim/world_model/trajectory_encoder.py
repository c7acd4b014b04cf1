"""Trajectory encoder: 8 waypoints -> 9 tokens that stand behind the text tokens (arXiv 2506.09981, Sec. 3)."""

import math

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import get_1d_sincos_pos_embed_from_grid
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from resim.clip import NUM_WAYPOINTS

NUM_TRAJECTORY_TOKENS = NUM_WAYPOINTS + 1  # CLS in front
# Typical size of x, y and heading over 4 s. The input layer's weights are drawn in these units, so that the LayerNorm
# behind it, which removes scale, still sees a bias of the same size and with it the length of the path.
WAYPOINT_SCALE = (20.0, 4.0, 0.5)


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
    """Waypoints (B, 8, 3) -> tokens (B, 9, text_embed_dim); a clip without a trajectory contributes zeros.

    Linear 3 -> width and LayerNorm, a learned CLS in front, fixed sin-cos positions, pre-LN layers, LayerNorm, and a
    zero-initialised Linear to the text width: a fresh encoder changes nothing whatever the waypoints are.
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

    def reset_parameters(self) -> None:
        """Initialise: input layer in WAYPOINT_SCALE units, output layer zero."""
        nn.init.normal_(self.embed.weight, std=1.0)
        with torch.no_grad():
            self.embed.weight.div_(torch.tensor(WAYPOINT_SCALE, device=self.embed.weight.device))
        nn.init.normal_(self.embed.bias, std=1.0)
        nn.init.normal_(self.cls, std=1 / math.sqrt(self.config.width))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, waypoints_B83: torch.Tensor, has_waypoints_B: torch.Tensor) -> torch.Tensor:
        """Tokens (B, 9, text_embed_dim) from waypoints (metres, radians), zero where ``has_waypoints_B`` is False."""
        # Absent waypoints may hold anything; masked before the maths so that not even a NaN among them gets through.
        waypoints = torch.where(has_waypoints_B[:, None, None], waypoints_B83, 0.0).to(self.embed.weight.dtype)
        tokens = self.embed_norm(self.embed(waypoints))
        tokens = torch.cat([self.cls.expand(len(tokens), 1, -1), tokens], dim=1) + self.positions.to(tokens.dtype)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.out(self.norm(tokens)) * has_waypoints_B[:, None, None]
