"""Imagine the future of a clip or of any video along given waypoints, and write it as mp4."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from resim.data.files import new_folder
from resim.data.video import Frames, write_video
from resim.datatypes.clip import NUM_FRAMES, NUM_HISTORY_FRAMES, WAYPOINT_DT_S, Clip, Waypoints
from resim.entry_point import flags_of, run
from resim.imagination.futures import Precision, imagine, load_pipeline, model_size_px
from resim.imagination.sampling import Sampling, SamplingFlags
from resim.imagination.start import Start, StartArgs, files_read, find_clip, read_path, read_start, speed_at_start
from resim.report.futures import compare_video
from resim.report.overlay import side_by_side
from resim.report.page import write_json


@dataclass(frozen=True, kw_only=True)
class GenerateArgs(StartArgs):
    """What to imagine, from what, with which model."""

    # Folder of a ReSim checkpoint.
    model: Path
    # Where generated.mp4, side_by_side.mp4 and generation.json go.
    output_dir: Path
    # One path per 4 s round: a JSON or CSV file, a named manoeuvre, or 'recorded' (the clip's own); empty: action-free.
    waypoints: tuple[str, ...] = ()
    # How the future is drawn.
    sampling: SamplingFlags = Sampling(num_inference_steps=50)
    # Precision of the world model; bfloat16 is faster where the processor has it.
    dtype: Precision = "float32"
    # Replace the output of an earlier run.
    overwrite: bool = False


def read_rounds(args: GenerateArgs, clip: Clip | None) -> list[Waypoints]:
    """One path per value of --waypoints; a named manoeuvre begins at the speed the round before it ended with."""
    speed_mps = speed_at_start(args, clip)
    rounds: list[Waypoints] = []
    for value in args.waypoints:
        path = read_path(value, clip, speed_mps)
        rounds.append(path)
        speed_mps = float(np.linalg.norm(path[-1, :2] - path[-2, :2]) / WAYPOINT_DT_S)
    return rounds


def side_by_side_rounds(frames: Frames, start: Start, args: GenerateArgs, rounds: list[Waypoints]) -> Frames:
    """The rounds one after another beside truth (first round) and path; without a path only beside the truth."""
    if not rounds:
        panels = [("history | generated, action-free", frames)]
        if start.truth is not None:
            panels.insert(0, ("history | truth", start.truth))
        return side_by_side(panels)
    parts = []
    for i, path in enumerate(rounds):
        first = i * (NUM_FRAMES - NUM_HISTORY_FRAMES)
        name = Path(args.waypoints[i]).stem
        truth = start.truth if i == 0 else None
        part = compare_video(frames[first : first + NUM_FRAMES], truth, start.camera, {name: path}, name)
        parts.append(part if i == 0 else part[NUM_HISTORY_FRAMES:])
    return np.concatenate(parts)


def generate(args: Annotated[GenerateArgs, tyro.conf.arg(name="")]) -> None:
    """Write generated.mp4 (the future alone), side_by_side.mp4 and generation.json."""
    inputs = [args.model, *files_read(args, args.waypoints)]
    with new_folder(args.output_dir, kind="generation", inputs=inputs, overwrite=args.overwrite) as folder:
        found = find_clip(args)
        rounds = read_rounds(args, None if found is None else found[0].clips[found[1]])
        pipe = load_pipeline(args.model, args.dtype)
        start = read_start(args, found, *model_size_px(pipe))
        frames = imagine(pipe, start.history, np.stack(rounds)[None] if rounds else None, args.sampling)[0]
        write_video(folder / "generated.mp4", frames[NUM_HISTORY_FRAMES:])
        write_video(folder / "side_by_side.mp4", side_by_side_rounds(frames, start, args, rounds))
        write_json(
            folder / "generation.json",
            {
                "flags": flags_of(args),
                "waypoints": [path.tolist() for path in rounds],
                "camera": {"assumed": start.camera_assumed, **asdict(start.camera)},
            },
        )
    print(args.output_dir / "side_by_side.mp4")


if __name__ == "__main__":
    run(generate)
