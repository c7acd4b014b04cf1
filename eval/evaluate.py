"""Measure a world model: ``evaluate.py gates`` asks whether its futures obey their paths and can be graded."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from resim.data.files import new_folder
from resim.entry_point import one_line_errors
from resim.gates.measure import GateConfig, load_models, measure_gates
from resim.imagination.futures import Precision
from resim.report.gates import write_gates


@dataclass(frozen=True, kw_only=True)
class GatesArgs(GateConfig):
    """Which model, on how many fresh scenes of the simulator."""

    # Folder of a ReSim checkpoint.
    model: Path = Path("checkpoints/tiny")
    # Folder of the inverse dynamics model that reads the futures.
    inverse_dynamics: Path = Path("checkpoints/tiny/inverse_dynamics")
    # Folder of the Video2Reward model that grades them.
    video2reward: Path = Path("checkpoints/tiny/video2reward")
    # Where gates.json, candidates.parquet and report.html go.
    output_dir: Path = Path("outputs/gates")
    # Precision of the world model; bfloat16 is faster where the processor has it.
    dtype: Precision = "float32"
    # Processes, each with models of its own. On a CPU, one a core does more than one with all cores.
    num_workers: int = 1
    # Replace the output of an earlier run.
    overwrite: bool = False


def gates(args: Annotated[GatesArgs, tyro.conf.arg(name="")]) -> None:
    """Write gates.json (means under ``gates``, the action gate's scenes), candidates.parquet and report.html."""
    models = [args.model, args.inverse_dynamics, args.video2reward]
    with new_folder(args.output_dir, kind="measurement of gates", inputs=models, overwrite=args.overwrite) as folder:
        load = partial(load_models, args.model, args.dtype, args.inverse_dynamics, args.video2reward)
        result = measure_gates(load, args, num_workers=args.num_workers)
        write_gates(folder, result)
    for name, value in result.found.items():
        print(f"{name:40} {value}")
    print(args.output_dir / "report.html")


if __name__ == "__main__":
    with one_line_errors():
        tyro.extras.subcommand_cli_from_dict({"gates": gates}, use_underscores=True)
