"""The whole on one machine: fresh scenes, a few steps of each stage, imagined futures, their rewards and the gates.

The stages train on scenes at night, which the model to start from has never seen, so that a few steps teach something;
everything else is measured with that model, by day.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from demos.commands import run_command, train

from resim.data.files import new_folder
from resim.data.store import ClipStore
from resim.data.video import Frames
from resim.datatypes.clip import NUM_HISTORY_FRAMES
from resim.datatypes.geometry import simulation_camera
from resim.datatypes.seeds import Seeds
from resim.entry_point import run
from resim.gates.measure import GateConfig, load_judges, measure_gates
from resim.imagination.futures import imagine, model_size_px
from resim.imagination.sampling import Sampling, SamplingFlags
from resim.imagination.scoring import score
from resim.judges.video2reward import Video2Reward
from resim.report.demo import Cost, Stage, report_before_and_after, report_cost, report_training, report_vae, versions
from resim.report.futures import report_futures
from resim.report.gates import report_gates
from resim.report.page import Report, bar_plot, write_json
from resim.report.ranking import ranking_figure
from resim.runtime.machine import machine
from resim.simulation.drivers import DRIVERS, POLICIES, Driver
from resim.simulation.generator.generate import MAPS, generate_scene
from resim.simulation.painter.painter import paint_clip
from resim.simulation.simulate import Simulation
from resim.world_model.pipeline import ReSimPipeline

NUM_LEARNT_CLIPS = 2  # whose futures are shown before and after training
MIXED = ("expert", *(name for name in DRIVERS if name != "expert"))


@dataclass(frozen=True, kw_only=True)
class DemoArgs:
    """How much of everything; the defaults are for two CPU cores."""

    # Where report.html, report.json, the videos, the data and the trained models go.
    output_dir: Path = Path("outputs/demo")
    # The model to start from.
    model: Path = Path("checkpoints/tiny")
    # Steps of each stage.
    steps: int = 12
    # Clips of each of the three training stores.
    clips: int = 16
    # Held-out clips: the validation losses and the reconstruction are of them.
    held_out_clips: int = 8
    # Kinds of the scenes whose futures are imagined.
    scenes: tuple[str, ...] = ("straight", "curve", "intersection")
    # Whose paths are imagined in each scene.
    drivers: tuple[str, ...] = ("expert", "swerve_left", "drift_off_road")
    # Futures of each path; two or more give the rewards an uncertainty.
    num_seeds: int = 2
    # How the futures are drawn.
    sampling: SamplingFlags = Sampling(num_inference_steps=10)
    # A few scenes, to show the figures; eval/evaluate.py gates measures them on more.
    gates: GateConfig = GateConfig(
        num_scenes=4,
        num_selection_scenes=2,
        first_seed=Seeds.DEMO_GATES.first,
        first_selection_seed=Seeds.DEMO_SELECTION.first,
    )
    # Replace the output of an earlier run.
    overwrite: bool = False


def simulate(data: Path, args: DemoArgs, height_px: int, width_px: int) -> None:
    """The stores that the tiny presets name: video without actions, logs of the expert, simulation of all drivers."""
    expert, mixed = ("--drivers", "expert"), ("--drivers", *MIXED, "--drivers_per_scene", 4)
    stores = {
        "video": (args.clips, Seeds.DEMO_VIDEO, (*expert, "--without_waypoints")),
        "logs": (args.clips, Seeds.DEMO_LOGS, expert),
        "simulation": (args.clips, Seeds.DEMO_SIMULATION, mixed),
        "held_out": (args.held_out_clips, Seeds.DEMO_HELD_OUT, mixed),
    }
    for name, (num_clips, seeds, flags) in stores.items():
        size = ("--height", height_px, "--width", width_px)
        count = ("--simple", "--look", "night", "--num_clips", num_clips, "--seed", seeds.first)
        run_command("data_prep/simulate.py", "--output_dir", data / name, "--source", name, *size, *count, *flags)
    model_vae = args.model.resolve() / "vae"
    paths = [data / name for name in stores]
    run_command("data_prep/cache_latents.py", "--vae", model_vae, "--batch_size", 4, "--stores", *paths)


def train_stages(folder: Path, args: DemoArgs) -> list[Stage]:
    """Each stage for a few steps: the first from the tiny model, each later one from the stage before it."""
    stages, model = [], args.model.resolve()
    for number in (1, 2, 3):
        output_dir = folder / f"stage{number}"
        flags = {
            "data_root": folder / "data",
            "num_validation_clips": args.held_out_clips,
            # The tiny model is trained already: the presets' rates would undo it.
            "learning_rate": 1e-3 if number == 2 else 3e-4,
            "lr_scheduler": "constant",
            "lr_warmup_steps": 2,
        }
        stages.append(train(f"tiny_stage{number}", model, output_dir, args.steps, **flags))
        model = output_dir
    return stages


def report_what_was_learnt(
    report: Report, folder: Path, pipe: ReSimPipeline, held_out: ClipStore, args: DemoArgs
) -> list[dict[str, object]]:
    """Futures of held-out clips along their recorded paths, from the model before the stages and after them."""
    trained = ReSimPipeline.from_pretrained(folder / "stage3").to(pipe.device)
    trained.set_progress_bar_config(disable=True)
    rows = []
    for index in range(NUM_LEARNT_CLIPS):
        clip = held_out.clips[index]
        truth = held_out.read_frames(index, *model_size_px(pipe))
        assert clip.waypoints is not None  # simulated with waypoints
        before, after = (
            imagine(model, truth[:NUM_HISTORY_FRAMES], clip.waypoints[None, None], args.sampling)[0]
            for model in (pipe, trained)
        )
        rows.append(report_before_and_after(report, folder, clip.clip_id, truth, before, after))
    return rows


def report_scene(
    report: Report, folder: Path, pipe: ReSimPipeline, reward_model: Video2Reward, kind: str, args: DemoArgs
) -> Mapping[str, object]:
    """Imagine one fresh scene along each driver's path, beside what the simulator says, and grade what is imagined."""
    scene = generate_scene(Seeds.DEMO_SCENES.first, kind=kind, simple=True)
    simulation = Simulation(scene)
    drives = {name: simulation.drive(Driver(name), name) for name in args.drivers}
    camera = simulation_camera(*model_size_px(pipe))
    truths: dict[str, Frames] = {name: paint_clip(done.scene, camera) for name, done in drives.items()}
    history = next(iter(truths.values()))[:NUM_HISTORY_FRAMES]
    paths = {name: done.waypoints for name, done in drives.items()}
    scores = score(
        pipe,
        reward_model,
        history,
        paths,
        args.sampling,
        num_seeds=args.num_seeds,
        batch_size=len(paths),
    )
    futures = dict(zip(scores.names, scores.futures_NTHWC, strict=True))
    scenes = {name: done.scene for name, done in drives.items()}
    found = report_futures(report, folder, scene.scene_id, paths, futures, truths, camera, scenes=scenes)
    executed = {name: done.infractions.score for name, done in drives.items()}
    rows = [{**row, "executed score": executed[str(row["candidate"])]} for row in scores.rows()]
    report.paragraph("Rewards of the imagined futures, beside the score of really driving them in the simulator:")
    report.table([{name: value for name, value in row.items() if name != "waypoints"} for row in rows])
    bars = {f"{row['candidate']}: {what}": row[what] for row in rows for what in ("reward", "executed score")}
    report.plot(bar_plot(bars, "reward of the imagined, score of the executed drive"), "Rewards")
    report.plot(ranking_figure(scores), "Paths coloured by reward; the best and the worst future.")
    return {**found, "rewards": rows}


