"""Seconds and memory of one forward, and of one with its backward, at full size with random weights or a checkpoint.

``python benchmarks/world_model.py`` on a GPU gives the full size at 256x448.
Text tokens are random and the VAE is left out: what is timed is the transformer, with its losses.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from resim.entry_point import run
from resim.world_model.diffusion import NUM_CONTEXT_LATENTS, NUM_LATENTS, DiffusionConfig
from resim.world_model.losses import draw, training_losses
from resim.world_model.model import WorldModel, full_size_encoder
from resim.world_model.pipeline import ReSimPipeline
from resim.world_model.transformer import ReSimTransformer3DModel


@dataclass(frozen=True, kw_only=True)
class BenchmarkArgs:
    """What to time."""

    # A checkpoint; by default the full-size model with random weights.
    model: Path | None = None
    # Size of the latents: 32 x 56 is 256x448 pixels, 64 x 112 is 512x896 at full size.
    latent_height: int = 32
    latent_width: int = 56
    train_batch_size: int = 1
    gradient_checkpointing: bool = False
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    # Timed repetitions, after one that is not counted.
    repeats: int = 3


def load(args: BenchmarkArgs) -> WorldModel:
    """The model on its device in bfloat16, as autocast would compute it."""
    if args.model is not None:
        model = ReSimPipeline.from_pretrained(args.model, dtype=torch.bfloat16).world_model
    else:
        torch.set_default_dtype(torch.bfloat16)
        with torch.device(args.device):
            transformer = ReSimTransformer3DModel()
            model = WorldModel(transformer, full_size_encoder(transformer))
        torch.set_default_dtype(torch.float32)
    if args.gradient_checkpointing:
        model.transformer.enable_gradient_checkpointing()
    return model.to(args.device).requires_grad_(True)


def seconds(work: Callable[[], object], args: BenchmarkArgs) -> list[float]:
    """Wall time of each counted repetition."""
    times = []
    for _ in range(args.repeats + 1):
        if args.device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if args.device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return times[1:]


def benchmark(args: Annotated[BenchmarkArgs, tyro.conf.arg(name="")]) -> None:
    """Print one JSON object."""
    model = load(args)
    config, generator = DiffusionConfig(), torch.Generator().manual_seed(0)
    transformer, batch = model.transformer.config, args.train_batch_size
    shape = torch.Size((batch, NUM_LATENTS, transformer.in_channels, args.latent_height, args.latent_width))
    latents = torch.randn(shape, generator=generator).to(args.device)
    text = torch.randn(batch, transformer.max_text_seq_length, transformer.text_embed_dim, generator=generator)
    conditions = {
        "prompt_embeds_BLD": text.to(args.device),
        "waypoints_B83": torch.zeros(batch, 8, 3, device=args.device),
        "has_waypoints_B": torch.ones(batch, dtype=torch.bool, device=args.device),
    }

    def train_step() -> None:
        draws = draw(shape, generator, config).to(args.device)
        losses = training_losses(model, latents, **conditions, draws=draws, config=config)
        sum(loss.mean() for loss in losses.values()).backward()
        model.zero_grad()

    @torch.no_grad()
    def forward() -> None:
        zero = torch.zeros(batch, dtype=torch.int64, device=args.device)
        context, noisy = latents[:, :NUM_CONTEXT_LATENTS], latents[:, NUM_CONTEXT_LATENTS:]
        model(context, noisy, **conditions, timestep_B=zero + 500, context_timestep_B=zero)

    found = {
        "arguments": {name: str(value) if isinstance(value, Path) else value for name, value in asdict(args).items()},
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
        "torch": torch.__version__,
        "forward_and_backward_s": seconds(train_step, args),
        "forward_s": seconds(forward, args),
    }
    if args.device == "cuda":
        found["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    run(benchmark)
