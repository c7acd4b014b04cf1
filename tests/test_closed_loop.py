"""Closed loop: drives of several rounds, what is measured of them, and the script."""

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_models import small_reader, small_reward_model, tiny_pipeline

from resim.datatypes.clip import NUM_FRAMES
from resim.datatypes.geometry import from_frame, simulation_camera, to_frame
from resim.datatypes.scene import Scenery, Track, TrackKind
from resim.gates.closed_loop import (
    MEASURES,
    WORLDS,
    drift_rows,
    measure_drive,
    round_clips,
)
from resim.imagination.futures import imagine
from resim.imagination.sampling import Sampling
from resim.report.closed_loop import compare_rounds
from resim.simulation.generator.generate import generate_scene
from resim.simulation.painter.painter import paint_clip
from resim.simulation.simulate import drive, ego_route

SCRIPT = Path(__file__).resolve().parent.parent / "eval" / "closed_loop.py"
HEIGHT_PX, WIDTH_PX = 64, 96  # what the tiny pipeline is made for


def of_rounds(seed, num_rounds, **options):
    return generate_scene(seed, num_steps=9 + 40 * num_rounds, **options)


@pytest.fixture(scope="module")
def two_rounds():
    done = drive(of_rounds(31, 2), "expert")
    return done, paint_clip(done.scene, simulation_camera(HEIGHT_PX, WIDTH_PX))


@pytest.mark.parametrize("driver", ["expert", "rear_end"])
def test_longer_drives_begin_as_shorter_ones(driver):
    one, four = (drive(of_rounds(30, n, kind="intersection"), driver, seed=4) for n in (1, 4))
    np.testing.assert_array_equal(one.rounds_R83, four.rounds_R83[:1])
    assert one.scene.num_steps == NUM_FRAMES and four.scene.num_steps == 169
    for a, b in zip(one.scene.tracks, four.scene.tracks, strict=True):
        np.testing.assert_array_equal(a.poses, b.poses[:NUM_FRAMES])
        np.testing.assert_array_equal(a.valid, b.valid[:NUM_FRAMES])
    np.testing.assert_array_equal(one.scene.light_states, four.scene.light_states[:, :NUM_FRAMES])


def test_every_round_commands_what_the_ego_drives_in_it():
    done = drive(of_rounds(31, 3), "expert")
    assert not done.infractions.collision and done.rounds_R83.shape == (3, 8, 3)
    poses = done.scene.ego_axle_poses()
    for r, waypoints in enumerate(done.rounds_R83):
        now = 8 + 40 * r
        np.testing.assert_allclose(waypoints, to_frame(poses[now + 5 : now + 41 : 5], poses[now]), atol=1e-4)
        if r < 2:  # the next round begins where this one ends
            np.testing.assert_allclose(from_frame(waypoints[-1], poses[now])[:2], poses[now + 40, :2], atol=1e-4)
    assert np.hypot(*(poses[-1] - poses[48])[:2]) > 20.0


def test_after_a_collision_every_round_commands_standing_still():
    scene = of_rounds(2, 3, kind="straight")
    route, steps = ego_route(scene), scene.num_steps
    wall = Track(
        track_id=0, kind=TrackKind.VEHICLE, length_m=4.0, width_m=8.0, height_m=2.0,
        poses=np.tile(route.pose_at(route.find(scene.ego.poses[0]) + 35.0), (steps, 1)),
        velocity_mps=np.zeros((steps, 2)), valid=np.ones(steps, bool),
    )  # fmt: skip
    done = drive(replace(scene, tracks=(wall, scene.ego), ego_index=1, scenery=Scenery()), "rear_end")
    assert done.infractions.collision and done.infractions.score == pytest.approx(0.6)
    assert np.ptp(done.scene.ego.poses[48:], axis=0).max() == 0.0 and done.waypoints[-1, 0] > 40.0
    np.testing.assert_array_equal(done.rounds_R83[1:], 0.0)


def test_clips_of_neighbouring_rounds_share_nine_frames(two_rounds):
    video = two_rounds[1]
    assert video.shape == (89, HEIGHT_PX, WIDTH_PX, 3)
    clips = round_clips(video)
    assert clips.shape[:2] == (2, 49)
    np.testing.assert_array_equal(clips[0, -9:], clips[1, :9])
    np.testing.assert_array_equal(np.concatenate([clips[0], clips[1, 9:]]), video)
    for wrong in (9, 48, 88):
        with pytest.raises(ValueError, match=f"{wrong} frames are not 9 of history"):
            round_clips(video[:wrong])


def test_the_simulator_as_world_model_does_not_drift(two_rounds):
    done, video = two_rounds
    loop = measure_drive(done, video, video.copy(), small_reader(HEIGHT_PX, WIDTH_PX), small_reward_model())
    assert loop.worlds["world_model"] == loop.worlds["simulator"]
    assert loop.worlds["world_model"]["difference_grey_levels"] == [0.0, 0.0]
    assert min(loop.worlds["simulator"]["sharpness_grey_levels"]) > 1.0


def test_only_the_round_that_was_changed_is_measured_as_changed(two_rounds):
    done, video = two_rounds
    changed = video.copy()
    changed[49:] = np.clip(changed[49:].astype(int) + 7, 0, 247) // 2 * 2  # the 40 new frames of round 2
    loop = measure_drive(done, video, changed, small_reader(HEIGHT_PX, WIDTH_PX), small_reward_model())
    for measure in MEASURES:
        simulator, model = (loop.worlds[world][measure] for world in WORLDS)
        assert model[0] == pytest.approx(simulator[0], abs=1e-6) and model[1] != simulator[1]
    expected = np.abs(changed[49:].astype(float) - video[49:]).mean()
    assert loop.worlds["world_model"]["difference_grey_levels"] == [0.0, pytest.approx(expected)]


