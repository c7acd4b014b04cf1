"""The ``resim`` command."""

import tyro

from resim.doctor import doctor


def main() -> None:
    """``resim doctor``."""
    tyro.extras.subcommand_cli_from_dict(
        {"doctor": doctor}, prog="resim", description="ReSim: an action-conditioned video world model of driving."
    )
