"""The log of a run: metrics.jsonl, one JSON object a row, each with the ``step`` after which it was written.

Runs that have an accelerator show the same numbers in ``tensorboard/`` beside it, through accelerate's tracker.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from resim.data.files import write_aside

METRICS_FILE = "metrics.jsonl"


def begin_log(folder: Path, step: int) -> None:
    """Go on with the log in ``folder`` after ``step``, 0 for a new run: what came later is forgotten.

    What is kept becomes a file of its own, which :func:`append_row` may add to whoever else links the old one.
    """
    file = folder / METRICS_FILE
    if file.is_file():
        # The last row of a VAE of 0.1.0 names no step; it comes after all others, and is measured again.
        kept = [line for line in file.read_text().splitlines() if json.loads(line).get("step", step + 1) <= step]
        write_aside(file, "".join(line + "\n" for line in kept))


def append_row(folder: Path, row: Mapping[str, Any]) -> None:
    """Add one row, which names its ``step``; :func:`begin_log` came before."""
    with (folder / METRICS_FILE).open("a") as file:
        file.write(json.dumps(row) + "\n")


def begin_tensorboard(accelerator: Accelerator, step: int) -> None:
    """Let ``accelerator.log`` write to ``project_dir/tensorboard`` after ``step``; what is there of later is hidden.

    The accelerator was made with ``log_with="tensorboard"`` and the run's folder as ``project_dir``, and is ended with
    ``end_training``. Every process calls this, and ``log``; only the main one writes.
    """
    accelerator.init_trackers("tensorboard", init_kwargs={"tensorboard": {"purge_step": step + 1}})


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl. Raises FileNotFoundError when ``folder`` holds none."""
    return [json.loads(line) for line in (Path(folder) / METRICS_FILE).read_text().splitlines()]
