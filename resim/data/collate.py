"""Samples to a Batch, checked field by field: what is wrong is named together with its clip."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from resim.data.batch import Batch
from resim.datatypes.clip import NUM_FRAMES, NUM_WAYPOINTS


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row of a Batch; exactly one of ``frames`` and ``latents`` is set."""

    frames: torch.Tensor | None  # uint8 T C H W
    latents: torch.Tensor | None  # float F C h w
    waypoints: torch.Tensor  # float32 8 3, zeros where has_waypoints is False
    has_waypoints: bool
    prompt: str
    source: str
    clip_id: str

    def check(self) -> None:
        """Raises ValueError naming source and clip for a field that breaks the types of ``data.batch.Batch``."""
        where = f"{self.source} clip {self.clip_id}"
        if (self.frames is None) == (self.latents is None):
            raise ValueError(f"{where}: exactly one of frames and latents must be set")
        if self.frames is not None:
            shape = tuple(self.frames.shape)
            if self.frames.dtype != torch.uint8 or len(shape) != 4 or shape[:2] != (NUM_FRAMES, 3):
                raise ValueError(f"{where}: frames are {self.frames.dtype} {shape}, not uint8 ({NUM_FRAMES}, 3, H, W)")
        if self.latents is not None:
            if self.latents.ndim != 4 or not self.latents.is_floating_point():
                raise ValueError(
                    f"{where}: latents are {self.latents.dtype} {tuple(self.latents.shape)}, not float (F, C, h, w)"
                )
            if not torch.isfinite(self.latents).all():
                raise ValueError(f"{where}: latents hold NaN or infinity; cache them again")
        if tuple(self.waypoints.shape) != (NUM_WAYPOINTS, 3) or self.waypoints.dtype != torch.float32:
            raise ValueError(
                f"{where}: waypoints are {self.waypoints.dtype} {tuple(self.waypoints.shape)}, not float32 (8, 3)"
            )
        if not torch.isfinite(self.waypoints).all():
            raise ValueError(f"{where}: waypoints hold NaN or infinity")


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples. Raises ValueError naming the clip for a bad field, or one whose size differs from the first's."""
    if not samples:
        raise ValueError("a batch needs at least one sample")
    first = samples[0]
    for sample in samples:
        sample.check()
        for name in ("frames", "latents"):
            one, other = getattr(sample, name), getattr(first, name)
            shapes = [None if tensor is None else tuple(tensor.shape) for tensor in (one, other)]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"{sample.source} clip {sample.clip_id}: {name} {shapes[0]} in a batch with {shapes[1]} "
                    f"of {first.source} clip {first.clip_id}"
                )
    return Batch(
        frames=None if first.frames is None else torch.stack([s.frames for s in samples if s.frames is not None]),
        latents=None if first.latents is None else torch.stack([s.latents for s in samples if s.latents is not None]),
        waypoints=torch.stack([s.waypoints for s in samples]),
        has_waypoints=torch.tensor([s.has_waypoints for s in samples]),
        prompt=tuple(s.prompt for s in samples),
        source=tuple(s.source for s in samples),
        clip_id=tuple(s.clip_id for s in samples),
    )
