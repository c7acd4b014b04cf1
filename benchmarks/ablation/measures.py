"""Measure a trained variant: held-out loss, whether its futures obey their paths, and how it drifts over rounds.

Every future is imagined on scenes of the simulator that no training has seen, from the same noise for all variants.
"""

import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablation.runs import training_rows, training_seconds
from ablation.variants import Run, Schedule, pretraining, run_folder, trainings

from resim.data.files import sha256_of
from resim.data.video import Frames
from resim.datatypes.clip import NUM_FUTURE_FRAMES, NUM_HISTORY_FRAMES, Waypoints, prompt_for
from resim.datatypes.geometry import simulation_camera
from resim.datatypes.seeds import Seeds, seeds_from
from resim.gates.action_gate import imagine_scene, read_paths
from resim.gates.closed_loop import round_clips
from resim.gates.scenes import NUM_PATHS, GateScene, draw_scene
from resim.imagination.futures import imagine
from resim.imagination.sampling import Sampling
from resim.judges.inverse_dynamics import InverseDynamics
from resim.judges.load import load_inverse_dynamics
from resim.metrics.pixels import difference_grey_levels, nearest_share, sharpness_share
from resim.metrics.trajectory import path_distance_m, share_of_right_futures
from resim.report.page import write_json
from resim.simulation.generator.generate import generate_scene
from resim.simulation.painter.painter import paint_clip
from resim.simulation.simulate import Drive, drive
from resim.training.checkpoint import list_checkpoints
from resim.training.data import first_batches, validation_data
from resim.training.presets.ablations import tiny_ablation
from resim.training.steps import BatchEncoder, step_generator
from resim.training.validation import NOISE_SEED, TIMESTEP_FRACTIONS, validation_draws
from resim.world_model.diffusion import DiffusionConfig
from resim.world_model.latents import encode_frames
from resim.world_model.losses import TrainingDraws, training_losses
from resim.world_model.pipeline import ReSimPipeline

ROWS_PER_POINT = 5  # of the training log
PATH_TIMESTEPS = (500, 700, 900)  # where the future is noisy enough for the path to tell something


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """On which scenes a variant is measured, and how its futures are made."""

    # Folder of the inverse dynamics model that reads the futures' paths.
    inverse_dynamics: Path = Path("outputs/tiny/inverse_dynamics/model")
    # Scenes with three paths each, and a drive of the expert over several rounds.
    num_scenes: int = 12
    # The first scene's.
    first_seed: int = Seeds.ABLATIONS.first
    # Scenes of the tiny model's world: slow, by day, without buildings and trees.
    simple: bool = True
    # Rounds of 4 s along the expert's path.
    num_rounds: int = 3
    # Denoising steps.
    num_inference_steps: int = 4
    # How far the future is pushed towards text and path: the checkpoint's own by default, 0 switches guidance off.
    guidance_scale: float | None = None

    def measure_settings(self) -> dict[str, object]:
        """The settings as the measures remember them, with the reader's weights as a hash."""
        values = {field: getattr(self, field) for field in MeasureConfig.__dataclass_fields__}
        weights = sha256_of(self.inverse_dynamics / "diffusion_pytorch_model.safetensors")
        return values | {"inverse_dynamics": str(self.inverse_dynamics), "inverse_dynamics_sha256": weights}


@dataclass(frozen=True, kw_only=True)
class TestScene:
    """Three paths of one history, and the expert's drive on from it; ``read_P83`` is read from the true videos."""

    gate: GateScene
    read_P83: Waypoints
    expert: Drive
    expert_THWC: Frames  # the simulator's video of the expert's drive


def measures_file(schedule: Schedule, run: Run) -> Path:
    """Where the measures of a run are kept."""
    return run_folder(schedule, *run) / "measures.json"


def unmeasured(schedule: Schedule, config: MeasureConfig, runs: Sequence[Run]) -> list[Run]:
    """The runs that have no measures with these settings."""
    settings = config.measure_settings()

    def has_measures(run: Run) -> bool:
        file = measures_file(schedule, run)
        return file.is_file() and json.loads(file.read_text())["settings"] == settings

    return [run for run in runs if not has_measures(run)]


