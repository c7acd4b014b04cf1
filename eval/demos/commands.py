"""The demos' commands, as a user types them."""

import shlex
import subprocess
import sys
from pathlib import Path

import torch

from resim.report.demo import Stage
from resim.runtime.log import read_metrics
from resim.training.presets.command_line import PRESETS

REPOSITORY = Path(__file__).resolve().parents[2]


def run_command(*words: object) -> None:
    """Run ``python words ...`` in the repository and print it; a failing command ends the program."""
    command = [str(word) for word in words]
    print(f"$ python {shlex.join(command)}", flush=True)
    status = subprocess.run([sys.executable, *command], cwd=REPOSITORY, check=False).returncode
    if status != 0:
        sys.exit(f"failed with status {status}: python {shlex.join(command)}")


def train(preset: str, init_from: Path, output_dir: Path, steps: int, **flags: object) -> Stage:
    """Train ``preset`` for ``steps`` on one CPU process through ``accelerate launch``, validating before and after."""
    every = {"logging_steps": 1, "max_train_steps": steps, "validation_steps": steps, "checkpointing_steps": steps}
    values = {"init_from": init_from, "output_dir": output_dir, **every, "num_validation_videos": 0, **flags}
    run_command(
        "-m", "accelerate.commands.launch", "--config_file", "train/accelerate/cpu.yaml",
        "--num_cpu_threads_per_process", torch.get_num_threads(), "train/train_world_model.py", preset,
        *(word for name, value in values.items() for word in (f"--{name}", value)),
    )  # fmt: skip
    rows = read_metrics(REPOSITORY / output_dir)
    validation = [row["val_loss"] for row in rows if row["kind"] == "validation"]
    trained = [row for row in rows if row["kind"] == "train"]
    row = {
        "name": preset,
        "trains": PRESETS[preset]().trains,
        "steps": steps,
        "val_loss_before": validation[0],
        "val_loss_after": validation[-1],
    }
    return Stage(row=row, curve=([row["step"] for row in trained], [row["loss"] for row in trained]))
