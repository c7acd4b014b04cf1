import json

import pytest
from tiny_models import tiny_pipeline

from resim import doctor
from resim.runtime import machine
from resim.training.presets.command_line import PRESETS
from resim.training.presets.paper import stage1, stage2, stage3
from resim.training.presets.tiny import tiny_stage1

NO_GPU = {"gpus": [], "memory_gib": 23.0}


def test_full_size_memory_by_hand():
    """Full fine-tuning: float32 weights, gradients, two moments, EMA and a bf16 copy; VAE of 215.6 M in bf16."""
    need = doctor.memory_need(stage1(), num_processes=1)
    encoder = need.parameters - need.trainable  # frozen in stage 1
    by_hand = need.trainable * 22 + encoder * 4 + 215.6e6 * 2
    assert need.state_gib * doctor.GIB == pytest.approx(by_hand, rel=1e-3)
    # 512x896 with gradient checkpointing: 2.9 GiB, and one block of 30 without
    assert need.activations_gib == pytest.approx(2.9 + 58.6 / 30, rel=0.02)


def test_stage_2_learns_the_adapter_and_the_trajectory_encoder():
    frozen_encoder = doctor.memory_need(stage1(), num_processes=1)
    need = doctor.memory_need(stage2(), num_processes=1)
    adapter = 30 * 4 * 2 * 128 * 1920  # blocks x (q, k, v, out) x two factors of rank 128
    assert need.trainable == adapter + (frozen_encoder.parameters - frozen_encoder.trainable)
    assert need.parameters == doctor.memory_need(stage3(), num_processes=1).trainable


def test_tiny_presets_are_counted_from_the_tiny_models_files(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "TINY_MODEL", tmp_path / "tiny")
    assert doctor.preset_row("tiny_stage1", tiny_stage1(), NO_GPU)["fits"] == "unknown: no checkpoints/tiny"
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path / "tiny")
    need = doctor.memory_need(tiny_stage1(), num_processes=1)
    assert need.parameters == sum(parameter.numel() for parameter in pipeline.world_model.parameters())
    # 13 x 4 x 7 patches of 16 pixels + 32 text + 9 trajectory tokens, 2 layers, width 32, 8 clips, float32
    by_hand = (13 * 4 * 7 + 32 + 9) * 2 * 32 * 8 * 46.4 * 2
    assert need.activations_gib * doctor.GIB == pytest.approx(by_hand)
    assert doctor.preset_row("tiny_stage1", tiny_stage1(), NO_GPU)["fits"] == "yes"


def test_sharding_divides_the_optimizer():
    config = stage3()
    two, eight = (doctor.memory_need(config, num_processes=n) for n in (2, 8))
    divided = two.trainable * (4 + 4 + 8) * (1 / 2 - 1 / 8)
    assert (two.state_gib - eight.state_gib) * doctor.GIB == pytest.approx(divided)


def test_fits_depends_on_the_machine():
    row = doctor.preset_row("stage1", stage1(), NO_GPU)
    assert row["fits"] == "no"
    assert row["one_process_gib"] > 23
    h200 = {"gpus": [{"name": "H200", "memory_gib": 139.0}], "memory_gib": 23.0}
    assert doctor.preset_row("stage1", stage1(), h200)["fits"] == "yes"


def test_json_names_every_preset_and_the_codecs(capsys):
    doctor.doctor(json=True)
    found = json.loads(capsys.readouterr().out)
    assert [row["preset"] for row in found["presets"]] == list(PRESETS)
    assert found["machine"]["codecs"]["h264"] == "reads and writes"
    assert found["machine"]["cpu_cores"] >= 1


def test_tables_show_what_json_says(capsys):
    doctor.doctor()
    text = capsys.readouterr().out
    assert all(name in text for name in PRESETS)
    assert "h264 reads and writes" in text


def test_unknown_codec_is_absent():
    assert machine.codec_support("no_such_codec") == "absent"
