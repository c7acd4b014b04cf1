"""Choosing among policies by imagination: every policy's path is imagined, graded, and held against its execution.

Per scene one history; candidates are the expert and the policies that the caller names, each with its intended path,
what came of executing it, and its true video. The world model imagines all of them from equal noise, once per seed. All
measures are read off the resulting table, whose rows are scenes and whose columns are candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from resim.datatypes.clip import NUM_HISTORY_FRAMES
from resim.datatypes.geometry import FloatArray
from resim.gates.action_gate import read_paths
from resim.gates.scenes import CandidateScene
from resim.imagination.sampling import Sampling
from resim.imagination.scoring import score
from resim.judges.inverse_dynamics import InverseDynamics
from resim.judges.video2reward import REWARD, Video2Reward
from resim.metrics.crashes import crash_auroc
from resim.metrics.reward import calibration_error, choice, share_of_expert_pairs
from resim.metrics.statistics import bootstrap_interval
from resim.metrics.trajectory import path_distance_m
from resim.world_model.pipeline import ReSimPipeline

# A drive without infractions scores 1, one that touches something at most 0.65.
CLEAN_REWARD = 0.8
# Intended and executed path of a crash differ by so much where it can be seen in the path.
MIN_CUT_SHORT_M = 2.0


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The table: S scenes, N candidates (the expert first), K seeds."""

    scene_id: tuple[str, ...]
    names: tuple[str, ...]  # of the candidates
    score_SN: FloatArray
    collided_SN: NDArray[np.bool_]
    reward_true_SN: FloatArray
    rewards_SNK: FloatArray
    # Probability of a collision that Video2Reward gives to the true video and, mean over seeds, to the imagined ones.
    crash_true_SN: FloatArray
    crash_SN: FloatArray
    confidence_SN: FloatArray
    # The imagined path is nearer to the intended than to the executed one; only where the crash cut it short.
    shows_clean_SN: NDArray[np.bool_]
    cut_short_SN: NDArray[np.bool_]

    @property
    def reward_SN(self) -> FloatArray:
        """Of the imagined futures, mean over seeds."""
        return self.rewards_SNK.mean(axis=-1)

    def rows(self) -> list[dict[str, object]]:
        """A row per scene and candidate."""
        return [
            {
                "scene": scene,
                "candidate": name,
                "score": float(self.score_SN[s, n]),
                "collided": bool(self.collided_SN[s, n]),
                "reward_true": float(self.reward_true_SN[s, n]),
                "reward": float(self.reward_SN[s, n]),
                "uncertainty": float(self.rewards_SNK[s, n].std(ddof=1)) if self.rewards_SNK.shape[2] > 1 else None,
                "confidence": float(self.confidence_SN[s, n]),
                "crash_true": float(self.crash_true_SN[s, n]),
                "crash": float(self.crash_SN[s, n]),
            }
            for s, scene in enumerate(self.scene_id)
            for n, name in enumerate(self.names)
        ]


@torch.no_grad()
def judge_candidates(
    pipe: ReSimPipeline,
    reader: InverseDynamics,
    reward_model: Video2Reward,
    scenes: Sequence[CandidateScene],
    sampling: Sampling,
    *,
    num_seeds: int,
) -> Judged:
    """Imagine and grade every candidate of every scene; also grade the true videos.

    Raises ValueError where scenes have different candidates.
    """
    names = the_names(scenes)
    graded_true, graded, confidence, paths = [], [], [], []
    for scene in tqdm(scenes, desc="imagine candidates", unit="scene"):
        truths_BTCHW = torch.from_numpy(scene.truths_NTHWC).permute(0, 1, 4, 2, 3)
        graded_true.append(reward_model.infractions(truths_BTCHW.to(reward_model.device)).cpu().numpy())
        scores = score(
            pipe,
            reward_model,
            scene.truths_NTHWC[0, :NUM_HISTORY_FRAMES],
            dict(zip(names, scene.waypoints_N83, strict=True)),
            sampling,
            num_seeds=num_seeds,
            batch_size=len(names),
        )
        graded.append(scores.seen_NSO)
        confidence.append(scores.confidence_N)
        paths.append(read_paths(reader, scores.futures_NTHWC))
    graded_true_SNO, graded_SNKO, read = np.stack(graded_true), np.stack(graded), np.stack(paths)
    collision, reward = (reward_model.outputs.index(name) for name in ("collision", REWARD))
    intended, executed = (np.stack([getattr(s, name) for s in scenes]) for name in ("waypoints_N83", "executed_N83"))
    return Judged(
        scene_id=tuple(scene.scene_id for scene in scenes),
        names=names,
        score_SN=np.stack([scene.score_N for scene in scenes]),
        collided_SN=np.stack([scene.collided_N for scene in scenes]),
        reward_true_SN=graded_true_SNO[..., reward],
        rewards_SNK=graded_SNKO[..., reward],
        crash_true_SN=graded_true_SNO[..., collision],
        crash_SN=graded_SNKO[..., collision].mean(axis=-1),
        confidence_SN=np.stack(confidence),
        shows_clean_SN=path_distance_m(read, intended) < path_distance_m(read, executed),
        cut_short_SN=path_distance_m(intended, executed) >= MIN_CUT_SHORT_M,
    )


