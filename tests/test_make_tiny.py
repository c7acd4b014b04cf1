"""train/make_tiny.py: what it may replace. Its parts are tested where they are written."""

from pathlib import Path

import pytest

from resim.data.files import kind_of
from train import make_tiny

TINY = Path(__file__).resolve().parent.parent / "checkpoints" / "tiny"


def test_the_model_in_the_repository_may_be_replaced():
    assert kind_of(TINY) == "model"


@pytest.mark.parametrize(
    ("output_dir", "work_dir", "message"),
    [
        ("mine", "work", "mine is no model that this program marked"),
        ("work", "work", "work holds .*work, which this command reads"),
    ],
)
def test_a_folder_that_is_not_ours_is_refused_before_anything_is_simulated(
    tmp_path, monkeypatch, output_dir, work_dir, message
):
    monkeypatch.setattr(make_tiny, "python", lambda *words: pytest.fail("began"))
    for name in ("mine", "work"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").write_text("{}")
    args = make_tiny.TinyArgs(output_dir=tmp_path / output_dir, work_dir=tmp_path / work_dir, overwrite=True)
    with pytest.raises((ValueError, FileExistsError), match=message):
        make_tiny.make_tiny(args)


def test_a_stage_asks_the_training_loop_to_replace_what_was_stopped_early(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(make_tiny, "python", lambda *words, launcher: calls.append(words))
    args = make_tiny.TinyArgs(work_dir=tmp_path)
    (tmp_path / "stage1").mkdir()
    (tmp_path / "stage1" / "thesis.txt").write_text("mine")
    make_tiny.train_stage(args, "stage1", tmp_path / "init")
    assert calls[-1][-1] == "--overwrite" and (tmp_path / "stage1" / "thesis.txt").read_text() == "mine"
    (tmp_path / "stage1" / "checkpoint-000100").mkdir()
    make_tiny.train_stage(args, "stage1", tmp_path / "init")
    assert calls[-1][-2:] == ("--resume_from_checkpoint", "latest")
