"""How a run comes back: the state that it left, taken up only by a run with the same settings."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

STATE_FILE = "training_state.pt"


class Stateful(Protocol):
    """What comes back: a module, an optimizer, a moving average."""

    def state_dict(self) -> dict[str, Any]:
        """All of it, as torch saves it."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take up what :meth:`state_dict` gave."""


def require_same_settings(
    saved: Mapping[str, Any],
    now: Mapping[str, Any],
    folder: Path,
    *,
    free_to_change: Collection[str] = (),
    otherwise: str = "give another --output_dir",
) -> None:
    """Raise ValueError naming every setting in which what goes on in ``folder`` would be another run.

    A setting is a JSON value under the name that a user knows it by; one that is None counts as not there.
    ``otherwise`` is what to do instead of setting them back.
    """
    names = sorted((saved.keys() | now.keys()) - set(free_to_change))
    differ = [
        f"{name} was {saved.get(name)}, now {now.get(name)}" for name in names if saved.get(name) != now.get(name)
    ]
    if differ:
        raise ValueError(f"cannot continue {folder}: {'; '.join(differ)}; set it back, or {otherwise}")


def save_state(folder: Path, parts: Mapping[str, Stateful], settings: Mapping[str, str], step: int) -> None:
    """Write the state of ``parts`` after ``step`` steps to ``folder``, aside first."""
    file = folder / STATE_FILE
    partial = file.with_name(file.name + ".partial")
    state = {name: part.state_dict() for name, part in parts.items()}
    torch.save({**state, "settings": dict(settings), "step": step}, partial)
    partial.rename(file)


def restore_state(folder: Path, parts: Mapping[str, Stateful], settings: Mapping[str, str]) -> int:
    """Load what :func:`save_state` left into ``parts``; returns the step to go on with, 0 where there is nothing.

    Raises ValueError where it was left by a run with other settings.
    """
    file = folder / STATE_FILE
    if not file.is_file():
        return 0
    state = torch.load(file, weights_only=True)
    require_same_settings(state.get("settings", {}), settings, folder)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["step"]
