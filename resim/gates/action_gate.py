"""The action gate: does a different trajectory give a different future, and the right one?

Per scene, one history, one noise and three paths that are clearly apart. An inverse dynamics model reads a path back
out of each generated future. A path passes when the future generated for it is the nearest of the three to it.
"""

from collections.abc import Mapping

import numpy as np
import torch

from resim.data.video import Frames
from resim.datatypes.clip import NUM_HISTORY_FRAMES, Waypoints
from resim.gates.scenes import NUM_PATHS, GateScene
from resim.imagination.futures import imagine
from resim.imagination.sampling import Sampling
from resim.judges.inverse_dynamics import InverseDynamics
from resim.metrics.pixels import divergence_grey_levels
from resim.metrics.statistics import bootstrap_interval
from resim.metrics.trajectory import path_distance_m, share_of_right_futures
from resim.world_model.pipeline import ReSimPipeline


def imagine_scene(pipe: ReSimPipeline, scene: GateScene, sampling: Sampling, *, blind: bool) -> Frames:
    """The futures (P, 49, H, W, 3) of a scene's paths from one history and one noise; ``blind``: without waypoints."""
    paths = None if blind else scene.waypoints_P83[:, None]
    futures = imagine(pipe, scene.truths_PTHWC[0, :NUM_HISTORY_FRAMES], paths, sampling)
    # Without waypoints, the same history and the same noise give the same future for every path.
    return np.repeat(futures, NUM_PATHS, axis=0) if blind else futures


@torch.no_grad()
def read_paths(model: InverseDynamics, clips_PTHWC: np.ndarray) -> Waypoints:
    """Waypoints (P, 8, 3) that uint8 clips (P, 49, H, W, 3) show."""
    frames = torch.from_numpy(np.ascontiguousarray(clips_PTHWC)).permute(0, 1, 4, 2, 3)
    return model(frames.to(model.device)).cpu().numpy()


def judge_scene(
    scene: GateScene, futures: Mapping[str, np.ndarray], model: InverseDynamics
) -> dict[str, dict[str, float]]:
    """Per kind of future ('true', 'generated', 'blind'): share of right futures, trajectory difference, divergence."""
    rows = {}
    for kind, clips in futures.items():
        seen = read_paths(model, clips)
        rows[kind] = {
            "right": share_of_right_futures(seen, scene.waypoints_P83),
            "trajectory_difference_m": float(path_distance_m(seen, scene.waypoints_P83).mean()),
            "divergence_grey_levels": divergence_grey_levels(clips[:, NUM_HISTORY_FRAMES:]),
        }
    return rows


def summary(rows: list[dict[str, dict[str, float]]]) -> dict[str, object]:
    """Means over scenes, under the names of report.json, with 95 % intervals of the shares."""

    def mean(kind: str, name: str) -> float:
        return float(np.mean([row[kind][name] for row in rows]))

    def interval(kind: str) -> list[float]:
        return list(bootstrap_interval(np.array([row[kind]["right"] for row in rows])))

    return {
        "n_scenes": len(rows),
        "action_gate": mean("generated", "right"),
        "action_gate_interval": interval("generated"),
        "action_gate_blind": mean("blind", "right"),
        "action_gate_true": mean("true", "right"),
        "trajectory_difference_m": mean("generated", "trajectory_difference_m"),
        "trajectory_difference_blind_m": mean("blind", "trajectory_difference_m"),
        "trajectory_difference_true_m": mean("true", "trajectory_difference_m"),
        "divergence_grey_levels": mean("generated", "divergence_grey_levels"),
        "divergence_true_grey_levels": mean("true", "divergence_grey_levels"),
    }
