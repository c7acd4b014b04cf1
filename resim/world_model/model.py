"""WorldModel: transformer + trajectory encoder, the one module that training wraps and sampling calls."""

import json
import math
from pathlib import Path

import torch
from diffusers import CogVideoXTransformer3DModel
from torch import nn

from resim.world_model.diffusion import context_level
from resim.world_model.trajectory_encoder import TrajectoryEncoder
from resim.world_model.transformer import ReSimTransformer3DModel


class WorldModel(nn.Module):
    """(context, noisy future, text, waypoints) -> v of the future. Training and sampling share this forward."""

    def __init__(self, transformer: ReSimTransformer3DModel, trajectory_encoder: TrajectoryEncoder):
        super().__init__()
        self.transformer = transformer
        self.trajectory_encoder = trajectory_encoder

    def forward(
        self,
        context_BFCHW: torch.Tensor,
        noisy_BFCHW: torch.Tensor,
        prompt_embeds_BLD: torch.Tensor,
        waypoints_B83: torch.Tensor,
        has_waypoints_B: torch.Tensor,
        timestep_B: torch.Tensor,
        context_timestep_B: torch.Tensor,
    ) -> torch.Tensor:
        """Predict v of the noisy latents.

        Args:
            context_BFCHW: k history latents (k may be 0), already augmented at ``context_timestep_B``.
            noisy_BFCHW: the latents to denoise, at ``timestep_B``.
            prompt_embeds_BLD: text tokens.
            waypoints_B83: [x_m, y_m, heading_rad] in the ego frame at t = 0.
            has_waypoints_B: where False, the trajectory tokens are zero (action-free).
            timestep_B: diffusion timesteps in 0 .. 999.
            context_timestep_B: context augmentation t_aug; 0 at inference.
        """
        dtype = self.transformer.dtype
        trajectory, poses = self.trajectory_encoder(waypoints_B83, has_waypoints_B)
        text = torch.cat([prompt_embeds_BLD.to(dtype), trajectory.to(dtype)], dim=1)
        num_context = context_BFCHW.shape[1]
        v = self.transformer(
            hidden_states=torch.cat([context_BFCHW, noisy_BFCHW], dim=1).to(dtype),
            encoder_hidden_states=text,
            timestep=timestep_B,
            context_level=context_level(context_timestep_B),
            num_context=num_context,
            pose_embeds=poses,
        )
        return v[:, num_context:]


def from_cogvideox(path: str | Path) -> WorldModel:
    """Build a full-size ReSim from a CogVideoX-2b folder (its ``transformer/`` is read; safetensors only).

    The new parts start at zero, so that it predicts what CogVideoX predicts. Raises FileNotFoundError when the folder
    is not a CogVideoX model, and ValueError naming the config entry when it is another variant.
    """
    folder = Path(path) / "transformer"
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise FileNotFoundError(f"{config_file} does not exist: give the folder of a CogVideoX-2b checkpoint")
    found = json.loads(config_file.read_text())["_class_name"]
    if found != "CogVideoXTransformer3DModel":
        raise ValueError(f"{config_file} describes a {found}, not a CogVideoXTransformer3DModel")
    stock = CogVideoXTransformer3DModel.from_pretrained(folder, use_safetensors=True)
    transformer = from_stock_transformer(stock)
    return WorldModel(transformer, full_size_encoder(transformer))


def full_size_encoder(transformer: ReSimTransformer3DModel) -> TrajectoryEncoder:
    """A fresh trajectory encoder of the paper's size for ``transformer``, with poses for its latents."""
    config = transformer.config
    width = config.num_attention_heads * config.attention_head_dim
    return TrajectoryEncoder(text_embed_dim=config.text_embed_dim, video_width=width)


def from_stock_transformer(stock: CogVideoXTransformer3DModel) -> ReSimTransformer3DModel:
    """A ReSim transformer that holds the stock transformer's own parameters, with the new parts at zero."""
    with torch.device("meta"):
        transformer = ReSimTransformer3DModel.from_config(stock.config)
    transformer.context_level_proj.to_empty(device=stock.device)
    nn.init.zeros_(transformer.context_level_proj.weight)
    nn.init.zeros_(transformer.context_level_proj.bias)
    weights = {**stock.state_dict(), **transformer.context_level_proj.state_dict(prefix="context_level_proj.")}
    transformer.load_state_dict(weights, strict=True, assign=True)
    return transformer.requires_grad_(True)


@torch.no_grad()
def initialise_from_scratch(model: WorldModel) -> None:
    """Initialise a small model that has no CogVideoX to start from.

    adaLN starts as the identity with open gates, residual branches small, the output at zero: with the library's
    default a small model does not learn to obey its waypoints in minutes (measured, docs/log.md).
    """
    transformer = model.transformer
    width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
    for block in transformer.transformer_blocks:
        for norm in (block.norm1, block.norm2):
            nn.init.zeros_(norm.linear.weight)
            nn.init.zeros_(norm.linear.bias)
            gates = norm.linear.bias.view(6, width)[[2, 5]]
            norm.linear.bias.view(6, width)[[2, 5]] = torch.ones_like(gates)
        for out in (block.attn1.to_out[0], block.ff.net[2]):
            nn.init.normal_(out.weight, std=0.02 / math.sqrt(2 * transformer.config.num_layers))
            nn.init.zeros_(out.bias)
    nn.init.zeros_(transformer.norm_out.linear.weight)
    nn.init.zeros_(transformer.norm_out.linear.bias)
    nn.init.zeros_(transformer.proj_out.weight)
    nn.init.zeros_(transformer.proj_out.bias)
    encoder_out = model.trajectory_encoder.out
    nn.init.normal_(encoder_out.weight, std=1 / math.sqrt(encoder_out.in_features))


@torch.no_grad()
def deepen(transformer: ReSimTransformer3DModel, num_layers: int) -> ReSimTransformer3DModel:
    """A transformer of more layers that predicts what ``transformer`` predicts, in float32.

    The new blocks are spread evenly; each is a copy of the one before it whose residual outputs are zero, so that it
    has something to look for and adds nothing yet. Raises ValueError when ``num_layers`` is not more than it has.
    """
    old_blocks = transformer.transformer_blocks
    if num_layers <= len(old_blocks):
        raise ValueError(f"num_layers is {num_layers}: give more than the {len(old_blocks)} that the transformer has")
    deeper = ReSimTransformer3DModel.from_config({**transformer.config, "num_layers": num_layers})
    prefix = "transformer_blocks."
    weights = {name: value for name, value in transformer.state_dict().items() if not name.startswith(prefix)}
    sources = [layer * len(old_blocks) // num_layers for layer in range(num_layers)]
    for layer, source in enumerate(sources):
        weights |= old_blocks[source].state_dict(prefix=f"{prefix}{layer}.")
    deeper.load_state_dict(weights)
    for layer, block in enumerate(deeper.transformer_blocks):
        if sources[layer] in sources[:layer]:
            for out in (block.attn1.to_out[0], block.ff.net[2]):
                nn.init.zeros_(out.weight)
                nn.init.zeros_(out.bias)
    return deeper