def demo(args: Annotated[DemoArgs, tyro.conf.arg(name="")]) -> None:
    """Write report.html and report.json."""
    if args.num_seeds < 2:
        raise ValueError("--num_seeds starts at 2: one future says nothing about the uncertainty of its reward")
    if args.held_out_clips < NUM_LEARNT_CLIPS:
        raise ValueError(f"--held_out_clips starts at {NUM_LEARNT_CLIPS}: so many futures are shown before and after")
    for flag, given, known in (("drivers", args.drivers, (*DRIVERS, *POLICIES)), ("scenes", args.scenes, tuple(MAPS))):
        if unknown := sorted(set(given) - set(known)):
            raise ValueError(f"--{flag} {' '.join(unknown)}: unknown; choose from {', '.join(known)}")
    report = Report("ReSim demo")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with (
        new_folder(args.output_dir, kind="demo", inputs=[args.model], overwrite=args.overwrite) as folder,
        Cost() as cost,
    ):
        pipe = ReSimPipeline.from_pretrained(args.model).to(device)
        pipe.set_progress_bar_config(disable=True)
        reader, reward_model = load_judges(pipe, args.model / "inverse_dynamics", args.model / "video2reward")
        with cost.phase("simulate and encode fresh scenes"):
            simulate(folder / "data", args, *model_size_px(pipe))
        with cost.phase("reconstruct held-out clips"):
            held_out = ClipStore(folder / "data" / "held_out")
            vae_psnr_db = report_vae(report, pipe, held_out, num_clips=args.held_out_clips)
        with cost.phase("train the three stages"):
            stages = train_stages(folder, args)
        with cost.phase("imagine the futures"):
            report.heading("What the stages taught")
            learnt = report_what_was_learnt(report, folder, pipe, held_out, args)
            report_training(report, stages)
            report.paragraph(
                "Per scene one history and one noise, and a future for each path. Left to right: the simulator's "
                "truth, the generated future, the same with the commanded path, and the map with all paths."
            )
            scenes = [report_scene(report, folder, pipe, reward_model, kind, args) for kind in args.scenes]
        with cost.phase("measure the gates"):
            gates = measure_gates(lambda: (pipe, reader, reward_model), args.gates)
            report_gates(report, gates)
        report_cost(report, cost)
        found = {
            "wall_s": cost.wall_s,
            "peak_memory_gib": cost.peak_memory_gib,
            "versions": versions(machine()),
            "vae_psnr_db": vae_psnr_db,
            "stages": [stage.row for stage in stages],
            "learnt": learnt,
            "scenes": scenes,
            "gates": gates.found,
        }
        report.write(folder / "report.html")
        write_json(folder / "report.json", found)
    print(args.output_dir / "report.html")


if __name__ == "__main__":
    run(demo)
