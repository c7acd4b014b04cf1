"""The closed loop's table, curves and videos."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resim.data.video import Frames
from resim.datatypes.clip import FPS, NUM_FUTURE_FRAMES, NUM_HISTORY_FRAMES
from resim.gates.closed_loop import (
    MEASURES,
    WORLDS,
    ClosedLoop,
    drift_rows,
    mean_over_scenes,
    policies_of,
    round_clips,
)
from resim.report.overlay import side_by_side
from resim.report.page import Report, line_plot


def compare_rounds(simulated_THWC: Frames, generated_THWC: Frames) -> Frames:
    """Simulator | world model, captioned with the round -> (9 + 40 R, H', W', 3)."""
    parts = []
    for r, (simulated, generated) in enumerate(
        zip(round_clips(simulated_THWC), round_clips(generated_THWC), strict=True)
    ):
        part = side_by_side([(f"simulator, round {r + 1}", simulated), (f"world model, round {r + 1}", generated)])
        parts.append(part if r == 0 else part[NUM_HISTORY_FRAMES:])
    return np.concatenate(parts)


def report_closed_loop(report: Report, loops: Sequence[ClosedLoop], videos: Sequence[Path]) -> None:
    """Table, curves over the rounds, and the video of each drive (one mp4 per entry of ``loops``)."""
    report.paragraph(
        "The policy commands a path of 4 s, the world model imagines it, and its last frames are the next round's "
        "history. The simulator drives the same paths; where its line stays and the other leaves it, the world model "
        "drifts. Means over scenes."
    )
    report.table(drift_rows(loops))
    for policy in policies_of(loops):
        report.heading(policy)
        for measure, label in MEASURES.items():
            means = {world: mean_over_scenes(loops, policy, world, measure) for world in WORLDS}
            seconds = [NUM_FUTURE_FRAMES / FPS * (r + 1) for r in range(len(means["simulator"]))]
            curves = {world.replace("_", " "): (seconds, values) for world, values in means.items()}
            report.plot(line_plot(curves, "end of the round, s", label), f"{policy}: {label}")
        for loop, video in zip(loops, videos, strict=True):
            if loop.drive.driver == policy:
                score = loop.drive.infractions.score
                report.video(video, f"{loop.drive.scene.scene_id}, {policy}: score {score:.2f} in the simulator")
