"""Every script answers --help, and a mistyped flag is an error that names the right one."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from resim.cli import main

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(
    str(path.relative_to(REPOSITORY))
    for room in ("train", "eval", "data_prep", "benchmarks")
    for path in (REPOSITORY / room).glob("*.py")
)


def run(script: str, arguments: list[str], monkeypatch, capsys) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a script, run inside this process: libraries are imported only once."""
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(script, run_name="__main__")
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_mistyped_flag(script, monkeypatch, capsys):
    arguments: list[str] = []
    status, out, _ = run(script, ["--help"], monkeypatch, capsys)
    assert status == 0
    if subcommand := re.search(r"\{(\w+)", out.splitlines()[0]):
        arguments = [subcommand[1]]
        status, out, _ = run(script, [*arguments, "--help"], monkeypatch, capsys)
        assert status == 0
    entries = {entry.split()[0]: entry for entry in re.split(r"\n\W{0,2}(?=--\w)", out)[1:]}
    for flag, entry in entries.items():
        arguments += [flag, "1"] if "(required)" in entry else []

    flag = max(entries, key=len).rstrip(",")
    mistyped = flag[:-2] + flag[-1]
    status, out, err = run(script, [*arguments, mistyped, "1"], monkeypatch, capsys)
    assert status == 2
    assert mistyped in out + err
    assert flag in (out + err).replace(mistyped, "")  # the suggestion


def test_the_resim_command(monkeypatch, capsys):
    for arguments, expected_status, expected in ((["--help"], 0, "doctor"), (["doctor", "--jsn"], 2, "--json")):
        monkeypatch.setattr(sys, "argv", ["resim", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        assert (stop.value.code or 0) == expected_status
        out, err = capsys.readouterr()
        assert expected in out + err
