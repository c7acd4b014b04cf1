"""Order and dropout: pure functions of (seed, position), with the shares that the entries ask for."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from resim.data.collate import collate
from resim.data.mixture import MixtureEntry, RankBatchSampler, TrainingData
from resim.data.store import ClipStore, StoreWriter
from resim.datatypes.clip import SCENE_PROMPT, Infractions

H, W = 16, 80
TURN = np.stack(
    [20 * np.sin(0.1 * np.arange(1, 9)), 20 * (1 - np.cos(0.1 * np.arange(1, 9))), 0.1 * np.arange(1, 9)], 1
)
STRAIGHT = np.stack([5.0 * np.arange(1, 9), np.zeros(8), np.zeros(8)], axis=1)
FRAMES = np.zeros((49, H, W, 3), np.uint8)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """'logs': 4 straight, 1 left turn; 'simulation': 3 straight with a score; 'video': 2 without waypoints."""
    root = tmp_path_factory.mktemp("stores")
    score = Infractions(
        collision=True, off_road=False, red_light=False, wrong_way=False, too_slow=False, progress=0.5, score=0.25
    )
    contents = {
        "logs": [{"waypoints": STRAIGHT}] * 4 + [{"waypoints": TURN}],
        "simulation": [{"waypoints": STRAIGHT, "infractions": score}] * 3,
        "video": [{"command": "left"}, {}],
    }
    for name, clips in contents.items():
        with StoreWriter(root / name, source=name, height_px=H, width_px=W, inputs=()) as store:
            for k, fields in enumerate(clips):
                store.add(FRAMES, clip_id=f"{name}{k}", scene_id=str(k), **fields)
    return root


def entry(stores, name, weight=1.0, trajectory_dropout=0.0, turn_repeats=5):
    return MixtureEntry(
        name=name,
        store=stores / name,
        weight=weight,
        trajectory_dropout=trajectory_dropout,
        turn_repeats=turn_repeats,
    )


def data_of(entries, seed=0, **options):
    return TrainingData(entries, seed=seed, height_px=H, width_px=W, **options)


def test_weights_multiply_lengths_and_turns_repeat(stores):
    data = data_of([entry(stores, "logs", 2.0), entry(stores, "simulation", 1.5), entry(stores, "video", 0.0)])
    counts = Counter(map(tuple, data.epoch_order(3).tolist()))
    assert all(counts[0, c] == 2 for c in range(4)) and counts[0, 4] == 10  # the turn comes 5 times as often
    assert sum(n for (e, _), n in counts.items() if e == 1) == 3 + 2  # and two of three once more
    assert {counts[1, c] for c in range(3)} == {1, 2}
    assert not any(e == 2 for e, _ in counts)
    assert data.epoch_length == 18 + 5
    assert data.table()["logs"] == {"clips": 5, "per_epoch": 18, "share": 18 / 23}
    once = data_of([entry(stores, "logs", turn_repeats=1)])
    assert sorted(once.epoch_order(0)[:, 1]) == [0, 1, 2, 3, 4]


def test_order_is_a_function_of_seed_and_epoch(stores):
    entries = [entry(stores, "logs", 3.0), entry(stores, "simulation")]
    one, two = data_of(entries), data_of(entries)
    two.epoch_order(5)  # what was asked before does not matter
    np.testing.assert_array_equal(one.epoch_order(1), two.epoch_order(1))
    assert not np.array_equal(one.epoch_order(0), one.epoch_order(1))
    assert not np.array_equal(one.epoch_order(0), data_of(entries, seed=1).epoch_order(0))


def same(a, b) -> bool:
    tensors = all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("frames", "waypoints", "has_waypoints"))
    return tensors and (a.prompt, a.clip_id, a.source) == (b.prompt, b.clip_id, b.source)


def test_resume_and_ranks_see_the_same_run(stores):
    """Two ranks of 2 see the positions of one rank of 4; a run from step 3 on sees what the whole run saw."""
    data = data_of([entry(stores, "logs", 1.0, 0.5), entry(stores, "video")])

    def batches(start, steps, size, rank=0, world=1, workers=0):
        sampler = RankBatchSampler(start_step=start, num_steps=steps, batch_size=size, rank=rank, world_size=world)
        assert len(sampler) == steps
        return list(DataLoader(data, batch_sampler=sampler, collate_fn=collate, num_workers=workers))

    whole = batches(0, 5, 4)
    assert all(same(a, b) for a, b in zip(whole[3:], batches(3, 2, 4), strict=True))
    assert all(same(a, b) for a, b in zip(whole, batches(0, 5, 4, workers=1), strict=True))
    halves = zip(batches(0, 5, 2, 0, 2), batches(0, 5, 2, 1, 2), strict=True)
    for together, (a, b) in zip(whole, halves, strict=True):
        assert together.clip_id == a.clip_id + b.clip_id
        assert torch.equal(together.waypoints, torch.cat([a.waypoints, b.waypoints]))


def test_dropout_rates(stores, monkeypatch):
    monkeypatch.setattr(ClipStore, "read_frames", lambda *_: FRAMES)
    data = data_of([entry(stores, "logs", 1.0, 0.5)])
    samples = [data[n] for n in range(600)]
    three_sigma = 3 * np.sqrt(0.25 / 600)
    given = [s for s in samples if s.has_waypoints]
    assert abs(len(given) / 600 - 0.5) < three_sigma
    assert all(torch.equal(s.waypoints, torch.zeros(8, 3)) for s in samples if not s.has_waypoints)
    turns = [s for s in given if s.clip_id == "logs4"]
    assert abs(np.mean([bool((s.waypoints[:, 2] == 0).all()) for s in turns]) - 0.5) < 3 * np.sqrt(0.25 / len(turns))
    assert all(torch.equal(s.waypoints[:, :2], torch.from_numpy(TURN[:, :2]).float()) for s in turns)
    assert abs(np.mean([s.prompt == "" for s in samples]) - 0.2) < 3 * np.sqrt(0.16 / 600)
    told = [s.prompt for s in samples if s.prompt]
    assert abs(np.mean([p == SCENE_PROMPT for p in told]) - 0.5) < 3 * np.sqrt(0.25 / len(told))
    sentences = {s.clip_id: s.prompt for s in samples if s.prompt not in ("", SCENE_PROMPT)}
    assert sentences["logs4"].endswith("Turning left.") and sentences["logs0"].endswith("Moving forward.")


def test_explicit_zero_stays_zero(stores):
    data = data_of([entry(stores, "logs", 1.0, 0.0)], text_dropout=0.0, command_dropout=0.0, heading_dropout=0.0)
    for n in range(50):
        sample = data[n]
        assert sample.has_waypoints and len(sample.prompt) > len(SCENE_PROMPT)
        assert (sample.clip_id == "logs4") == bool(sample.waypoints[-1, 2] > 0)
    assert not any(data_of([entry(stores, "logs", 1.0, 1.0)])[n].has_waypoints for n in range(50))


def test_absence_is_a_flag(stores):
    data = data_of(
        [entry(stores, "simulation"), entry(stores, "video", turn_repeats=1)], text_dropout=0, command_dropout=0
    )
    batch = collate([data[n] for n in range(5)])
    for i, source in enumerate(batch.source):
        assert bool(batch.has_waypoints[i]) == (source == "simulation")
    prompts = dict(zip(batch.clip_id, batch.prompt, strict=True))
    assert prompts["video0"].endswith("Turning left.") and prompts["video1"] == SCENE_PROMPT


def test_bad_mixtures_are_named(stores):
    with pytest.raises(ValueError, match="mixture is empty"):
        data_of([entry(stores, "logs", 0.0)])
    with pytest.raises(ValueError, match="different names, got logs, logs"):
        data_of([entry(stores, "logs"), entry(stores, "logs")])
    with pytest.raises(ValueError, match=r"mixture entry logs: weight -1"):
        entry(stores, "logs", -1.0)
    with pytest.raises(ValueError, match="use_latents needs vae_fingerprint"):
        data_of([entry(stores, "logs")], use_latents=True)
    with pytest.raises(FileNotFoundError, match="absent: no store of clips"):
        data_of([entry(stores, "absent")])
