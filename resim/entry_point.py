"""What entry points share: flags in, errors of one line out."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tyro


def run(main: Callable[..., None]) -> None:
    """Run ``main`` with the command line's flags. Wrong flags end with tyro's message and status 2."""
    with one_line_errors():
        tyro.cli(main, use_underscores=True)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Inside, wrong input ends the program with one line on stderr and exit status 1."""
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
