"""How futures are drawn; torch-free, so that a command's flags load fast."""

from dataclasses import dataclass
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What futures that are compared with each other have in common."""

    # Of the noise: the same seed gives the same noise for every path.
    seed: int = 0
    # Denoising steps of each 4 s.
    num_inference_steps: int
    # How far the future is pushed towards text and path: the checkpoint's own by default, 0 switches guidance off.
    guidance_scale: float | None = None


# As a field of a command's arguments: its flags are --seed, --num_inference_steps and --guidance_scale.
SamplingFlags = Annotated[Sampling, tyro.conf.arg(name="")]
