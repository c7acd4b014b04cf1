"""What every run has: one comparison of settings, a state that comes back, a log, and the supervised loop."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import Dataset

from resim.runtime.fit import FitConfig, fit
from resim.runtime.log import append_row, begin_log, read_metrics
from resim.runtime.optim import OptimConfig
from resim.runtime.resume import STATE_FILE, require_same_settings, restore_state, save_state


def test_every_setting_that_differs_is_named_with_what_to_do():
    saved, folder = {"seed": 0, "lr": 1.0, "out": "a", "gone": 1, "new": None}, Path("runs/one")
    require_same_settings(saved, {"seed": 0, "lr": 1.0, "out": "b", "gone": 1}, folder, free_to_change={"out"})
    with pytest.raises(ValueError) as error:
        require_same_settings(saved, {"seed": 5, "lr": 1.0, "out": "a"}, folder, otherwise="begin anew")
    assert str(error.value) == (
        "cannot continue runs/one: gone was 1, now None; seed was 0, now 5; set it back, or begin anew"
    )


def test_a_state_comes_back_under_the_same_settings_only(tmp_path):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.5)
    parts = {"model": model, "optimizer": optimizer}
    assert restore_state(tmp_path, parts, {"--seed": "0"}) == 0
    model(torch.ones(1, 2)).backward()
    optimizer.step()
    save_state(tmp_path, parts, {"--seed": "0"}, step=7)
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]

    other = torch.nn.Linear(2, 1)
    before = other.weight.clone()
    parts = {"model": other, "optimizer": torch.optim.AdamW(other.parameters(), lr=0.1)}
    with pytest.raises(ValueError, match="--seed was 0, now 1"):
        restore_state(tmp_path, parts, {"--seed": "1"})
    assert torch.equal(other.weight, before)
    assert restore_state(tmp_path, parts, {"--seed": "0"}) == 7
    assert torch.equal(other.weight, model.weight) and parts["optimizer"].param_groups[0]["lr"] == 0.5


def test_a_log_goes_on_after_the_step_that_is_resumed(tmp_path):
    begin_log(tmp_path, 0)
    with pytest.raises(FileNotFoundError):
        read_metrics(tmp_path)
    rows = [{"step": step, "loss": 1.0 / step} for step in (1, 2, 3)]
    for row in rows:
        append_row(tmp_path, row)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"psnr_db": 27.1}\n')
    (tmp_path / "copy.jsonl").hardlink_to(tmp_path / "metrics.jsonl")
    begin_log(tmp_path, 2)
    append_row(tmp_path, {"step": 3, "loss": 5.0})
    assert read_metrics(tmp_path) == [*rows[:2], {"step": 3, "loss": 5.0}]
    assert len((tmp_path / "copy.jsonl").read_text().splitlines()) == 4  # another name of the old file keeps it


class Line(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight(x)


@dataclass(frozen=True)
class Points:
    x_B1: torch.Tensor
    clip_id: tuple[str, ...]


class Numbers(Dataset):
    """y = 3 x - 1 at 0, 0.1, .. 0.9, in turn."""

    def __getitem__(self, n: int) -> float:
        return n % 10 / 10


def line_error(model, batch, generator):
    return (model(batch.x_B1) - (3 * batch.x_B1 - 1)).square().mean()


def fit_a_line(config: FitConfig, loss=line_error) -> dict[str, float]:
    torch.manual_seed(0)
    return fit(
        Line(),
        config,
        Numbers(),
        lambda items: Points(torch.tensor(items)[:, None], tuple(f"x={item}" for item in items)),
        loss,
        lambda model: {"at_2": model(torch.full((1, 1), 2.0)).item()},
        data_settings={"content of the numbers": "3x - 1"},
        inputs=(),
    )


def line_config(output_dir: Path, **changes) -> FitConfig:
    optim = OptimConfig(learning_rate=0.05, max_grad_norm=10.0)
    values = {"max_train_steps": 300, "train_batch_size": 5, "checkpointing_steps": 150, "dataloader_num_workers": 0}
    return FitConfig(output_dir=output_dir, optim=optim, **(values | changes))


def test_fit_trains_on_any_batch_that_names_its_examples(tmp_path):
    found = fit_a_line(line_config(tmp_path / "out"))
    assert found["at_2"] == pytest.approx(5.0, abs=0.1)
    rows = read_metrics(tmp_path / "out")
    assert [row["step"] for row in rows] == [150, 300]
    shown = EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    assert [event.value for event in shown.Scalars("at_2")] == pytest.approx([row["at_2"] for row in rows])
    assert Line.from_pretrained(tmp_path / "out" / "model").weight.weight.item() == pytest.approx(3.0, abs=0.1)
    with pytest.raises(FloatingPointError, match=r"step 0: gradient norm nan on clips x=0\.0, x=0\.1, x=0\.2"):
        fit_a_line(line_config(tmp_path / "bad", train_batch_size=3), lambda m, b, g: line_error(m, b, g) * torch.nan)


def test_fit_refuses_several_processes_before_it_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes were started, but this trains in one"):
        fit_a_line(line_config(tmp_path / "out"))
    assert not list(tmp_path.iterdir())
