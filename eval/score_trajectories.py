"""Rank candidate paths: imagine the future of each from one history, and grade what is seen."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import tyro
from rich.console import Console
from rich.table import Table

from resim.data.files import new_folder
from resim.entry_point import flags_of, run
from resim.imagination.futures import Precision, load_pipeline, model_size_px
from resim.imagination.sampling import Sampling, SamplingFlags
from resim.imagination.scoring import Scores, score
from resim.imagination.start import StartArgs, files_read, find_clip, read_path, read_start, speed_at_start
from resim.judges.load import load_video2reward
from resim.judges.video2reward import REWARD
from resim.report.page import write_json
from resim.report.ranking import ranking_figure


@dataclass(frozen=True, kw_only=True)
class ScoreArgs(StartArgs):
    """What to rank, and with which models."""

    # Folder of a ReSim checkpoint.
    model: Path = Path("checkpoints/tiny")
    # Folder of a Video2Reward model.
    video2reward: Path = Path("checkpoints/tiny/video2reward")
    # Where scores.parquet, ranking.png and scoring.json go.
    output_dir: Path
    # The candidates: JSON or CSV files, named manoeuvres, or 'recorded' (the clip's own path).
    waypoints: tuple[str, ...]
    # Futures of each candidate; with two or more every reward comes with an uncertainty.
    num_seeds: int = 2
    # Candidates that are imagined at once.
    batch_size: int = 16
    # How the futures of the first seed are drawn; the others have the seeds after it.
    sampling: SamplingFlags = Sampling(num_inference_steps=10)
    # Precision of the world model; bfloat16 is faster where the processor has it.
    dtype: Precision = "float32"
    # Replace the output of an earlier run.
    overwrite: bool = False


def terminal_table(scores: Scores) -> Table:
    """Best first."""
    kinds = [name for name in scores.outputs if name not in ("progress", REWARD)]
    table = Table("rank", "candidate", "reward", "uncertainty", "confidence", "likeliest infraction")
    for row in scores.rows():
        probability, kind = max((float(row[kind]), kind) for kind in kinds)
        numbers = [f"{row[name]:.4f}" for name in ("reward", "uncertainty", "confidence")]
        table.add_row(str(row["rank"]), str(row["candidate"]), *numbers, f"{kind} {probability:.2f}")
    return table


def score_trajectories(args: Annotated[ScoreArgs, tyro.conf.arg(name="")]) -> None:
    """Write scores.parquet, ranking.png and scoring.json, and print the ranking."""
    inputs = [args.model, args.video2reward, *files_read(args, args.waypoints)]
    with new_folder(args.output_dir, kind="ranking", inputs=inputs, overwrite=args.overwrite) as folder:
        found = find_clip(args)
        clip = None if found is None else found[0].clips[found[1]]
        speed_mps = speed_at_start(args, clip)
        names = [Path(value).stem for value in args.waypoints]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"--waypoints: {', '.join(sorted(twice))} is given more than once")
        candidates = {
            name: read_path(value, clip, speed_mps) for name, value in zip(names, args.waypoints, strict=True)
        }
        pipe = load_pipeline(args.model, args.dtype)
        pipe.set_progress_bar_config(disable=True)
        reward_model = load_video2reward(args.video2reward).to(pipe.device)
        start = read_start(args, found, *model_size_px(pipe))
        scores = score(
            pipe,
            reward_model,
            start.history,
            candidates,
            args.sampling,
            num_seeds=args.num_seeds,
            batch_size=args.batch_size,
        )
        pq.write_table(pa.Table.from_pylist(scores.rows()), folder / "scores.parquet")
        ranking_figure(scores).savefig(folder / "ranking.png", bbox_inches="tight")
        rewards = dict(zip(scores.names, scores.rewards_NS.tolist(), strict=True))
        write_json(folder / "scoring.json", {"flags": flags_of(args), "rewards": rewards})
    Console().print(terminal_table(scores))
    print(args.output_dir / "ranking.png")


if __name__ == "__main__":
    run(score_trajectories)
