"""True drives with what they were: clips with their executed waypoints and infraction score, for models that judge.

Position n in the run is item n mod N of epoch n div N, and an epoch is a permutation drawn from (seed, epoch), so the
order is a pure function of (stores, seed, position).
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import Dataset

from resim.data.store import ClipStore
from resim.datatypes.clip import Infractions

LABELS = tuple(field.name for field in fields(Infractions))  # columns of ``Drives.infractions_BL``


@dataclass(frozen=True, kw_only=True)
class Drives:
    """A batch of true drives."""

    frames_BTCHW: torch.Tensor  # uint8, 49 frames RGB
    executed_waypoints_B83: torch.Tensor  # float32, metres and radians, ego frame at t = 0
    infractions_BL: torch.Tensor  # float32 in [0, 1], by LABELS
    clip_id: tuple[str, ...]

    @property
    def score_B(self) -> torch.Tensor:
        """Infraction score in [0, 1]; float32."""
        return self.infractions_BL[:, LABELS.index("score")]


DriveItem = tuple[torch.Tensor, torch.Tensor, tuple[float, ...], str]


class DriveData(Dataset[DriveItem]):
    """Map-style dataset over the position n in the run, without end, of all clips of ``stores`` with both labels.

    ``keep_in_memory`` decodes every clip once (1 MB a clip of 64x112) in each process that reads. Raises ValueError
    naming the first clip without executed waypoints or infractions: such a store has no labels.
    """

    def __init__(
        self, stores: Sequence[Path], *, seed: int, height_px: int, width_px: int, keep_in_memory: bool = False
    ) -> None:
        self.stores = tuple(ClipStore(path) for path in stores)
        self.seed, self.height_px, self.width_px = seed, height_px, width_px
        self.places = [(store, index) for store in self.stores for index in range(len(store))]
        for store, index in self.places:
            clip = store.clips[index]
            if clip.executed_waypoints is None or clip.infractions is None:
                raise ValueError(f"{store.path}: clip {clip.clip_id} has no executed waypoints or no infractions")
        if not self.places:
            raise ValueError("the stores hold no clips")
        self.keep_in_memory = keep_in_memory
        self._kept: dict[tuple[Path, int], torch.Tensor] = {}
        self._order = (-1, np.arange(0))  # the epoch drawn last, kept only for speed

    def place(self, n: int) -> tuple[ClipStore, int]:
        """Store and index in it of position n."""
        epoch, item = divmod(n, len(self.places))
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.places)))
        return self.places[int(self._order[1][item])]

    def __getitem__(self, n: int) -> DriveItem:
        store, index = self.place(n)
        clip = store.clips[index]
        assert clip.executed_waypoints is not None and clip.infractions is not None  # checked at the start
        frames = self.read_frames(store, index)
        return frames, torch.from_numpy(clip.executed_waypoints), astuple(clip.infractions), clip.clip_id

    def read_frames(self, store: ClipStore, index: int) -> torch.Tensor:
        """Frames (49, 3, H, W) of a clip, decoded or kept."""
        kept = self._kept.get((store.path, index))
        if kept is not None:
            return kept
        frames = torch.from_numpy(store.read_frames(index, self.height_px, self.width_px)).permute(0, 3, 1, 2)
        if self.keep_in_memory:
            self._kept[store.path, index] = frames
        return frames


def collate_drives(items: Sequence[DriveItem]) -> Drives:
    """Stack items of :class:`DriveData`."""
    frames, waypoints, infractions, names = zip(*items, strict=True)
    return Drives(
        frames_BTCHW=torch.stack(frames),
        executed_waypoints_B83=torch.stack(waypoints),
        infractions_BL=torch.tensor(infractions, dtype=torch.float32),
        clip_id=names,
    )


def blurred_and_recoloured(frames_BTCHW: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """True video as a blurred and recoloured copy of itself: the same motion, fewer details to lean on.

    A batch is blurred by a factor of 1 (a third of the time) to 3; brightness and contrast change by up to 20 %.
    """
    size_px = tuple(frames_BTCHW.shape[-2:])
    factor = max(1.0, float(torch.empty(()).uniform_(0.0, 3.0, generator=generator)))
    small_px = [max(8, round(side / factor)) for side in size_px]
    frames = frames_BTCHW.flatten(0, 1).float()
    frames = functional.interpolate(frames, size=small_px, mode="bilinear", antialias=True, align_corners=False)
    frames = functional.interpolate(frames, size=size_px, mode="bilinear", align_corners=False)
    contrast, shift = torch.empty(2, len(frames_BTCHW), 1, 1, 1, 1).uniform_(-0.2, 0.2, generator=generator)
    frames = frames.unflatten(0, frames_BTCHW.shape[:2]) * (1 + contrast) + 255 * shift / 2
    return frames.round().clamp(0, 255).to(torch.uint8)
