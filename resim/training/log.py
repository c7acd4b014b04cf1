"""The log of a training run: one row per interval in metrics.jsonl, the same numbers in tensorboard."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from resim.runtime.log import append_row, begin_log, begin_tensorboard
from resim.training.run import TrainingRun

NUM_BUCKETS = 10  # of timesteps


class TrainLog:
    """Collects losses clip by clip and writes their means by name, by timestep and by source."""

    def __init__(self, run: TrainingRun, step: int):
        """Continue the log of ``run`` after ``step``, where 0 begins one."""
        self.accelerator = run.accelerator
        self.diffusion = run.config.diffusion
        self.sources = [entry.name for entry in run.data.entries]
        self.rows: list[torch.Tensor] = []  # each (B, 2 + losses): timestep, source, losses
        self.names: tuple[str, ...] = ()
        self.started_s = time.perf_counter()
        self.folder = run.config.output_dir
        if self.accelerator.is_main_process:
            begin_log(self.folder, step)
        begin_tensorboard(self.accelerator, step)

    def record(self, losses: dict[str, torch.Tensor], timestep_B: torch.Tensor, source: Sequence[str]) -> None:
        """Remember the losses (B,) of one forward pass."""
        self.names = tuple(losses)
        source_B = torch.tensor([self.sources.index(name) for name in source], device=timestep_B.device)
        columns = (timestep_B, source_B, *(loss.detach() for loss in losses.values()))
        self.rows.append(torch.stack([column.float() for column in columns], dim=1))

    def write_interval(self, step: int, grad_norm: float, learning_rate: float) -> float:
        """Average what was recorded since the last call, on all processes, into one row; returns the mean loss."""
        rows = self.accelerator.gather(torch.cat(self.rows)).cpu()
        self.rows = []
        now_s = time.perf_counter()
        timestep, source, losses = rows[:, 0], rows[:, 1].long(), rows[:, 2:]
        total = losses @ torch.tensor([self.diffusion.loss_weights[name] for name in self.names])
        num_timesteps = self.diffusion.num_timesteps
        bucket = (timestep * NUM_BUCKETS / num_timesteps).long()
        bucket_names = [f"{i * num_timesteps // NUM_BUCKETS:03d}" for i in range(NUM_BUCKETS)]
        row = {
            "loss": total.mean().item(),
            "loss_by_name": dict(zip(self.names, losses.mean(dim=0).tolist(), strict=True)),
            "loss_by_timestep": means(total, bucket, bucket_names),
            "loss_by_source": means(total, source, self.sources),
            "timestep_histogram": counts(bucket, bucket_names),
            "mixture": counts(source, self.sources),
            "grad_norm": grad_norm,
            "learning_rate": learning_rate,
            "samples_per_s": len(rows) / (now_s - self.started_s),
        }
        self.started_s = now_s
        self.write("train", step, row)
        return row["loss"]

    def write(self, kind: str, step: int, row: dict[str, Any]) -> None:
        """Append one row of ``kind`` ('train' or 'validation'); only the main process writes."""
        if not self.accelerator.is_main_process:
            return
        append_row(self.folder, {"kind": kind, "step": step, **row})
        scalars: dict[str, float] = {}
        for name, value in row.items():
            if isinstance(value, dict):
                scalars |= {f"{kind}_{name}/{key}": inner for key, inner in value.items()}
            else:
                scalars[f"{kind}/{name}"] = value
        self.accelerator.log(scalars, step)

    def restart_clock(self) -> None:
        """Leave the time since the last row (validation, saving) out of samples_per_s."""
        self.started_s = time.perf_counter()


def means(values: torch.Tensor, group: torch.Tensor, names: Sequence[str]) -> dict[str, float]:
    """Mean of the values (N,) in each group; ``group`` (N,) indexes ``names``, and empty groups are left out."""
    return {name: values[group == i].mean().item() for i, name in enumerate(names) if bool((group == i).any())}


def counts(group: torch.Tensor, names: Sequence[str]) -> dict[str, int]:
    """How many are in each group; ``group`` (N,) indexes ``names``."""
    return dict(zip(names, torch.bincount(group, minlength=len(names)).tolist(), strict=True))
