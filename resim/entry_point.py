"""What entry points share: flags in, errors of one line out."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tyro


def run(main: Callable[..., None]) -> None:
    """Run ``main`` with the command line's flags. Wrong flags end with tyro's message and status 2."""
    with one_line_errors():
        tyro.cli(main, use_underscores=True)


def flags_of(args: Any) -> dict[str, object]:
    """Every flag of a command's dataclass by its name, for the JSON that it writes; paths as text."""
    flags: dict[str, object] = {}
    for name, value in asdict(args).items():  # a dataclass in it is a group of flags without a prefix
        flags |= value if isinstance(value, dict) else {name: str(value) if isinstance(value, Path) else value}
    return flags


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Inside, wrong input ends the program with one line on stderr and exit status 1."""
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
