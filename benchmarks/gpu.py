"""Every benchmark and check that needs a GPU, in under eight minutes: ``make gpu``, or ``--dry_run`` on the CPU.

Prints one JSON object and writes it to --output after every part. A part runs in a process of its own for as long as
it may; what would no longer fit is skipped, with the reason. The exit status is 1 when a part failed or none ran.

This file uses nothing but Python itself, since it also runs where only torch is installed and nothing can be fetched:
it says of each part which package is missing, or installs the wheels that were carried there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DEADLINE_S = 460.0
# What runs, in the order of its worth: a function of benchmarks/gpu_parts, and the seconds that it may take.
PARTS = [
    ("timing.machine", 60.0),
    ("tiny.training", 60.0),
    ("tiny.generation", 60.0),
    ("full_size.sampling_512x896", 90.0),
    ("full_size.training_512x896", 90.0),
    ("full_size.lora_256x448", 60.0),
    ("full_size.sampling_256x448", 60.0),
    ("full_size.training_256x448", 60.0),
    ("vae.encode_decode_512x896", 90.0),
]


def arguments() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--output", type=Path, default=Path("outputs/gpu.json"), help="where the JSON object goes")
    parser.add_argument("--dry_run", action="store_true", help="tiny sizes on the CPU, to see that nothing is missing")
    parser.add_argument("--wheels", type=Path, help="folder of wheels; those whose package is missing are installed")
    parser.add_argument("--parts", nargs="+", help="only these; all of " + ", ".join(name for name, _ in PARTS))
    return parser.parse_args()


def is_missing(wheel: Path) -> bool:
    """Whether no version of a wheel's package is installed."""
    try:
        distribution(wheel.name.split("-")[0])
    except PackageNotFoundError:
        return True
    return False


def install_missing(wheels: Path, target: Path) -> None:
    """Install the wheels whose package is missing into the folder ``target``. Raises FileNotFoundError without any."""
    files = sorted(wheels.glob("*.whl"))
    if not files:
        raise FileNotFoundError(f"{wheels} holds no wheels (*.whl)")
    if missing := [str(wheel) for wheel in files if is_missing(wheel)]:
        how = ("--quiet", "--no-index", "--no-deps", "--no-compile", "--target", str(target))
        subprocess.run([sys.executable, "-m", "pip", "install", *how, *missing], check=True, stdout=sys.stderr)


def run_part(name: str, limit_s: float, dry_run: bool, packages: Path) -> dict[str, object]:
    """Status of one part: 'ran' with what it found, or 'skipped' or 'failed' with the reason."""
    paths = [str(REPOSITORY), str(REPOSITORY / "benchmarks"), str(packages), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        result, log = Path(folder) / "result.json", Path(folder) / "log"
        command = [sys.executable, "-m", "gpu_parts", name, str(result), "dry" if dry_run else "full"]
        try:
            with log.open("w") as output:
                done = subprocess.run(
                    command, env=environment, stdout=output, stderr=output, timeout=limit_s, check=False
                )
        except subprocess.TimeoutExpired:
            print(log.read_text(), file=sys.stderr)
            return {"status": "failed", "why": f"took more than its {limit_s:.0f} s"}
        if done.returncode == 0:
            return json.loads(result.read_text())
        said = log.read_text()
    print(said, file=sys.stderr)
    last_line = said.strip().rpartition("\n")[2]
    return {"status": "failed", "why": f"exit status {done.returncode}: {last_line}"}


def run_parts(parts: list[tuple[str, float]], args: argparse.Namespace, packages: Path) -> dict[str, dict[str, object]]:
    """All parts in order, as long as they fit before the deadline; the file is written anew after each."""
    began_s, done = time.monotonic(), {}
    for name, limit_s in parts:
        left_s, part_began_s = DEADLINE_S - (time.monotonic() - began_s), time.monotonic()
        if left_s < limit_s:
            done[name] = {"status": "skipped", "why": f"may take {limit_s:.0f} s, and {left_s:.0f} s are left"}
        else:
            done[name] = run_part(name, limit_s, args.dry_run, packages)
        done[name]["wall_s"] = round(time.monotonic() - part_began_s, 1)
        print(f"{name}: {done[name]['status']} {done[name].get('why', '')}", file=sys.stderr, flush=True)
        write(args.output, {"dry_run": args.dry_run, "parts": done})
    return done


def write(path: Path, value: dict[str, object]) -> None:
    """Write JSON that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    partial.replace(path)


def main() -> None:
    """Run the parts and print what they found."""
    args = arguments()
    unknown = sorted(set(args.parts or []) - {name for name, _ in PARTS})
    if unknown:
        sys.exit(f"gpu.py: --parts: there is no {', '.join(unknown)}; give some of {', '.join(n for n, _ in PARTS)}")
    parts = [(name, limit_s) for name, limit_s in PARTS if args.parts is None or name in args.parts]
    with tempfile.TemporaryDirectory() as packages:
        if args.wheels is not None:
            try:
                install_missing(args.wheels, Path(packages))
            except (OSError, subprocess.CalledProcessError) as error:
                sys.exit(f"gpu.py: --wheels: {error}")
        done = run_parts(parts, args, Path(packages))
    print(args.output.read_text(), end="")
    statuses = [part["status"] for part in done.values()]
    sys.exit(1 if "failed" in statuses or "ran" not in statuses else 0)


if __name__ == "__main__":
    main()
