"""Video2Reward: what it looks at, that its features can be kept, and where its eye's weights come from."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional

from resim.data.drives import LABELS, DriveData, collate_drives
from resim.data.store import StoreWriter
from resim.datatypes.clip import Infractions
from resim.judges.features import FeatureCache
from resim.judges.video2reward import SpaceTimeBlock, Video2Reward
from resim.runtime.fit import FitConfig, load_trained
from resim.runtime.optim import OptimConfig
from resim.training.judges import DrivesConfig, fit_judge

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "train"))
import train_video2reward as script  # noqa: E402

CLEAN = Infractions(
    collision=False, off_road=False, red_light=False, wrong_way=False, too_slow=False, progress=1.0, score=1.0
)
VIT = {"patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2}


def small_model() -> Video2Reward:
    torch.manual_seed(0)
    return Video2Reward(
        LABELS,
        vit="vit_tiny_patch16_224",
        vit_options=VIT,
        height_px=16,
        width_px=32,
        width=32,
        num_layers=1,
        num_heads=2,
    )


def random_clips(num_clips: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num_clips, 49, 3, 16, 32), dtype=torch.uint8, generator=generator)


def test_it_looks_at_every_half_second_of_the_future():
    model, clips = small_model().eval(), random_clips(1)
    with torch.no_grad():
        reward = model(clips)
        assert reward.shape == (1,) and 0 < reward.item() < 1
        for frame in range(49):
            changed = clips.clone()
            changed[:, frame] = 255 - changed[:, frame]
            assert torch.equal(model(changed), reward) == (frame not in (8, 13, 18, 23, 28, 33, 38, 43, 48))


def test_kept_features_give_the_same_reward():
    model, clips = small_model().eval(), random_clips(3)
    with torch.no_grad():
        features = model.features(clips)
        assert features.shape == (3, 9, 2 * 4, 32)
        assert torch.equal(model.logits_of(features).sigmoid()[:, -1], model(clips))
        assert torch.allclose(model.logits_of(features[1:2]).sigmoid(), model.infractions(clips)[1:2], atol=1e-6)


def test_clips_of_any_size_are_resized():
    model = small_model().eval()
    clips = random_clips(1)
    plain = clips[..., :1, :1]  # one colour a frame, which no resizing changes
    with torch.no_grad():
        small, large = model(plain.expand(1, 49, 3, 16, 32)), model(plain.expand(1, 49, 3, 48, 80))
        assert torch.allclose(small, large, atol=1e-5) and not torch.allclose(small, model(clips), atol=1e-5)
    with pytest.raises(ValueError, match="got torch.uint8 \\(1, 40, 3, 16, 32\\)"):
        model(clips[:, :40])


def test_space_and_time_are_attended_in_turn():
    """A change of one token reaches its frame and its place in one block, and everything in two."""
    torch.manual_seed(0)
    tokens = torch.randn(1, 3, 4, 8)
    changed = tokens.clone()
    changed[0, 1, 2] += torch.randn(8)  # not a constant, which the LayerNorm would take away
    one, two = SpaceTimeBlock(8, 2), SpaceTimeBlock(8, 2)
    with torch.no_grad():
        space = (one.space(tokens.flatten(0, 1)) - one.space(changed.flatten(0, 1))).abs().sum(-1).view(3, 4)
        both = (two(one(tokens)) - two(one(changed))).abs().sum(-1)[0]
    assert (space[1] > 0).all() and (space[[0, 2]] == 0).all()
    assert (both > 0).all()


def test_the_eyes_weights_come_from_a_local_file_or_one_clear_line(tmp_path, monkeypatch):
    model = Video2Reward(LABELS, vit="test_vit", height_px=64, width_px=64, width=32, num_heads=2)
    pretrained = timm.create_model("test_vit", img_size=(64, 64), num_classes=0)
    save_file(pretrained.state_dict(), tmp_path / "vit.safetensors")
    model.load_eye(str(tmp_path / "vit.safetensors"))
    for name, weight in pretrained.state_dict().items():
        assert torch.equal(model.eye.state_dict()[name], weight), name
    with pytest.raises(OSError, match="missing.safetensors.*--vit_weights"):
        model.load_eye(str(tmp_path / "missing.safetensors"))
    with pytest.raises(ValueError, match="safetensors"):
        model.load_eye(str(tmp_path / "vit.bin"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(OSError, match="test_vit could not be loaded from the hub.*--vit_weights"):
        model.load_eye(None)


@pytest.fixture
def drives(tmp_path) -> Path:
    """Bright clips are clean, dark ones are not."""
    with StoreWriter(tmp_path / "store", source="test", height_px=16, width_px=32, inputs=()) as store:
        for i in range(8):
            score = i / 7
            frames = np.full((49, 16, 32, 3), int(30 + 200 * score), dtype=np.uint8)
            waypoints = np.stack([5.0 * np.arange(1, 9), np.zeros(8), np.zeros(8)], axis=-1)
            infractions = replace(CLEAN, off_road=True, score=score)
            store.add(frames, clip_id=str(i), scene_id=str(i), executed_waypoints=waypoints, infractions=infractions)
    return tmp_path / "store"


def on(drives: Path) -> DrivesConfig:
    return DrivesConfig(stores=(drives,), held_out=drives, num_validation_clips=8)


def config_for(output_dir: Path) -> FitConfig:
    return FitConfig(
        output_dir=output_dir,
        max_train_steps=40,
        train_batch_size=8,
        optim=OptimConfig(learning_rate=2e-3, max_grad_norm=1.0),
        checkpointing_steps=40,
        dataloader_num_workers=0,
    )


def test_it_learns_the_score_and_comes_back(drives, tmp_path):
    model = small_model()
    found = fit_judge(model, on(drives), config_for(tmp_path / "out"), plain_loss, script.evaluate)
    assert found["mse"] < 0.2 * found["mse_of_the_mean"] and found["ordered_pairs"] == 1.0
    again, clips = Video2Reward.from_pretrained(tmp_path / "out" / "model").eval(), random_clips(2)
    with torch.no_grad():
        assert torch.equal(again(clips), model.eval()(clips))


def test_the_tiny_network_takes_up_its_shipped_weights():
    """Its options are tuples in Python and lists in the file, in another order."""
    shipped = Path(__file__).resolve().parent.parent / "checkpoints" / "tiny" / "video2reward"
    model = script.build(script.Video2RewardArgs(), seed=0)
    load_trained(model, shipped)
    expected = Video2Reward.from_pretrained(shipped, torch_dtype=torch.float32).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_kept_features_and_weights_learnt_before_are_not_mixed(drives, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "build", lambda args, seed: small_model())
    args = script.Video2RewardArgs(vit="vit_small_patch14_dinov2", feature_cache=tmp_path / "features")
    config = replace(config_for(tmp_path / "out"), init_from=tmp_path)
    with pytest.raises(ValueError, match="give one of the two"):
        script.train_video2reward(args, on(drives), config)


def plain_loss(model, drives, generator):
    return functional.mse_loss(model(drives.frames_BTCHW), drives.score_B)


def test_a_frozen_eye_is_asked_once_and_the_head_learns_from_what_it_said(drives, tmp_path, monkeypatch):
    model = small_model()
    model.eye.requires_grad_(False)
    before = {name: value.clone() for name, value in model.eye.state_dict().items()}
    cache = FeatureCache(tmp_path / "features", model)
    asked = []
    see = model.features
    monkeypatch.setattr(model, "features", lambda frames: asked.append(len(frames)) or see(frames))
    config = config_for(tmp_path / "out")
    found = fit_judge(model, on(drives), config, script.make_loss(cache), script.evaluate)
    assert sum(asked) == 8 + 8  # eight clips, once for training and once for the only measurement
    assert found["mse"] < 0.3 * found["mse_of_the_mean"]
    assert all(torch.equal(value, before[name]) for name, value in model.eye.state_dict().items())
    clips = random_clips(2)
    kept = FeatureCache(tmp_path / "features", model)(clips, ["new", "other"]).float()
    assert torch.allclose(kept, model.features(clips), atol=5e-3)  # kept in half precision


def test_features_of_another_eye_are_refused(tmp_path):
    model = small_model()
    FeatureCache(tmp_path, model)
    FeatureCache(tmp_path, small_model())  # the same weights
    with torch.no_grad():
        next(model.eye.parameters()).add_(1.0)
    with pytest.raises(ValueError, match="holds the features of another eye"):
        FeatureCache(tmp_path, model)


@pytest.mark.parametrize("name", ["../x", "/srv/x", "a/b", "", "a\0b"])
def test_features_stay_in_their_folder(tmp_path, name):
    cache = FeatureCache(tmp_path / "features", small_model())
    with pytest.raises(ValueError, match="features: clip_id is .*: give a plain name"):
        cache(random_clips(1), [name])
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["eye.json", "features"]


def test_kept_clips_are_decoded_once(drives, monkeypatch):
    size = {"seed": 0, "height_px": 16, "width_px": 32}
    kept, fresh = DriveData([drives], **size, keep_in_memory=True), DriveData([drives], **size)
    decoded = []
    read = kept.stores[0].read_frames
    monkeypatch.setattr(kept.stores[0], "read_frames", lambda index, *px: decoded.append(index) or read(index, *px))
    for n in range(16):  # two epochs of eight clips
        assert torch.equal(kept[n][0], fresh[n][0])
    assert sorted(decoded) == list(range(8))


def test_the_loss_is_that_of_the_score_and_of_the_mean_over_what_it_comes_from(drives, tmp_path):
    model, data = small_model(), DriveData([drives], seed=0, height_px=16, width_px=32)
    batch, cache = collate_drives([data[i] for i in range(4)]), FeatureCache(tmp_path / "features", model)
    dark, bright = batch.infractions_BL[batch.score_B.argmin()], batch.infractions_BL[batch.score_B.argmax()]
    assert LABELS == ("collision", "off_road", "red_light", "wrong_way", "too_slow", "progress", "score")
    assert dark[:6].tolist() == bright[:6].tolist() == [0, 1, 0, 0, 0, 1] and dark[6] < bright[6]
    with torch.no_grad():
        loss = script.make_loss(cache)(model, batch, torch.Generator())
        said = model.logits_of(cache(batch.frames_BTCHW, batch.clip_id).float()).sigmoid()
    error = -(batch.infractions_BL * said.log() + (1 - batch.infractions_BL) * (1 - said).log()).mean(0)
    assert loss.item() == pytest.approx((error[6] + error[:6].mean()).item(), rel=1e-4)


def test_the_names_in_the_config_say_which_output_is_which(drives):
    """As when fields have come or moved since a model was trained: neither its reward nor its loss changes."""
    model, clips = small_model().eval(), random_clips(2)
    moved = tuple(reversed(LABELS))
    other = Video2Reward(**({**model.config} | {"outputs": moved})).eval()
    weights = model.state_dict()
    last = {name: value.flip(0) for name, value in weights.items() if name.startswith("head.2.")}
    other.load_state_dict(weights | last)
    data = DriveData([drives], seed=0, height_px=16, width_px=32)
    batch, loss = collate_drives([data[i] for i in range(4)]), script.make_loss(None)
    with torch.no_grad():
        assert torch.allclose(other(clips), model(clips), atol=1e-6)
        losses = [loss(one, batch, torch.Generator().manual_seed(0)).item() for one in (model, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    with pytest.raises(ValueError, match="outputs are collision: 'score' must be among them"):
        Video2Reward(("collision",))


def test_training_sees_blurred_copies(drives, tmp_path):
    model, data = small_model(), DriveData([drives], seed=0, height_px=16, width_px=32)
    batch, loss = collate_drives([data[i] for i in range(4)]), script.make_loss(None)
    first, again, other = (loss(model, batch, torch.Generator().manual_seed(s)).item() for s in (0, 0, 1))
    assert first == again != other
