"""The gates: does a future obey its path, can its reward be trusted, and does choosing by imagination pay."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from resim.futures import model_size_px
from resim.geometry import simulation_camera
from resim.inverse_dynamics import InverseDynamics
from resim.judges import load_inverse_dynamics, load_video2reward
from resim.metrics.action_gate import draw_scenes, imagine, judge_scene
from resim.metrics.action_gate import summary as gate_summary
from resim.policy_selection import Judged, calibration, draw_candidates, judge_candidates
from resim.policy_selection import summary as selection_summary
from resim.report import Report, bar_plot, line_plot, write_json
from resim.reward.video2reward import Video2Reward
from resim.world_model.pipeline import ReSimPipeline

SELECTION_SEED_OFFSET = 200_000  # the scenes of the selection come so far after those of the action gate


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """How many scenes, and how they are imagined."""

    # Scenes of the action gate, three paths each.
    num_scenes: int = 64
    # Scenes of the reward pairs and the policy selection, seven paths each.
    num_selection_scenes: int = 100
    # The first seed of the scenes; none of the tiny model's training, its held-out data or the demo is from here on.
    first_seed: int = 3_000_000
    # Scenes of the tiny model's world: slow, by day, without buildings and trees.
    simple: bool = True
    # Futures of each candidate in the selection; the variance baseline needs two.
    num_seeds: int = 2
    # Denoising steps.
    num_inference_steps: int = 10
    # How far the future is pushed towards text and path: the checkpoint's own by default, 0 switches guidance off.
    guidance_scale: float | None = None
    # Of the noise, the same for every path of a scene.
    seed: int = 0


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


def measure_gates(
    pipe: ReSimPipeline, reader: InverseDynamics, reward_model: Video2Reward, config: GateConfig
) -> GateResult:
    """Imagine and judge. Raises ValueError where a number of scenes or seeds is below 1."""
    if min(config.num_scenes, config.num_selection_scenes, config.num_seeds) < 1:
        raise ValueError("--num_scenes, --num_selection_scenes and --num_seeds start at 1")
    camera = simulation_camera(*model_size_px(pipe))
    scenes, num_seeds_drawn = draw_scenes(config.first_seed, config.num_scenes, camera, config.simple)
    rows = []
    for scene in tqdm(scenes, desc="imagine three paths", unit="scene"):
        futures = {"true": scene.truths_PTHWC}
        for kind in ("generated", "blind"):
            futures[kind] = imagine(
                pipe,
                scene,
                blind=kind == "blind",
                seed=config.seed,
                num_inference_steps=config.num_inference_steps,
                guidance_scale=config.guidance_scale,
            )
        rows.append(judge_scene(scene, futures, reader))
    first = config.first_seed + SELECTION_SEED_OFFSET
    seeds = tqdm(range(first, first + config.num_selection_scenes), desc="simulate policies", unit="scene")
    candidates = [draw_candidates(seed, camera, config.simple) for seed in seeds]
    judged = judge_candidates(
        pipe,
        reader,
        reward_model,
        candidates,
        num_seeds=config.num_seeds,
        seed=config.seed,
        num_inference_steps=config.num_inference_steps,
        guidance_scale=config.guidance_scale,
    )
    named: list[dict[str, object]] = [
        {"scene": scene.scene_id, "drivers": scene.drivers, **row} for scene, row in zip(scenes, rows, strict=True)
    ]
    found = gate_summary(rows) | selection_summary(judged) | {"seeds_looked_at": num_seeds_drawn}
    return GateResult(found=found, scenes=named, judged=judged)


def report_gates(report: Report, result: GateResult) -> None:
    """Tables of the measures, executed scores by how the policy was chosen, and calibration of the rewards."""
    report.heading("Gates: does it obey, and can it judge?")
    report.paragraph(
        f"{result.found['n_scenes']} scenes of three paths for obedience; {result.found['n_selection_scenes']} scenes "
        "of the expert and six imperfect policies for rewards and the choice among them. Intervals are 95 %, by "
        "drawing scenes with replacement."
    )
    numbers = {name: value for name, value in result.found.items() if not isinstance(value, dict)}
    report.table([{"gate": name, "": _text(value)} for name, value in numbers.items()])
    scores = result.found["selection_scores"]
    assert isinstance(scores, dict)
    figure = bar_plot(scores, "mean executed score")
    report.plot(figure, "What came of driving: the policy chosen by imagination beside each policy on its own.")
    judged, curves = result.judged, {"perfect": ([0.0, 1.0], [0.0, 1.0])}
    for name, reward_SN in (("true video", judged.reward_true_SN), ("imagined", judged.reward_SN)):
        mean_reward, mean_score, _ = calibration(reward_SN, judged.score_SN)
        curves[name] = (mean_reward.tolist(), mean_score.tolist())
    report.plot(line_plot(curves, "reward", "executed score"), "Calibration of the reward, in ten bins of equal size.")


def write_gates(folder: Path, result: GateResult) -> None:
    """gates.json, candidates.parquet and report.html in ``folder``."""
    report = Report("ReSim gates")
    report_gates(report, result)
    report.write(folder / "report.html")
    pq.write_table(pa.Table.from_pylist(result.judged.rows()), folder / "candidates.parquet")
    write_json(folder / "gates.json", {"gates": result.found, "scenes": result.scenes})


def _text(value: object) -> object:
    return ", ".join(f"{x:.3f}" for x in value) if isinstance(value, list) else value
