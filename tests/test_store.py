"""The store of clips: what comes back, what is refused, and that nothing half-written stays."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from resim.data.latents import LatentCache, vae_fingerprint, write_latents
from resim.data.store import CLIPS_PER_SHARD, ClipStore, StoreWriter
from resim.datatypes.clip import Clip, Infractions
from resim.datatypes.geometry import simulation_camera

H, W = 32, 96
STRAIGHT = np.stack([5.0 * np.arange(1, 9), np.zeros(8), np.zeros(8)], axis=1)
LEFT = np.stack(
    [20 * np.sin(0.1 * np.arange(1, 9)), 20 * (1 - np.cos(0.1 * np.arange(1, 9))), 0.1 * np.arange(1, 9)], 1
)
CLEAN = Infractions(
    collision=False, off_road=False, red_light=False, wrong_way=True, too_slow=False, progress=0.9, score=0.6
)


def frames_of(k: int) -> np.ndarray:
    """49 frames whose shade tells clip and frame."""
    return np.stack([np.full((H, W, 3), (4 * k + 4 * t) % 252, np.uint8) for t in range(49)])


def write_store(path, num_clips=3, **fields):
    with StoreWriter(path, source="test", height_px=H, width_px=W, inputs=()) as store:
        for k in range(num_clips):
            store.add(frames_of(k), clip_id=f"clip{k}", scene_id=f"scene{k}", **fields)
    return ClipStore(path)


def test_what_comes_back(tmp_path):
    camera = simulation_camera(H, W)
    history = np.zeros((9, 3), np.float32)
    fields = {"driver": "expert", "waypoints": LEFT, "executed_waypoints": STRAIGHT, "history_poses": history}
    store = write_store(tmp_path / "store", CLIPS_PER_SHARD + 2, infractions=CLEAN, camera=camera, **fields)
    assert len(store) == CLIPS_PER_SHARD + 2 and len(store.shards) == 2
    clip = store.clips[-1]
    assert isinstance(clip, Clip)
    assert (clip.clip_id, clip.scene_id, clip.source) == ("clip33", "scene33", "test")
    assert (clip.video, clip.start_s, clip.command) == ("shards/00001.mp4", 4.9, "left")
    np.testing.assert_array_equal(clip.waypoints, LEFT.astype(np.float32))
    np.testing.assert_array_equal(clip.executed_waypoints, STRAIGHT.astype(np.float32))
    assert clip.infractions == CLEAN and clip.camera == asdict(camera)
    for k in (0, CLIPS_PER_SHARD - 1, CLIPS_PER_SHARD, CLIPS_PER_SHARD + 1):
        frames = store.read_frames(k, H, W)
        assert frames.shape == (49, H, W, 3) and frames.dtype == np.uint8
        assert np.abs(frames.astype(int) - frames_of(k)).max() <= 2
    assert store.read_frames(0, 16, 32).shape == (49, 16, 32, 3)
    store.verify()


def test_absence_comes_back_as_absence(tmp_path):
    clip = write_store(tmp_path / "store", 1).clips[0]
    for name in ("driver", "command", "waypoints", "executed_waypoints", "history_poses", "infractions", "camera"):
        assert getattr(clip, name) is None, name


def test_same_input_same_bytes(tmp_path):
    stores = [write_store(tmp_path / name, 2, waypoints=LEFT) for name in ("a", "b")]
    assert stores[0].shards == stores[1].shards
    assert stores[0].fingerprint == stores[1].fingerprint


def test_overwrite(tmp_path):
    write_store(tmp_path / "store")
    with pytest.raises(FileExistsError, match="exists already"):
        write_store(tmp_path / "store")
    with StoreWriter(tmp_path / "store", source="new", height_px=H, width_px=W, inputs=(), overwrite=True) as store:
        store.add(frames_of(0), clip_id="x", scene_id="x")
    assert [clip.source for clip in ClipStore(tmp_path / "store").clips] == ["new"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="it will not be overwritten"):
        StoreWriter(tmp_path / "mine", source="new", height_px=H, width_px=W, inputs=(), overwrite=True).__enter__()
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("frames", "fields", "message"),
    [
        (frames_of(0)[:48], {}, "clip bad: 48 frames; a clip has 49"),
        (frames_of(0)[:, :16], {}, r"clip bad: frame 0 has shape \(16, 96, 3\)"),
        (frames_of(0), {"waypoints": STRAIGHT * 100}, "clip bad: 1000 m/s .* centimetres"),
        (frames_of(0), {"history_poses": np.full((9, 3), np.nan)}, "clip bad: history_poses must be finite"),
        (frames_of(0), {"clip_id": "good"}, "clip good was added already"),
        (frames_of(0), {"camera": simulation_camera(64, 112)}, "camera of 64 x 112 pixels"),
    ],
)
def test_bad_clip_leaves_nothing(tmp_path, frames, fields, message):
    with (
        pytest.raises(ValueError, match=message),
        StoreWriter(tmp_path / "store", source="test", height_px=H, width_px=W, inputs=()) as store,
    ):
        store.add(frames_of(0), clip_id="good", scene_id="s")
        store.add(frames, **({"clip_id": "bad", "scene_id": "s"} | fields))
    assert list(tmp_path.iterdir()) == []


def test_empty_store_is_refused(tmp_path):
    with (
        pytest.raises(ValueError, match="no clip was added"),
        StoreWriter(tmp_path / "s", source="t", height_px=H, width_px=W, inputs=()),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_damage_is_found(tmp_path):
    shard = tmp_path / "store" / "shards" / "00000.mp4"
    store = write_store(tmp_path / "store")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"00000\.mp4: sha256 differs"):
        store.verify()
    shard.write_bytes(bytes(content[:-10]))
    with pytest.raises(ValueError, match=r"00000\.mp4: \d+ bytes, the index says \d+"):
        ClipStore(tmp_path / "store")
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=r"00000\.mp4: shard is missing"):
        ClipStore(tmp_path / "store")


def test_other_schema_version_is_refused(tmp_path):
    write_store(tmp_path / "store")
    index = tmp_path / "store" / "index.parquet"
    table = pq.read_table(index)
    meta = json.loads(table.schema.metadata[b"resim_store"])
    pq.write_table(table.replace_schema_metadata({b"resim_store": json.dumps(meta | {"schema_version": 99})}), index)
    with pytest.raises(ValueError, match="schema version 99, this code reads 1"):
        ClipStore(tmp_path / "store")
    pq.write_table(table.replace_schema_metadata(None), index)
    with pytest.raises(ValueError, match="not the index of a store"):
        ClipStore(tmp_path / "store")
    with pytest.raises(FileNotFoundError, match="no store of clips here"):
        ClipStore(tmp_path)


BAD_NAMES = ["", ".", "..", "../x", "/srv/x", "a/b", "a\\b", "a\0b", "a\nb"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_ids_are_plain_names(tmp_path, name):
    for field in ("clip_id", "scene_id"):
        with (
            pytest.raises(ValueError, match=f"store: {field} .*is .*: give a plain name"),
            StoreWriter(tmp_path / "store", source="test", height_px=H, width_px=W, inputs=()) as store,
        ):
            store.add(frames_of(0), **({"clip_id": "c", "scene_id": "s"} | {field: name}))
    with pytest.raises(ValueError, match="store: source is .*: give a plain name"):
        StoreWriter(tmp_path / "store", source=name, height_px=H, width_px=W, inputs=())
    assert list(tmp_path.iterdir()) == []


def forge(store, *, shard=None, **fields):
    """Rewrite the index of a store, as somebody with a text editor might."""
    index = store / "index.parquet"
    table = pq.read_table(index)
    meta = json.loads(table.schema.metadata[b"resim_store"])
    if shard is not None:
        meta["shards"] = {shard: next(iter(meta["shards"].values()))}
    rows = [row | fields for row in table.to_pylist()]
    schema = table.schema.with_metadata({b"resim_store": json.dumps(meta)})
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), index)


@pytest.mark.parametrize("name", [*BAD_NAMES, None])
@pytest.mark.parametrize("field", ["clip_id", "scene_id", "source"])
def test_a_forged_name_is_refused(tmp_path, field, name):
    write_store(tmp_path / "store", 1)
    forge(tmp_path / "store", **{field: name})
    with pytest.raises(ValueError, match=rf"index\.parquet: {field} of row 0 is .*: give a plain name"):
        ClipStore(tmp_path / "store")


@pytest.mark.parametrize("name", ["../x.mp4", "{}/x.mp4", "shards/../../x.mp4", "", "shards//x.mp4", "shards/\0.mp4"])
def test_a_forged_shard_is_refused(tmp_path, name):
    write_store(tmp_path / "store", 1)
    shutil.copy(tmp_path / "store" / "shards" / "00000.mp4", tmp_path / "x.mp4")
    name = name.format(tmp_path)
    forge(tmp_path / "store", video=name)
    with pytest.raises(ValueError, match=r"index\.parquet: video of row 0 is .* no shard of it"):
        ClipStore(tmp_path / "store")
    forge(tmp_path / "store", video=name, shard=name)
    with pytest.raises(ValueError, match=r"index\.parquet: shard .*: give a plain name"):
        ClipStore(tmp_path / "store")


def test_a_link_out_of_the_store_is_refused(tmp_path):
    write_store(tmp_path / "store", 1)
    shard = tmp_path / "store" / "shards" / "00000.mp4"
    (tmp_path / "link").symlink_to("store")
    shard.rename(shard.with_name("moved.mp4"))
    shard.symlink_to("moved.mp4")
    assert len(ClipStore(tmp_path / "link")) == 1  # neither of these links leads out
    shard.with_name("moved.mp4").rename(tmp_path / "x.mp4")
    shard.unlink()
    shard.symlink_to(tmp_path / "x.mp4")
    with pytest.raises(
        ValueError, match=r"shard 'shards/00000\.mp4' is a link that leads out of .*store: put the file"
    ):
        ClipStore(tmp_path / "store")


def encode(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A stand-in VAE: the mean shade of every fourth frame, with standard deviation 1/2."""
    mean = frames[:, ::4].float().mean(dim=(2, 3, 4)).reshape(-1, 13, 1, 1, 1).expand(-1, 13, 4, 8, 8)
    return mean, torch.full_like(mean, 0.5)


