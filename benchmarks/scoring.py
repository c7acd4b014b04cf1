"""Seconds to rank N candidate paths of one history: imagine each, grade each, with and without a second seed.

Example: ``python benchmarks/scoring.py --num_candidates 16``.
"""

import time
from itertools import product
from pathlib import Path

from resim.datatypes.clip import NUM_HISTORY_FRAMES, Waypoints
from resim.datatypes.geometry import simulation_camera
from resim.datatypes.seeds import Seeds
from resim.entry_point import run
from resim.imagination.futures import Precision, load_pipeline, model_size_px
from resim.imagination.manoeuvres import MANOEUVRES, manoeuvre
from resim.imagination.sampling import Sampling
from resim.imagination.scoring import score
from resim.judges.load import load_video2reward
from resim.simulation.generator.generate import generate_scene
from resim.simulation.painter.painter import paint_clip
from resim.simulation.simulate import drive

SPEEDS_MPS = (8.0, 10.0, 12.0, 14.0)


def candidates(num_candidates: int) -> dict[str, Waypoints]:
    """The first so many manoeuvres, begun at several speeds."""
    named = [(f"{name} at {speed:.0f} m/s", manoeuvre(name, speed)) for speed, name in product(SPEEDS_MPS, MANOEUVRES)]
    if not 1 <= num_candidates <= len(named):
        raise ValueError(f"--num_candidates {num_candidates}: choose 1 to {len(named)}")
    return dict(named[:num_candidates])


def main(
    model: Path = Path("checkpoints/tiny"),
    num_candidates: int = 16,
    num_inference_steps: int = 10,
    guidance_scale: float | None = None,
    seed: int = Seeds.BENCHMARKS.first,
    dtype: Precision = "float32",
) -> None:
    """Rank the candidates once from one noise and once from two."""
    sampling = Sampling(num_inference_steps=num_inference_steps, guidance_scale=guidance_scale)
    pipe = load_pipeline(model, dtype)
    pipe.set_progress_bar_config(disable=True)
    reward_model = load_video2reward(model / "video2reward").to(pipe.device)
    truth = paint_clip(drive(generate_scene(seed), "expert").scene, simulation_camera(*model_size_px(pipe)))
    print("| candidates | seeds | steps | seconds |")
    print("|---|---|---|---|")
    for num_seeds in (1, 2):
        start_s = time.perf_counter()
        score(
            pipe,
            reward_model,
            truth[:NUM_HISTORY_FRAMES],
            candidates(num_candidates),
            sampling,
            num_seeds=num_seeds,
            batch_size=num_candidates,
        )
        elapsed_s = time.perf_counter() - start_s
        print(f"| {num_candidates} | {num_seeds} | {num_inference_steps} | {elapsed_s:.1f} |", flush=True)


if __name__ == "__main__":
    run(main)
