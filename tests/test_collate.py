"""Batches and waypoints: every kind of bad input is one line that names the clip and the value."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resim.data.batch import Batch
from resim.data.checks import load_waypoints, validate_waypoints
from resim.data.collate import Sample, collate

SAMPLE = Sample(
    frames=torch.zeros(49, 3, 8, 8, dtype=torch.uint8),
    latents=None,
    waypoints=torch.ones(8, 3),
    has_waypoints=True,
    prompt="a",
    source="logs",
    clip_id="c7",
)
LATENTS = torch.zeros(13, 4, 2, 2)


def path(speed_mps: float, yaw_rate_radps: float, initial_yaw_radps: float = 0.0) -> np.ndarray:
    """Waypoints of a rear axle whose yaw rate changes steadily, integrated in small steps."""
    t = np.linspace(0, 4, 4001)
    heading = initial_yaw_radps * t + (yaw_rate_radps - initial_yaw_radps) * t**2 / 8
    x = np.concatenate([[0], np.cumsum(speed_mps * np.cos(heading[:-1])) * 1e-3])
    y = np.concatenate([[0], np.cumsum(speed_mps * np.sin(heading[:-1])) * 1e-3])
    rows = np.arange(1, 9) * 500
    return np.stack([x, y, np.angle(np.exp(1j * heading))], axis=1)[rows]


def test_collate():
    batch = collate([SAMPLE, replace(SAMPLE, has_waypoints=False, clip_id="c8")])
    assert isinstance(batch, Batch) and batch.size == 2
    assert batch.frames.shape == (2, 49, 3, 8, 8) and batch.frames.dtype == torch.uint8 and batch.latents is None
    assert batch.waypoints.dtype == torch.float32 and batch.has_waypoints.tolist() == [True, False]
    assert batch.clip_id == ("c7", "c8")
    assert collate([replace(SAMPLE, frames=None, latents=LATENTS)]).latents.shape == (1, 13, 4, 2, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents": LATENTS}, "exactly one of frames and latents"),
        ({"frames": None}, "exactly one of frames and latents"),
        ({"frames": torch.zeros(48, 3, 8, 8, dtype=torch.uint8)}, "frames are torch.uint8"),
        ({"frames": torch.zeros(49, 3, 8, 8)}, "frames are torch.float32"),
        ({"frames": None, "latents": LATENTS / 0}, "latents hold NaN"),
        ({"waypoints": torch.zeros(7, 3)}, "waypoints are"),
        ({"waypoints": torch.full((8, 3), torch.nan)}, "waypoints hold NaN"),
        ({"frames": torch.zeros(49, 3, 8, 16, dtype=torch.uint8)}, "in a batch with .* of logs clip c7"),
    ],
)
def test_bad_sample_is_named(change, message):
    with pytest.raises(ValueError, match=f"^logs clip bad: .*{message}"):
        collate([SAMPLE, replace(SAMPLE, clip_id="bad", **change)])


@given(
    speed=st.floats(-3, 40),
    rate=st.floats(-0.6, 0.6),
    initial=st.floats(-0.6, 0.6),
)
def test_every_drivable_path_passes(speed, rate, initial):
    """Speeds to 40 m/s, also slowly backwards, and yaw rates to 0.6 rad/s."""
    waypoints = path(speed, rate, initial)
    np.testing.assert_array_equal(validate_waypoints(waypoints, what="w"), waypoints.astype(np.float32))


@given(speed=st.floats(4, 25), rate=st.floats(0.06, 0.5), sign=st.sampled_from([-1, 1]))
def test_other_conventions_are_named(speed, rate, sign):
    waypoints = path(speed, sign * rate, sign * rate)
    with pytest.raises(ValueError, match="w: .*y to the right"):
        validate_waypoints(waypoints * [1, -1, 1], what="w")
    with pytest.raises(ValueError, match="w: .*centimetres"):
        validate_waypoints(waypoints * [100, 100, 1], what="w")
    with pytest.raises(ValueError, match="w: .*degrees"):
        validate_waypoints(waypoints * [1, 1, 180 / np.pi], what="w")


@pytest.mark.parametrize(
    ("waypoints", "message"),
    [
        (np.zeros((7, 3)), r"shape \(7, 3\); needed are 8 rows"),
        (np.zeros((8, 2)), r"shape \(8, 2\)"),
        (np.where(np.arange(24).reshape(8, 3) == 7, np.nan, 0), "waypoint 2 column 1 is nan"),
        (path(10, 0.01) * [1, 1, 180 / np.pi], "degrees"),  # a nearly straight drive: at most 2.3 'radians'
        (path(10, 0.2) * [1, 1, 0], "heading is 0 degrees"),
    ],
)
def test_bad_waypoints_are_named(waypoints, message):
    with pytest.raises(ValueError, match=f"^w: .*{message}"):
        validate_waypoints(waypoints, what="w")


def test_standing_still_is_a_path():
    validate_waypoints(np.zeros((8, 3)), what="w")


def test_load_waypoints(tmp_path):
    waypoints = path(10, 0.1).astype(np.float32)
    rows = waypoints.tolist()
    text = "".join(f"{x},{y},{h}\n" for x, y, h in rows)
    contents = {
        "list.json": json.dumps(rows),
        "dict.json": json.dumps({"waypoints": rows}),
        "plain.csv": text,
        "header.csv": "x_m,y_m,heading_rad\n" + text,
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
        np.testing.assert_array_equal(load_waypoints(tmp_path / name), waypoints)
    bad = {"words.csv": "a,b,c\n" + text, "no.json": "{}", "broken.json": "[[1,", "ragged.csv": "1,2,3\n4,5\n"}
    for name, content in bad.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=f"{name}: not 8 rows"):
            load_waypoints(tmp_path / name)
    with pytest.raises(ValueError, match=r"\.txt"):
        load_waypoints((tmp_path / "no.json").rename(tmp_path / "w.txt"))
    with pytest.raises(FileNotFoundError, match=r"absent\.csv: no such waypoint file"):
        load_waypoints(tmp_path / "absent.csv")
