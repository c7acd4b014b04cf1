"""Candidate paths of one history -> imagined futures -> rewards, and what they come from -> ranking."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from resim.data.checks import validate_waypoints
from resim.datatypes.clip import NUM_HISTORY_FRAMES
from resim.imagination.futures import imagine
from resim.imagination.sampling import Sampling
from resim.judges.video2reward import REWARD, Video2Reward
from resim.world_model.pipeline import ReSimPipeline


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What Video2Reward gives N candidates over S seeds of the noise."""

    names: tuple[str, ...]
    waypoints_N83: NDArray[np.float32]
    # Each of ``outputs``, which are Video2Reward's.
    seen_NSO: NDArray[np.float32]
    outputs: tuple[str, ...]
    # exp(-variance of the futures over seeds), a reward without a reward model in the style of Vista; NaN for one seed.
    confidence_N: NDArray[np.float32]
    # uint8 (N, 49, H, W, 3), the futures of the first seed.
    futures_NTHWC: NDArray[np.uint8]

    @property
    def rewards_NS(self) -> NDArray[np.float32]:
        """Of every candidate and seed."""
        return self.seen_NSO[..., self.outputs.index(REWARD)]

    @property
    def reward_N(self) -> NDArray[np.float32]:
        """Mean over seeds."""
        return self.rewards_NS.mean(axis=1)

    @property
    def uncertainty_N(self) -> NDArray[np.float32]:
        """Standard deviation over seeds; NaN for one seed, which says nothing about it."""
        if self.rewards_NS.shape[1] == 1:
            return np.full(len(self.names), np.nan, dtype=np.float32)
        return self.rewards_NS.std(axis=1, ddof=1)

    @property
    def order(self) -> NDArray[np.int64]:
        """Indices of the candidates, best first; equal rewards stay in the order in which they were given."""
        return np.argsort(-self.reward_N, kind="stable")

    def rows(self) -> list[dict[str, object]]:
        """A row per candidate, best first."""
        seen_NO = self.seen_NSO.mean(axis=1)
        return [
            {
                "rank": rank,
                "candidate": self.names[i],
                "reward": float(self.reward_N[i]),
                "uncertainty": float(self.uncertainty_N[i]),
                "confidence": float(self.confidence_N[i]),
                **{name: float(seen) for name, seen in zip(self.outputs, seen_NO[i], strict=True) if name != REWARD},
                "waypoints": self.waypoints_N83[i].ravel().tolist(),
            }
            for rank, i in enumerate(self.order, start=1)
        ]


def check_candidates(candidates: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float32]:
    """The candidates as (N, 8, 3). Raises ValueError for none of them, or naming the first that is no car's path."""
    if not candidates:
        raise ValueError("no candidates to score: give at least one path")
    return np.stack([validate_waypoints(path, what=f"candidate {name}") for name, path in candidates.items()])


@torch.no_grad()
def score(
    pipe: ReSimPipeline,
    reward_model: Video2Reward,
    history: NDArray[np.uint8],
    candidates: Mapping[str, NDArray[np.floating]],
    sampling: Sampling,
    *,
    num_seeds: int,
    batch_size: int,
) -> Scores:
    """Imagine and grade every candidate path (8, 3) of a history (9, H, W, 3).

    Each is imagined ``num_seeds`` times, from the seed of ``sampling`` on; all candidates of a seed start from the same
    noise. Raises ValueError for bad candidates, and where ``num_seeds`` or ``batch_size`` is below 1.
    """
    waypoints = check_candidates(candidates)
    if min(num_seeds, batch_size) < 1:
        raise ValueError(f"num_seeds {num_seeds} and batch_size {batch_size} start at 1")
    seen = np.zeros((len(waypoints), num_seeds, len(reward_model.outputs)), dtype=np.float32)
    clips_SNTHWC: list[NDArray[np.uint8]] = []
    for k in tqdm(range(num_seeds), desc="seeds", unit="seed"):
        parts = []
        for start in range(0, len(waypoints), batch_size):
            paths = waypoints[start : start + batch_size]
            clips = imagine(pipe, history, paths[:, None], replace(sampling, seed=sampling.seed + k))
            frames_BTCHW = torch.from_numpy(clips).permute(0, 1, 4, 2, 3).to(reward_model.device)
            seen[start : start + batch_size, k] = reward_model.infractions(frames_BTCHW).cpu().numpy()
            parts.append(clips)
        clips_SNTHWC.append(np.concatenate(parts))
    confidence = np.full(len(waypoints), np.nan, dtype=np.float32)
    if num_seeds > 1:
        for i in range(len(waypoints)):
            futures = np.stack([clips[i, NUM_HISTORY_FRAMES:] for clips in clips_SNTHWC]).astype(np.float32) / 255
            confidence[i] = np.exp(-futures.var(axis=0, ddof=1).mean())
    return Scores(
        names=tuple(candidates),
        waypoints_N83=waypoints,
        seen_NSO=seen,
        outputs=reward_model.outputs,
        confidence_N=confidence,
        futures_NTHWC=clips_SNTHWC[0],
    )
