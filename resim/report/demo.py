"""What the demos share: commands as a user types them, short training runs, and what they cost."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import psutil
import torch

from resim.data.store import ClipStore
from resim.data.video import Frames, write_video
from resim.datatypes.clip import NUM_HISTORY_FRAMES
from resim.metrics.pixels import difference_grey_levels
from resim.report.overlay import enlarge, side_by_side
from resim.report.page import Report, line_plot
from resim.runtime.machine import GIB, as_text, machine
from resim.world_model.latents import decode_latents, encode_frames
from resim.world_model.pipeline import ReSimPipeline
from resim.world_model.vae import psnr_db

CLIPS_AT_ONCE = 4  # on a CPU, a single small clip takes PyTorch's slow 3D convolution


class Cost:
    """Inside a ``with`` block: seconds by phase, and the peak of resident memory.

    ``peak_memory_gib`` is the largest sum over this process and its children, sampled twice a second; pages that
    processes share count once for each of them.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_memory_gib = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Cost":
        self._started_s = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def wall_s(self) -> float:
        """Seconds since the block began."""
        return time.perf_counter() - self._started_s

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a part of the block, and announce it."""
        print(f"\n== {name}", flush=True)
        began_s = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - began_s

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.5):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:  # it ended since it was listed
                    continue
            self.peak_memory_gib = max(self.peak_memory_gib, total / GIB)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A finished training run: what report.json says about it, and its loss curve (steps, losses)."""

    row: dict[str, object]
    curve: tuple[list[float], list[float]]


def report_training(report: Report, stages: Sequence[Stage]) -> None:
    """Table of the stages and their loss curves."""
    report.heading("Training")
    report.table([stage.row for stage in stages])
    curves = {str(stage.row["name"]): stage.curve for stage in stages}
    report.plot(line_plot(curves, "step", "loss"), "Training loss of single steps, which differ in timestep and clip.")


def report_before_and_after(
    report: Report, folder: Path, name: str, truth: Frames, before: Frames, after: Frames
) -> dict[str, object]:
    """A video of the truth beside the futures (49, H, W, 3) of two models; how far they are from it, in grey levels."""
    (folder / "videos").mkdir(exist_ok=True)
    video = folder / "videos" / f"{name}_learnt.mp4"
    write_video(video, side_by_side([("simulator", truth), ("before training", before), ("after it", after)]))
    far = [float(difference_grey_levels(future, truth)[NUM_HISTORY_FRAMES:].mean()) for future in (before, after)]
    report.video(video, f"{name}: {far[0]:.1f} grey levels from the simulator's video before, {far[1]:.1f} after")
    return {"clip": name, "difference_before_grey_levels": far[0], "difference_after_grey_levels": far[1]}


def report_vae(report: Report, pipe: ReSimPipeline, store: ClipStore, num_clips: int) -> float:
    """Reconstruct held-out clips: PSNR in dB over all their pixels, and a picture of original and reconstruction."""
    height_px, width_px = store.height_px, store.width_px
    originals, copies = [], []
    for batch in np.array_split(np.arange(num_clips), -(-num_clips // CLIPS_AT_ONCE)):
        clips = [torch.from_numpy(store.read_frames(index, height_px, width_px)) for index in batch]
        frames = torch.stack(clips).permute(0, 1, 4, 2, 3)
        originals.append(frames)
        copies.append(decode_latents(pipe.vae, encode_frames(pipe.vae, frames.to(pipe.device))).cpu())
    value_db = psnr_db(torch.cat(copies), torch.cat(originals))
    rows = [torch.cat(part)[:4, NUM_HISTORY_FRAMES - 1].permute(0, 2, 3, 1).numpy() for part in (originals, copies)]
    picture = np.concatenate([np.concatenate(list(enlarge(row, 160)), axis=1) for row in rows])
    report.heading("Autoencoder")
    report.paragraph(f"Reconstruction of {num_clips} held-out clips: {value_db:.2f} dB PSNR.")
    report.picture(picture, "Above: originals. Below: reconstructions.")
    return value_db


def report_cost(report: Report, cost: Cost) -> None:
    """Seconds by phase, peak memory, and the machine."""
    report.heading("Cost and machine")
    report.paragraph(
        f"{cost.wall_s:.0f} s in all; peak memory {cost.peak_memory_gib:.2f} GiB: the largest sum of resident memory "
        "of the process and its children, sampled twice a second."
    )
    report.table([{"phase": name, "seconds": seconds} for name, seconds in cost.seconds.items()])
    report.table([{"machine": name, "": as_text(value)} for name, value in machine().items()])


def versions(found: Mapping[str, object]) -> dict[str, object]:
    """Versions of Python and the libraries, from what ``machine()`` found."""
    libraries = found["libraries"]
    assert isinstance(libraries, dict)
    return {"python": found["python"], "torch": found["torch"], **libraries}
