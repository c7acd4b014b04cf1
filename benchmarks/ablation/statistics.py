"""What a variant's difference from the base is worth: paired by seed and scene, with a bootstrap interval."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resim.metrics.statistics import bootstrap_interval

Measures = Mapping[str, Any]  # what measures.py writes about one run
Values = NDArray[np.float64]  # seeds x scenes


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number per scene (or held-out clip) of a run."""

    label: str
    higher_is_better: bool
    values: Callable[[Measures], list[float]]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Variant minus base, with its 95 % interval; ``base`` is the base's mean."""

    mean: float
    low: float
    high: float
    base: float

    @property
    def is_told_apart(self) -> bool:
        """Whether the interval excludes no difference, and the difference shows in two digits."""
        return (self.low > 0 or self.high < 0) and abs(self.mean) >= 0.005

    def verdict(self, metric: Metric) -> str:
        """In words."""
        if not self.is_told_apart:
            return "not told apart"
        return "better" if (self.mean > 0) == metric.higher_is_better else "worse"


def paired_difference(variant_SN: Values, base_SN: Values, *, draws: int = 4000, seed: int = 0) -> Difference:
    """Mean of ``variant_SN - base_SN`` and its 95 % interval, seeds and scenes both drawn with replacement.

    Entry (s, n) of both is the same seed on the same scene, so what a scene is like cancels. Raises ValueError for
    arrays of different or empty shapes.
    """
    if variant_SN.shape != base_SN.shape or variant_SN.ndim != 2 or variant_SN.size == 0:
        raise ValueError(f"values of shape {variant_SN.shape} cannot be paired with {base_SN.shape}")
    difference = variant_SN - base_SN
    low, high = bootstrap_interval(difference, seed=seed, draws=draws)
    return Difference(mean=float(difference.mean()), low=low, high=high, base=float(base_SN.mean()))


def values_of(runs: Sequence[Measures], metric: Metric) -> Values:
    """Seeds x scenes of one variant's runs."""
    return np.array([metric.values(run) for run in runs], dtype=np.float64)


def _generated(name: str) -> Callable[[Measures], list[float]]:
    return lambda run: [scene["generated"][name] for scene in run["scenes"]]


def _mean_distance(run: Measures) -> list[float]:
    return [float(np.mean(scene["generated"]["distance_m"])) for scene in run["scenes"]]


def non_expert_distance(run: Measures) -> list[float]:
    """Per scene, the mean over those of its three paths that no expert drove (at least two)."""

    def of_scene(scene: Mapping[str, Any]) -> float:
        pairs = zip(scene["drivers"], scene["generated"]["distance_m"], strict=True)
        return float(np.mean([distance for driver, distance in pairs if driver != "expert"]))

    return [of_scene(scene) for scene in run["scenes"]]


def of_round(name: str, number: int) -> Callable[[Measures], list[float]]:
    """Per scene, a measure of round ``number`` (from 1) along the expert's path."""
    return lambda run: [scene["rounds"][name][number - 1] for scene in run["scenes"]]


def _metric(label: str, higher_is_better: bool, values: Callable[[Measures], list[float]]) -> Metric:
    return Metric(label=label, higher_is_better=higher_is_better, values=values)


METRICS = {
    "held_out_loss": _metric("held-out loss", False, lambda run: run["held_out_losses"]),
    "path_gain": _metric(
        "loss under other paths, % more", True, lambda run: [100 * scene["path_use"]["gain"] for scene in run["scenes"]]
    ),
    "path_right": _metric("own path told", True, lambda run: [scene["path_use"]["right"] for scene in run["scenes"]]),
    "right": _metric("right future, read", True, _generated("right")),
    "nearest": _metric("right future, pixels", True, _generated("nearest")),
    "distance": _metric("distance to the path, m", False, _mean_distance),
    "expert_distance": _metric("expert paths, m", False, of_round("distance_m", 1)),
    "non_expert_distance": _metric("non-expert paths, m", False, non_expert_distance),
    "sharpness": _metric("sharpness, share of the truth's", True, _generated("sharpness")),
}
ROUND_MEASURES = {
    "distance_m": ("distance to the path, m", False),
    "sharpness": ("sharpness, share of the truth's", True),
    "difference_grey_levels": ("difference from the simulator, grey levels", False),
}


def round_metrics(num_rounds: int) -> dict[str, Metric]:
    """Every measure of every round."""
    return {
        f"{name}_{number}": _metric(f"{label}, round {number}", higher, of_round(name, number))
        for name, (label, higher) in ROUND_MEASURES.items()
        for number in range(1, num_rounds + 1)
    }
