"""eval/evaluate.py: what it writes, and that bad input is one line and leaves nothing behind."""

import json
import runpy
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny_models import small_reader, small_reward_model, tiny_pipeline

from resim.simulation.drivers import POLICIES

HEADLINE = {
    "action_gate", "action_gate_blind", "trajectory_difference_m", "trajectory_difference_true_m",
    "reward_pairs_true", "reward_pairs_generated", "selection_gain", "n_scenes",
}  # fmt: skip
CANDIDATES = ("expert", *POLICIES)
SCRIPT = Path(__file__).resolve().parent.parent / "eval" / "evaluate.py"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    pipe = tiny_pipeline()
    pipe.save_pretrained(folder / "model")
    config = pipe.transformer.config
    small_reader(8 * config.sample_height, 8 * config.sample_width).save_pretrained(folder / "reader")
    small_reader(16, 16).save_pretrained(folder / "other_reader")
    small_reward_model().save_pretrained(folder / "reward")
    return folder


def gates(models: Path, out: Path, monkeypatch, *changes: object) -> str | int | None:
    judges = ["--inverse_dynamics", models / "reader", "--video2reward", models / "reward"]
    numbers = ["--num_scenes", 2, "--num_selection_scenes", 2, "--num_inference_steps", 1, "--guidance_scale", 0]
    flags = ["--model", models / "model", *judges, "--output_dir", out, *numbers, *changes]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "gates", *map(str, flags)])
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except SystemExit as stop:
        return stop.code
    return None


def test_gates_are_written_with_every_scene(models, tmp_path, monkeypatch, capsys):
    assert gates(models, tmp_path / "out", monkeypatch) is None
    assert "selection_gain" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "gates.json").read_text())
    assert HEADLINE <= set(found["gates"])
    assert found["gates"]["n_scenes"] == 2 == len(found["scenes"]) and found["gates"]["seeds_looked_at"] >= 2
    assert found["gates"]["action_gate_blind"] == pytest.approx(1 / 3)
    for scene in found["scenes"]:
        assert len(set(scene["drivers"])) == 3
        assert scene["blind"]["divergence_grey_levels"] == 0.0 < scene["true"]["divergence_grey_levels"]
    difference = [scene["generated"]["trajectory_difference_m"] for scene in found["scenes"]]
    assert found["gates"]["trajectory_difference_m"] == pytest.approx(sum(difference) / 2)
    rows = pq.read_table(tmp_path / "out" / "candidates.parquet").to_pylist()
    assert [row["candidate"] for row in rows] == [*CANDIDATES, *CANDIDATES]
    chosen = []
    for scene in (rows[:7], rows[7:]):
        best = max(row["reward"] for row in scene[1:])
        scores = [row["score"] for row in scene[1:] if row["reward"] == best]  # equal rewards share the choice
        chosen.append(sum(scores) / len(scores))
    assert found["gates"]["selection_scores"]["imagination"] == pytest.approx(sum(chosen) / 2)
    assert "Calibration" in (tmp_path / "out" / "report.html").read_text()


def test_one_scene_and_one_seed_are_enough(models, tmp_path, monkeypatch):
    changes = ("--num_scenes", 1, "--num_selection_scenes", 1, "--num_seeds", 1)
    assert gates(models, tmp_path / "out", monkeypatch, *changes) is None
    found = json.loads((tmp_path / "out" / "gates.json").read_text())["gates"]
    assert found["n_selection_scenes"] == 1 and "variance_baseline" not in found["selection_scores"]


def test_processes_change_nothing(models, tmp_path, monkeypatch):
    for name, workers in (("one", 1), ("two", 2)):
        assert gates(models, tmp_path / name, monkeypatch, "--num_workers", workers) is None
    one, two = (json.loads((tmp_path / name / "gates.json").read_text()) for name in ("one", "two"))
    assert [scene["scene"] for scene in one["scenes"]] == [scene["scene"] for scene in two["scenes"]]
    for name in HEADLINE:
        assert one["gates"][name] == pytest.approx(two["gates"][name], abs=1e-5)
    tables = [pq.read_table(tmp_path / name / "candidates.parquet").to_pylist() for name in ("one", "two")]
    assert [(row["scene"], row["score"]) for row in tables[0]] == [(row["scene"], row["score"]) for row in tables[1]]
    assert [row["reward"] for row in tables[0]] == pytest.approx([row["reward"] for row in tables[1]], abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--inverse_dynamics", "nowhere"), "nowhere/config.json does not exist"),
        (("--num_scenes", "0"), "--num_scenes, --num_selection_scenes, --num_seeds and --num_workers start at 1"),
        (("--policies", "careful", "careful"), "--policies takes at least one name, each once, without the expert"),
        (("--policies", "expert"), "--policies takes at least one name, each once, without the expert"),
        (("--policies", "carefull"), "unknown driver 'carefull'"),
        (("--num_workers", "3"), "--num_workers 3: more than --num_scenes or --num_selection_scenes"),
        (("--video2reward", "nowhere"), "nowhere/config.json does not exist"),
        (("--model", "nowhere"), "nowhere/model_index.json does not exist"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(models, tmp_path, monkeypatch, changes, message):
    assert message in str(gates(models, tmp_path / "out", monkeypatch, *changes))
    assert not (tmp_path / "out").exists()


def test_a_reader_of_another_size_is_one_line(models, tmp_path, monkeypatch):
    message = gates(models, tmp_path / "out", monkeypatch, "--inverse_dynamics", models / "other_reader")
    assert "reads frames of 16x16 pixels and the world model makes" in str(message)
    assert not (tmp_path / "out").exists()
