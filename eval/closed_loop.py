"""Let policies drive inside the world model for several rounds, beside the same drives in the simulator."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from resim.data.files import new_folder
from resim.data.video import write_video
from resim.datatypes.clip import NUM_FUTURE_FRAMES, NUM_HISTORY_FRAMES
from resim.datatypes.geometry import simulation_camera
from resim.datatypes.seeds import Seeds, seeds_from
from resim.entry_point import flags_of, run
from resim.gates.closed_loop import ClosedLoop, drift_rows, measure_drive
from resim.imagination.futures import Precision, imagine, load_pipeline, model_size_px
from resim.imagination.sampling import Sampling, SamplingFlags
from resim.judges.load import load_inverse_dynamics, load_video2reward
from resim.report.closed_loop import compare_rounds, report_closed_loop
from resim.report.page import Report, write_json
from resim.simulation.drivers import Driver
from resim.simulation.generator.generate import generate_scene
from resim.simulation.painter.painter import paint_clip
from resim.simulation.simulate import Drive, Simulation


@dataclass(frozen=True, kw_only=True)
class ClosedLoopArgs:
    """Who drives, for how long, in which model."""

    # Folder of a ReSim checkpoint.
    model: Path = Path("checkpoints/tiny")
    # Folder of the inverse dynamics model that reads the driven paths.
    inverse_dynamics: Path = Path("checkpoints/tiny/inverse_dynamics")
    # Folder of the Video2Reward model that grades the rounds.
    video2reward: Path = Path("checkpoints/tiny/video2reward")
    # Where report.html, closed_loop.json and the videos go.
    output_dir: Path = Path("outputs/closed_loop")
    # The simulator's drivers and policies that drive, each in every scene.
    policies: tuple[str, ...] = ("expert", "idm_lane_follower")
    # Rounds of 4 s.
    num_rounds: int = 3
    # Scenes of the simulator.
    num_scenes: int = 4
    # The first scene's.
    first_seed: int = Seeds.CLOSED_LOOP.first
    # Scenes of the tiny model's world: slow, by day, without buildings and trees.
    simple: bool = True
    # How the rounds are drawn.
    sampling: SamplingFlags = Sampling(num_inference_steps=25)
    # Precision of the world model; bfloat16 is faster where the processor has it.
    dtype: Precision = "float32"
    # Replace the output of an earlier run.
    overwrite: bool = False


def simulate(args: ClosedLoopArgs) -> list[Drive]:
    """Every policy's drive in every scene. Raises ValueError for an unknown policy and for numbers out of range."""
    if min(args.num_scenes, args.num_rounds) < 1 or not args.policies:
        raise ValueError("--num_scenes and --num_rounds start at 1, and --policies takes at least one name")
    num_steps = NUM_HISTORY_FRAMES + args.num_rounds * NUM_FUTURE_FRAMES
    drives = []
    for seed in seeds_from(args.first_seed, args.num_scenes):
        simulation = Simulation(generate_scene(seed, simple=args.simple, num_steps=num_steps))
        drives += [simulation.drive(Driver(policy, seed=seed), policy) for policy in args.policies]
    return drives


def terminal_table(loops: list[ClosedLoop]) -> Table:
    """drift_rows, rounded."""
    rows = drift_rows(loops)
    table = Table()
    for name in rows[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()))
    return table


def closed_loop(args: Annotated[ClosedLoopArgs, tyro.conf.arg(name="")]) -> None:
    """Write report.html, closed_loop.json and a video of each drive, and print the drift."""
    models = [args.model, args.inverse_dynamics, args.video2reward]
    with new_folder(args.output_dir, kind="closed loop", inputs=models, overwrite=args.overwrite) as folder:
        drives = simulate(args)
        pipe = load_pipeline(args.model, args.dtype)
        pipe.set_progress_bar_config(disable=True)
        height_px, width_px = model_size_px(pipe)
        reader = load_inverse_dynamics(args.inverse_dynamics, height_px=height_px, width_px=width_px).to(pipe.device)
        reward_model = load_video2reward(args.video2reward).to(pipe.device)
        camera = simulation_camera(height_px, width_px)
        (folder / "videos").mkdir()
        loops, videos = [], []
        for done in tqdm(drives, desc="drive", unit="drive"):
            simulated = paint_clip(done.scene, camera)
            generated = imagine(pipe, simulated[:NUM_HISTORY_FRAMES], done.rounds_R83[None], args.sampling)[0]
            videos.append(folder / "videos" / f"{done.scene.scene_id}_{done.driver}.mp4")
            write_video(videos[-1], compare_rounds(simulated, generated))
            loops.append(measure_drive(done, simulated, generated, reader, reward_model))
        report = Report("ReSim closed loop")
        report_closed_loop(report, loops, videos)
        report.write(folder / "report.html")
        found = {"flags": flags_of(args), "means": drift_rows(loops), "drives": [loop.as_json() for loop in loops]}
        write_json(folder / "closed_loop.json", found)
    Console().print(terminal_table(loops))
    print(args.output_dir / "report.html")


if __name__ == "__main__":
    run(closed_loop)
