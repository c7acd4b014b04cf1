"""The gates: does a future obey its path, can its reward be trusted, and does choosing by imagination pay."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import torch
from tqdm import tqdm

from resim.datatypes.geometry import simulation_camera
from resim.datatypes.seeds import Seeds, seeds_from
from resim.gates.action_gate import imagine_scene, judge_scene
from resim.gates.action_gate import summary as gate_summary
from resim.gates.policy_selection import Judged, joined, judge_candidates
from resim.gates.policy_selection import summary as selection_summary
from resim.gates.scenes import GateScene, draw_candidates, draw_scenes
from resim.imagination.futures import Precision, load_pipeline, model_size_px
from resim.imagination.sampling import Sampling, SamplingFlags
from resim.judges.inverse_dynamics import InverseDynamics
from resim.judges.load import load_inverse_dynamics, load_video2reward
from resim.judges.video2reward import Video2Reward
from resim.simulation.drivers import POLICIES
from resim.world_model.pipeline import ReSimPipeline

# The world model and the two models that judge its futures.
Models = tuple[ReSimPipeline, InverseDynamics, Video2Reward]
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """How many scenes, and how they are imagined."""

    # Scenes of the action gate, three paths each.
    num_scenes: int = 64
    # Scenes of the reward pairs and the policy selection, a path of the expert and of each policy.
    num_selection_scenes: int = 100
    # The policies of the simulator to choose among; the expert is graded beside them.
    policies: tuple[str, ...] = POLICIES
    # The first seed of the action gate's scenes.
    first_seed: int = Seeds.GATES.first
    # The first seed of the selection's scenes.
    first_selection_seed: int = Seeds.SELECTION.first
    # Scenes of the tiny model's world: slow, by day, without buildings and trees.
    simple: bool = True
    # Futures of each candidate in the selection; the variance baseline needs two.
    num_seeds: int = 2
    # How the futures are drawn.
    sampling: SamplingFlags = Sampling(num_inference_steps=10)


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """``found``: means over scenes; ``scenes``: the rows of the action gate; ``judged``: those of the selection."""

    found: dict[str, object]
    scenes: list[dict[str, object]]
    judged: Judged


def load_judges(
    pipe: ReSimPipeline, inverse_dynamics: Path, video2reward: Path
) -> tuple[InverseDynamics, Video2Reward]:
    """Both judges on the pipeline's device."""
    height_px, width_px = model_size_px(pipe)
    reader = load_inverse_dynamics(inverse_dynamics, height_px=height_px, width_px=width_px)
    return reader.to(pipe.device), load_video2reward(video2reward).to(pipe.device)


def load_models(model: Path, dtype: Precision, inverse_dynamics: Path, video2reward: Path) -> Models:
    """The checkpoint ``model`` in this precision, without progress bars, and its judges."""
    pipe = load_pipeline(model, dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe, *load_judges(pipe, inverse_dynamics, video2reward)


def measure_gates(load: Callable[[], Models], config: GateConfig, *, num_workers: int = 1) -> GateResult:
    """Imagine and judge, in ``num_workers`` processes that each ``load`` the models; then ``load`` must be picklable.

    Scenes and noise do not depend on ``num_workers``. Raises ValueError where one of the numbers is below 1, or there
    are more processes than scenes.
    """
    if min(config.num_scenes, config.num_selection_scenes, config.num_seeds, num_workers) < 1:
        raise ValueError("--num_scenes, --num_selection_scenes, --num_seeds and --num_workers start at 1")
    if not config.policies or len({"expert", *config.policies}) <= len(config.policies):
        raise ValueError("--policies takes at least one name, each once, without the expert who is always there")
    if num_workers > min(config.num_scenes, config.num_selection_scenes):
        raise ValueError(f"--num_workers {num_workers}: more than --num_scenes or --num_selection_scenes")
    camera = simulation_camera(*model_size_px(load()[0]))
    scenes, num_seeds_drawn = draw_scenes(config.first_seed, config.num_scenes, camera, config.simple)
    seeds = seeds_from(config.first_selection_seed, config.num_selection_scenes)
    shares = [(load, config, share(scenes, n, num_workers), share(seeds, n, num_workers)) for n in range(num_workers)]
    if num_workers == 1:
        parts = [measure_part(*shares[0])]
    else:
        threads = max(torch.get_num_threads() // num_workers, 1)
        with get_context("spawn").Pool(num_workers, torch.set_num_threads, (threads,)) as pool:
            parts = pool.starmap(measure_part, shares)
    rows = [row for part, _ in parts for row in part]
    judged = joined([part for _, part in parts])
    named: list[dict[str, object]] = [
        {"scene": scene.scene_id, "drivers": scene.drivers, **row} for scene, row in zip(scenes, rows, strict=True)
    ]
    found = gate_summary(rows) | selection_summary(judged) | {"seeds_looked_at": num_seeds_drawn}
    return GateResult(found=found, scenes=named, judged=judged)


def share(of: Sequence[Item], number: int, num_shares: int) -> Sequence[Item]:
    """Part ``number`` of ``num_shares`` consecutive ones of equal length."""
    return of[number * len(of) // num_shares : (number + 1) * len(of) // num_shares]


def measure_part(
    load: Callable[[], Models], config: GateConfig, scenes: Sequence[GateScene], selection_seeds: Sequence[int]
) -> tuple[list[dict[str, dict[str, float]]], Judged]:
    """The action gate's rows of ``scenes``, and the selection's table of the scenes of ``selection_seeds``."""
    pipe, reader, reward_model = load()
    rows = []
    for scene in tqdm(scenes, desc="imagine three paths", unit="scene"):
        futures = {"true": scene.truths_PTHWC}
        for kind in ("generated", "blind"):
            futures[kind] = imagine_scene(pipe, scene, config.sampling, blind=kind == "blind")
        rows.append(judge_scene(scene, futures, reader))
    camera = simulation_camera(*model_size_px(pipe))
    seeds = tqdm(selection_seeds, desc="simulate policies", unit="scene")
    candidates = [draw_candidates(seed, camera, config.simple, config.policies) for seed in seeds]
    return rows, judge_candidates(pipe, reader, reward_model, candidates, config.sampling, num_seeds=config.num_seeds)
