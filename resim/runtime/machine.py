"""The machine that a run is on."""

import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import psutil
import torch

GIB = 2**30
LIBRARIES = ("accelerate", "deepspeed", "peft", "diffusers", "transformers", "decord", "av")
CODECS = ("h264", "hevc", "av1")


def as_text(value: Any) -> str:
    """A value as a table shows it."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {as_text(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return "; ".join(as_text(inner) for inner in value) or "none"
    return "-" if value is None else str(value)


def machine() -> dict[str, Any]:
    """Versions, GPUs, cores, memory and disk in GiB, and which codecs PyAV reads and writes."""
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    shared = Path("/dev/shm")
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda_build": torch.version.cuda,
        "gpus": [{"name": gpu.name, "memory_gib": round(gpu.total_memory / GIB, 1)} for gpu in gpus],
        "cpu_cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / GIB, 1),
        "shared_memory_gib": round(shutil.disk_usage(shared).free / GIB, 1) if shared.is_dir() else None,
        "disk_free_gib": round(shutil.disk_usage(Path.cwd()).free / GIB, 1),
        "codecs": {name: codec_support(name) for name in CODECS},
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def codec_support(name: str) -> str:
    """'reads', 'writes', 'reads and writes' or 'absent': what PyAV can do with a codec."""
    able = []
    for mode, word in (("r", "reads"), ("w", "writes")):
        try:
            av.codec.Codec(name, mode)
        except av.codec.codec.UnknownCodecError:
            continue
        able.append(word)
    return " and ".join(able) or "absent"
