"""train/make_tiny.py: what it may replace. Its parts are tested where they are written."""

from pathlib import Path

import pytest
import torch
from tiny_models import tiny_pipeline

from resim.data.files import kind_of
from resim.world_model.lora import add_lora
from resim.world_model.pipeline import ReSimPipeline
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


def test_a_model_with_an_adapter_is_merged_before_it_gets_more_layers(tmp_path):
    """As every stage after the second leaves it."""
    pipeline = tiny_pipeline()
    add_lora(pipeline.transformer, rank=2, alpha=2.0)
    for name, parameter in pipeline.transformer.named_parameters():
        if ".lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    pipeline.save_pretrained(tmp_path / "shallow")
    deep = make_tiny.write_deeper_model(make_tiny.TinyArgs(work_dir=tmp_path), tmp_path / "shallow")
    history = torch.zeros(9, 32, 48, 3, dtype=torch.uint8).numpy()
    settings = {"num_inference_steps": 1, "guidance_scale": 1.0, "output_type": "latent"}
    found = []
    for folder in (tmp_path / "shallow", deep):
        pipeline = ReSimPipeline.from_pretrained(folder)
        pipeline.set_progress_bar_config(disable=True)
        found.append(pipeline(history, None, generator=torch.Generator().manual_seed(0), **settings).frames)
    assert pipeline.transformer.config.num_layers == 6
    assert torch.allclose(*found, atol=1e-4)
