"""data_prep/cache_latents.py and data_prep/check.py on a small store and a real, tiny VAE."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLCogVideoX

from data_prep.cache_latents import CacheArgs, cache_latents
from data_prep.check import CheckArgs, check
from resim.data.latents import LatentCache, vae_fingerprint
from resim.data.store import ClipStore, StoreWriter
from resim.world_model.latents import encode_frames

H, W = 16, 80


@pytest.fixture
def store(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (2, 49, H, W, 3), dtype=np.uint8)
    with StoreWriter(tmp_path / "store", source="test", height_px=H, width_px=W) as writer:
        for k in range(2):
            writer.add(frames[k], clip_id=f"c{k}", scene_id="s", waypoints=np.zeros((8, 3)))
    return ClipStore(tmp_path / "store")


def test_cached_latents_are_the_vaes(tmp_path, store):
    torch.manual_seed(0)
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 3,
        up_block_types=("CogVideoXUpBlock3D",) * 3,
        block_out_channels=(8, 8, 8),
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
        temporal_compression_ratio=4,
        scaling_factor=0.7,
        latents_mean=(0.1, -0.2, 0.3, 0.0),
        latents_std=(0.5, 1.0, 2.0, 3.0),
    )
    vae.save_pretrained(tmp_path / "vae")
    cache_latents(CacheArgs(stores=(store.path,), vae=tmp_path / "vae", device="cpu"))
    cache = LatentCache(store, fingerprint=vae_fingerprint(tmp_path / "vae"), height_px=H, width_px=W)
    frames_BTCHW = torch.from_numpy(store.read_frames(1, H, W)).permute(0, 3, 1, 2)[None]
    mean = encode_frames(vae, frames_BTCHW)[0]
    cached = torch.stack([cache.read(1, seed) for seed in range(64)])
    assert cached.shape[1:] == mean.shape == (13, 4, H // 4, W // 4)
    spread = cached.std(dim=0)
    assert torch.all((cached.mean(dim=0) - mean).abs() < 6 * spread / 8 + 0.02 * mean.abs() + 1e-3)
    assert spread.mean() > 0.1


def test_check(store, capsys):
    check(CheckArgs(stores=(store.path,)))
    assert "2 clips of 16 x 80" in capsys.readouterr().out
    shard = store.path / "shards" / "00000.mp4"
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    with pytest.raises(SystemExit, match=r"00000\.mp4: sha256 differs"):
        check(CheckArgs(stores=(store.path,)))
