"""The models that stand at the start of the presets' chains: which they are where their folders are not made yet."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from diffusers import AutoencoderKLCogVideoX

from resim.world_model.model import WorldModel, full_size_encoder
from resim.world_model.pipeline import small_world_model
from resim.world_model.transformer import ReSimTransformer3DModel
from resim.world_model.vae import small_vae

LATENT_CHANNELS = 16  # of every VAE, CogVideoX's and the finished small one


@dataclass(frozen=True, kw_only=True)
class SmallSize:
    """What is chosen of :func:`resim.world_model.pipeline.small_pipeline`."""

    num_layers: int
    num_heads: int
    height_px: int = 64
    width_px: int = 112


TINY = SmallSize(num_layers=4, num_heads=8)
TINY_DEEP = replace(TINY, num_layers=6)
ABLATION = SmallSize(num_layers=2, num_heads=4)

Parts = tuple[WorldModel, AutoencoderKLCogVideoX]


def full_size() -> Parts:
    """CogVideoX-2B with what ReSim adds, and its VAE."""
    transformer = ReSimTransformer3DModel()
    return WorldModel(transformer, full_size_encoder(transformer)), AutoencoderKLCogVideoX()


def small(size: SmallSize) -> Parts:
    """An untrained small model and its VAE."""
    vae = small_vae(height_px=size.height_px, width_px=size.width_px, latent_channels=LATENT_CHANNELS)
    return small_world_model(vae, **asdict(size)), vae


# init_from of presets that no other preset writes -> how such a model is built, with random weights.
STARTS: dict[Path, Callable[[], Parts]] = {
    Path("checkpoints/CogVideoX-2b"): full_size,
    Path("outputs/tiny/init"): partial(small, TINY),
    Path("outputs/tiny/deep_init"): partial(small, TINY_DEEP),
    Path("checkpoints/tiny"): partial(small, TINY_DEEP),
    Path("outputs/ablations/seed0/init"): partial(small, ABLATION),
}
