"""Closed loop: a policy drives on inside the world model, beside the same drive in the simulator.

Each round is 4 s: the policy commands a path, the world model imagines it, and the next round's history is taken from
the generated frames. The policy here sees no generated frame: it plans on the simulator's map, at the pose that it has
commanded so far, so it believes that the world model obeys. What differs from the simulator's video is therefore the
world model's drift alone. After a collision in the simulator both stand still (see simulate.Drive).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from resim.data.video import Frames
from resim.datatypes.clip import NUM_FRAMES, NUM_FUTURE_FRAMES, NUM_HISTORY_FRAMES, Waypoints
from resim.gates.action_gate import read_paths
from resim.judges.inverse_dynamics import InverseDynamics
from resim.judges.video2reward import Video2Reward
from resim.metrics.pixels import difference_grey_levels, sharpness_grey_levels
from resim.metrics.trajectory import path_distance_m
from resim.simulation.simulate import Drive

Measures = dict[str, list[float]]  # name -> one value per round

# Every measure of a round, and what its axis is called.
MEASURES = {
    "trajectory_difference_m": "path shown to path commanded, m",
    "reward": "Video2Reward's reward",
    "sharpness_grey_levels": "sharpness, grey levels",
    "difference_grey_levels": "difference to the simulator, grey levels",
}
WORLDS = ("simulator", "world_model")


@dataclass(frozen=True, kw_only=True)
class ClosedLoop:
    """One drive of one policy, measured in both worlds; ``worlds`` has the keys of WORLDS."""

    drive: Drive
    worlds: Mapping[str, Measures]

    def as_json(self) -> dict[str, object]:
        """Every number of the drive; ``infractions`` are those of the whole drive in the simulator."""
        rounds = [
            {"round": r + 1, "waypoints": path.tolist()}
            | {world: {name: values[r] for name, values in self.worlds[world].items()} for world in WORLDS}
            for r, path in enumerate(self.drive.rounds_R83)
        ]
        return {
            "scene": self.drive.scene.scene_id,
            "policy": self.drive.driver,
            "infractions": asdict(self.drive.infractions),
            "rounds": rounds,
        }


def round_clips(video_THWC: Frames) -> Frames:
    """A video of 9 + 40 R frames -> the rounds' clips (R, 49, H, W, 3); neighbours share 9 frames.

    Raises ValueError for a video of another length.
    """
    num_rounds, rest = divmod(len(video_THWC) - NUM_HISTORY_FRAMES, NUM_FUTURE_FRAMES)
    if num_rounds < 1 or rest:
        raise ValueError(f"{len(video_THWC)} frames are not 9 of history and 40 for each round")
    starts = NUM_FUTURE_FRAMES * np.arange(num_rounds)
    return np.stack([video_THWC[start : start + NUM_FRAMES] for start in starts])


@torch.no_grad()
def measure_rounds(
    video_THWC: Frames,
    simulated_THWC: Frames,
    waypoints_R83: Waypoints,
    reader: InverseDynamics,
    reward_model: Video2Reward,
) -> Measures:
    """MEASURES of a video of 9 + 40 R frames; path and reward see each round's 49 frames, the others its 40 new ones.

    ``simulated_THWC`` is the simulator's video of the same drive, ``waypoints_R83`` what was commanded.
    """
    clips, simulated = round_clips(video_THWC), round_clips(simulated_THWC)
    frames_RTCHW = torch.from_numpy(clips).permute(0, 1, 4, 2, 3)
    new, simulated_new = (part[:, NUM_HISTORY_FRAMES:] for part in (clips, simulated))
    return {
        "trajectory_difference_m": path_distance_m(read_paths(reader, clips), waypoints_R83).tolist(),
        "reward": reward_model(frames_RTCHW.to(reward_model.device)).cpu().tolist(),
        "sharpness_grey_levels": [sharpness_grey_levels(frames) for frames in new],
        "difference_grey_levels": difference_grey_levels(new, simulated_new).mean(axis=1).tolist(),
    }


def measure_drive(
    drive: Drive,
    simulated_THWC: Frames,
    generated_THWC: Frames,
    reader: InverseDynamics,
    reward_model: Video2Reward,
) -> ClosedLoop:
    """A drive's two videos (9 + 40 R, H, W, 3) measured alike."""
    measured = [
        measure_rounds(video, simulated_THWC, drive.rounds_R83, reader, reward_model)
        for video in (simulated_THWC, generated_THWC)
    ]
    return ClosedLoop(drive=drive, worlds=dict(zip(WORLDS, measured, strict=True)))


def policies_of(loops: Sequence[ClosedLoop]) -> list[str]:
    """The policies that drove, in the order of their first drive."""
    return list(dict.fromkeys(loop.drive.driver for loop in loops))


def mean_over_scenes(loops: Sequence[ClosedLoop], policy: str, world: str, measure: str) -> list[float]:
    """One value per round."""
    drives = [loop.worlds[world][measure] for loop in loops if loop.drive.driver == policy]
    return np.mean(drives, axis=0).tolist()


def drift_rows(loops: Sequence[ClosedLoop]) -> list[dict[str, object]]:
    """A row per policy, world and round with every measure, mean over scenes."""
    rows: list[dict[str, object]] = []
    for policy in policies_of(loops):
        for world in WORLDS:
            means = {measure: mean_over_scenes(loops, policy, world, measure) for measure in MEASURES}
            for r in range(len(loops[0].drive.rounds_R83)):
                key = {"policy": policy, "world": world, "round": r + 1}
                rows.append(key | {measure: values[r] for measure, values in means.items()})
    return rows
