"""eval/evaluate.py: what it writes, and that bad input is one line and leaves nothing behind."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_pipeline

from resim.inverse_dynamics import InverseDynamics

SCRIPT = Path(__file__).resolve().parent.parent / "eval" / "evaluate.py"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    pipe = tiny_pipeline()
    pipe.save_pretrained(folder / "model")
    factor = 8
    torch.manual_seed(0)
    InverseDynamics(
        backbone="test_resnet",
        height_px=pipe.transformer.config.sample_height * factor,
        width_px=pipe.transformer.config.sample_width * factor,
        width=32,
        num_layers=1,
        num_heads=2,
    ).save_pretrained(folder / "reader")
    return folder


def gates(models: Path, out: Path, monkeypatch, *changes: str) -> str | int | None:
    flags = ["--model", models / "model", "--inverse_dynamics", models / "reader", "--output_dir", out]
    steps = ["--num_scenes", 2, "--num_inference_steps", 1, "--guidance_scale", 0]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "gates", *map(str, (*flags, *steps, *changes))])
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except SystemExit as stop:
        return stop.code
    return None


def test_gates_are_written_with_every_scene(models, tmp_path, monkeypatch, capsys):
    assert gates(models, tmp_path / "out", monkeypatch) is None
    assert "action_gate" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "gates.json").read_text())
    assert found["gates"]["n_scenes"] == 2 == len(found["scenes"]) and found["seeds_looked_at"] >= 2
    assert found["gates"]["action_gate_blind"] == pytest.approx(1 / 3)
    for scene in found["scenes"]:
        assert len(set(scene["drivers"])) == 3
        assert scene["blind"]["divergence_grey_levels"] == 0.0 < scene["true"]["divergence_grey_levels"]
    difference = [scene["generated"]["trajectory_difference_m"] for scene in found["scenes"]]
    assert found["gates"]["trajectory_difference_m"] == pytest.approx(sum(difference) / 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--inverse_dynamics", "nowhere"), "nowhere/config.json does not exist"),
        (("--num_scenes", "0"), "--num_scenes starts at 1"),
        (("--model", "nowhere"), "nowhere/model_index.json does not exist"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(models, tmp_path, monkeypatch, changes, message):
    assert message in str(gates(models, tmp_path / "out", monkeypatch, *changes))
    assert not (tmp_path / "out").exists()
