"""Presets: the paper's numbers, the curriculum as a diff, the command line; and the schedule and noise of a step."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from resim.runtime.config import flatten
from resim.runtime.optim import learning_rate_at
from resim.training.presets.command_line import PRESETS, parse_command_line
from resim.training.presets.paper import stage1, stage2, stage3
from resim.training.presets.tiny import debug
from resim.training.steps import step_generator, weighted_sum


def test_stages_have_the_papers_numbers():
    found = [
        (c.trains, c.data.height_px, c.data.width_px, c.global_batch_size, c.optim.learning_rate, c.max_train_steps)
        for c in (stage1(), stage2(), stage3())
    ]
    assert found == [
        ("transformer", 512, 896, 80, 1e-5, 20_000),
        ("lora", 256, 448, 160, 5e-5, 80_000),
        ("everything", 512, 896, 80, 5e-5, 50_000),
    ]
    for config in (stage1(), stage2(), stage3()):
        assert (config.optim.adam_beta1, config.optim.adam_beta2, config.optim.adam_epsilon) == (0.9, 0.95, 1e-8)
        assert (config.optim.adam_weight_decay, config.optim.max_grad_norm) == (1e-4, 0.1)
        assert (config.optim.lr_scheduler, config.mixed_precision, config.gradient_checkpointing) == (
            "constant", "bf16", True,
        )  # fmt: skip
    assert (stage2().lora_rank, stage2().lora_alpha) == (128, 1.0)
    assert [(e.weight, e.trajectory_dropout) for e in stage2().data.entries] == [(1, 1), (40, 0.5), (2, 0)]


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (stage1, stage2, {
            "preset", "init_from", "output_dir", "trains", "max_train_steps", "global_batch_size", "train_batch_size",
            "data.entries", "data.validation_entries", "data.height_px", "data.width_px", "optim.learning_rate",
        }),
        (stage2, stage3, {
            "preset", "init_from", "output_dir", "trains", "max_train_steps", "global_batch_size", "train_batch_size",
            "data.height_px", "data.width_px",
        }),
    ],
)  # fmt: skip
def test_the_curriculum_is_a_diff(before, after, changed):
    old, new = flatten(before()), flatten(after())
    assert {name for name in old if old[name] != new[name]} == changed


def test_every_preset_is_named_after_itself_and_goes_into_json():
    for name, preset in PRESETS.items():
        assert preset().preset == name
        assert json.loads(json.dumps(flatten(preset()))) == flatten(preset())
    for number in (1, 2, 3):
        assert PRESETS[f"tiny_stage{number}"]().trains == PRESETS[f"stage{number}"]().trains


def test_configs_are_frozen():
    with pytest.raises(FrozenInstanceError):
        stage1().seed = 1  # type: ignore[misc]


def test_command_line_overrides_a_preset():
    args = ["tiny_stage2", "--learning_rate", "1e-4", "--output_dir", "somewhere", "--height_px", "32", "--overwrite"]
    config = parse_command_line(args)
    assert config.preset == "tiny_stage2"
    assert (config.optim.learning_rate, str(config.output_dir), config.data.height_px) == (1e-4, "somewhere", 32)
    assert config.overwrite and config.data.entries == PRESETS["tiny_stage2"]().data.entries


@pytest.mark.parametrize(
    ("args", "suggestion"),
    [
        (["stage1", "--learning_rte", "1"], "--learning_rate"),
        (["stage1", "--learning", "1"], "--learning_rate"),  # no abbreviations
        (["stage1", "--max_train_step", "1"], "--max_train_steps"),
        (["stage4"], "stage3"),
    ],
)
def test_a_typing_error_ends_with_status_2_and_a_suggestion(args, suggestion, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_command_line(args)
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert suggestion in out + err


def test_accumulation_reaches_the_global_batch_or_says_why_not():
    assert stage1().gradient_accumulation_steps(40) == 2
    assert stage2().gradient_accumulation_steps(8) == 5
    assert stage1().gradient_accumulation_steps(1) == 80
    with pytest.raises(ValueError, match=r"global_batch_size 80 .* 1 x 48 processes"):
        stage1().gradient_accumulation_steps(48)


def test_learning_rate():
    constant = replace(debug().optim, learning_rate=2.0, lr_warmup_steps=4, lr_scheduler="constant")
    assert [learning_rate_at(step, 100, constant) for step in (0, 1, 3, 4, 99)] == [0.5, 1.0, 2.0, 2.0, 2.0]
    cosine = replace(constant, lr_scheduler="cosine")
    assert [learning_rate_at(step, 104, cosine) for step in (3, 4, 54, 104)] == pytest.approx([2.0, 2.0, 1.0, 0.0])


def test_noise_depends_on_everything_that_says_where_a_pass_stands():
    def noise(*place):
        return torch.randn(4, generator=step_generator(*place)).tolist()

    places = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    assert len({tuple(noise(*place)) for place in places}) == len(places)
    assert noise(3, 2, 1, 0) == noise(3, 2, 1, 0)


def test_losses_and_weights_must_have_the_same_names():
    losses = {"diffusion": torch.tensor([1.0, 2.0]), "dynamics": torch.tensor([10.0, 20.0])}
    assert weighted_sum(losses, {"diffusion": 1.0, "dynamics": 0.1}).tolist() == [2.0, 4.0]
    with pytest.raises(ValueError, match="same names"):
        weighted_sum(losses, {"diffusion": 1.0})
