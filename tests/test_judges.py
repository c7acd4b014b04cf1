"""Loading the judges: what is missing, of another kind, or of another size, is one line."""

import json

import pytest
from tiny_models import small_reader, small_reward_model

from resim.judges.load import load_inverse_dynamics, load_video2reward


def test_judges_come_back_as_they_were_saved(tmp_path):
    reader, reward = small_reader(32, 48), small_reward_model()
    reader.half().save_pretrained(tmp_path / "reader")
    reward.save_pretrained(tmp_path / "reward")
    loaded = load_inverse_dynamics(tmp_path / "reader", height_px=32, width_px=48)
    assert not loaded.training and next(loaded.parameters()).dtype.itemsize == 4
    for name, value in reader.float().state_dict().items():
        assert (loaded.state_dict()[name] == value).all(), name
    again = load_video2reward(tmp_path / "reward").state_dict()
    assert all((again[name] == value).all() for name, value in reward.state_dict().items())


def test_a_reader_of_another_size_is_refused(tmp_path):
    small_reader(32, 48).save_pretrained(tmp_path / "reader")
    with pytest.raises(ValueError, match="reads frames of 32x48 pixels and the world model makes 64x112"):
        load_inverse_dynamics(tmp_path / "reader", height_px=64, width_px=112)


def test_a_reward_model_of_another_resolution_is_one_line(tmp_path):
    small_reward_model().save_pretrained(tmp_path / "reward")
    config = tmp_path / "reward" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"height_px": 64, "width_px": 112}))
    with pytest.raises(ValueError, match="do not fit .*trained for another resolution") as error:
        load_video2reward(tmp_path / "reward")
    assert "\n" not in str(error.value)


def test_a_reward_model_that_does_not_name_its_outputs_is_refused(tmp_path):
    small_reward_model().save_pretrained(tmp_path / "reward")
    config = tmp_path / "reward" / "config.json"
    settings = json.loads(config.read_text())
    del settings["outputs"]
    config.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"config.json does not name the outputs: add \"outputs\""):
        load_video2reward(tmp_path / "reward")


def test_missing_and_mistaken_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json does not exist: train/train_video2reward.py"):
        load_video2reward(tmp_path / "nowhere")
    small_reader(32, 48).save_pretrained(tmp_path / "reader")
    with pytest.raises(ValueError, match="describes a InverseDynamics, not a Video2Reward"):
        load_video2reward(tmp_path / "reader")
    (tmp_path / "reader" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="safetensors does not exist"):
        load_inverse_dynamics(tmp_path / "reader", height_px=32, width_px=48)
