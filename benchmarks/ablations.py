"""What each choice of the recipe is worth: ``python benchmarks/ablations.py`` trains, measures and writes the page.

Every finished training and every finished measurement is kept and skipped on the next call, so the command can be
interrupted at any time and given again. ``make tiny`` has to have run: its data, VAE and inverse dynamics are used.
"""

import json
import os
import platform
import shlex
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

# Two processes of one thread get more done on two cores than two of two threads. Before torch is imported, here and,
# inherited, in every process that this one starts.
os.environ["OMP_NUM_THREADS"] = "1"

import torch  # noqa: E402
import tyro  # noqa: E402
from ablation.measures import MeasureConfig, measure, measures_file, unmeasured  # noqa: E402
from ablation.page import curves, page  # noqa: E402
from ablation.runs import prepare, train_all  # noqa: E402
from ablation.variants import VARIANTS, Run, Schedule, trainings  # noqa: E402

from resim.data.files import write_aside  # noqa: E402
from resim.entry_point import run  # noqa: E402
from resim.judges.load import load_inverse_dynamics  # noqa: E402  # noqa: E402
from resim.report.page import write_json  # noqa: E402  # noqa: E402
from resim.runtime.config import plain  # noqa: E402
from resim.training.checkpoint import CONFIG_FILE  # noqa: E402
from resim.training.presets.ablations import tiny_ablation


@dataclass(frozen=True, kw_only=True)
class AblationArgs(Schedule, MeasureConfig):
    """How long, on what, and how it is measured."""

    # The trained VAE that made the cached latents.
    vae: Path = Path("checkpoints/tiny/vae")
    # Folder of the page and its figure.
    docs_dir: Path = Path("docs")
    # Processes side by side, one thread each.
    num_workers: int = 2


def measure_all(args: AblationArgs, runs: list[Run]) -> None:
    """Measure what is not measured yet, in ``num_workers`` processes that draw the scenes once each."""
    left = unmeasured(args, args, runs)
    shares = [left[n :: args.num_workers] for n in range(args.num_workers)]
    with ProcessPoolExecutor(args.num_workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(measure, args, args), [share for share in shares if share]))


def hardware() -> str:
    """Processor, cores, GPU and versions of this machine."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.processor()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{processor}, {len(os.sched_getaffinity(0))} cores, {gpu}, torch {torch.__version__}"


def collect(args: AblationArgs, runs: list[Run]) -> dict[str, Any]:
    """results.json: every raw number by variant and seed, and what it took."""
    commits = {
        str(json.loads((training.folder / CONFIG_FILE).read_text())["git_commit"])
        for one in runs
        for training in trainings(args, *one)
    }
    found: dict[str, dict[str, Any]] = {variant.name: {} for variant in VARIANTS}
    for variant, seed in runs:
        found[variant.name][str(seed)] = json.loads(measures_file(args, (variant, seed)).read_text())
    return {
        "command": shlex.join(["python", "benchmarks/ablations.py", *sys.argv[1:]]),
        "hardware": f"{hardware()}, {args.num_workers} processes of one thread",
        "commits": sorted(commits),
        "schedule": plain({name: getattr(args, name) for name in Schedule.__dataclass_fields__}),
        "settings": args.measure_settings(),
        "runs": found,
    }


def ablations(args: Annotated[AblationArgs, tyro.conf.arg(name="")]) -> None:
    """Train and measure what is missing, then write results.json, docs/ablations.md and its figure."""
    if min(args.num_seeds, args.num_workers, args.num_scenes, args.num_rounds) < 1:
        raise ValueError("--num_seeds, --num_workers, --num_scenes and --num_rounds start at 1")
    data = tiny_ablation().data  # the reader is needed only at the end, but missing it should be told at once
    load_inverse_dynamics(args.inverse_dynamics, height_px=data.height_px, width_px=data.width_px)
    runs = [(variant, seed) for seed in range(args.num_seeds) for variant in VARIANTS]
    prepare(args, args.vae)
    train_all(args, runs, args.num_workers)
    measure_all(args, runs)
    results = collect(args, runs)
    write_json(args.output_dir / "results.json", results)
    figure = args.docs_dir / "ablations.png"
    args.docs_dir.mkdir(parents=True, exist_ok=True)
    curves(results).savefig(figure, dpi=90)
    write_aside(args.docs_dir / "ablations.md", page(results, figure))
    print(args.docs_dir / "ablations.md")


if __name__ == "__main__":
    run(ablations)
