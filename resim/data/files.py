"""Files on disk: files and folders that are there whole or not at all, what may be deleted, safe names, and hashes."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

MARKER_FILE = ".resim.json"  # in every folder that this program may delete again
UNFINISHED = "unfinished output"  # the kind of a folder until it takes its name


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_plain_name(name: object, *, what: str) -> None:
    """Raise ValueError unless ``name`` can be part of a file's name and never leads to another folder."""
    plain = isinstance(name, str) and name not in ("", ".", "..") and name.isprintable()
    if not plain or not {"/", "\\"}.isdisjoint(str(name)):
        raise ValueError(f"{what} is {name!r}: give a plain name, without / and \\ and control characters, not '..'")


def require_inside(folder: Path, name: str, *, what: str) -> None:
    """Raise ValueError unless ``name`` is a relative path of plain names that stays in ``folder``, links followed."""
    for part in name.split("/"):
        require_plain_name(part, what=f"{what} {name!r}: its part")
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{what} {name!r} is a link that leads out of {folder}: put the file itself there")


def write_aside(path: Path, text: str) -> None:
    """Write ``text`` beside ``path`` and rename it: whole or not at all, and other names of an old file keep theirs."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def mark(folder: Path, kind: str) -> None:
    """Leave in ``folder`` the proof that this program made it, and as what."""
    write_aside(folder / MARKER_FILE, json.dumps({"written_by": "resim", "kind": kind}) + "\n")


def kind_of(folder: Path) -> str | None:
    """What this program marked ``folder`` as; None for somebody else's."""
    if not (folder / MARKER_FILE).is_file():
        return None
    try:
        found = json.loads((folder / MARKER_FILE).read_bytes())
    except ValueError:  # no JSON, so none of ours
        return None
    return found.get("kind") if isinstance(found, dict) and found.get("written_by") == "resim" else None


def require_own(folder: Path, *, kind: str, inputs: Iterable[Path]) -> None:
    """Ask this before ``folder`` is deleted: it has to be marked as ``kind``, and the command to read nothing in it.

    Raises ValueError naming the one of ``inputs`` that it is or holds, FileExistsError where it is marked otherwise.
    """
    for path in inputs:
        if path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{folder} holds {path}, which this command reads; give another output folder")
    if kind_of(folder) != kind:
        raise FileExistsError(
            f"{folder} is no {kind} that this program marked as its own ({MARKER_FILE}); it will not be overwritten: "
            "delete it yourself or give another folder"
        )


def require_free(path: Path, *, kind: str, inputs: Iterable[Path], overwrite: bool) -> None:
    """Raise FileExistsError where ``path`` exists without ``overwrite``, and with it as :func:`require_own`.

    So too for ``<path>.partial``, unless a killed run left it.
    """
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; give another folder or pass --overwrite")
    for folder, expected in ((path, kind), (partial_of(path), UNFINISHED)):
        if folder.exists():
            require_own(folder, kind=expected, inputs=inputs)


def partial_of(path: Path) -> Path:
    """Where the folder ``path`` is written before it takes its name."""
    return path.with_name(path.name + ".partial")


@contextmanager
def partial_folder(path: Path, *, inputs: Iterable[Path]) -> Iterator[Path]:
    """The empty folder ``<path>.partial``, which is removed when the block ends, unless it was renamed.

    What a killed run left there is removed first; anything else raises as :func:`require_own`.
    """
    partial = partial_of(path)
    if partial.exists():
        require_own(partial, kind=UNFINISHED, inputs=inputs)
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        mark(partial, UNFINISHED)
        yield partial
    finally:
        if partial.exists():
            shutil.rmtree(partial)


@contextmanager
def new_folder(path: Path, *, kind: str, inputs: Iterable[Path], overwrite: bool) -> Iterator[Path]:
    """An empty folder beside ``path`` that takes its name, marked as ``kind``, when the block ends without error.

    ``inputs`` is every file and folder that the command reads. Raises as :func:`require_free`, before the block and
    again at its end: nothing is deleted but what this program marked and the command does not read.
    """
    path, inputs = path.resolve(), tuple(inputs)
    require_free(path, kind=kind, inputs=inputs, overwrite=overwrite)
    with partial_folder(path, inputs=inputs) as partial:
        yield partial
        require_free(path, kind=kind, inputs=inputs, overwrite=overwrite)  # the block may have taken hours
        mark(partial, kind)
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
