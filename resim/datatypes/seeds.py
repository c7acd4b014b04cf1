"""Whose scenes are whose: one table of the simulator's seeds, so that nothing is measured on what was trained on."""

from enum import Enum


class Seeds(Enum):
    """Ranges of scene seeds by purpose; no two share a seed. What draws scenes starts at one's ``first``."""

    # What the tiny model learns from (train/make_tiny.py).
    TRAINING_VIDEO = range(0, 100_000)
    TRAINING_LOGS = range(100_000, 200_000)
    TRAINING_SIMULATION = range(200_000, 300_000)
    TRAINING_SIMPLE = range(300_000, 400_000)
    TRAINING_SIMPLE_MORE = range(400_000, 410_000)
    TRAINING_SIMPLE_SCENES = range(410_000, 420_200)
    TRAINING_SIMPLE_STRAYS = range(420_200, 500_000)
    TRAINING_VAE = range(500_000, 600_000)
    HELD_OUT = range(1_000_000, 1_100_000)
    HELD_OUT_SIMPLE = range(1_100_000, 1_200_000)
    TRAINING_FRESH_SCENES = range(1_500_000, 1_600_000)
    TRAINING_FRESH_STRAYS = range(1_600_000, 1_700_000)
    # What `make demo` trains, shows and measures.
    DEMO_VIDEO = range(2_000_000, 2_010_000)
    DEMO_LOGS = range(2_010_000, 2_020_000)
    DEMO_SIMULATION = range(2_020_000, 2_030_000)
    DEMO_HELD_OUT = range(2_030_000, 2_040_000)
    DEMO_SCENES = range(2_040_000, 2_050_000)
    DEMO_GATES = range(2_050_000, 2_060_000)
    DEMO_SELECTION = range(2_250_000, 2_260_000)
    # What is reported of a model.
    GATES = range(3_000_000, 3_200_000)
    SELECTION = range(3_200_000, 3_400_000)
    CLOSED_LOOP = range(3_500_000, 3_600_000)
    ABLATIONS = range(3_700_000, 3_800_000)
    # Where hyperparameters are chosen, and where a choice is confirmed on scenes that none has seen.
    TUNING = range(3_900_000, 3_950_000)
    CONFIRMATION = range(3_950_000, 4_000_000)
    TESTS = range(4_000_000, 5_000_000)
    PLANNERS = range(5_000_000, 6_000_000)
    BENCHMARKS = range(6_000_000, 7_000_000)
    RL = range(7_000_000, 9_000_000)
    # Anybody's own data.
    OWN = range(10_000_000, 2**31)

    @property
    def first(self) -> int:
        """The first seed of the range."""
        return self.value.start


def seeds_from(first: int, number: int | None = None) -> range:
    """``number`` seeds from ``first`` on; without a number, all that are left of the range that ``first`` lies in.

    Raises ValueError for a negative seed, and where the seeds would reach into another purpose's range.
    """
    if first < 0:
        raise ValueError(f"seed {first}: seeds of scenes start at 0")
    own = [purpose for purpose in Seeds if first in purpose.value]
    later = [purpose.first for purpose in Seeds if purpose.first > first]
    stop = own[0].value.stop if own else min(later, default=first)
    if number is None:
        return range(first, stop)
    if first + number > stop:
        raise ValueError(
            f"{number} scenes from seed {first} on: {stop - first} are left in {own[0].name if own else 'no range'} "
            f"of resim/datatypes/seeds.py; ask for fewer, or start elsewhere (your own data: {Seeds.OWN.first})"
        )
    return range(first, first + number)
