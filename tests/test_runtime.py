"""What every run has: one comparison of settings, and a state that comes back."""

from pathlib import Path

import pytest
import torch

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
