"""What is trained on and in which order: a pure function of (stores, seed, position in the run).

One epoch is a permutation of all entries' clips, where an entry counts ``weight`` times and its turning clips
``turn_repeats`` times. Position n in the run is item n mod N of epoch n div N; what is dropped from it (classifier-free
dropout) is drawn from (seed, n) alone, so a resumed run and any number of workers see the same samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from resim.data.collate import Sample
from resim.data.latents import LatentCache
from resim.data.store import ClipStore
from resim.datatypes.clip import NUM_WAYPOINTS, Clip, prompt_for

TEXT_DROPOUT = 0.2  # empty prompt
COMMAND_DROPOUT = 0.5  # prompt without its command sentence
HEADING_DROPOUT = 0.5  # heading column of the waypoints set to 0


@dataclass(frozen=True, kw_only=True)
class MixtureEntry:
    """One source of the mixture: a folder of clips. ``weight`` multiplies its length; 0 leaves it out.

    ``trajectory_dropout`` is the chance that a clip's waypoints are withheld; clips without waypoints have none anyway.
    """

    name: str
    store: Path
    weight: float
    trajectory_dropout: float
    turn_repeats: int = 5

    def __post_init__(self) -> None:
        if self.weight < 0 or not 0 <= self.trajectory_dropout <= 1 or self.turn_repeats < 1:
            raise ValueError(
                f"mixture entry {self.name}: weight {self.weight} must be >= 0, trajectory_dropout "
                f"{self.trajectory_dropout} in [0, 1], turn_repeats {self.turn_repeats} >= 1"
            )


def epoch_clips(entry: MixtureEntry, clips: Sequence[Clip], rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of one entry's clips in one epoch, not shuffled; a fraction of a repetition is drawn with ``rng``."""
    turning = np.array([clip.command in ("left", "right") for clip in clips])
    once = np.repeat(np.arange(len(clips)), np.where(turning, entry.turn_repeats, 1))
    whole, fraction = divmod(entry.weight, 1.0)
    rest = rng.permutation(once)[: round(fraction * len(once))]
    return np.concatenate([np.tile(once, int(whole)), rest])


class TrainingData(Dataset[Sample]):
    """Map-style dataset over the position n in the run, without end: use it with :class:`RankBatchSampler`.

    With ``use_latents`` samples hold cached latents, which must have been made by the VAE of ``vae_fingerprint`` at
    (height_px, width_px); otherwise frames. Raises as ClipStore and LatentCache, and ValueError
    for an empty mixture or repeated entry names.
    """

    def __init__(
        self,
        entries: Sequence[MixtureEntry],
        *,
        seed: int,
        height_px: int,
        width_px: int,
        use_latents: bool = False,
        vae_fingerprint: str | None = None,
        text_dropout: float = TEXT_DROPOUT,
        command_dropout: float = COMMAND_DROPOUT,
        heading_dropout: float = HEADING_DROPOUT,
    ) -> None:
        self.entries = tuple(entries)
        names = [entry.name for entry in self.entries]
        if len(set(names)) != len(names):
            raise ValueError(f"mixture entries must have different names, got {', '.join(names)}")
        self.stores = tuple(ClipStore(entry.store) for entry in self.entries)
        self.seed, self.height_px, self.width_px = seed, height_px, width_px
        self.text_dropout, self.command_dropout, self.heading_dropout = text_dropout, command_dropout, heading_dropout
        self._caches: list[LatentCache] | None = None
        if use_latents:
            if vae_fingerprint is None:
                raise ValueError("cached latents belong to a VAE: use_latents needs vae_fingerprint")
            self._caches = [
                LatentCache(store, fingerprint=vae_fingerprint, height_px=height_px, width_px=width_px)
                for store in self.stores
            ]
        self._order = (0, self._draw_order(0))  # the epoch drawn last, kept only for speed
        self.epoch_length = len(self.epoch_order(0))
        if self.epoch_length == 0:
            raise ValueError("the mixture is empty: every entry has weight 0 or no clips")

    def _draw_order(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, epoch])
        clips = [epoch_clips(entry, store.clips, rng) for entry, store in zip(self.entries, self.stores, strict=True)]
        pairs = [np.stack([np.full(len(c), e), c], axis=1) for e, c in enumerate(clips)]
        return rng.permutation(np.concatenate(pairs).astype(np.int64))

    def epoch_order(self, epoch: int) -> NDArray[np.int64]:
        """(N, 2) rows [entry, clip] of one epoch, in the order in which they are trained on."""
        if self._order[0] != epoch:
            self._order = (epoch, self._draw_order(epoch))
        return self._order[1]

    def table(self) -> dict[str, dict[str, float]]:
        """Per entry: its number of clips, how often they come in an epoch, and its share of the epoch."""
        counts = np.bincount(self.epoch_order(0)[:, 0], minlength=len(self.entries))
        return {
            entry.name: {"clips": len(store), "per_epoch": int(n), "share": float(n / self.epoch_length)}
            for entry, store, n in zip(self.entries, self.stores, counts, strict=True)
        }

    def __getitem__(self, n: int) -> Sample:
        epoch, place = divmod(n, self.epoch_length)
        e, c = (int(i) for i in self.epoch_order(epoch)[place])
        entry, store = self.entries[e], self.stores[e]
        clip = store.clips[c]
        rng = np.random.default_rng([self.seed, epoch, place, 1])
        chances = rng.random(4)  # always all four, so that changing one dropout leaves the others' draws alone
        latent_seed = int(rng.integers(2**62))
        has_waypoints = clip.waypoints is not None and bool(chances[0] >= entry.trajectory_dropout)
        frames = latents = None
        if self._caches is None:
            frames_THWC = store.read_frames(c, self.height_px, self.width_px)
            frames = torch.from_numpy(frames_THWC).permute(0, 3, 1, 2).contiguous()
        else:
            latents = self._caches[e].read(c, latent_seed)
        return Sample(
            frames=frames,
            latents=latents,
            waypoints=self._waypoints(clip, has_waypoints, drop_heading=bool(chances[3] < self.heading_dropout)),
            has_waypoints=has_waypoints,
            prompt=self._prompt(clip, *chances[1:3]),
            source=entry.name,
            clip_id=clip.clip_id,
        )

    def _prompt(self, clip: Clip, text_chance: float, command_chance: float) -> str:
        if text_chance < self.text_dropout:
            return ""
        return prompt_for(None if command_chance < self.command_dropout else clip.command)

    @staticmethod
    def _waypoints(clip: Clip, has_waypoints: bool, *, drop_heading: bool) -> torch.Tensor:
        if not has_waypoints or clip.waypoints is None:
            return torch.zeros(NUM_WAYPOINTS, 3)
        waypoints = torch.from_numpy(clip.waypoints.copy())
        if drop_heading:
            waypoints[:, 2] = 0.0
        return waypoints


class RankBatchSampler(Sampler[list[int]]):
    """Positions in the run for one rank: in each step, ranks take consecutive runs of ``batch_size`` positions.

    Resuming is ``start_step``: the steps that were taken already.
    """

    def __init__(self, *, start_step: int, num_steps: int, batch_size: int, rank: int, world_size: int) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size}")
        self.start_step, self.num_steps = start_step, num_steps
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start_step, self.start_step + self.num_steps):
            first = (step * self.world_size + self.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))

    def __len__(self) -> int:
        return self.num_steps
