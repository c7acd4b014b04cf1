"""The demo on a recorded drive: import a KITTI sequence, fine-tune a little, imagine three futures."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from demos.commands import run_command, train

from resim.data.files import new_folder
from resim.data.store import ClipStore
from resim.datatypes.clip import NUM_HISTORY_FRAMES, speed_at_start_mps
from resim.datatypes.geometry import Camera
from resim.entry_point import run
from resim.gates.action_gate import read_paths
from resim.imagination.futures import imagine, load_pipeline, model_size_px
from resim.imagination.manoeuvres import MANOEUVRES, manoeuvre
from resim.imagination.sampling import Sampling, SamplingFlags
from resim.judges.load import load_inverse_dynamics
from resim.metrics.trajectory import path_distance_m, share_of_right_futures
from resim.report.demo import Cost, report_cost, report_training, report_vae, versions
from resim.report.futures import report_futures
from resim.report.page import Report, write_json
from resim.runtime.machine import machine
from resim.world_model.pipeline import ReSimPipeline

CLIP = 0  # of the imported store


@dataclass(frozen=True, kw_only=True)
class KittiDemoArgs:
    """Which recording, and how much of everything."""

    # Folder of the recording: images, poses.txt, calib.txt.
    kitti: Path
    # Where report.html, report.json, the videos, the store and the fine-tuned model go.
    output_dir: Path = Path("outputs/kitti")
    # The model to start from.
    model: Path = Path("checkpoints/tiny")
    # Steps of the fine-tuning.
    steps: int = 20
    # What to imagine beside the recorded path.
    manoeuvres: tuple[str, ...] = ("swerve_left", "brake")
    # Clips of the action gate, spread over the recording, at 10 denoising steps.
    gate_clips: int = 8
    # How the futures are drawn.
    sampling: SamplingFlags = Sampling(num_inference_steps=25)
    # Replace the output of an earlier run.
    overwrite: bool = False


def kitti_demo(args: Annotated[KittiDemoArgs, tyro.conf.arg(name="")]) -> None:
    """Write report.html and report.json about a recorded drive."""
    for name in args.manoeuvres:
        if name not in MANOEUVRES:
            manoeuvre(name, 0.0)  # says what to type
    report = Report("ReSim on a recorded drive")
    with (
        new_folder(
            args.output_dir, kind="KITTI demo", inputs=[args.kitti, args.model], overwrite=args.overwrite
        ) as folder,
        Cost() as cost,
    ):
        with cost.phase("import and check"):
            run_command("data_prep/kitti.py", "--kitti", args.kitti.resolve(), "--output_dir", folder / "store")
            run_command("data_prep/check.py", "--stores", folder / "store")
        with cost.phase("fine-tune"):
            tuned = folder / "finetune"
            data_root = {"data_root": folder / "store"}
            stage = train("tiny_finetune", args.model.resolve(), tuned, args.steps, **data_root)
        with cost.phase("generate"):
            pipe = load_pipeline(tuned, "float32")
            vae_psnr_db = report_vae(report, pipe, ClipStore(folder / "store"), num_clips=1)
            scene = report_recording(report, folder, pipe, args)
        with cost.phase("measure the action gate, out of domain"):
            gates = report_recorded_gate(report, ClipStore(folder / "store"), pipe, args)
        report_training(report, [stage])
        report_cost(report, cost)
        found = {
            "wall_s": cost.wall_s,
            "peak_memory_gib": cost.peak_memory_gib,
            "versions": versions(machine()),
            "vae_psnr_db": vae_psnr_db,
            "stages": [stage.row],
            "scenes": [scene],
            "gates": gates,
        }
        report.write(folder / "report.html")
        write_json(folder / "report.json", found)
    print(args.output_dir / "report.html")


def report_recording(report: Report, folder: Path, pipe: ReSimPipeline, args: KittiDemoArgs) -> dict[str, object]:
    """Futures of the recorded path and of the manoeuvres, begun at the recorded speed."""
    store = ClipStore(folder / "store")
    clip = store.clips[CLIP]
    truth = store.read_frames(CLIP, *model_size_px(pipe))
    camera = Camera(**clip.camera).resized_and_cropped(*truth.shape[1:3])
    speed_mps = speed_at_start_mps(clip.history_poses)
    paths = {"recorded": clip.waypoints} | {name: manoeuvre(name, speed_mps) for name in args.manoeuvres}
    commanded = np.stack(list(paths.values()))[:, None]
    imagined = imagine(pipe, truth[:NUM_HISTORY_FRAMES], commanded, args.sampling)
    futures = dict(zip(paths, imagined, strict=True))
    return report_futures(report, folder, clip.clip_id, paths, futures, {"recorded": truth}, camera, scenes={})


def report_recorded_gate(
    report: Report, store: ClipStore, pipe: ReSimPipeline, args: KittiDemoArgs
) -> dict[str, object]:
    """Inverse dynamics and the action gate on recordings, which neither model has learnt from."""
    height_px, width_px = model_size_px(pipe)
    reader = load_inverse_dynamics(args.model / "inverse_dynamics", height_px=height_px, width_px=width_px)
    reader = reader.to(pipe.device)
    sampling = replace(args.sampling, num_inference_steps=10)
    rows, error_m = [], []
    for index in np.linspace(0, len(store) - 1, min(args.gate_clips, len(store))).round().astype(int):
        clip, truth = store.clips[index], store.read_frames(index, height_px, width_px)
        speed_mps = speed_at_start_mps(clip.history_poses)
        paths = {"recorded": clip.waypoints} | {name: manoeuvre(name, speed_mps) for name in args.manoeuvres}
        commanded = np.stack(list(paths.values()))
        futures = imagine(pipe, truth[:NUM_HISTORY_FRAMES], commanded[:, None], sampling)
        seen = read_paths(reader, futures)
        error_m.append(path_distance_m(read_paths(reader, truth[None])[0], clip.waypoints))
        rows.append([share_of_right_futures(seen, commanded), path_distance_m(seen, commanded).mean()])
    right, difference_m = np.mean(rows, axis=0)
    found = {
        "out_of_domain": True,
        "n_scenes": len(rows),
        "action_gate": float(right),
        "chance": 1 / (1 + len(args.manoeuvres)),
        "trajectory_difference_m": float(difference_m),
        "trajectory_difference_true_m": float(np.mean(error_m)),
    }
    report.heading("Action gate, out of domain")
    report.paragraph(
        "World model and inverse dynamics have learnt on simulated roads, and the world model on a few steps of this "
        "recording. What inverse dynamics reads in the recorded video stands as trajectory_difference_true_m."
    )
    report.table([found])
    return found


if __name__ == "__main__":
    run(kitti_demo)
