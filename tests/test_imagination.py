"""Futures from history and paths: bit for bit what the pipeline gives, for one path, several, several rounds, none."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import tiny_pipeline

from resim.entry_point import flags_of
from resim.imagination.futures import imagine
from resim.imagination.manoeuvres import manoeuvre
from resim.imagination.sampling import Sampling
from resim.world_model.pipeline import ReSimPipeline

HISTORY = np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), dtype=np.uint8)
LEFT, RIGHT = manoeuvre("left_turn", 8.0), manoeuvre("right_turn", 8.0)
SAMPLING = Sampling(seed=5, num_inference_steps=2)


@pytest.fixture(scope="module")
def pipe() -> ReSimPipeline:
    return tiny_pipeline()


def direct(pipe: ReSimPipeline, waypoints, generator) -> np.ndarray:
    return pipe(HISTORY, waypoints, num_inference_steps=2, guidance_scale=None, generator=generator).frames


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_every_kind_is_bit_for_bit_the_pipelines(pipe):
    paths = np.stack([LEFT, RIGHT])
    several = imagine(pipe, HISTORY, paths[:, None], SAMPLING)
    assert several.shape == (2, 49, 32, 48, 3) and several.dtype == np.uint8
    np.testing.assert_array_equal(several, direct(pipe, paths, [noise(), noise()]))
    np.testing.assert_array_equal(imagine(pipe, HISTORY, LEFT[None, None], SAMPLING), direct(pipe, LEFT, noise()))
    np.testing.assert_array_equal(imagine(pipe, HISTORY, None, SAMPLING), direct(pipe, None, noise()))
    rounds = imagine(pipe, HISTORY, paths[None], SAMPLING)
    assert rounds.shape == (1, 89, 32, 48, 3)
    np.testing.assert_array_equal(rounds, direct(pipe, [LEFT, RIGHT], noise()))


def test_paths_of_several_rounds_are_imagined_side_by_side(pipe):
    both = imagine(pipe, HISTORY, np.stack([[LEFT, RIGHT], [LEFT, LEFT]]), SAMPLING)
    assert both.shape == (2, 89, 32, 48, 3)
    np.testing.assert_array_equal(both[0, :49], both[1, :49])  # the same path from the same noise
    assert np.any(both[0, 49:] != both[1, 49:])


@pytest.mark.parametrize("paths", [LEFT, np.stack([LEFT] * 8)], ids=["one", "eight"])
def test_paths_without_their_rounds_are_refused(pipe, paths):
    with pytest.raises(ValueError, match=r"paths must be \(N, R, 8, 3\)"):
        imagine(pipe, HISTORY, paths, SAMPLING)


@pytest.mark.parametrize(("name", "steps"), [("generate", 50), ("score_trajectories", 10), ("closed_loop", 25)])
def test_the_flags_of_sampling_have_no_prefix(name, steps):
    shown = subprocess.run(
        [sys.executable, f"eval/{name}.py", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert f"(default: {steps})" in shown
    for flag in ("--seed", "--num_inference_steps", "--guidance_scale"):
        assert f" {flag} " in shown


def test_written_flags_have_the_names_that_are_typed():
    @dataclass(frozen=True)
    class Args:
        model: Path
        sampling: Sampling

    assert flags_of(Args(model=Path("a/b"), sampling=SAMPLING)) == {
        "model": "a/b", "seed": 5, "num_inference_steps": 2, "guidance_scale": None,
    }  # fmt: skip
