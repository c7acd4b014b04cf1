"""The log of a run: metrics.jsonl, one JSON object a row, each with the ``step`` after which it was written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resim.data.files import write_aside

METRICS_FILE = "metrics.jsonl"


def begin_log(folder: Path, step: int) -> None:
    """Go on with the log in ``folder`` after ``step``, 0 for a new run: what came later is forgotten.

    What is kept becomes a file of its own, which :func:`append_row` may add to whoever else links the old one.
    """
    file = folder / METRICS_FILE
    if file.is_file():
        kept = [line for line in file.read_text().splitlines() if json.loads(line)["step"] <= step]
        write_aside(file, "".join(line + "\n" for line in kept))


def append_row(folder: Path, row: Mapping[str, Any]) -> None:
    """Add one row, which names its ``step``; :func:`begin_log` came before."""
    with (folder / METRICS_FILE).open("a") as file:
        file.write(json.dumps(row) + "\n")


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl. Raises FileNotFoundError when ``folder`` holds none."""
    return [json.loads(line) for line in (Path(folder) / METRICS_FILE).read_text().splitlines()]
