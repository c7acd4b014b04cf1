"""Inverse dynamics: its geometry against closed forms, its input, and that it learns, resumes and comes back."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resim.data.drives import DriveData, blurred_and_recoloured
from resim.data.store import StoreWriter
from resim.datatypes.clip import Infractions
from resim.datatypes.geometry import from_frame, simulation_camera
from resim.gates.action_gate import judge_scene, summary
from resim.gates.scenes import GateScene, draw_scene
from resim.judges.inverse_dynamics import (
    InverseDynamics,
    compose_motions,
    mirrored,
    motion_loss,
    motions_between,
    segments,
)
from resim.metrics.trajectory import path_distance_m
from resim.runtime.fit import FitConfig
from resim.runtime.log import append_row, read_metrics
from resim.runtime.optim import OptimConfig
from resim.training.judges import DrivesConfig, fit_judge

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "train"))
import train_inverse_dynamics as script  # noqa: E402


def small_model() -> InverseDynamics:
    torch.manual_seed(0)
    return InverseDynamics(backbone="test_resnet", height_px=32, width_px=48, width=32, num_layers=1, num_heads=2)


def test_composed_motions_are_a_circle():
    # Constant speed and turn rate, whose chords leave the circle by half the turn.
    radius_m, turn_rad = 20.0, 0.2
    chord_m = 2 * radius_m * np.sin(turn_rad / 2)
    motion = torch.tensor([chord_m * np.cos(turn_rad / 2), chord_m * np.sin(turn_rad / 2), turn_rad])
    poses = compose_motions(motion.expand(1, 8, 3).float())[0]
    angles = turn_rad * torch.arange(1, 9)
    circle = torch.stack([radius_m * angles.sin(), radius_m * (1 - angles.cos()), angles], dim=-1)
    assert torch.allclose(poses, circle.float(), atol=1e-4)


@given(st.lists(st.tuples(st.floats(-5, 9), st.floats(-1, 1), st.floats(-0.3, 0.3)), min_size=8, max_size=8))
def test_composed_motions_agree_with_geometry(motions):
    pose, expected = np.zeros(3), []
    for motion in motions:
        pose = from_frame(np.array(motion), pose)
        expected.append(pose)
    found = compose_motions(torch.tensor([motions], dtype=torch.float64))[0].numpy()
    assert np.allclose(found, np.stack(expected), atol=1e-9)


def test_segments_are_the_half_seconds_of_the_future():
    frames = torch.arange(49, dtype=torch.uint8).view(1, 49, 1, 1, 1).expand(1, 49, 3, 2, 2)
    found = ((segments(frames) + 1) * 127.5).round()
    assert found.shape == (1, 8, 18, 2, 2)
    assert found[0, 0, ::3, 0, 0].tolist() == [8, 9, 10, 11, 12, 13]  # t = 0 .. 0.5 s
    assert found[0, 7, 1::3, 0, 0].tolist() == [43, 44, 45, 46, 47, 48]
    with pytest.raises(ValueError, match="49"):
        segments(frames[:, :40])
    with pytest.raises(ValueError, match="float32"):
        segments(frames.float())


def test_loss_by_hand():
    truth = compose_motions(torch.tensor([5.0, 0.0, 0.1]).expand(1, 8, 3))
    seen = compose_motions(torch.tensor([6.0, 0.25, 0.3]).expand(1, 8, 3))
    assert motion_loss(seen, truth).item() == pytest.approx((1.0 / 5 + 0.25 / 0.5 + 0.2 / 0.2) / 3, abs=1e-4)
    wrapped = truth.clone()
    wrapped[:, 4:, 2] += 2 * torch.pi  # the same headings
    assert motion_loss(truth, wrapped).item() == pytest.approx(0.0, abs=1e-4)


def test_motions_and_poses_are_inverse():
    motions = torch.randn(3, 8, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(motions_between(compose_motions(motions)), motions, atol=1e-5)


def test_only_its_own_size_is_read():
    with pytest.raises(ValueError, match=r"\(32, 48\) pixels, got \(64, 48\)"):
        small_model()(torch.zeros(1, 49, 3, 64, 48, dtype=torch.uint8))


def test_the_history_does_not_matter():
    model = small_model().eval()
    frames = torch.randint(0, 256, (1, 49, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    other = frames.clone()
    other[:, :8] = 0
    with torch.no_grad():
        assert torch.equal(model(frames), model(other))
        assert not torch.equal(model(frames), model(mirrored(frames, torch.zeros(1, 8, 3))[0]))


def test_mirroring_turns_left_into_right():
    left = torch.tensor([[10.0, 2.0, 0.3]]).expand(1, 8, 3)
    frames, right = mirrored(torch.zeros(1, 49, 3, 2, 2, dtype=torch.uint8), left)
    assert frames.shape == (1, 49, 3, 2, 2) and right[0, 0].tolist() == pytest.approx([10.0, -2.0, -0.3])


def test_augmentation_keeps_size_and_follows_the_generator():
    frames = torch.randint(0, 256, (2, 49, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first, again, other = (blurred_and_recoloured(frames, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert first.shape == frames.shape and first.dtype == torch.uint8
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.fixture(scope="module")
def drives(tmp_path_factory) -> Path:
    """A pattern that slides to the side by as much as the car drives sideways: six drives of different speed."""
    folder = tmp_path_factory.mktemp("drives") / "store"
    pattern = np.random.default_rng(0).integers(0, 256, (32, 200, 3), dtype=np.uint8)
    clean = Infractions(
        collision=False, off_road=False, red_light=False, wrong_way=False, too_slow=False, progress=1.0, score=1.0
    )
    with StoreWriter(folder, source="test", height_px=32, width_px=48, inputs=()) as store:
        for i in range(6):
            frames = np.stack([np.roll(pattern, -(i - 3) * t, axis=1)[:, :48] for t in range(49)])
            speed_mps = 4.0 + 2 * i
            waypoints = np.stack([speed_mps * 0.5 * np.arange(1, 9), np.zeros(8), np.zeros(8)], axis=-1)
            store.add(
                frames,
                clip_id=str(i),
                scene_id=str(i),
                waypoints=waypoints,
                executed_waypoints=waypoints,
                infractions=clean,
            )
    return folder


def config(out: Path, **changes: object) -> FitConfig:
    values: dict = {
        "output_dir": out,
        "max_train_steps": 4,
        "train_batch_size": 3,
        "optim": OptimConfig(learning_rate=2e-3, max_grad_norm=1.0),
        "checkpointing_steps": 2,
        "dataloader_num_workers": 0,
        "seed": 0,
    }
    return FitConfig(**(values | changes))


def on(drives: Path, *more: Path) -> DrivesConfig:
    return DrivesConfig(stores=(drives, *more), held_out=drives, num_validation_clips=6)


def test_it_learns_saves_and_loads_bitwise(drives, tmp_path):
    model = small_model()
    whole = config(tmp_path, max_train_steps=60, checkpointing_steps=60)
    found = fit_judge(model, on(drives), whole, plain_loss, script.evaluate)
    assert found["error_m"] < 5.0  # the mean path is 9 m off on average... (speeds of 4 .. 14 m/s)
    again = InverseDynamics.from_pretrained(tmp_path / "model").eval()
    frames = DriveData([drives], seed=0, height_px=32, width_px=48)[0][0][None]
    with torch.no_grad():
        assert torch.equal(again(frames), model.eval()(frames))


def plain_loss(model, drives, generator):
    return motion_loss(model(drives.frames_BTCHW), drives.executed_waypoints_B83)


def test_an_interrupted_fit_continues_bitwise(drives, tmp_path):
    fit_judge(small_model(), on(drives), config(tmp_path / "whole"), script.loss, script.evaluate)

    def stops_at_three(model, batch, generator):
        if generator.initial_seed() == 3:
            raise KeyboardInterrupt
        return script.loss(model, batch, generator)

    with pytest.raises(KeyboardInterrupt):
        fit_judge(small_model(), on(drives), config(tmp_path / "stopped"), stops_at_three, script.evaluate)
    assert not (tmp_path / "stopped" / "model").exists()
    append_row(tmp_path / "stopped", {"step": 4, "loss": 9.0})  # logged, then stopped before the state was written
    fit_judge(small_model(), on(drives), config(tmp_path / "stopped"), script.loss, script.evaluate)
    whole, stopped = (InverseDynamics.from_pretrained(tmp_path / name / "model") for name in ("whole", "stopped"))
    for (name, a), b in zip(whole.state_dict().items(), stopped.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert read_metrics(tmp_path / "stopped") == read_metrics(tmp_path / "whole")


def test_several_processes_are_refused_in_one_line_before_any_work(drives, tmp_path):
    flags = ("--stores", drives, "--held_out", drives, "--output_dir", tmp_path / "out", "--height_px", 32)
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2)
    command = map(str, (*launcher, "train/train_inverse_dynamics.py", *flags))
    done = subprocess.run(list(command), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    said = "train_inverse_dynamics.py: 2 processes were started, but this trains in one: give --num_processes 1"
    assert said in done.stderr and 'File "train/' not in done.stderr, done.stderr[-2000:]
    assert not (tmp_path / "out").exists()


def test_a_fit_with_other_settings_is_not_continued(drives, tmp_path):
    first = config(tmp_path / "out")
    fit_judge(small_model(), on(drives), first, plain_loss, script.evaluate)
    state = (tmp_path / "out" / "training_state.pt").read_bytes()
    fewer = replace(on(drives), num_validation_clips=1)  # no weight depends on it
    fit_judge(small_model(), fewer, first, plain_loss, script.evaluate)
    wider = InverseDynamics(backbone="test_resnet", height_px=32, width_px=48, width=64, num_layers=1, num_heads=2)
    moved = shutil.copytree(drives, tmp_path / "moved")
    fit_judge(small_model(), on(moved), first, plain_loss, script.evaluate)  # the same clips elsewhere
    for model, stores, settings, named in (
        (small_model(), on(drives), replace(first, seed=5), "--seed was 0, now 5"),
        (small_model(), on(drives, drives), first, "content of --stores"),
        (wider, on(drives), first, "network width was 32, now 64"),
    ):
        with pytest.raises(ValueError, match=f"cannot continue .*out: {named}"):
            fit_judge(model, stores, settings, plain_loss, script.evaluate)
    assert (tmp_path / "out" / "training_state.pt").read_bytes() == state


def test_a_fit_starts_from_what_the_same_network_learnt(drives, tmp_path):
    fit_judge(small_model(), on(drives), config(tmp_path / "first"), plain_loss, script.evaluate)
    learnt = tmp_path / "first" / "model"
    at_rest = OptimConfig(learning_rate=0.0, max_grad_norm=1.0)
    second = config(tmp_path / "second", init_from=learnt, optim=at_rest)
    fit_judge(small_model(), on(drives), second, plain_loss, script.evaluate)
    first, second = (InverseDynamics.from_pretrained(folder) for folder in (learnt, tmp_path / "second" / "model"))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.out.weight, small_model().out.weight)

    wider = InverseDynamics(backbone="test_resnet", height_px=32, width_px=48, width=64, num_layers=1, num_heads=2)
    with pytest.raises(ValueError, match=r"config\.json says width 32, this network has 64"):
        fit_judge(wider, on(drives), config(tmp_path / "third", init_from=learnt), plain_loss, script.evaluate)
    with pytest.raises(FileNotFoundError, match=r"--init_from: .*config\.json does not exist"):
        fit_judge(small_model(), on(drives), config(tmp_path / "third", init_from=drives), plain_loss, script.evaluate)


def test_a_fit_deletes_no_model_of_somebody_else(drives, tmp_path):
    for name in ("model", "model.partial"):
        out = tmp_path / name
        (out / name).mkdir(parents=True)
        (out / name / "config.json").write_text("mine")
        with pytest.raises(FileExistsError, match=f"{name} is no .* delete it yourself or give another folder"):
            fit_judge(small_model(), on(drives), config(out), plain_loss, script.evaluate)
        assert (out / name / "config.json").read_text() == "mine" and len(list(out.rglob("*"))) == 2  # nothing began
    done = config(tmp_path / "done", max_train_steps=2)
    for _ in range(2):  # a finished run is continued, and replaces its own model
        fit_judge(small_model(), on(drives), done, plain_loss, script.evaluate)
    inside = shutil.copytree(drives, tmp_path / "done" / "model" / "store")
    with pytest.raises(ValueError, match="model holds .*store, which this command reads"):
        fit_judge(small_model(), replace(on(drives), held_out=inside), done, plain_loss, script.evaluate)
    assert inside.is_dir()


def test_a_loss_that_is_not_finite_stops_the_fit(drives, tmp_path):
    with pytest.raises(FloatingPointError, match="step 0"):
        fit_judge(
            small_model(),
            on(drives),
            config(tmp_path),
            lambda m, b, g: plain_loss(m, b, g) * torch.nan,
            script.evaluate,
        )
    assert not (tmp_path / "model").exists()


def test_a_store_without_labels_is_named(tmp_path):
    with StoreWriter(tmp_path / "video", source="test", height_px=32, width_px=48, inputs=()) as store:
        store.add(np.zeros((49, 32, 48, 3), dtype=np.uint8), clip_id="a", scene_id="a")
    with pytest.raises(ValueError, match="clip a has no executed waypoints"):
        DriveData([tmp_path / "video"], seed=0, height_px=32, width_px=48)


def test_gate_scenes_are_apart_and_share_their_history():
    camera = simulation_camera(32, 48)
    scene = next(scene for seed in range(100) if (scene := draw_scene(seed, camera, simple=True)) is not None)
    paths = scene.waypoints_P83
    assert paths.shape == (3, 8, 3) and len(set(scene.drivers)) == 3
    assert min(path_distance_m(paths[a], paths[b]) for a in range(3) for b in range(a)) >= 2.0
    history = scene.truths_PTHWC[:, :9].astype(int)
    assert np.abs(history - history[0]).max() <= 2 and scene.truths_PTHWC.shape == (3, 49, 32, 48, 3)


class PerfectReader:
    """Reads the path that the first pixel of the last frame names."""

    device = torch.device("cpu")

    def __init__(self, paths: np.ndarray):
        self.paths = torch.from_numpy(paths).float()

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        return self.paths[frames[:, -1, 0, 0, 0].long()]


def test_the_gate_tells_right_blind_and_swapped_futures_apart():
    speeds = (2.0, 8.0, 14.0)
    paths = np.stack([np.stack([s * 0.5 * np.arange(1, 9), np.zeros(8), np.zeros(8)], -1) for s in speeds])
    clips = np.zeros((3, 49, 2, 2, 3), dtype=np.uint8)
    clips += np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1, 1)
    scene = GateScene(scene_id="s", drivers=("a", "b", "c"), waypoints_P83=paths, truths_PTHWC=clips)
    futures = {"true": clips, "generated": clips[[0, 2, 1]], "blind": clips[[1, 1, 1]]}
    row = judge_scene(scene, futures, PerfectReader(paths))
    found = summary([row, row])
    assert found["action_gate_true"] == 1.0 and found["trajectory_difference_true_m"] == pytest.approx(0.0)
    assert found["action_gate"] == pytest.approx(1 / 3) == found["action_gate_blind"]
    assert found["trajectory_difference_m"] == pytest.approx(2 / 3 * 6 * 2.25)
    assert found["divergence_grey_levels"] == pytest.approx(4 / 3) and found["n_scenes"] == 2
