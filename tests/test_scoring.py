"""Scoring: shared noise and history, the ranking and its uncertainty, what is written, and bad candidates."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tiny_models import small_reward_model, tiny_pipeline

from resim.data.video import write_video
from resim.imagination.manoeuvres import manoeuvre
from resim.imagination.sampling import Sampling
from resim.imagination.scoring import Scores, check_candidates, score

SCRIPT = Path(__file__).resolve().parent.parent / "eval" / "score_trajectories.py"
PATHS = {name: manoeuvre(name, 8.0) for name in ("straight", "brake", "left_turn")}
HISTORY = np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), dtype=np.uint8)


def scored(paths=PATHS, **changes) -> Scores:
    flags = {"num_seeds": 2, "batch_size": 2}
    sampling = Sampling(seed=3, num_inference_steps=2, guidance_scale=0.0)
    return score(tiny_pipeline(), small_reward_model(), HISTORY, paths, sampling, **(flags | changes))


@pytest.fixture(scope="module")
def whole() -> Scores:
    return scored()


def test_every_candidate_is_imagined_from_the_same_noise_alone(whole):
    pipe, reward_model = tiny_pipeline(), small_reward_model()
    for i, path in enumerate(PATHS.values()):
        for k in range(2):
            generator = torch.Generator().manual_seed(3 + k)
            frames = pipe(
                HISTORY, path, num_inference_steps=2, guidance_scale=0.0, generator=generator, output_type="pt"
            ).frames
            with torch.no_grad():
                alone = reward_model.infractions(frames.permute(0, 1, 4, 2, 3))[0]
            assert whole.seen_NSO[i, k] == pytest.approx(alone.numpy(), abs=1e-4)
            assert whole.rewards_NS[i, k] == whole.seen_NSO[i, k, whole.outputs.index("score")]
            if k == 0:
                assert np.abs(whole.futures_NTHWC[i].astype(int) - frames[0].numpy().astype(int)).max() <= 1


def test_batches_make_no_difference(whole):
    assert np.allclose(scored(batch_size=3).seen_NSO, whole.seen_NSO, atol=1e-4)


def test_ranking_and_uncertainty_by_hand(whole):
    seen = np.zeros((3, 2, 7), dtype=np.float32)
    seen[..., -1] = [[0.2, 0.4], [0.9, 0.9], [0.1, 0.5]]
    seen[0, :, 0], seen[0, :, 3] = (0.2, 0.6), (0.5, 0.9)
    scores = Scores(
        names=("a", "b", "c"),
        waypoints_N83=whole.waypoints_N83,
        seen_NSO=seen,
        outputs=whole.outputs,
        confidence_N=np.ones(3, dtype=np.float32),
        futures_NTHWC=whole.futures_NTHWC,
    )
    assert scores.order.tolist() == [1, 0, 2]  # a and c are equal: as given
    assert scores.uncertainty_N == pytest.approx([0.2 / np.sqrt(2), 0.0, 0.4 / np.sqrt(2)])
    assert [row["candidate"] for row in scores.rows()] == ["b", "a", "c"]
    assert [row["rank"] for row in scores.rows()] == [1, 2, 3]
    assert scores.rows()[1]["collision"] == pytest.approx(0.4)
    assert scores.rows()[1]["wrong_way"] == pytest.approx(0.7)


def test_confidence_is_the_futures_agreement_over_seeds(whole):
    clips = []
    for k in range(2):
        generator = torch.Generator().manual_seed(3 + k)
        clips.append(
            tiny_pipeline()(
                HISTORY, PATHS["brake"], num_inference_steps=2, guidance_scale=0.0, generator=generator
            ).frames[0, 9:]
        )
    variance = np.var(np.stack(clips).astype(np.float64) / 255, axis=0, ddof=1).mean()
    assert whole.confidence_N[1] == pytest.approx(np.exp(-variance), abs=1e-4)
    one = scored({"brake": PATHS["brake"]}, num_seeds=1)
    assert np.isnan(one.confidence_N).all() and np.isnan(one.uncertainty_N).all()


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ({}, "no candidates"),
        ({"short": PATHS["brake"][:5]}, r"candidate short: waypoints have shape \(5, 3\)"),
        ({"good": PATHS["brake"], "nan": PATHS["brake"] * np.nan}, "candidate nan: .* is nan"),
    ],
)
def test_bad_candidates_are_named(candidates, message):
    with pytest.raises(ValueError, match=message):
        check_candidates(candidates)


def run_script(flags: list[str], monkeypatch) -> str | int | None:
    monkeypatch.setattr(sys, "argv", ["score_trajectories.py", *flags])
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except SystemExit as stop:
        return stop.code
    return None


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_pipeline().save_pretrained(folder / "model")
    small_reward_model().save_pretrained(folder / "reward")
    future = np.repeat(HISTORY[-1:], 40, axis=0)
    write_video(folder / "drive.mp4", np.concatenate([HISTORY, future]))
    return folder


def flags(models: Path, out: Path, *names: str) -> list[str]:
    folders = ["--model", models / "model", "--video2reward", models / "reward", "--output_dir", out]
    start = ["--video", models / "drive.mp4", "--speed_mps", 8, "--num_inference_steps", 2, "--waypoints", *names]
    return [str(word) for word in (*folders, *start)]


def test_the_script_writes_table_picture_and_flags(models, tmp_path, monkeypatch, capsys):
    assert run_script(flags(models, tmp_path / "out", "straight", "brake"), monkeypatch) is None
    assert "reward" in capsys.readouterr().out
    table = pq.read_table(tmp_path / "out" / "scores.parquet").to_pydict()
    assert table["rank"] == [1, 2] and table["reward"][0] >= table["reward"][1]
    assert set(table["candidate"]) == {"straight", "brake"} and len(table["waypoints"][0]) == 24
    assert (tmp_path / "out" / "ranking.png").stat().st_size > 10_000
    found = json.loads((tmp_path / "out" / "scoring.json").read_text())
    assert found["flags"]["num_seeds"] == found["flags"]["num_inference_steps"] == 2
    assert len(found["rewards"]["brake"]) == 2


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("straight", "straight"), "straight is given more than once"),
        (("strait",), "did you mean 'straight'"),
        ((), "no candidates to score"),
    ],
)
def test_the_script_names_what_is_wrong(models, tmp_path, monkeypatch, names, message):
    status = run_script(flags(models, tmp_path / "out", *names), monkeypatch)
    assert message in str(status) and not (tmp_path / "out").exists()


def test_a_missing_reward_model_is_named(models, tmp_path, monkeypatch):
    words = flags(models, tmp_path / "out", "straight")
    words[words.index("--video2reward") + 1] = str(tmp_path / "nothing")
    assert "nothing/config.json does not exist" in str(run_script(words, monkeypatch))
