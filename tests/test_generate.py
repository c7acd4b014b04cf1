"""eval/generate.py: what it writes, and that bad input is one line and leaves nothing behind."""

import json
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from resim.data.store import StoreWriter
from resim.data.video import read_clip, video_info, write_video
from resim.datatypes.clip import NUM_FRAMES
from resim.datatypes.geometry import simulation_camera
from resim.imagination.manoeuvres import manoeuvre
from resim.world_model.pipeline import ReSimOutput, ReSimPipeline

SCRIPT = Path(__file__).resolve().parent.parent / "eval" / "generate.py"
HEIGHT_PX, WIDTH_PX = 32, 64


class StubPipeline:
    """Repeats the last history frame, and remembers what it was asked."""

    vae = SimpleNamespace(config=SimpleNamespace(in_channels=3, block_out_channels=(8, 8, 8)))
    transformer = SimpleNamespace(config=SimpleNamespace(sample_height=HEIGHT_PX // 4, sample_width=WIDTH_PX // 4))

    def to(self, device):
        return self

    def __call__(self, history, waypoints, *, num_inference_steps, guidance_scale, generator):
        self.waypoints = waypoints
        rounds = 1 if waypoints is None else len(waypoints)
        future = np.repeat(history[-1:], 40 * rounds, axis=0)
        return ReSimOutput(frames=np.concatenate([history, future])[None])


@pytest.fixture
def stub(monkeypatch):
    pipe = StubPipeline()
    monkeypatch.setattr(ReSimPipeline, "from_pretrained", lambda folder, *, dtype: pipe)
    return pipe


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    frames = np.random.default_rng(0).integers(0, 255, (NUM_FRAMES, HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
    write_video(folder / "drive.mp4", frames)
    write_video(folder / "short.mp4", frames[:20])
    (folder / "cut.mp4").write_bytes((folder / "drive.mp4").read_bytes()[:-2000])
    (folder / "page.mp4").write_text("<!doctype html><html><body>not found</body></html>")
    poses = np.stack([np.arange(-8, 1) * 0.9, np.zeros(9), np.zeros(9)], axis=1)
    with StoreWriter(folder / "store", source="test", height_px=HEIGHT_PX, width_px=WIDTH_PX, inputs=()) as store:
        store.add(
            frames, clip_id="a", scene_id="s", waypoints=manoeuvre("straight", 9.0), history_poses=poses,
            camera=simulation_camera(HEIGHT_PX, WIDTH_PX),
        )  # fmt: skip
    straight = manoeuvre("straight", 9.0)
    left = manoeuvre("left_turn", 9.0)
    bad = {
        "nan": np.where(np.arange(8)[:, None] == 2, np.nan, straight),
        "count": straight[:5],
        "centimetres": straight * [100, 100, 1],
        "degrees": left * [1, 1, 180 / np.pi],
        "y_to_the_right": left * [1, -1, 1],
    }
    for name, path in bad.items():
        (folder / f"{name}.json").write_text(json.dumps(path.tolist()))
    return folder


def run(monkeypatch, *flags: object) -> object:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *(str(flag) for flag in flags)])
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except SystemExit as stop:
        return stop.code
    return 0


def test_rollout_of_a_clip(stub, inputs, tmp_path, monkeypatch):
    out = tmp_path / "out"
    flags = ["--model", "m", "--clip", f"{inputs / 'store'}:0", "--output_dir", out]
    assert run(monkeypatch, *flags, "--waypoints", "recorded", "brake") == 0
    np.testing.assert_allclose(stub.waypoints[1][0], manoeuvre("brake", 9.0), atol=1e-3)  # as fast as the round before
    names = [".resim.json", "generated.mp4", "generation.json", "side_by_side.mp4"]
    assert sorted(p.name for p in out.iterdir()) == names
    assert video_info(out / "generated.mp4").length_s == pytest.approx(8.0)
    assert video_info(out / "side_by_side.mp4").length_s == pytest.approx(8.9)
    assert json.loads((out / "generation.json").read_text())["camera"]["assumed"] is False

    assert "exists already" in run(monkeypatch, *flags)
    assert run(monkeypatch, *flags, "--overwrite") == 0
    assert stub.waypoints is None  # no waypoints: the action-free mode
    assert read_clip(out / "generated.mp4", num_frames=40).shape == (40, HEIGHT_PX, WIDTH_PX, 3)

    (out / "path.json").write_bytes((inputs / "nan.json").read_bytes())
    shutil.copytree(inputs / "store", out / "store")
    clip = ["--clip", f"{inputs / 'store'}:0"]
    for read, where in (
        (["--model", out, *clip], out),
        (["--model", "m", "--clip", f"{out / 'store'}:0"], out / "store"),
        (["--model", "m", "--video", out / "generated.mp4"], out / "generated.mp4"),
        (["--model", "m", *clip, "--waypoints", "brake", out / "path.json"], out / "path.json"),
    ):
        said = run(monkeypatch, *read, "--output_dir", out, "--overwrite")
        assert said == f"generate.py: {out} holds {where}, which this command reads; give another output folder"
    assert (out / "store" / "index.parquet").is_file()


def test_video_with_its_history_alone(stub, inputs, tmp_path, monkeypatch):
    flags = [
        "--model",
        "m",
        "--video",
        inputs / "short.mp4",
        "--waypoints",
        "left_turn",
        "--output_dir",
        tmp_path / "out",
    ]
    assert run(monkeypatch, *flags, "--speed_mps", 8, "--history_only") == 0
    np.testing.assert_array_equal(stub.waypoints[0][0], manoeuvre("left_turn", 8.0))
    assert json.loads((tmp_path / "out" / "generation.json").read_text())["camera"]["assumed"] is True


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--video", "{}/drive.mp4", "--waypoints", "{}/nan.json"], "nan"),
        (["--video", "{}/drive.mp4", "--waypoints", "{}/count.json"], "shape (5, 3)"),
        (["--video", "{}/drive.mp4", "--waypoints", "{}/centimetres.json"], "centimetres"),
        (["--video", "{}/drive.mp4", "--waypoints", "{}/degrees.json"], "radians (not degrees)"),
        (["--video", "{}/drive.mp4", "--waypoints", "{}/y_to_the_right.json"], "y to the"),
        (["--video", "{}/drive.mp4", "--waypoints", "{}/missing.csv"], "no such waypoint file"),
        (["--video", "{}/drive.mp4", "--waypoints", "left_trun"], "did you mean 'left_turn'"),
        (["--video", "{}/drive.mp4", "--waypoints", "left_turn"], "give --speed_mps"),
        (["--video", "{}/drive.mp4", "--waypoints", "recorded"], "no path was recorded"),
        (["--video", "{}/short.mp4"], "49 frames"),
        (["--video", "{}/cut.mp4"], "cut.mp4"),
        (["--video", "{}/page.mp4"], "page.mp4: not a readable mp4"),
        (["--clip", "{}/store:1"], "1 clips"),
        (["--clip", "{}/store"], "STORE:INDEX"),
        (["--clip", "{}/nothing:0"], "no store of clips"),
        ([], "either --clip"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(stub, inputs, tmp_path, monkeypatch, flags, message):
    out = tmp_path / "out"
    code = run(monkeypatch, "--model", "m", "--output_dir", out, *(flag.format(inputs) for flag in flags))
    assert isinstance(code, str) and message in code and "\n" not in code
    assert list(tmp_path.iterdir()) == []


def test_missing_checkpoint_and_foreign_folder(inputs, tmp_path, monkeypatch):
    flags = ["--model", tmp_path / "no", "--clip", f"{inputs / 'store'}:0", "--output_dir", tmp_path / "out"]
    assert "model_index.json does not exist" in run(monkeypatch, *flags)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    assert "will not be overwritten" in run(monkeypatch, *flags, "--overwrite")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"