def test_latents(tmp_path):
    store = write_store(tmp_path / "store", CLIPS_PER_SHARD + 1)
    size = {"height_px": H, "width_px": W}
    with pytest.raises(FileNotFoundError, match="no cached latents"):
        LatentCache(store, fingerprint="vae1", **size)
    write_latents(store, encode, fingerprint="vae1", inputs=(), batch_size=3, **size)
    cache = LatentCache(store, fingerprint="vae1", **size)
    for index in (0, CLIPS_PER_SHARD - 1, CLIPS_PER_SHARD):
        latents = cache.read(index, seed=1)
        assert torch.equal(latents, cache.read(index, seed=1))
        assert not torch.equal(latents, cache.read(index, seed=2))
        mean = encode(torch.from_numpy(store.read_frames(index, H, W))[None])[0][0].bfloat16()
        noise = (latents - mean) / 0.5
        assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
    with pytest.raises(FileExistsError):
        write_latents(store, encode, fingerprint="vae1", inputs=(), **size)
    with pytest.raises(ValueError, match="--batch_size 0: at least 1"):
        write_latents(store, encode, fingerprint="vae1", inputs=(), batch_size=0, overwrite=True, **size)
    with pytest.raises(ValueError, match="stale, made with vae vae1, needed vae2"):
        LatentCache(store, fingerprint="vae2", **size)
    with pytest.raises(ValueError, match="made with height_px 32, needed 64"):
        LatentCache(store, fingerprint="vae1", height_px=64, width_px=W)


def test_vae_fingerprint_follows_config_and_weights(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"_diffusers_version": "1", "latent_channels": 16}))
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(b"weights")
    first = vae_fingerprint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"latent_channels": 16, "_diffusers_version": "2"}))
    assert vae_fingerprint(tmp_path) == first
    weights.write_bytes(b"Weights")
    assert vae_fingerprint(tmp_path) != first
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="no VAE here"):
        vae_fingerprint(tmp_path)
