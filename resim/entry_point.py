"""What entry points share: flags in, errors of one line out."""

import sys
from collections.abc import Callable
from pathlib import Path

import tyro


def run(main: Callable[..., None]) -> None:
    """Run ``main`` with the command line's flags. Wrong input ends with one line on stderr and exit status 1.

    Wrong flags end with tyro's message and status 2.
    """
    try:
        tyro.cli(main, use_underscores=True)
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
