"""The gates' tables, plots and files."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from resim.gates.measure import GateResult
from resim.metrics.reward import calibration
from resim.report.page import Report, bar_plot, line_plot, write_json


def report_gates(report: Report, result: GateResult) -> None:
    """Tables of the measures, executed scores by how the policy was chosen, and calibration of the rewards."""
    report.heading("Gates: does it obey, and can it judge?")
    report.paragraph(
        f"{result.found['n_scenes']} scenes of three paths for obedience; {result.found['n_selection_scenes']} scenes "
        f"of the expert and {len(result.judged.names) - 1} imperfect policies for rewards and the "
        "choice among them. Intervals are 95 %, by drawing scenes with replacement."
    )
    numbers = {name: value for name, value in result.found.items() if not isinstance(value, dict)}
    report.table([{"gate": name, "": _text(value)} for name, value in numbers.items()])
    scores = result.found["selection_scores"]
    assert isinstance(scores, dict)
    figure = bar_plot(scores, "mean executed score")
    report.plot(figure, "What came of driving: the policy chosen by imagination beside each policy on its own.")
    judged, curves = result.judged, {"perfect": ([0.0, 1.0], [0.0, 1.0])}
    for name, reward_SN in (("true video", judged.reward_true_SN), ("imagined", judged.reward_SN)):
        mean_reward, mean_score, _ = calibration(reward_SN, judged.score_SN)
        curves[name] = (mean_reward.tolist(), mean_score.tolist())
    report.plot(line_plot(curves, "reward", "executed score"), "Calibration of the reward, in ten bins of equal size.")


def write_gates(folder: Path, result: GateResult) -> None:
    """gates.json, candidates.parquet and report.html in ``folder``."""
    report = Report("ReSim gates")
    report_gates(report, result)
    report.write(folder / "report.html")
    pq.write_table(pa.Table.from_pylist(result.judged.rows()), folder / "candidates.parquet")
    write_json(folder / "gates.json", {"gates": result.found, "scenes": result.scenes})


def _text(value: object) -> object:
    return ", ".join(f"{x:.3f}" for x in value) if isinstance(value, list) else value
