"""Imagine the future of a clip or of any video along given waypoints, and write it as mp4."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from resim.clip import NUM_FRAMES, NUM_HISTORY_FRAMES, WAYPOINT_DT_S, Clip
from resim.data.checks import load_waypoints
from resim.data.store import ClipStore
from resim.data.video import read_clip, resize_and_crop, write_video
from resim.entry_point import run
from resim.files import new_folder
from resim.futures import Frames, Waypoints, compare_video, model_size_px, speed_at_start_mps
from resim.geometry import Camera, simulation_camera
from resim.manoeuvres import MANOEUVRES, manoeuvre
from resim.overlay import side_by_side
from resim.report import write_json
from resim.world_model.pipeline import ReSimPipeline

RECORDED = "recorded"


@dataclass(frozen=True, kw_only=True)
class GenerateArgs:
    """What to imagine, from what, with which model."""

    # Folder of a ReSim checkpoint.
    model: Path
    # Where generated.mp4, side_by_side.mp4 and generation.json go.
    output_dir: Path
    # Clip of a store to start from, as STORE:INDEX.
    clip: str | None = None
    # Video to start from, instead of a clip.
    video: Path | None = None
    # Where in the video the history starts.
    start_s: float = 0.0
    # The video holds only the 0.9 s of history, nothing to compare the future with.
    history_only: bool = False
    # One path per 4 s round: a JSON or CSV file, a named manoeuvre, or 'recorded' (the clip's own); empty: action-free.
    waypoints: tuple[str, ...] = ()
    # Speed at t = 0 for named manoeuvres; a clip with recorded poses knows its own.
    speed_mps: float | None = None
    # Denoising steps a round.
    num_inference_steps: int = 50
    # How far the future is pushed towards text and path; 0 switches guidance off.
    guidance_scale: float = 6.0
    # Of the noise: the same seed gives the same noise for every path.
    seed: int = 0
    # Replace the output of an earlier run.
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a generation starts from. ``truth`` is history and recorded future (49, H, W, 3), None without a future."""

    history: Frames
    truth: Frames | None
    camera: Camera
    camera_assumed: bool


def find_clip(args: GenerateArgs) -> tuple[ClipStore, int] | None:
    """The store and index that --clip names, or None where a video is given."""
    if (args.clip is None) == (args.video is None):
        raise ValueError("give either --clip STORE:INDEX or --video FILE")
    if args.clip is None:
        return None
    folder, _, index = args.clip.rpartition(":")
    if not folder or not index.isdigit():
        raise ValueError(f"--clip {args.clip}: give STORE:INDEX, as in data/tiny/held_out:0")
    store = ClipStore(folder)
    if int(index) >= len(store):
        raise ValueError(f"--clip {args.clip}: the store has {len(store)} clips, 0 to {len(store) - 1}")
    return store, int(index)


def read_start(args: GenerateArgs, found: tuple[ClipStore, int] | None, height_px: int, width_px: int) -> Start:
    """History, truth and camera at the model's size. Without a recorded camera the simulator's is assumed."""
    camera = simulation_camera(height_px, width_px)
    if found is None:
        num_frames = NUM_HISTORY_FRAMES if args.history_only else NUM_FRAMES
        frames = resize_and_crop(read_clip(args.video, args.start_s, num_frames), height_px, width_px)
        truth = None if args.history_only else frames
        return Start(history=frames[:NUM_HISTORY_FRAMES], truth=truth, camera=camera, camera_assumed=True)
    store, index = found
    recorded = store.clips[index].camera
    if recorded is not None:
        camera = Camera(**recorded).resized_and_cropped(height_px, width_px)
    frames = store.read_frames(index, height_px, width_px)
    return Start(history=frames[:NUM_HISTORY_FRAMES], truth=frames, camera=camera, camera_assumed=recorded is None)


def read_rounds(args: GenerateArgs, clip: Clip | None) -> list[Waypoints]:
    """One path per value of --waypoints; a named manoeuvre begins at the speed the round before it ended with."""
    speed_mps = args.speed_mps
    if speed_mps is None and clip is not None and clip.history_poses is not None:
        speed_mps = speed_at_start_mps(clip.history_poses)
    rounds: list[Waypoints] = []
    for value in args.waypoints:
        if Path(value).suffix:
            path = load_waypoints(value)
        elif value == RECORDED:
            if clip is None or clip.waypoints is None:
                raise ValueError(f"--waypoints {RECORDED}: no path was recorded with this history")
            path = clip.waypoints
        elif speed_mps is None and value in MANOEUVRES:
            raise ValueError(f"--waypoints {value}: the speed at t = 0 is not known here; give --speed_mps")
        else:
            path = manoeuvre(value, speed_mps)
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
    with new_folder(args.output_dir, marker="generation.json", overwrite=args.overwrite) as folder:
        found = find_clip(args)
        rounds = read_rounds(args, None if found is None else found[0].clips[found[1]])
        pipe = ReSimPipeline.from_pretrained(args.model).to("cuda" if torch.cuda.is_available() else "cpu")
        start = read_start(args, found, *model_size_px(pipe))
        output = pipe(
            start.history,
            rounds if rounds else None,
            num_inference_steps=args.num_inference_steps,
            guidance_scale=args.guidance_scale,
            generator=torch.Generator().manual_seed(args.seed),
        )
        frames = output.frames[0]
        write_video(folder / "generated.mp4", frames[NUM_HISTORY_FRAMES:])
        write_video(folder / "side_by_side.mp4", side_by_side_rounds(frames, start, args, rounds))
        flags = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(args).items()}
        write_json(
            folder / "generation.json",
            {
                "flags": flags,
                "waypoints": [path.tolist() for path in rounds],
                "camera": {"assumed": start.camera_assumed, **asdict(start.camera)},
            },
        )
    print(args.output_dir / "side_by_side.mp4")


if __name__ == "__main__":
    run(generate)
