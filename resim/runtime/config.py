"""Configs as JSON, for saving and comparing."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any


def flatten(config: Any) -> dict[str, Any]:
    """Config dataclass -> {'data.height_px': 64, ...} with JSON values, for saving and comparing."""
    flat: dict[str, Any] = {}
    for name, value in ((f.name, getattr(config, f.name)) for f in fields(config)):
        if hasattr(value, "__dataclass_fields__"):
            flat.update({f"{name}.{key}": inner for key, inner in flatten(value).items()})
        elif isinstance(value, tuple):
            flat[name] = [plain(asdict(item)) if hasattr(item, "__dataclass_fields__") else item for item in value]
        else:
            flat[name] = plain(value)
    return flat


def plain(value: Any) -> Any:
    """The value as JSON writes it: paths become strings."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return str(value) if isinstance(value, Path) else value
