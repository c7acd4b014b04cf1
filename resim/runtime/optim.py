"""The optimizer of every run: its settings, its learning rate over the run, and the check of its gradients."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW, its learning rate over the run, and gradient clipping."""

    # Learning rate after the warm-up.
    learning_rate: float
    # 'constant', or 'cosine' down to zero at max_train_steps; both after a linear warm-up.
    lr_scheduler: Literal["constant", "cosine"] = "constant"
    # Steps of the linear warm-up.
    lr_warmup_steps: int = 0
    # Decay of Adam's average of gradients.
    adam_beta1: float = 0.9
    # Decay of Adam's average of squared gradients.
    adam_beta2: float = 0.95
    # Adam's epsilon.
    adam_epsilon: float = 1e-8
    # Decoupled weight decay.
    adam_weight_decay: float = 1e-4
    # Gradients are scaled down to this norm.
    max_grad_norm: float = 0.1


def make_optimizer(parameters: Iterable[nn.Parameter], config: OptimConfig) -> torch.optim.AdamW:
    """AdamW with the config's numbers; the learning rate is set anew in every step."""
    return torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        weight_decay=config.adam_weight_decay,
        fused=True,
    )


def learning_rate_at(step: int, max_train_steps: int, config: OptimConfig) -> float:
    """Learning rate of step 0, 1, ..: linear warm-up, then constant or a half cosine that ends at zero.

    Not ``get_scheduler`` of diffusers, whose warm-up begins with a step at learning rate 0 and is one step behind this
    one, so that runs would not repeat; and a function of the step needs no state of its own in a checkpoint.
    """
    if step < config.lr_warmup_steps:
        return config.learning_rate * (step + 1) / config.lr_warmup_steps
    if config.lr_scheduler == "constant":
        return config.learning_rate
    progress = (step - config.lr_warmup_steps) / max(max_train_steps - config.lr_warmup_steps, 1)
    return config.learning_rate * (1 + math.cos(math.pi * progress)) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, max_train_steps: int, config: OptimConfig) -> float:
    """Give every parameter group the learning rate of ``step``, and return it."""
    learning_rate = learning_rate_at(step, max_train_steps, config)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    return learning_rate


def require_finite_norm(grad_norm: float, step: int, clip_ids: Iterable[str]) -> None:
    """Raise FloatingPointError naming the step and its clips when the gradient norm is not finite."""
    if not math.isfinite(grad_norm):
        raise FloatingPointError(f"step {step}: gradient norm {grad_norm} on clips {', '.join(clip_ids)}")
