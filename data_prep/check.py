"""Check stores of clips: files, frames, waypoints, and the mixture they make. Any problem ends with status 1."""

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from resim.data.checks import validate_waypoints
from resim.data.mixture import MixtureEntry, TrainingData
from resim.data.store import ClipStore
from resim.entry_point import run


@dataclass(frozen=True, kw_only=True)
class CheckArgs:
    """Which stores to check."""

    # Stores, each counted once in the mixture table.
    stores: tuple[Path, ...]
    # How often turning clips come in an epoch.
    turn_repeats: int = 5


def problems_of(store: ClipStore) -> list[str]:
    """One line for each damaged shard and each clip with implausible waypoints."""
    found = store.problems()
    for clip in tqdm(store.clips, desc=f"check {store.path.name}", unit="clip"):
        if clip.waypoints is None:
            continue
        try:
            validate_waypoints(clip.waypoints, what=f"{store.path}: clip {clip.clip_id}")
        except ValueError as error:
            found.append(str(error))
    return found


def check(args: Annotated[CheckArgs, tyro.conf.arg(name="")]) -> None:
    """Print what each store holds, the mixture they make, and one line for each problem."""
    stores = [ClipStore(path) for path in args.stores]
    for store in stores:
        with_waypoints = sum(clip.waypoints is not None for clip in store.clips)
        with_score = sum(clip.infractions is not None for clip in store.clips)
        commands = Counter(str(clip.command) for clip in store.clips)
        drivers = Counter(str(clip.driver) for clip in store.clips)
        print(f"{store.path}: {len(store)} clips of {store.height_px} x {store.width_px} in {len(store.shards)} shards")
        print(f"  with waypoints {with_waypoints}, with a score {with_score}")
        print(f"  commands {dict(commands.most_common())}, drivers {dict(drivers.most_common())}")
    entries = [
        MixtureEntry(name=str(path), store=path, weight=1.0, trajectory_dropout=0.0, turn_repeats=args.turn_repeats)
        for path in args.stores
    ]
    mixture = TrainingData(entries, seed=0, height_px=stores[0].height_px, width_px=stores[0].width_px)
    for name, row in mixture.table().items():
        print(f"  mixture: {name}: {row['per_epoch']:.0f} samples an epoch, {row['share']:.1%}")
    problems = [problem for store in stores for problem in problems_of(store)]
    if problems:
        sys.exit("\n".join(problems))
    print("no problems found")


if __name__ == "__main__":
    run(check)
