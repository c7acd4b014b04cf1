"""Files on disk: files and folders that are there whole or not at all, and hashes."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_aside(path: Path, text: str) -> None:
    """Write ``text`` beside ``path`` and rename it: whole or not at all, and other names of an old file keep theirs."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def append_line(path: Path, line: str) -> None:
    """Add a line to a short file as :func:`write_aside` does."""
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    write_aside(path, before + line + "\n")


@contextmanager
def new_folder(path: Path, *, marker: str, overwrite: bool) -> Iterator[Path]:
    """An empty folder beside ``path`` that takes its name when the block ends, and is removed when it fails.

    ``marker`` is the file that such a folder holds at the end. Raises FileExistsError for an existing ``path`` without
    ``overwrite``, and with it too where the marker is missing: only earlier output is replaced.
    """
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; give another folder or pass --overwrite")
    if path.exists() and not (path / marker).is_file():
        raise FileExistsError(f"{path} holds no {marker}, so it is no earlier output; it will not be overwritten")
    partial = path.with_name(path.name + ".partial")
    if partial.exists():  # what a killed run left
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        if not (partial / marker).is_file():
            raise FileNotFoundError(f"{partial / marker} was not written")
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
    finally:
        if partial.exists():
            shutil.rmtree(partial)
