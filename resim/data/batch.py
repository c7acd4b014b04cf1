"""Batch: what a model sees, made of Clips."""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a model sees. Absence is a flag (``has_*``), never a missing key and never zeros that mean "none".

    Exactly one of ``frames`` and ``latents`` is set.
    """

    frames: torch.Tensor | None  # uint8 B T C H W, RGB
    latents: torch.Tensor | None  # float B F C h w, VAE posterior sample, normalised as its config says
    waypoints: torch.Tensor  # float32 B 8 3
    has_waypoints: torch.Tensor  # bool B
    prompt: tuple[str, ...]
    source: tuple[str, ...]
    clip_id: tuple[str, ...]

    @property
    def size(self) -> int:
        """B."""
        return len(self.clip_id)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with every tensor on ``device``."""
        moved: dict[str, Any] = {
            f.name: getattr(self, f.name).to(device)
            for f in fields(self)
            if isinstance(getattr(self, f.name), torch.Tensor)
        }
        return replace(self, **moved)