def test_rounds_are_imagined_from_the_generated_frames_of_the_round_before(two_rounds):
    done, video = two_rounds
    pipe, sampling = tiny_pipeline(), Sampling(seed=1, num_inference_steps=1, guidance_scale=0.0)
    both = imagine(pipe, video[:9], done.rounds_R83[None], sampling)[0]
    first = imagine(pipe, video[:9], done.rounds_R83[None, :1], sampling)[0]
    assert both.shape == video.shape and both.dtype == np.uint8
    np.testing.assert_array_equal(both[:9], video[:9])
    np.testing.assert_array_equal(both[:49], first)
    for r in (0, 1):  # another path in round 1 is another history of round 2; one in round 2 leaves round 1 alone
        changed = done.rounds_R83.copy()
        changed[r, :, 1] += 30.0
        other = imagine(pipe, video[:9], changed[None], sampling)[0].astype(int)
        assert np.array_equal(other[:49], first) == (r == 1)
        assert np.abs(other[49:] - both[49:]).max() > 0


def test_the_video_shows_every_frame_once(two_rounds):
    shown = compare_rounds(two_rounds[1], two_rounds[1])
    assert shown.shape[0] == 89
    half = shown.shape[2] // 2
    np.testing.assert_array_equal(shown[:, 20:, :half], shown[:, 20:, half : 2 * half])
    assert not np.array_equal(shown[48, :20, :half], shown[49, :20, :half])  # the caption says which round


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_pipeline().save_pretrained(folder / "model")
    small_reader(HEIGHT_PX, WIDTH_PX).save_pretrained(folder / "reader")
    small_reader(HEIGHT_PX, 112).save_pretrained(folder / "wide_reader")
    small_reward_model().save_pretrained(folder / "reward")
    return folder


def run_script(models: Path, out: Path, monkeypatch, *changes: object) -> str | int | None:
    flags = ["--model", models / "model", "--inverse_dynamics", models / "reader", "--video2reward", models / "reward"]
    flags += ["--output_dir", out, "--num_rounds", 2, "--num_scenes", 2, "--num_inference_steps", 2]
    monkeypatch.setattr(sys, "argv", ["closed_loop.py", *map(str, (*flags, *changes))])
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except SystemExit as stop:
        return stop.code
    return None


def test_the_script_writes_page_and_numbers(models, tmp_path, monkeypatch, capsys):
    assert run_script(models, tmp_path / "out", monkeypatch, "--policies", "expert", "careful") is None
    assert "careful" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "closed_loop.json").read_text())
    assert found["flags"]["num_rounds"] == 2 and len(found["drives"]) == 4
    keys = [(row["policy"], row["world"], row["round"]) for row in found["means"]]
    assert keys == [(p, w, r) for p in ("expert", "careful") for w in WORLDS for r in (1, 2)]
    careful = [one for one in found["drives"] if one["policy"] == "careful"]
    assert careful[0]["scene"] != careful[1]["scene"] and 0 < careful[0]["infractions"]["score"] <= 1
    for row in found["means"][-4:]:
        for measure in MEASURES:
            values = [one["rounds"][row["round"] - 1][row["world"]][measure] for one in careful]
            assert row[measure] == pytest.approx(sum(values) / 2)
    last = careful[1]["rounds"][1]
    assert last["simulator"]["difference_grey_levels"] == 0.0 < last["world_model"]["difference_grey_levels"]
    assert np.shape(last["waypoints"]) == (8, 3)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<video") == 4 and page.count("<svg") == 2 * len(MEASURES)
    assert len(list((tmp_path / "out" / "videos").glob("*.mp4"))) == 4


def test_means_are_taken_over_the_scenes_of_each_policy(two_rounds):
    done, video = two_rounds
    loop = measure_drive(done, video, video, small_reader(HEIGHT_PX, WIDTH_PX), small_reward_model())
    twice = {name: [2 * x for x in values] for name, values in loop.worlds["simulator"].items()}
    rows = drift_rows([loop, replace(loop, worlds={world: twice for world in WORLDS})])
    expected = [1.5 * x for x in loop.worlds["simulator"]["sharpness_grey_levels"]]
    assert [row["sharpness_grey_levels"] for row in rows] == pytest.approx([*expected, *expected])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--num_rounds", 0), "--num_scenes and --num_rounds start at 1"),
        (("--policies", "expret"), "unknown driver 'expret'; choose one of expert"),
        (("--num_scenes", 0), "--num_scenes and --num_rounds start at 1"),
        (("--num_inference_steps", 3), "num_inference_steps must divide 1000"),
        (("--inverse_dynamics", "nowhere"), "nowhere/config.json does not exist"),
        (("--video2reward", "nowhere"), "nowhere/config.json does not exist"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(models, tmp_path, monkeypatch, changes, message):
    stop = str(run_script(models, tmp_path / "out", monkeypatch, "--num_scenes", 1, *changes))
    assert message in stop and "\n" not in stop
    assert list(tmp_path.iterdir()) == []


def test_a_reader_of_another_size_is_one_line(models, tmp_path, monkeypatch):
    stop = str(run_script(models, tmp_path / "out", monkeypatch, "--inverse_dynamics", models / "wide_reader"))
    assert "64x112 pixels and the world model makes 64x96" in stop and "\n" not in stop
