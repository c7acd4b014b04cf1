"""One part in a process of its own: ``python -m gpu_parts full_size.lora_256x448 result.json full|dry``."""

import json
import sys
from importlib import import_module
from pathlib import Path

OURS = {"resim", "gpu_parts"}


def outcome(part: str, dry_run: bool) -> dict[str, object]:
    """Status of the part and what it found. Skipped where a package is missing; any other error ends the process."""
    module, function = part.split(".")
    try:
        import torch

        if not dry_run and not torch.cuda.is_available():
            return {"status": "skipped", "why": "torch finds no GPU; --dry_run tries every part on the CPU"}
        found = getattr(import_module(f"gpu_parts.{module}"), function)(dry_run)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in OURS:
            raise
        return {"status": "skipped", "why": f"the package {error.name} is missing; carry its wheel (--wheels)"}
    return {"status": "ran", "found": found}


if __name__ == "__main__":
    name, result_file, size = sys.argv[1:]
    Path(result_file).write_text(json.dumps(outcome(name, dry_run=size == "dry")))
