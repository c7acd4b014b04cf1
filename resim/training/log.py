"""The log of a training run: one row per interval in metrics.jsonl, the same numbers in tensorboard."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from resim.data.files import write_aside
from resim.training.run import TrainingRun

METRICS_FILE = "metrics.jsonl"
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
        self.file = run.config.output_dir / METRICS_FILE
        if self.accelerator.is_main_process:
            drop_rows_after(self.file, step)
            self.tensorboard = SummaryWriter(run.config.output_dir / "tensorboard", purge_step=step + 1)

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
        with self.file.open("a") as file:
            file.write(json.dumps({"kind": kind, "step": step, **row}) + "\n")
        for name, value in row.items():
            if isinstance(value, dict):
                for key, inner in value.items():
                    self.tensorboard.add_scalar(f"{kind}_{name}/{key}", inner, step)
            elif isinstance(value, int | float):
                self.tensorboard.add_scalar(f"{kind}/{name}", value, step)

    def restart_clock(self) -> None:
        """Leave the time since the last row (validation, saving) out of samples_per_s."""
        self.started_s = time.perf_counter()

    def close(self) -> None:
        """Flush and close."""
        if self.accelerator.is_main_process:
            self.tensorboard.close()


def means(values: torch.Tensor, group: torch.Tensor, names: Sequence[str]) -> dict[str, float]:
    """Mean of the values (N,) in each group; ``group`` (N,) indexes ``names``, and empty groups are left out."""
    return {name: values[group == i].mean().item() for i, name in enumerate(names) if bool((group == i).any())}


def counts(group: torch.Tensor, names: Sequence[str]) -> dict[str, int]:
    """How many are in each group; ``group`` (N,) indexes ``names``."""
    return dict(zip(names, torch.bincount(group, minlength=len(names)).tolist(), strict=True))


def drop_rows_after(file: Path, step: int) -> None:
    """Forget what an interrupted run logged beyond the checkpoint that is resumed from."""
    if not file.is_file():
        return
    kept = [line for line in file.read_text().splitlines() if json.loads(line)["step"] <= step]
    write_aside(file, "".join(line + "\n" for line in kept))  # a file of its own, which write() may append to


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl. Raises FileNotFoundError when ``folder`` holds none."""
    return [json.loads(line) for line in (Path(folder) / METRICS_FILE).read_text().splitlines()]
