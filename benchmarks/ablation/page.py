"""The page about the ablations, written from results.json alone: tables, one line per question, curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ablation.statistics import (
    METRICS,
    Difference,
    Measures,
    Metric,
    paired_difference,
    round_metrics,
    values_of,
)
from ablation.variants import BASE, VARIANTS
from matplotlib.figure import Figure

from resim.training.presets.ablations import tiny_ablation

Results = Mapping[str, Any]  # results.json


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the variants ``without`` are there to answer, by which measures."""

    text: str
    without: tuple[str, ...]
    metrics: tuple[str, ...]


HOW_TO_READ = """\
Held-out loss: Eq. 1 alone, per clip, at fixed timesteps and noise. Loss under other paths: how much higher the loss
of a true future is when the model is told another path of its scene, and "own path told" how often the own one gives
the lowest (chance 0.33); both need no sampling and no reader, and 0 % means that the path is ignored. Right future:
share of paths whose future is the nearest of the scene's three, as the inverse dynamics model reads them, and share
of futures whose own true video is the nearest in pixels; chance is 0.33 for both. Expert paths: one per scene, the
first round of the rollouts. Intervals: bootstrap over seeds and scenes, paired by both. Two seeds are few: read the
seeds' own values beside a narrow interval. `experts_only` sees as many clips with a path as the base, but repeats its
few ones more often."""
OBEYS = ("path_gain", "right", "distance", "held_out_loss")
QUESTIONS = (
    Question(
        text="Is non-expert driving needed to obey non-expert paths?",
        without=("experts_only",),
        metrics=("non_expert_distance", "expert_distance", "path_gain", "right"),
    ),
    Question(text="Is the dynamics loss worth its place?", without=("dynamics_0", "dynamics_1"), metrics=OBEYS),
    Question(
        text="Is 2/3 the right share of noisy timesteps?", without=("high_noise_1_2", "high_noise_3_4"), metrics=OBEYS
    ),
    Question(
        text="Does a noised context keep a rollout from drifting?",
        without=("clean_context",),
        metrics=("difference_grey_levels_1", "difference_grey_levels_3", "sharpness_1", "sharpness_3", "distance_m_3"),
    ),
    Question(text="Do latents have to be told their poses?", without=("tokens_only",), metrics=OBEYS),
    Question(text="Is LoRA first better than everything at once?", without=("full_from_start",), metrics=OBEYS),
)


def runs_of(results: Results, variant: str) -> list[Measures]:
    """One variant's measures, a seed after the other."""
    return list(results["runs"][variant].values())


def difference(results: Results, variant: str, metric: Metric) -> Difference:
    """A variant against the base."""
    pair = [values_of(runs_of(results, name), metric) for name in (variant, BASE.name)]
    return paired_difference(*pair)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first row is the head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def mean_and_seeds(runs: Sequence[Measures], metric: Metric) -> str:
    """Mean over seeds, and each seed's own."""
    seeds = values_of(runs, metric).mean(axis=1)
    return f"{seeds.mean():.2f} ({', '.join(f'{value:.2f}' for value in seeds)})"


def difference_and_interval(found: Difference) -> str:
    """Bold where the interval excludes 0."""
    text = f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
    return f"**{text}**" if found.is_told_apart else text


def true_videos(results: Results) -> list[str]:
    """The row of the simulator's own videos, which the reader sees as it sees the generated ones."""
    scenes = runs_of(results, BASE.name)[0]["scenes"]
    as_generated: Measures = {"scenes": [scene | {"generated": scene["true"]} for scene in scenes]}
    shown = ("right", "nearest", "distance", "non_expert_distance", "sharpness")
    cells = [f"{np.mean(METRICS[name].values(as_generated)):.2f}" if name in shown else "-" for name in METRICS]
    return ["the simulator's own videos", *cells]


def tables(results: Results, names: Sequence[str], metrics: Mapping[str, Metric], *, with_truth: bool) -> str:
    """Means with the seeds' values, then differences from the base with their intervals."""
    head = [metric.label for metric in metrics.values()]
    means = [
        [f"`{name}`", *(mean_and_seeds(runs_of(results, name), metric) for metric in metrics.values())]
        for name in names
    ]
    differences = [
        [f"`{name}`", *(difference_and_interval(difference(results, name, metric)) for metric in metrics.values())]
        for name in names
        if name != BASE.name
    ]
    truth = [true_videos(results)] if with_truth else []
    first = table([["mean (seeds)", *head], *means, *truth])
    return first + "\n\n" + table([["minus base [95 %]", *head], *differences])


