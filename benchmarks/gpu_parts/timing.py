"""What every part needs: the device, its description, and the seconds and memory of a piece of work."""

import gc
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import torch

GIB = 2**30
LIBRARIES = ("diffusers", "transformers", "peft", "accelerate", "numpy")


def device(dry_run: bool) -> torch.device:
    """The GPU, or in a dry run the CPU even where there is a GPU."""
    return torch.device("cpu" if dry_run else "cuda")


def machine(dry_run: bool) -> dict[str, object]:
    """Versions and the GPU."""
    found: dict[str, object] = {"python": platform.python_version(), "torch": torch.__version__}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    if not dry_run:
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "memory_gib": round(properties.total_memory / GIB, 1)}
        found["cuda"] = torch.version.cuda
    return found


def timed(work: Callable[[], object], dry_run: bool) -> dict[str, object]:
    """Wall times of three repetitions after one that does not count, and the peak memory of all that is held then.

    A dry run does the one that does not count and measures nothing.
    """
    if dry_run:
        work()
        return {}
    gc.collect()  # what was measured before
    torch.cuda.reset_peak_memory_stats()
    times_s = []
    for _ in range(4):
        torch.cuda.synchronize()
        began_s = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times_s.append(time.perf_counter() - began_s)
    return {"seconds": times_s[1:], "peak_memory_gib": torch.cuda.max_memory_allocated() / GIB}
