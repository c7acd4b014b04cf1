"""data_prep/cache_latents.py, reconstruct.py and check.py on a small store and a real, tiny VAE."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLCogVideoX

from data_prep.cache_latents import CacheArgs, cache_latents
from data_prep.check import CheckArgs, check
from data_prep.reconstruct import ReconstructArgs, reconstruct
from resim.data.latents import LatentCache, vae_fingerprint
from resim.data.store import ClipStore, StoreWriter
from resim.world_model.latents import decode_latents, encode_frames

H, W = 16, 80


@pytest.fixture
def store(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (2, 49, H, W, 3), dtype=np.uint8)
    with StoreWriter(tmp_path / "store", source="test", height_px=H, width_px=W, inputs=()) as writer:
        for k in range(2):
            writer.add(frames[k], clip_id=f"c{k}", scene_id="s", waypoints=np.zeros((8, 3)))
    return ClipStore(tmp_path / "store")


@pytest.fixture
def vae(tmp_path):
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
    return vae


@pytest.mark.parametrize("batch_size", [1, 2])
def test_cached_latents_are_the_vaes(tmp_path, store, vae, batch_size):
    cache_latents(CacheArgs(stores=(store.path,), vae=tmp_path / "vae", device="cpu", batch_size=batch_size))
    cache = LatentCache(store, fingerprint=vae_fingerprint(tmp_path / "vae"), height_px=H, width_px=W)
    frames_BTCHW = torch.from_numpy(store.read_frames(1, H, W)).permute(0, 3, 1, 2)[None]
    mean = encode_frames(vae, frames_BTCHW)[0]
    cached = torch.stack([cache.read(1, seed) for seed in range(64)])
    assert cached.shape[1:] == mean.shape == (13, 4, H // 4, W // 4)
    spread = cached.std(dim=0)
    assert torch.all((cached.mean(dim=0) - mean).abs() < 6 * spread / 8 + 0.02 * mean.abs() + 1e-3)
    assert spread.mean() > 0.1


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_reconstructed_store_shows_the_decoded_means_under_the_same_labels(tmp_path, store, vae, batch_size):
    args = ReconstructArgs(
        store=store.path, vae=tmp_path / "vae", output_dir=tmp_path / "copy", device="cpu", batch_size=batch_size
    )
    with pytest.raises(FileNotFoundError, match="no cached latents"):
        reconstruct(args)
    assert not args.output_dir.exists()
    cache_latents(CacheArgs(stores=(store.path,), vae=tmp_path / "vae", device="cpu"))
    reconstruct(args)
    copy = ClipStore(args.output_dir)
    for index, (clip, original) in enumerate(zip(copy.clips, store.clips, strict=True)):
        assert (clip.clip_id, clip.scene_id) == (original.clip_id, original.scene_id)
        assert np.array_equal(clip.waypoints, original.waypoints)
        frames_BTCHW = torch.from_numpy(store.read_frames(index, H, W)).permute(0, 3, 1, 2)[None]
        expected = decode_latents(vae, encode_frames(vae, frames_BTCHW))[0].permute(0, 2, 3, 1).float().numpy()
        shown = copy.read_frames(index, H, W).astype(np.float32)
        assert np.abs(shown - expected).mean() < 4  # grey levels: bfloat16 latents, and the copy's mp4
        assert np.abs(store.read_frames(index, H, W) - expected).mean() > 20


def test_nothing_that_is_read_or_of_another_kind_is_overwritten(tmp_path, store, vae):
    cache = CacheArgs(stores=(store.path,), vae=tmp_path / "vae", device="cpu")
    copy = ReconstructArgs(
        store=store.path, vae=tmp_path / "vae", output_dir=store.path, device="cpu", overwrite=True
    )  # fmt: skip
    cache_latents(cache)
    latents = store.path / "latents"
    for args, message in (
        (copy, "store holds .*store, which this command reads"),
        (replace(copy, output_dir=latents), "latents is no store of clips that this program marked"),
        (replace(copy, output_dir=tmp_path / "vae"), "vae holds .*vae, which this command reads"),
    ):
        with pytest.raises((ValueError, FileExistsError), match=message):
            reconstruct(args)
    shutil.copytree(tmp_path / "vae", latents / "vae")
    with pytest.raises(ValueError, match="latents holds .*vae, which this command reads"):
        cache_latents(replace(cache, vae=latents / "vae", overwrite=True))
    (latents / ".resim.json").unlink()  # of an earlier release
    with pytest.raises(FileExistsError, match="latents is no latents that this program marked"):
        cache_latents(replace(cache, overwrite=True))
    assert (latents / "vae").is_dir() and (latents / "index.json").is_file() and (tmp_path / "vae").is_dir()
    shutil.rmtree(latents)
    for _ in range(2):
        cache_latents(replace(cache, overwrite=True))


def test_check(store, capsys):
    check(CheckArgs(stores=(store.path,)))
    assert "2 clips of 16 x 80" in capsys.readouterr().out
    shard = store.path / "shards" / "00000.mp4"
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    with pytest.raises(SystemExit, match=r"00000\.mp4: sha256 differs"):
        check(CheckArgs(stores=(store.path,)))
