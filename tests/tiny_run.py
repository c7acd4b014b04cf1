"""A model and stores so small that a training run takes a second; shared by the tests of training."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX

from resim.data.latents import vae_fingerprint, write_latents
from resim.data.store import ClipStore, StoreWriter
from resim.training.config import TrainConfig
from resim.training.presets.tiny import debug
from resim.world_model.diffusion import DiffusionConfig
from resim.world_model.model import WorldModel, initialise_from_scratch
from resim.world_model.pipeline import ReSimPipeline, make_scheduler
from resim.world_model.text import small_text_encoder
from resim.world_model.trajectory_encoder import TrajectoryEncoder
from resim.world_model.transformer import ReSimTransformer3DModel

HEIGHT_PX, WIDTH_PX = 32, 64
LATENT_SHAPE = (13, 4, HEIGHT_PX // 4, WIDTH_PX // 4)
TEXT_WIDTH, TEXT_LENGTH = 16, 40


def write_model(folder: Path) -> Path:
    """A random ReSim folder of a few thousand weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer, text_encoder = small_text_encoder(TEXT_WIDTH, TEXT_LENGTH, seed=0)
        vae = AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * 3,
            up_block_types=("CogVideoXUpBlock3D",) * 3,
            block_out_channels=(4, 4, 4),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=2,
            sample_height=HEIGHT_PX,
            sample_width=WIDTH_PX,
        )
        transformer = ReSimTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            out_channels=4,
            time_embed_dim=8,
            text_embed_dim=TEXT_WIDTH,
            num_layers=2,
            sample_width=WIDTH_PX // 4,
            sample_height=HEIGHT_PX // 4,
            sample_frames=49,
            patch_size=4,
            max_text_seq_length=TEXT_LENGTH,
        )
        encoder = TrajectoryEncoder(
            text_embed_dim=TEXT_WIDTH, width=16, num_layers=1, num_heads=2, head_dim=8, mlp_dim=32, video_width=16
        )
        initialise_from_scratch(WorldModel(transformer, encoder))
        torch.nn.init.normal_(transformer.proj_out.weight, std=0.02)  # else only the last layer has a gradient at first
    pipeline = ReSimPipeline(tokenizer, text_encoder, vae, transformer, encoder, make_scheduler(DiffusionConfig()))
    pipeline.save_pretrained(folder)
    return folder


def write_store(folder: Path, *, num_clips: int, with_waypoints: bool, seed: int) -> Path:
    """Clips of moving noise; paths straight ahead at different speeds."""
    rng = np.random.default_rng(seed)
    with StoreWriter(folder, source=folder.name, height_px=HEIGHT_PX, width_px=WIDTH_PX, inputs=()) as writer:
        for n in range(num_clips):
            picture = rng.integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
            distance_m = rng.uniform(2, 12) * 0.5 * np.arange(1, 9)
            path = np.stack([distance_m, np.zeros(8), np.zeros(8)], axis=1).astype(np.float32)
            writer.add(
                [np.roll(picture, t, axis=1) for t in range(49)],
                clip_id=f"{folder.name}-{n}",
                scene_id=f"scene-{n}",
                waypoints=path if with_waypoints else None,
            )
    return folder


def write_stores(root: Path, model: Path) -> Path:
    """Three stores to train on and a held-out one, with random latents cached."""
    for seed, name in enumerate(("video", "logs", "simulation", "held_out")):
        store = ClipStore(write_store(root / name, num_clips=3, with_waypoints=name != "video", seed=seed))
        generator = torch.Generator().manual_seed(seed)
        write_latents(
            store,
            lambda _, generator=generator: (
                torch.randn(LATENT_SHAPE, generator=generator)[None],
                torch.zeros(1, *LATENT_SHAPE),
            ),
            fingerprint=vae_fingerprint(model / "vae"),
            inputs=(),
            height_px=HEIGHT_PX,
            width_px=WIDTH_PX,
        )
    return root


@dataclass(frozen=True)
class TinyWorld:
    """A model folder and the stores to train it on."""

    model: Path
    stores: Path

    def config(self, output_dir: Path, **changes: object) -> TrainConfig:
        """The debug preset on this model and these stores, with cached latents."""
        base = debug()
        data = replace(base.data, data_root=self.stores, height_px=HEIGHT_PX, width_px=WIDTH_PX)
        config = replace(base, init_from=self.model, output_dir=output_dir, data=data, lora_rank=2, lora_alpha=2.0)
        return replace(config, **changes)


def write_world(root: Path) -> TinyWorld:
    """Model and stores under ``root``."""
    model = write_model(root / "model")
    return TinyWorld(model, write_stores(root / "stores", model))