def the_names(of: Sequence[CandidateScene] | Sequence[Judged]) -> tuple[str, ...]:
    """The candidates that all have. Raises ValueError where they differ."""
    different = {one.names for one in of}
    if len(different) != 1:
        raise ValueError(f"scenes of different candidates cannot stand in one table: {sorted(different)}")
    return different.pop()


def joined(parts: Sequence[Judged]) -> Judged:
    """One table of the scenes of several. Raises ValueError where their candidates differ."""
    names = the_names(parts)
    columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(Judged) if f.name != "names"}
    ids = tuple(chain.from_iterable(columns.pop("scene_id")))
    tables: dict[str, Any] = {name: np.concatenate(column) for name, column in columns.items()}
    return Judged(scene_id=ids, names=names, **tables)


def selection(judged: Judged) -> dict[str, object]:
    """Executed scores when the policy is chosen by imagination, beside each policy, their average and the oracle.

    The expert is no policy here. ``selection_gain`` is over the best single policy, its interval from scenes drawn with
    replacement (95 %).
    """
    policies, score_SN = judged.names[1:], judged.score_SN[:, 1:]
    chosen = {
        "imagination": choice(judged.reward_SN[:, 1:], score_SN),
        "true_video": choice(judged.reward_true_SN[:, 1:], score_SN),
        "oracle": score_SN.max(axis=1),
        "average": score_SN.mean(axis=1),
        "expert": judged.score_SN[:, 0],
    } | {name: score_SN[:, n] for n, name in enumerate(policies)}
    if judged.rewards_SNK.shape[2] > 1:  # one seed has no variance
        chosen["variance_baseline"] = choice(judged.confidence_SN[:, 1:], score_SN)
    best = policies[int(score_SN.mean(axis=0).argmax())]
    gain = chosen["imagination"] - chosen[best]
    return {
        "selection_gain": float(gain.mean()),
        "selection_gain_interval": list(bootstrap_interval(gain)),
        "selection_gain_over_average": float((chosen["imagination"] - chosen["average"]).mean()),
        "selection_gain_over_average_interval": list(bootstrap_interval(chosen["imagination"] - chosen["average"])),
        "selection_to_oracle": float((chosen["oracle"] - chosen["imagination"]).mean()),
        "selection_best_policy": best,
        "selection_scores": {name: float(values.mean()) for name, values in chosen.items()},
        "n_selection_scenes": len(score_SN),
    }


def summary(judged: Judged) -> dict[str, object]:
    """Pairs, crash AUROC, calibration, optimism and selection, under the names of report.json; None: no such drive."""
    found: dict[str, object] = {}
    for kind, reward_SN, crash_SN in (
        ("true", judged.reward_true_SN, judged.crash_true_SN),
        ("generated", judged.reward_SN, judged.crash_SN),
    ):
        shares = share_of_expert_pairs(reward_SN, judged.score_SN)
        shares = shares[~np.isnan(shares)]
        both = bool(judged.collided_SN.any()) and not judged.collided_SN.all()
        found |= {
            f"reward_pairs_{kind}": float(shares.mean()) if len(shares) else None,
            f"reward_pairs_{kind}_interval": list(bootstrap_interval(shares)) if len(shares) else None,
            f"crash_auroc_{kind}": crash_auroc(crash_SN, judged.collided_SN) if both else None,
            f"calibration_error_{kind}": calibration_error(reward_SN, judged.score_SN),
            f"optimism_scored_clean_{kind}": _share(reward_SN >= CLEAN_REWARD, judged.collided_SN),
        }
    found["optimism_shown_clean_generated"] = _share(judged.shows_clean_SN, judged.collided_SN & judged.cut_short_SN)
    found["n_crashes"] = int(judged.collided_SN.sum())
    return found | selection(judged)


def _share(of: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
    return float(of[among].mean()) if among.any() else None
