"""Tiny real components with random weights, for tests."""

import torch
from diffusers import AutoencoderKLCogVideoX

from resim.data.drives import LABELS
from resim.judges.inverse_dynamics import InverseDynamics
from resim.judges.video2reward import Video2Reward
from resim.world_model.diffusion import DiffusionConfig
from resim.world_model.model import WorldModel, initialise_from_scratch
from resim.world_model.pipeline import ReSimPipeline, make_scheduler
from resim.world_model.text import small_text_encoder
from resim.world_model.trajectory_encoder import TrajectoryEncoder
from resim.world_model.transformer import ReSimTransformer3DModel
from resim.world_model.vae import small_vae

TEXT_WIDTH = 24
TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "time_embed_dim": 16,
    "text_embed_dim": TEXT_WIDTH,
    "num_layers": 2,
    "max_text_seq_length": 32,
    "in_channels": 4,
    "out_channels": 4,
}


def randomise(model: torch.nn.Module, std: float = 0.1, seed: int = 0) -> None:
    """Give every parameter a random value, so that no path through the model is switched off by a zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


def tiny_world_model(seed: int = 0) -> WorldModel:
    """A world model of 30 thousand parameters, all of them in use."""
    torch.manual_seed(seed)
    transformer = ReSimTransformer3DModel(**TRANSFORMER, sample_height=8, sample_width=12)
    encoder = TrajectoryEncoder(
        text_embed_dim=TEXT_WIDTH, width=32, num_layers=1, num_heads=2, head_dim=8, mlp_dim=32, video_width=32
    )
    model = WorldModel(transformer, encoder)
    initialise_from_scratch(model)
    randomise(model, seed=seed)
    return model


def tiny_vae(seed: int = 0) -> AutoencoderKLCogVideoX:
    """A VAE of 4 latent channels, 8x in space, 4x in time."""
    torch.manual_seed(seed)
    return small_vae(height_px=32, width_px=48, channels=(8, 8, 8), latent_channels=4).eval()


def tiny_pipeline(seed: int = 0) -> ReSimPipeline:
    """The whole pipeline at 32 x 48 pixels."""
    tokenizer, text_encoder = small_text_encoder(TEXT_WIDTH, max_length=32, seed=seed)
    model = tiny_world_model(seed)
    pipeline = ReSimPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=tiny_vae(seed),
        transformer=model.transformer,
        trajectory_encoder=model.trajectory_encoder,
        scheduler=make_scheduler(DiffusionConfig()),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def small_reader(height_px: int, width_px: int) -> InverseDynamics:
    """An untrained inverse dynamics model for this size."""
    torch.manual_seed(0)
    return InverseDynamics(
        backbone="test_resnet", height_px=height_px, width_px=width_px, width=32, num_layers=1, num_heads=2
    ).eval()


def small_reward_model() -> Video2Reward:
    """An untrained Video2Reward on a ViT of one layer."""
    torch.manual_seed(0)
    options = {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
    return Video2Reward(
        LABELS,
        vit="vit_tiny_patch16_224",
        vit_options=options,
        height_px=16,
        width_px=32,
        width=16,
        num_layers=1,
        num_heads=2,
    ).eval()
