"""Make checkpoints/tiny from nothing but this repository: simulate, VAE, latents, world model, two judges, export.

Every part writes its output whole or continues where it was stopped, so the command can be interrupted at any time and
given again.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from diffusers import AutoencoderKLCogVideoX
from diffusers.models.modeling_utils import ModelMixin

from resim.data.files import new_folder, require_free
from resim.datatypes.seeds import Seeds
from resim.entry_point import run
from resim.judges.load import load_inverse_dynamics, load_video2reward
from resim.simulation.drivers import DRIVERS, POLICIES
from resim.training.checkpoint import list_checkpoints, write_json
from resim.training.presets.starts import TINY, TINY_DEEP
from resim.world_model.lora import has_lora, merge_lora
from resim.world_model.model import deepen
from resim.world_model.pipeline import ReSimPipeline, small_pipeline

SCRIPTS = Path(__file__).resolve().parent
STAGES = ("stage1", "stage2", "stage3", "simple", "deep", "long")
NON_EXPERTS = tuple(name for name in DRIVERS if name != "expert")
LANE_LEAVERS = ("drift_off_road", "wrong_way", "random")


@dataclass(frozen=True, kw_only=True)
class TinyArgs:
    """How much of everything."""

    # Where data and runs go; kept, so that an interrupted run continues.
    work_dir: Path = Path("outputs/tiny")
    # The finished model.
    output_dir: Path = Path("checkpoints/tiny")
    vae_clips: int = 208
    video_clips: int = 400
    log_clips: int = 240
    simulation_clips: int = 2400
    # Of everybody in the simple world, where the model is trained last: six drivers a scene.
    simple_clips: int = 2700
    # More scenes of it, with three drivers each.
    simple_more_clips: int = 6000
    # More still, every one of another scene: what a small model cannot learn by heart.
    simple_scenes_clips: int = 9600
    # And where more drivers leave their lane, whose futures are the hardest.
    simple_strays_clips: int = 3600
    # For the last and longest stage, scenes that no other has seen.
    fresh_scenes_clips: int = 2900
    fresh_strays_clips: int = 1900
    held_out_clips: int = 24
    vae_steps: int = 2000
    # Steps of the VAE's decoder on the simple world, after that; 16 windows each.
    decoder_steps: int = 575
    # Steps of each of STAGES; the presets' own by default.
    stage_steps: tuple[int, int, int, int, int, int] | None = None
    # Steps of each model that judges; their own defaults otherwise.
    judge_steps: int | None = None
    # bf16 is faster only where the processor has bfloat16 instructions.
    mixed_precision: str = "bf16"
    overwrite: bool = False


def python(script: Path, *flags: str | int | Path, launcher: tuple[str, ...] = ()) -> None:
    """Run one of our scripts; a failure stops the whole."""
    command = [sys.executable, *launcher, str(script), *map(str, flags)]
    print(" ".join(command), flush=True)
    subprocess.run(command, check=True)


def simulate(args: TinyArgs) -> None:
    """All stores, each of scenes of its own."""
    mixed = ("--drivers", "expert", *NON_EXPERTS)
    simple = ("--simple", "--drivers", *(("expert",) * 3), *NON_EXPERTS, *POLICIES, "--drivers_per_scene")
    strays_of = (*(("expert",) * 2), *NON_EXPERTS, *LANE_LEAVERS, *(("random",) * 2), *POLICIES)
    strays = ("--simple", "--drivers", *strays_of, "--drivers_per_scene")
    stores = {
        "vae_frames": (args.vae_clips, Seeds.TRAINING_VAE, mixed),
        "held_out": (args.held_out_clips, Seeds.HELD_OUT, (*mixed, "--drivers_per_scene", 3)),
        "video": (args.video_clips, Seeds.TRAINING_VIDEO, ("--drivers", "expert", "--without_waypoints")),
        "logs": (args.log_clips, Seeds.TRAINING_LOGS, ("--drivers", "expert")),
        "simulation": (args.simulation_clips, Seeds.TRAINING_SIMULATION, (*mixed, "--drivers_per_scene", 4)),
        "simple": (args.simple_clips, Seeds.TRAINING_SIMPLE, (*simple, 6)),
        "simple_more": (args.simple_more_clips, Seeds.TRAINING_SIMPLE_MORE, (*simple, 3)),
        "simple_scenes": (args.simple_scenes_clips, Seeds.TRAINING_SIMPLE_SCENES, (*simple, 1)),
        "simple_strays": (args.simple_strays_clips, Seeds.TRAINING_SIMPLE_STRAYS, (*strays, 1)),
        "fresh_scenes": (args.fresh_scenes_clips, Seeds.TRAINING_FRESH_SCENES, (*simple, 1)),
        "fresh_strays": (args.fresh_strays_clips, Seeds.TRAINING_FRESH_STRAYS, (*strays, 1)),
        "simple_held_out": (2 * args.held_out_clips, Seeds.HELD_OUT_SIMPLE, (*simple, 6)),
    }
    for name, (num_clips, seeds, flags) in stores.items():
        folder = args.work_dir / "data" / name
        if not folder.exists():
            size = ("--height", TINY.height_px, "--width", TINY.width_px)
            count = ("--num_clips", num_clips, "--seed", seeds.first)
            script = SCRIPTS.parent / "data_prep" / "simulate.py"
            python(script, "--output_dir", folder, "--source", name, *size, *count, *flags)


def train_vae(args: TinyArgs) -> Path:
    """The VAE, every store's latents through it, and what it leaves of the simple world's pictures."""
    data, whole, folder = args.work_dir / "data", args.work_dir / "vae", args.work_dir / "vae_decoder"
    vae_script = SCRIPTS / "train_vae.py"
    python(
        vae_script,
        *("--store", data / "vae_frames", "--held_out", data / "held_out", "--output_dir", whole),
        *("--max_train_steps", args.vae_steps),
    )
    python(
        vae_script,
        *("--decoder_of", whole / "vae", "--output_dir", folder),
        *("--store", data / "simple", "--held_out", data / "simple_held_out"),
        *("--max_train_steps", args.decoder_steps, "--train_batch_size", 16),
        *("--learning_rate", 0.02, "--adam_learning_rate", 0.001),
    )
    seen = ("held_out", "video", "logs", "simulation")
    simple = ("simple", "simple_more", "simple_scenes", "simple_strays", "simple_held_out")
    stores = [data / name for name in (*seen, *simple, "fresh_scenes", "fresh_strays")]
    dtype = "bfloat16" if args.mixed_precision == "bf16" else "float32"
    missing = [store for store in stores if not (store / "latents").exists()]
    if missing:
        cache = SCRIPTS.parent / "data_prep" / "cache_latents.py"
        python(cache, "--vae", folder / "vae", "--dtype", dtype, "--batch_size", 8, "--stores", *missing)
    copy = data / "simple_vae"
    if not copy.exists():
        script = SCRIPTS.parent / "data_prep" / "reconstruct.py"
        how = ("--vae", folder / "vae", "--dtype", dtype, "--batch_size", 4)
        python(script, "--store", data / "simple", *how, "--output_dir", copy)
    return folder / "vae"


def write_initial_model(args: TinyArgs, vae_folder: Path) -> Path:
    """An untrained model of the tiny architecture around the trained VAE."""
    folder = args.work_dir / "init"
    if folder.exists():
        return folder
    vae = AutoencoderKLCogVideoX.from_pretrained(vae_folder)
    pipeline = small_pipeline(vae, **asdict(TINY))
    with new_folder(folder, kind="model", inputs=[vae_folder], overwrite=False) as partial:
        pipeline.save_pretrained(partial)
    return folder


def write_deeper_model(args: TinyArgs, shallow: Path) -> Path:
    """The model in ``shallow`` with two layers more, which change nothing yet, and half its guidance (docs/log.md)."""
    folder = args.work_dir / "deep_init"
    if folder.exists():
        return folder
    pipeline = ReSimPipeline.from_pretrained(shallow)
    if has_lora(pipeline.transformer):  # new layers have none
        merge_lora(pipeline.transformer)
    pipeline.register_modules(transformer=deepen(pipeline.transformer, num_layers=TINY_DEEP.num_layers))
    pipeline.register_to_config(guidance_scale=1.0)
    with new_folder(folder, kind="model", inputs=[shallow], overwrite=False) as partial:
        pipeline.save_pretrained(partial)
    return folder


def train_stage(args: TinyArgs, name: str, init_from: Path) -> Path:
    """The run of preset ``tiny_<name>``; an unfinished one resumes from its newest checkpoint."""
    folder = args.work_dir / name
    if (folder / "model_index.json").exists():
        return folder
    # Without a checkpoint it was stopped before its first, or it is new.
    begun = ("--resume_from_checkpoint", "latest") if list_checkpoints(folder) else ("--overwrite",)
    on_the_cpu = () if torch.cuda.is_available() else ("--cpu",)
    python(
        SCRIPTS / "train_world_model.py",
        *(f"tiny_{name}", "--data_root", args.work_dir / "data", "--init_from", init_from),
        *("--output_dir", folder, "--mixed_precision", args.mixed_precision, *begun),
        *(() if args.stage_steps is None else ("--max_train_steps", args.stage_steps[STAGES.index(name)])),
        launcher=("-m", "accelerate.commands.launch", "--num_processes", "1", *on_the_cpu),
    )
    return folder


def train_judges(args: TinyArgs) -> dict[str, ModelMixin]:
    """Inverse dynamics and Video2Reward, on the true videos of the simulation and their copies from the VAE."""
    data = args.work_dir / "data"
    for name, stores, held_out in (
        ("inverse_dynamics", ("simple_more", "simple_vae", "simulation", "logs"), "simple_held_out"),
        ("video2reward", ("simple_more", "simple_scenes", "simple_vae"), "simple_held_out"),
    ):
        python(
            SCRIPTS / f"train_{name}.py",
            *("--stores", *(data / store for store in stores), "--held_out", data / held_out),
            *("--output_dir", args.work_dir / name, "--mixed_precision", args.mixed_precision),
            *(() if args.judge_steps is None else ("--max_train_steps", args.judge_steps)),
        )
    reader = load_inverse_dynamics(
        args.work_dir / "inverse_dynamics" / "model", height_px=TINY.height_px, width_px=TINY.width_px
    )
    return {
        "inverse_dynamics": reader,
        "video2reward": load_video2reward(args.work_dir / "video2reward" / "model"),
    }


def export(args: TinyArgs, stage3: Path, judges: dict[str, ModelMixin]) -> None:
    """Merge the LoRA and write all in half precision, which is half the size; keep the card beside it."""
    pipeline = ReSimPipeline.from_pretrained(stage3)
    if has_lora(pipeline.transformer):
        merge_lora(pipeline.transformer)
    for part in (pipeline.vae, pipeline.transformer, pipeline.trajectory_encoder):
        part.half()
    card = args.output_dir / "README.md"
    with new_folder(args.output_dir, kind="model", inputs=[args.work_dir], overwrite=args.overwrite) as partial:
        pipeline.save_pretrained(partial)
        for name, judge in judges.items():
            judge.half().save_pretrained(partial / name)
        for file in partial.rglob("*.json"):
            values = json.loads(file.read_text())
            if values.pop("_name_or_path", None) is not None:  # the folder on this machine that it came from
                write_json(file, values)
        if card.exists():
            shutil.copy(card, partial)


def make_tiny(args: Annotated[TinyArgs, tyro.conf.arg(name="")]) -> None:
    """All of it, in order."""
    require_free(args.output_dir, kind="model", inputs=[args.work_dir], overwrite=args.overwrite)  # export asks late
    simulate(args)
    model = write_initial_model(args, train_vae(args))
    for name in STAGES:
        start = write_deeper_model(args, model) if name == "deep" else model
        model = train_stage(args, name, start)
    export(args, model, train_judges(args))


if __name__ == "__main__":
    run(make_tiny)
