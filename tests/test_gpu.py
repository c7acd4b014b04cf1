"""benchmarks/gpu.py: every part runs in a dry run, and what is missing, fails or takes too long is said."""

import argparse
import json
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import gpu
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", [name for name, _ in gpu.PARTS])
def test_every_part_runs_on_the_cpu(name):
    module, function = name.split(".")
    found = getattr(import_module(f"gpu_parts.{module}"), function)(dry_run=True)
    json.dumps(found, allow_nan=False)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_the_dry_run_as_a_whole(tmp_path):
    command = [sys.executable, "benchmarks/gpu.py", "--dry_run", "--output", str(tmp_path / "gpu.json")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "gpu.json").read_text())
    assert list(found["parts"]) == [name for name, _ in gpu.PARTS]
    assert {part["status"] for part in found["parts"].values()} == {"ran"}


def test_the_parts_fit_into_eight_minutes():
    assert gpu.DEADLINE_S < 8 * 60
    assert len({name for name, _ in gpu.PARTS}) == len(gpu.PARTS)


@pytest.fixture
def stub_parts(tmp_path, monkeypatch):
    """Parts that need no torch, in a package of their own that takes the place of gpu_parts."""
    package = tmp_path / "benchmarks" / "gpu_parts"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    main = (REPOSITORY / "benchmarks" / "gpu_parts" / "__main__.py").read_text()
    (package / "__main__.py").write_text(main)
    (tmp_path / "benchmarks" / "torch.py").touch()
    (package / "stub.py").write_text(
        "import time\n"
        "def good(dry_run): return {'dry_run': dry_run}\n"
        "def bad(dry_run): raise ArithmeticError('off by 3')\n"
        "def typo(dry_run): import gpu_parts.nothing\n"
        "def poor(dry_run): import no_such_package.inside\n"
        "def slow(dry_run): time.sleep(60)\n"
    )
    monkeypatch.setattr(gpu, "REPOSITORY", tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")
    return tmp_path


def run_stubs(tmp_path: Path, **limits_s: float) -> dict[str, dict[str, object]]:
    args = argparse.Namespace(output=tmp_path / "deep" / "gpu.json", dry_run=True)
    done = gpu.run_parts([(f"stub.{name}", limit_s) for name, limit_s in limits_s.items()], args, tmp_path / "none")
    assert json.loads(args.output.read_text())["parts"] == done
    assert [path.name for path in args.output.parent.iterdir()] == ["gpu.json"]
    return {name.removeprefix("stub."): part for name, part in done.items()}


def test_a_part_that_fails_leaves_the_others(stub_parts):
    done = run_stubs(stub_parts, bad=20, typo=20, poor=20, slow=1, good=20)
    assert {name: part["status"] for name, part in done.items()} == {
        "bad": "failed", "typo": "failed", "poor": "skipped", "slow": "failed", "good": "ran",
    }  # fmt: skip
    assert done["good"]["found"] == {"dry_run": True}
    assert done["bad"]["why"] == "exit status 1: ArithmeticError: off by 3"
    assert "gpu_parts.nothing" in str(done["typo"]["why"])
    assert done["poor"]["why"] == "the package no_such_package is missing; carry its wheel (--wheels)"
    assert done["slow"]["why"] == "took more than its 1 s"


def test_what_no_longer_fits_is_skipped(stub_parts, monkeypatch):
    monkeypatch.setattr(gpu, "DEADLINE_S", 20.0)
    done = run_stubs(stub_parts, bad=21, good=10)
    assert (done["bad"]["status"], done["good"]["status"]) == ("skipped", "ran")
    assert done["bad"]["why"] == "may take 21 s, and 20 s are left"


@pytest.mark.parametrize(("parts", "status"), [("good", 0), ("good bad", 1), ("poor", 1), ("good poor", 0)])
def test_the_exit_status(stub_parts, monkeypatch, capsys, parts, status):
    monkeypatch.setattr(gpu, "PARTS", [(f"stub.{name}", 20.0) for name in parts.split()])
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--dry_run", "--output", str(stub_parts / "gpu.json")])
    with pytest.raises(SystemExit) as stop:
        gpu.main()
    assert stop.value.code == status
    assert list(json.loads(capsys.readouterr().out)["parts"]) == [f"stub.{name}" for name in parts.split()]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--parts", "tiny.trainning"], "there is no tiny.trainning; give some of .*tiny.training"),
        (["--wheels", "nowhere"], "nowhere holds no wheels"),
    ],
)
def test_wrong_flags_are_named(monkeypatch, flags, message):
    monkeypatch.setattr(sys, "argv", ["gpu.py", *flags])
    with pytest.raises(SystemExit, match=message):
        gpu.main()


def write_wheel(folder: Path, name: str) -> None:
    """The smallest wheel that pip installs."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "def good(dry_run): return {'carried': True}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_only_wheels_of_missing_packages_are_installed(tmp_path):
    wheels, target = tmp_path / "wheels", tmp_path / "target"
    wheels.mkdir()
    for name in ("carried_package", "numpy"):
        write_wheel(wheels, name)
    gpu.install_missing(wheels, target)
    assert (target / "carried_package.py").is_file() and not (target / "numpy.py").exists()