def draw_test_scenes(config: MeasureConfig, reader: InverseDynamics) -> list[TestScene]:
    """Scenes of the simple world, from ``first_seed`` on, with three paths apart and an expert that hits nothing."""
    camera = simulation_camera(reader.config.height_px, reader.config.width_px)
    scenes: list[TestScene] = []
    for seed in seeds_from(config.first_seed):
        if len(scenes) == config.num_scenes:
            break
        gate = draw_scene(seed, camera, config.simple)
        num_steps = NUM_HISTORY_FRAMES + config.num_rounds * NUM_FUTURE_FRAMES
        expert = drive(generate_scene(seed, simple=config.simple, num_steps=num_steps), "expert")
        if gate is not None and not expert.infractions.collision:
            read = read_paths(reader, gate.truths_PTHWC)
            scenes.append(
                TestScene(gate=gate, read_P83=read, expert=expert, expert_THWC=paint_clip(expert.scene, camera))
            )
    return scenes


def computing(pipe: ReSimPipeline) -> AbstractContextManager:
    """The precision of the training, in which futures are imagined too."""
    return torch.autocast(pipe.device.type, torch.bfloat16)


def clean_context() -> DiffusionConfig:
    """The base's losses on a clean history, as when imagining."""
    return replace(tiny_ablation().diffusion, max_context_timestep=0)


@torch.no_grad()
def held_out_losses(model: Path, schedule: Schedule) -> list[float]:
    """Eq. 1 alone per held-out clip, mean over timesteps: the same clips, noise and weights for every variant."""
    base = tiny_ablation()
    data = validation_data(replace(base.data, data_root=schedule.data_root), model)
    pipe = ReSimPipeline.from_pretrained(model)
    encode = BatchEncoder(pipe, pipe.device)
    diffusion = clean_context()
    losses = []
    for index, batch in enumerate(first_batches(data, base.validation.num_validation_clips, base.train_batch_size)):
        latents, prompts = encode(batch, step_generator(NOISE_SEED, index, 1, 0))
        total_B = torch.zeros(batch.size)
        for fraction in TIMESTEP_FRACTIONS:
            draws = validation_draws(latents.shape, int(fraction * diffusion.num_timesteps), index)
            conditions = (prompts, batch.waypoints, batch.has_waypoints)
            with computing(pipe):
                total_B += training_losses(pipe.world_model, latents, *conditions, draws, diffusion)["diffusion"]
        losses += (total_B / len(TIMESTEP_FRACTIONS)).tolist()
    return losses


def checkpoints(schedule: Schedule, run: Run) -> list[tuple[int, Path]]:
    """Steps and model of the common start and of every checkpoint after it, over all trainings of the run."""
    found, begun = [(0, pretraining(schedule, run[1]).folder)], 0
    for training in trainings(schedule, *run):
        found += [(begun + int(path.name.split("-")[1]), path) for path in list_checkpoints(training.folder)]
        begun = found[-1][0]
    return found


def training_curve(schedule: Schedule, run: Run) -> list[dict[str, float]]:
    """Diffusion loss as trained on, averaged over ROWS_PER_POINT rows of the log."""
    rows, begun = [], 0
    for training in trainings(schedule, *run):
        logged = training_rows(training)
        rows += [(begun + row["step"], row["loss_by_name"]["diffusion"]) for row in logged]
        begun = rows[-1][0]
    groups = [rows[i : i + ROWS_PER_POINT] for i in range(0, len(rows), ROWS_PER_POINT)]
    return [{"step": group[-1][0], "loss": float(np.mean([loss for _, loss in group]))} for group in groups]


@torch.no_grad()
def path_losses(pipe: ReSimPipeline, scene: GateScene, seed: int) -> np.ndarray:
    """Eq. 1 of each true future (rows) under each path of the scene (columns), from one noise, mean over timesteps."""
    truths = torch.from_numpy(scene.truths_PTHWC).permute(0, 1, 4, 2, 3)
    latents = encode_frames(pipe.vae, truths.to(pipe.device)).float().repeat_interleave(NUM_PATHS, dim=0)
    paths = torch.from_numpy(np.tile(scene.waypoints_P83, (NUM_PATHS, 1, 1))).to(pipe.device, torch.float32)
    prompts = pipe.prompt_encoder([prompt_for(None)] * len(latents)).to(pipe.device)
    has_path = torch.ones(len(latents), dtype=torch.bool, device=pipe.device)
    diffusion = clean_context()
    total = torch.zeros(len(latents))
    for timestep in PATH_TIMESTEPS:
        draws = validation_draws(latents[:1].shape, timestep, seed)
        every = TrainingDraws(
            timestep_B=draws.timestep_B.expand(len(latents)),
            noise_BFCHW=draws.noise_BFCHW.expand_as(latents),
            num_context=draws.num_context,
            context_timestep_B=draws.context_timestep_B.expand(len(latents)),
            context_noise_BFCHW=draws.context_noise_BFCHW.expand_as(latents),
        ).to(pipe.device)
        losses = training_losses(pipe.world_model, latents, prompts, paths, has_path, every, diffusion)
        total += losses["diffusion"].cpu()
    return (total / len(PATH_TIMESTEPS)).reshape(NUM_PATHS, NUM_PATHS).numpy()


