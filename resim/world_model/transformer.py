"""The ReSim diffusion transformer: CogVideoX's, with history in place and its own modulation for context tokens."""

from functools import lru_cache, wraps
from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_1d_sincos_pos_embed_from_grid
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  DiffusionPipeline looks it up in this module
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock
from torch import nn

# The patch grid that CogVideoX's positions were learned on (256 x 384 pixels); others are interpolated onto it.
BASE_ROWS, BASE_COLUMNS = 16, 24


@lru_cache(maxsize=8)
def position_table(frames: int, rows: int, columns: int, width: int, device: torch.device) -> torch.Tensor:
    """3D sin-cos positions (frames * rows * columns, width) in float64, stretched so that every grid spans the base.

    512x896 reads (512/256, 896/384) patches per position, 256x448 reads (1, 448/384), and CogVideoX's own 480x720
    reads 1.875 both ways, which is the table of diffusers. A quarter of the width is time, then x, then y.
    """
    axes = (
        (torch.arange(columns, device=device, dtype=torch.float32) / (columns / BASE_COLUMNS), 3 * width // 8),
        (torch.arange(rows, device=device, dtype=torch.float32) / (rows / BASE_ROWS), 3 * width // 8),
        (torch.arange(frames, device=device, dtype=torch.float32), width // 4),
    )
    x, y, t = (get_1d_sincos_pos_embed_from_grid(dim, position) for position, dim in axes)
    shape = (frames, rows, columns, -1)
    table = [t[:, None, None].expand(shape), x[None, None].expand(shape), y[None, :, None].expand(shape)]
    return torch.cat(table, dim=-1).flatten(0, 2)


class ReSimBlock(CogVideoXBlock):
    """CogVideoXBlock over three streams: text, context and future tokens. Same weights, same attention over all.

    Context tokens are modulated by the augmentation level of the history, the others by the diffusion timestep.
    """

    def forward(
        self,
        context_BND: torch.Tensor,
        future_BND: torch.Tensor,
        text_BLD: torch.Tensor,
        level_embed_BE: torch.Tensor,
        time_embed_BE: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One block; returns the three streams."""
        sizes = [text_BLD.shape[1], context_BND.shape[1], future_BND.shape[1]]
        no_text = text_BLD[:, :0]

        context, _, context_gate, _ = self.norm1(context_BND, no_text, level_embed_BE)
        future, text, future_gate, text_gate = self.norm1(future_BND, text_BLD, time_embed_BE)
        video, text = self.attn1(torch.cat([context, future], dim=1), encoder_hidden_states=text)
        context, future = video.split(sizes[1:], dim=1)
        context_BND = context_BND + context_gate * context
        future_BND = future_BND + future_gate * future
        text_BLD = text_BLD + text_gate * text

        context, _, context_gate, _ = self.norm2(context_BND, no_text, level_embed_BE)
        future, text, future_gate, text_gate = self.norm2(future_BND, text_BLD, time_embed_BE)
        text, context, future = self.ff(torch.cat([text, context, future], dim=1)).split(sizes, dim=1)
        return (
            context_BND + context_gate * context,
            future_BND + future_gate * future,
            text_BLD + text_gate * text,
        )


class ReSimTransformer3DModel(CogVideoXTransformer3DModel):
    """CogVideoX transformer whose first latents may be (augmented) history.

    New parameters: ``context_level_proj`` (time_embed_dim -> width), zero at the start. The trajectory tokens come in
    behind the text tokens of ``encoder_hidden_states``. Takes CogVideoX-2B's config; models with rotary positions,
    temporal patches or another ``spatial_interpolation_scale`` are refused, since positions follow the resolution.
    """

    _no_split_modules = ["ReSimBlock", "CogVideoXPatchEmbed"]

    @wraps(CogVideoXTransformer3DModel.__init__)  # type: ignore[misc]  # diffusers reads the config from it
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        expected = {
            "use_rotary_positional_embeddings": False,
            "use_learned_positional_embeddings": False,
            "patch_size_t": None,
            "ofs_embed_dim": None,
            "spatial_interpolation_scale": 1.875,
            "temporal_interpolation_scale": 1.0,
        }
        for name, value in expected.items():
            if self.config[name] != value:
                raise ValueError(f"ReSim builds on CogVideoX-2B: {name} must be {value}, got {self.config[name]}")
        # Positions come from position_table; the stock table would hold 180 MB that nothing reads.
        self.patch_embed.use_positional_embeddings = False
        self.patch_embed.pos_embedding = None
        for block in self.transformer_blocks:
            block.__class__ = ReSimBlock  # same parameters, our forward; building them anew would double the start-up
        width = self.config.num_attention_heads * self.config.attention_head_dim
        self.context_level_proj = nn.Linear(self.config.time_embed_dim, width)
        nn.init.zeros_(self.context_level_proj.weight)
        nn.init.zeros_(self.context_level_proj.bias)

    def _embed_time(self, timestep_B: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return self.time_embedding(self.time_proj(timestep_B).to(dtype))

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        context_level: torch.Tensor,
        num_context: int,
        pose_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predict v.

        Args:
            hidden_states: latents (B, F, C, h, w): ``num_context`` context latents in place, then the noisy ones.
            encoder_hidden_states: text tokens, then trajectory tokens (B, L, text_embed_dim).
            timestep: diffusion timestep (B,) of the noisy latents.
            context_level: augmentation level (B,) of the context latents, a multiple of 100.
            num_context: how many of the F latents are context, 0 .. F.
            pose_embeds: (B, N, width) of the last N latents, added to all tokens of their latent.

        Returns:
            v (B, F, C, h, w); what stands at the context latents means nothing.
        """
        batch, frames, _, height, width = hidden_states.shape
        p = self.config.patch_size
        rows, columns = height // p, width // p

        # 1. Time and level embedding
        time_embed = self._embed_time(timestep, hidden_states.dtype)
        level_embed = self._embed_time(context_level, hidden_states.dtype)

        # 2. Patches, positions, and the split into streams
        tokens = self.patch_embed(encoder_hidden_states, hidden_states)
        num_text, num_context_tokens = encoder_hidden_states.shape[1], num_context * rows * columns
        text, video = tokens[:, :num_text], tokens[:, num_text:]
        video = video + position_table(frames, rows, columns, video.shape[-1], video.device).to(video.dtype)
        if pose_embeds is not None:
            poses = pose_embeds.repeat_interleave(rows * columns, dim=1).to(video.dtype)
            video = video + nn.functional.pad(poses, (0, 0, video.shape[1] - poses.shape[1], 0))
        context, future = video[:, :num_context_tokens], video[:, num_context_tokens:]
        context = context + self.context_level_proj(level_embed)[:, None]

        # 3. Blocks
        for block in self.transformer_blocks:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                context, future, text = self._gradient_checkpointing_func(
                    block, context, future, text, level_embed, time_embed
                )
            else:
                context, future, text = block(context, future, text, level_embed, time_embed)

        # 4. Output, each stream with its own modulation
        context = self.norm_out(self.norm_final(context), temb=level_embed)
        future = self.norm_out(self.norm_final(future), temb=time_embed)
        patches = self.proj_out(torch.cat([context, future], dim=1))

        # 5. Unpatchify
        patches = patches.reshape(batch, frames, rows, columns, -1, p, p)
        return patches.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
