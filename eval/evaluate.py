"""Measure a world model: ``evaluate.py gates`` asks whether its futures obey the commanded paths."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from tqdm import tqdm

from resim.entry_point import one_line_errors
from resim.files import new_folder
from resim.futures import model_size_px
from resim.geometry import simulation_camera
from resim.inverse_dynamics import InverseDynamics
from resim.metrics.action_gate import draw_scenes, imagine, judge_scene, summary
from resim.report import write_json
from resim.world_model.pipeline import ReSimPipeline


@dataclass(frozen=True, kw_only=True)
class GatesArgs:
    """Which model, on how many fresh scenes of the simulator."""

    # Folder of a ReSim checkpoint.
    model: Path = Path("checkpoints/tiny")
    # Folder of the inverse dynamics model that reads the futures.
    inverse_dynamics: Path = Path("outputs/tiny/inverse_dynamics/model")
    # Where gates.json goes.
    output_dir: Path = Path("outputs/gates")
    # Scenes with three paths each.
    num_scenes: int = 64
    # The first scene's; no scene of the tiny model's training, its held-out data or the demo has a seed from here on.
    first_seed: int = 3_000_000
    # Denoising steps.
    num_inference_steps: int = 25
    # How far the future is pushed towards the path.
    guidance_scale: float = 6.0
    # Of the noise, the same for every path of a scene.
    seed: int = 0
    # Replace the output of an earlier run.
    overwrite: bool = False


def gates(args: Annotated[GatesArgs, tyro.conf.arg(name="")]) -> None:
    """Write gates.json: the means over scenes under ``gates``, and every scene under ``scenes``."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.num_scenes < 1:
        raise ValueError("--num_scenes starts at 1")
    with new_folder(args.output_dir, marker="gates.json", overwrite=args.overwrite) as folder:
        pipe = ReSimPipeline.from_pretrained(args.model).to(device)
        pipe.set_progress_bar_config(disable=True)
        config = args.inverse_dynamics / "config.json"
        if not config.is_file():
            raise FileNotFoundError(f"{config} does not exist: train/train_inverse_dynamics.py makes the reader")
        reader = InverseDynamics.from_pretrained(args.inverse_dynamics, use_safetensors=True).to(device).eval()
        scenes, num_seeds = draw_scenes(args.first_seed, args.num_scenes, simulation_camera(*model_size_px(pipe)))
        rows = []
        for scene in tqdm(scenes, desc="imagine", unit="scene"):
            futures = {"true": scene.truths_PTHWC}
            for kind in ("generated", "blind"):
                futures[kind] = imagine(
                    pipe,
                    scene,
                    blind=kind == "blind",
                    seed=args.seed,
                    num_inference_steps=args.num_inference_steps,
                    guidance_scale=args.guidance_scale,
                )
            rows.append(judge_scene(scene, futures, reader))
        found = summary(rows)
        named = [
            {"scene": scene.scene_id, "drivers": scene.drivers, **row} for scene, row in zip(scenes, rows, strict=True)
        ]
        write_json(folder / "gates.json", {"gates": found, "seeds_looked_at": num_seeds, "scenes": named})
    for name, value in found.items():
        print(f"{name:32} {value}")
    print(args.output_dir / "gates.json")


if __name__ == "__main__":
    with one_line_errors():
        tyro.extras.subcommand_cli_from_dict({"gates": gates}, use_underscores=True)