def path_use(losses_PP: np.ndarray) -> dict[str, float]:
    """Of the losses of every future (rows) under every path (columns): how often the own path's is the lowest, and by
    how much of it the others' are higher on average. A model that ignores its path gives a gain of 0.
    """
    own = np.diagonal(losses_PP)
    others = (losses_PP.sum(axis=1) - own) / (len(own) - 1)
    right = losses_PP.argmin(axis=1) == np.arange(len(own))
    return {"right": float(right.mean()), "gain": float(((others - own) / own).mean())}


def measure_paths(scene: GateScene, futures_PTHWC: Frames, read_P83: Waypoints) -> dict[str, Any]:
    """What one scene's futures show; ``read_P83`` are the paths read from them."""
    made, true = (clips[:, NUM_HISTORY_FRAMES:] for clips in (futures_PTHWC, scene.truths_PTHWC))
    return {
        "right": share_of_right_futures(read_P83, scene.waypoints_P83),
        "nearest": nearest_share(futures_PTHWC, scene.truths_PTHWC),
        "distance_m": path_distance_m(read_P83, scene.waypoints_P83).tolist(),
        "sharpness": float(np.mean([sharpness_share(*pair) for pair in zip(made, true, strict=True)])),
    }


def measure_rounds(scene: TestScene, video_THWC: Frames, reader: InverseDynamics) -> dict[str, list[float]]:
    """One value per round along the expert's path: distance to it, sharpness, distance to the simulator's video."""
    clips, simulated = round_clips(video_THWC), round_clips(scene.expert_THWC)
    pairs = [(a[NUM_HISTORY_FRAMES:], b[NUM_HISTORY_FRAMES:]) for a, b in zip(clips, simulated, strict=True)]
    return {
        "distance_m": path_distance_m(read_paths(reader, clips), scene.expert.rounds_R83).tolist(),
        "sharpness": [sharpness_share(*pair) for pair in pairs],
        "difference_grey_levels": [float(difference_grey_levels(*pair).mean()) for pair in pairs],
    }


def measure_scene(
    pipe: ReSimPipeline, reader: InverseDynamics, scene: TestScene, seed: int, config: MeasureConfig
) -> dict[str, Any]:
    """Everything about one scene; ``seed`` draws the noise."""
    sampling = Sampling(seed=seed, num_inference_steps=config.num_inference_steps, guidance_scale=config.guidance_scale)
    history = scene.expert_THWC[:NUM_HISTORY_FRAMES]
    with computing(pipe):
        futures = imagine_scene(pipe, scene.gate, sampling, blind=False)
        video = imagine(pipe, history, scene.expert.rounds_R83[None], sampling)[0]
        losses = path_losses(pipe, scene.gate, seed)
    return {
        "scene": scene.gate.scene_id,
        "drivers": list(scene.gate.drivers),
        "path_use": path_use(losses),
        "generated": measure_paths(scene.gate, futures, read_paths(reader, futures)),
        "true": measure_paths(scene.gate, scene.gate.truths_PTHWC, scene.read_P83),
        "rounds": measure_rounds(scene, video, reader),
    }


def measure(schedule: Schedule, config: MeasureConfig, runs: Sequence[Run]) -> None:
    """Write the measures of ``runs``, one after the other; the scenes are drawn once."""
    size_px = {"height_px": tiny_ablation().data.height_px, "width_px": tiny_ablation().data.width_px}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reader = load_inverse_dynamics(config.inverse_dynamics, **size_px).to(device)
    scenes = draw_test_scenes(config, reader)
    for run in runs:
        began_s = time.perf_counter()
        done = trainings(schedule, *run)
        pipe = ReSimPipeline.from_pretrained(done[-1].folder).to(device)
        pipe.set_progress_bar_config(disable=True)
        losses = {step: held_out_losses(folder, schedule) for step, folder in checkpoints(schedule, run)}
        found = {
            "settings": config.measure_settings(),
            "training_seconds": sum(map(training_seconds, done)),
            "training_curve": training_curve(schedule, run),
            "curve": [{"step": step, "loss": float(np.mean(clips))} for step, clips in losses.items()],
            "held_out_losses": losses[max(losses)],
            "scenes": [measure_scene(pipe, reader, scene, n, config) for n, scene in enumerate(scenes)],
        }
        found["measuring_seconds"] = time.perf_counter() - began_s
        write_json(measures_file(schedule, run), found)
