import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import tiny_pipeline

from resim import doctor
from resim.runtime import machine
from resim.training.presets.command_line import PRESETS
from resim.training.presets.paper import stage1, stage2, stage3
from resim.training.presets.starts import STARTS
from resim.training.presets.tiny import tiny_stage1, tiny_stage2, tiny_stage3
from resim.world_model.lora import add_lora, has_lora

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


def test_a_model_that_is_there_is_counted_from_its_files(tmp_path):
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path / "plain")
    config = replace(tiny_stage1(), init_from=tmp_path / "plain")
    need = doctor.memory_need(config, num_processes=1)
    assert need.parameters == sum(parameter.numel() for parameter in pipeline.world_model.parameters())
    # 13 x 4 x 7 patches of 16 pixels + 32 text + 9 trajectory tokens, 2 layers, width 32, 8 clips, float32
    by_hand = (13 * 4 * 7 + 32 + 9) * 2 * 32 * 8 * 46.4 * 2
    assert need.activations_gib * doctor.GIB == pytest.approx(by_hand)
    assert doctor.preset_row("tiny_stage1", config, NO_GPU)["fits"] == "yes"

    add_lora(pipeline.transformer, rank=3, alpha=3.0)
    pipeline.save_pretrained(tmp_path / "adapted")
    adapter = 2 * 4 * 2 * 3 * 32  # blocks x (q, k, v, out) x two factors of rank 3 x width
    adapted = doctor.memory_need(replace(tiny_stage3(), init_from=tmp_path / "adapted"), num_processes=1)
    assert adapted.trainable == adapted.parameters == need.parameters + adapter


def test_a_cogvideox_folder_gets_what_resim_adds(tmp_path):
    pipeline = tiny_pipeline()
    for part in ("transformer", "vae"):
        getattr(pipeline, part).save_config(tmp_path / part)
    (tmp_path / "model_index.json").write_text("{}")
    model, _ = doctor.meta_model(replace(stage1(), init_from=tmp_path))
    assert len(model.transformer.transformer_blocks) == 2
    assert model.trajectory_encoder.config.text_embed_dim == pipeline.transformer.config.text_embed_dim


def test_a_model_that_is_not_made_yet_is_what_the_chain_of_presets_makes_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # nothing of the repository is there
    found = {name: doctor.meta_model(preset())[0].transformer for name, preset in PRESETS.items()}
    layers = {name: transformer.config.num_layers for name, transformer in found.items()}
    assert layers["stage1"] == layers["stage3"] == 30
    assert layers["tiny_stage1"] == layers["tiny_simple"] == layers["debug"] == 4
    assert layers["tiny_deep"] == layers["tiny_long"] == layers["tiny_finetune"] == 6
    assert layers["tiny_video"] == layers["tiny_ablation"] == 2
    assert {name for name, transformer in found.items() if has_lora(transformer)} == {
        *("stage3", "tiny_stage3", "tiny_simple", "debug")  # they go on with the adapter of stage 2
    }
    adapters = [module for module in found["debug"].modules() if hasattr(module, "lora_A")]
    assert {module.r["default"] for module in adapters} == {tiny_stage2().lora_rank}
    with pytest.raises(FileNotFoundError, match=r"elsewhere/model_index\.json does not exist, and no preset makes it"):
        doctor.meta_model(replace(tiny_stage1(), init_from=Path("elsewhere")))


def test_the_model_in_the_repository_has_the_architecture_that_is_known_without_it():
    folder = Path("checkpoints/tiny")
    known = STARTS[folder]()
    in_repository = doctor.parts_in(Path(__file__).resolve().parent.parent / folder)
    for a, b in zip(known, in_repository, strict=True):
        assert {n: p.shape for n, p in a.named_parameters()} == {n: p.shape for n, p in b.named_parameters()}


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
