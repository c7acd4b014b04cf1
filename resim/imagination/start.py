"""What a generation starts from: a clip of a store, or any video, and the paths that people name."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resim.data.checks import load_waypoints
from resim.data.store import ClipStore
from resim.data.video import Frames, read_clip, resize_and_crop
from resim.datatypes.clip import NUM_FRAMES, NUM_HISTORY_FRAMES, Clip, Waypoints, speed_at_start_mps
from resim.datatypes.geometry import Camera, simulation_camera
from resim.imagination.manoeuvres import MANOEUVRES, manoeuvre

RECORDED = "recorded"


@dataclass(frozen=True, kw_only=True)
class StartArgs:
    """The history: of a clip, or of a video."""

    # Clip of a store to start from, as STORE:INDEX.
    clip: str | None = None
    # Video to start from, instead of a clip.
    video: Path | None = None
    # Where in the video the history starts.
    start_s: float = 0.0
    # The video holds only the 0.9 s of history, nothing to compare the future with.
    history_only: bool = False
    # Speed at t = 0 for named manoeuvres; a clip with recorded poses knows its own.
    speed_mps: float | None = None


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a generation starts from. ``truth`` is history and recorded future (49, H, W, 3), None without a future."""

    history: Frames
    truth: Frames | None
    camera: Camera
    camera_assumed: bool


def files_read(args: StartArgs, waypoints: Iterable[str]) -> list[Path]:
    """The store, video and files of ``waypoints`` that a command reads, for ``files.new_folder``."""
    stores = [] if args.clip is None else [Path(args.clip.rpartition(":")[0])]
    videos = [] if args.video is None else [args.video]
    return [*stores, *videos, *(Path(value) for value in waypoints if is_file_name(value))]


def is_file_name(waypoints: str) -> bool:
    """Whether a value of --waypoints is a file, not the name of a path."""
    return bool(Path(waypoints).suffix)


def find_clip(args: StartArgs) -> tuple[ClipStore, int] | None:
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


def read_start(args: StartArgs, found: tuple[ClipStore, int] | None, height_px: int, width_px: int) -> Start:
    """History, truth and camera at the model's size. Without a recorded camera the simulator's is assumed."""
    camera = simulation_camera(height_px, width_px)
    if found is None:
        assert args.video is not None  # find_clip has seen to it
        num_frames = NUM_HISTORY_FRAMES if args.history_only else NUM_FRAMES
        frames = resize_and_crop(read_clip(args.video, args.start_s, num_frames), height_px, width_px)
        truth = None if args.history_only else frames
        return Start(history=frames[:NUM_HISTORY_FRAMES], truth=truth, camera=camera, camera_assumed=True)
    store, index = found
    recorded = store.clips[index].camera
    if recorded is not None:
        fields: dict[str, Any] = recorded
        camera = Camera(**fields).resized_and_cropped(height_px, width_px)
    frames = store.read_frames(index, height_px, width_px)
    return Start(history=frames[:NUM_HISTORY_FRAMES], truth=frames, camera=camera, camera_assumed=recorded is None)


def speed_at_start(args: StartArgs, clip: Clip | None) -> float | None:
    """--speed_mps, or the clip's own from its poses; None where neither says it."""
    if args.speed_mps is None and clip is not None and clip.history_poses is not None:
        return speed_at_start_mps(clip.history_poses)
    return args.speed_mps


def read_path(value: str, clip: Clip | None, speed_mps: float | None) -> Waypoints:
    """The path that ``value`` names: a JSON or CSV file, 'recorded', or a manoeuvre begun at ``speed_mps``."""
    if is_file_name(value):
        return load_waypoints(value)
    if value == RECORDED:
        if clip is None or clip.waypoints is None:
            raise ValueError(f"--waypoints {RECORDED}: no path was recorded with this history")
        return clip.waypoints
    if speed_mps is None:
        if value in MANOEUVRES:
            raise ValueError(f"--waypoints {value}: the speed at t = 0 is not known here; give --speed_mps")
        speed_mps = 0.0  # the name is wrong, whatever the speed
    return manoeuvre(value, speed_mps)
