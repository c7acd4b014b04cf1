"""A Scene on disk: one compressed npz file, exact to the last bit, without pickle.

Every array of the scene lies in one flat array of its dtype; ``layout`` is JSON that mirrors the dataclasses and says
where each array is. The version goes up whenever a field changes its meaning; a missing new field is its default.
"""

import json
import os
import zipfile
import zlib
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.scene import Scene

SCENE_VERSION = 1
SUFFIX = ".scene.npz"
DTYPES = ("float64", "float32", "int64", "int8", "bool")


def write_scene(path: Path, scene: Scene) -> None:
    """Write ``scene`` to ``path`` (name ending in SUFFIX), aside first. Raises ValueError for another dtype or name."""
    if not path.name.endswith(SUFFIX):
        raise ValueError(f"{path}: the name of a scene's file ends in {SUFFIX}")
    parts: dict[str, list[NDArray]] = {}
    layout = {"version": SCENE_VERSION, "scene": _pack(scene, parts, str(path))}
    flat = {dtype: np.concatenate([array.ravel() for array in arrays]) for dtype, arrays in parts.items()}
    text = np.frombuffer(json.dumps(layout).encode(), np.uint8)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, layout=text, **flat)  # type: ignore[arg-type]  # numpy's stub takes them for its flag
    os.replace(partial, path)


def read_scene(path: Path) -> Scene:
    """The scene in ``path``. Raises FileNotFoundError, and ValueError for a damaged file or another version."""
    try:
        with np.load(path, allow_pickle=False) as file:
            flat = {name: file[name] for name in file.files}
        layout = json.loads(flat.pop("layout").tobytes())
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a scene's file, or damaged: {error}; make or copy it again") from error
    if layout["version"] != SCENE_VERSION:
        raise ValueError(f"{path}: scene version {layout['version']}, this code reads {SCENE_VERSION}; make it again")
    scene: Scene = _unpack(Scene, layout["scene"], flat, str(path))
    return scene


def _pack(value: Any, parts: dict[str, list[NDArray]], where: str) -> Any:
    """JSON of a value; arrays go to ``parts`` and leave [dtype, first, shape]."""
    if isinstance(value, np.ndarray):
        dtype = str(value.dtype)
        if dtype not in DTYPES:
            raise ValueError(f"{where}: an array of {dtype} has no place in a scene; use one of {', '.join(DTYPES)}")
        before = parts.setdefault(dtype, [])
        first = sum(array.size for array in before)
        before.append(value)
        return {"array": [dtype, first, list(value.shape)]}
    if is_dataclass(value):
        return {f.name: _pack(getattr(value, f.name), parts, where) for f in fields(value)}
    if isinstance(value, tuple):
        return [_pack(item, parts, where) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.generic):
        return value.item()
    return value


def _unpack(kind: Any, value: Any, flat: dict[str, NDArray], where: str) -> Any:
    """Inverse of :func:`_pack` for a value of the annotated type ``kind``."""
    if get_origin(kind) in (Union, UnionType):
        if value is None:
            return None
        kind = next(k for k in get_args(kind) if k is not NoneType and _fits(k, value))
    if isinstance(value, dict) and "array" in value:
        dtype, first, shape = value["array"]
        size = int(np.prod(shape))
        if dtype not in flat or first + size > len(flat[dtype]):
            raise ValueError(f"{where}: damaged, an array lies beyond the end of its file; make or copy it again")
        return flat[dtype][first : first + size].reshape(shape)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        unknown = value.keys() - hints.keys()
        if unknown:
            raise ValueError(f"{where}: fields {', '.join(sorted(unknown))} are of a newer release; update this one")
        return kind(**{name: _unpack(hints[name], inner, flat, where) for name, inner in value.items()})  # type: ignore[operator]
    if get_origin(kind) is tuple:
        return tuple(_unpack(get_args(kind)[0], item, flat, where) for item in value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    return value


def _fits(kind: Any, value: Any) -> bool:
    """Whether a JSON value can be of this member of a union."""
    if isinstance(value, str | int | float | bool):
        return isinstance(kind, type) and isinstance(value, kind)
    return True