def relative(found: Difference) -> str:
    """The difference in per cent of the base; as it is where the base is next to nothing."""
    return f"{100 * found.mean / found.base:+.0f} %" if abs(found.base) >= 0.01 else f"{found.mean:+.2f}"


def answer(results: Results, question: Question) -> str:
    """One line: the question, and what every measure of it says, in numbers."""
    metrics = METRICS | round_metrics(results["settings"]["num_rounds"])
    parts = []
    for name in question.without:
        said = []
        for metric in (metrics[key] for key in question.metrics if key in metrics):
            found = difference(results, name, metric)
            said.append(
                f"{metric.label} {found.base + found.mean:.2f} against {found.base:.2f} "
                f"({relative(found)}, {found.verdict(metric)})"
            )
        parts.append(f"`{name}`: {'; '.join(said)}.")
    return f"- **{question.text}** {' '.join(parts)}"


def cost_table(results: Results) -> str:
    """Seconds of every run."""
    rows = [["variant", "recipe (base, or what is changed)", "training, s (seeds)", "measuring, s (seeds)"]]
    for variant in VARIANTS:
        runs = runs_of(results, variant.name)
        seconds = [", ".join(f"{run[name]:.0f}" for run in runs) for name in ("training_seconds", "measuring_seconds")]
        rows.append([f"`{variant.name}`", variant.differs_in, *seconds])
    return table(rows)


def curves(results: Results) -> Figure:
    """Held-out loss over steps (all variants alike), and the loss that each was trained on, means over seeds."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for variant in VARIANTS:
        runs = runs_of(results, variant.name)
        style = {"label": variant.name, "color": "black" if variant == BASE else None, "linewidth": 1.2}
        for axis, name in ((left, "curve"), (right, "training_curve")):
            losses = np.mean([[point["loss"] for point in run[name]] for run in runs], axis=0)
            axis.plot([point["step"] for point in runs[0][name]], losses, **style)
    left.set(xlabel="step", ylabel="held-out diffusion loss", title="the same clips and noise for all")
    right.set(xlabel="step", ylabel="training diffusion loss", title="each on its own timesteps and clips")
    for axis in (left, right):
        axis.grid(alpha=0.3)
    left.legend(fontsize=7)
    return figure


def setting(results: Results) -> str:
    """What all variants share."""
    settings, schedule = results["settings"], results["schedule"]
    scale = "the checkpoint's own" if settings["guidance_scale"] is None else settings["guidance_scale"]
    return (
        "One choice of the recipe is changed at a time. Every variant starts, per seed, from the same model pretrained "
        f"for {schedule['pretrain_steps']} steps on video without actions, and trains for "
        f"{schedule['lora_steps'] + schedule['joint_steps']} steps of {tiny_ablation().global_batch_size} clips, "
        f"{schedule['lora_steps']} of them LoRA first. Measured on {settings['num_scenes']} unseen scenes with three "
        f"paths each, {settings['num_inference_steps']} denoising steps, guidance scale: {scale}. "
        "The model is tiny and briefly trained: a difference here is a hint about the full one, no measurement of it."
    )


def page(results: Results, figure: Path) -> str:
    """The Markdown."""
    names = [variant.name for variant in VARIANTS]
    rounds = round_metrics(results["settings"]["num_rounds"])
    parts = [
        "# Ablations",
        "Written by the command below from `results.json`; nothing here is typed in by hand.",
        f"```bash\n{results['command']}\n```",
        f"Hardware: {results['hardware']}. Commit: {', '.join(results['commits'])}.",
        setting(results),
        "## What was found",
        "\n".join(answer(results, question) for question in QUESTIONS),
        '"Not told apart" means that the interval contains 0 (or all of it is below 0.005), not that nothing differs.',
        "## Every variant",
        cost_table(results),
        tables(results, names, METRICS, with_truth=True),
        HOW_TO_READ,
        "## Rollouts along the expert's path",
        tables(results, (BASE.name, "clean_context"), rounds, with_truth=False),
        "## Curves",
        f"![Losses of the variants]({figure.name})",
    ]
    return "\n\n".join(parts) + "\n"
