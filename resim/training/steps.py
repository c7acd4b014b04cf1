"""What one training step is made of, besides the losses: the frozen encoders, what learns, its noise."""

import numpy as np
import torch
from torch import nn

from resim.data.batch import Batch
from resim.training.config import TrainConfig
from resim.world_model.latents import encode_frames
from resim.world_model.lora import add_lora, has_lora
from resim.world_model.model import WorldModel
from resim.world_model.pipeline import ReSimPipeline


class BatchEncoder:
    """The frozen part of the model: a batch -> latents (B, F, C, h, w) and text tokens (B, L, D) on ``device``.

    The text encoder stays where it is (the CPU): the prompts are a handful, and each is encoded once per run.
    """

    def __init__(self, pipeline: ReSimPipeline, device: torch.device):
        self.vae = pipeline.vae.requires_grad_(False).to(device)
        self.prompt_encoder = pipeline.prompt_encoder
        self.device = device

    @torch.no_grad()
    def __call__(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames are encoded to a posterior sample drawn from ``generator``; cached latents are taken as they are."""
        if batch.latents is not None:
            latents = batch.latents.to(self.device, torch.float32)
        elif batch.frames is not None:
            latents = encode_frames(self.vae, batch.frames.to(self.device), generator).float()
        else:
            raise ValueError(f"clips {', '.join(batch.clip_id)} have neither frames nor latents")
        return latents, self.prompt_encoder(batch.prompt).to(self.device)


def choose_trainable(model: WorldModel, config: TrainConfig) -> list[nn.Parameter]:
    """Mark what ``config.trains`` says as trainable and freeze the rest; returns the trainable parameters.

    'lora' adds the adapter when the transformer has none yet. Raises ValueError for 'transformer' on a model with an
    adapter: what is trained would not be what is published.
    """
    if config.trains == "transformer" and has_lora(model.transformer):
        raise ValueError(f"{config.init_from} has a LoRA adapter: train 'lora' or 'everything', or merge it first")
    if config.trains == "lora" and not has_lora(model.transformer):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)  # peft draws the adapter from the global generator
            add_lora(model.transformer, rank=config.lora_rank, alpha=config.lora_alpha)
    model.requires_grad_(config.trains == "everything")
    if config.trains == "transformer":
        model.transformer.requires_grad_(True)
    if config.trains == "lora":
        model.trajectory_encoder.requires_grad_(True)
        for name, parameter in model.transformer.named_parameters():
            parameter.requires_grad_(".lora_" in name)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def step_generator(seed: int, step: int, rank: int, micro_step: int) -> torch.Generator:
    """The noise of one forward pass as a pure function of where it stands, so that a resume needs no saved state."""
    state = np.random.SeedSequence([seed, step, rank, micro_step]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def require_finite_losses(losses: dict[str, torch.Tensor], step: int, clip_ids: tuple[str, ...]) -> None:
    """Raise FloatingPointError naming the step and the clips whose loss is not finite."""
    finite_B = torch.stack(list(losses.values())).isfinite().all(dim=0)
    if not bool(finite_B.all()):
        bad = [clip for clip, finite in zip(clip_ids, finite_B.tolist(), strict=True) if not finite]
        raise FloatingPointError(f"step {step}: the loss of {', '.join(bad)} is not finite; the weights are unchanged")


def weighted_sum(losses: dict[str, torch.Tensor], weights: dict[str, float]) -> torch.Tensor:
    """Total loss per clip (B,). Raises ValueError unless losses and weights have the same names."""
    if losses.keys() != weights.keys():
        raise ValueError(f"losses {sorted(losses)} and their weights {sorted(weights)} must have the same names")
    return sum((weights[name] * loss for name, loss in losses.items()), torch.zeros(()))
