"""Files and folders that are there whole or not at all, and that nothing of somebody else is ever deleted."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resim.data.files import (
    MARKER_FILE,
    kind_of,
    mark,
    new_folder,
    require_inside,
    require_plain_name,
    write_aside,
)

MINE = b"years of work"


def write(path: Path, content: str = "new", *, inputs=(), overwrite=False, kind="result") -> None:
    with new_folder(path, kind=kind, inputs=inputs, overwrite=overwrite) as folder:
        (folder / "result.json").write_text(content)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_writing_leaves_other_names_of_the_file_alone(tmp_path):
    (tmp_path / "kept").write_text("first\n")
    os.link(tmp_path / "kept", tmp_path / "written")
    write_aside(tmp_path / "written", "second")
    assert (tmp_path / "kept").read_text() == "first\n" and (tmp_path / "written").read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "written"]


def test_a_new_folder_is_marked_and_replaced_only_when_asked(tmp_path):
    write(tmp_path / "out", "first")
    assert json.loads((tmp_path / "out" / MARKER_FILE).read_text()) == {"written_by": "resim", "kind": "result"}
    with pytest.raises(FileExistsError, match="out exists already"):
        write(tmp_path / "out")
    write(tmp_path / "out", "second", overwrite=True)
    assert (tmp_path / "out" / "result.json").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "marker",
    [
        None,
        "",
        "{}",
        "[]",
        "null",
        '"resim"',
        "\udcff",
        '{"kind": "result"}',
        '{"written_by": "somebody", "kind": "result"}',
        '{"written_by": "resim"}',
        '{"written_by": "resim", "kind": "store of clips"}',
        '{"written_by": "resim", "kind": "unfinished output"}',
    ],
)
def test_a_folder_without_our_mark_is_never_overwritten(tmp_path, marker):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "result.json").write_bytes(MINE)  # the same name as ours proves nothing
    if marker is not None:
        (folder / MARKER_FILE).write_text(marker, errors="surrogateescape")
    before = contents(tmp_path)
    with pytest.raises(
        FileExistsError, match="out is no result that this program marked .* delete it yourself or give"
    ):
        write(folder, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", [None, "result", "store of clips"])  # a result may bear any name
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_partial_folder_that_no_killed_run_left_is_refused(tmp_path, kind, overwrite):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.txt").write_bytes(MINE)
    if kind is not None:
        mark(tmp_path / "out.partial", kind)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match=r"out\.partial is no unfinished output"):
        write(tmp_path / "out", overwrite=overwrite)
    assert contents(tmp_path) == before


def test_what_a_killed_run_left_is_removed(tmp_path):
    with new_folder(tmp_path / "out", kind="other", inputs=(), overwrite=False) as folder:
        (folder / "half").write_text("half")
        shutil.copytree(folder, tmp_path / "left")
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "left").rename(tmp_path / "out.partial")
    write(tmp_path / "out")
    assert sorted(contents(tmp_path)) == ["out/.resim.json", "out/result.json"]


def test_what_fails_leaves_nothing(tmp_path):
    write(tmp_path / "out", "first")
    with (
        pytest.raises(KeyboardInterrupt),
        new_folder(tmp_path / "out", kind="result", inputs=(), overwrite=True) as folder,
    ):
        assert kind_of(folder) == "unfinished output"
        raise KeyboardInterrupt
    assert contents(tmp_path).keys() == {"out/.resim.json", "out/result.json"}
    assert (tmp_path / "out" / "result.json").read_text() == "first"


@pytest.mark.parametrize("place", ["out", "out/result.json", "out/deep/model", "link", "link/result.json", "loop/out"])
@pytest.mark.parametrize("output", ["out", "link"])
def test_a_folder_that_holds_an_input_is_refused(tmp_path, place, output):
    write(tmp_path / "out")
    (tmp_path / "link").symlink_to("out")
    (tmp_path / "loop").symlink_to(".")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"out holds .*{place}, which this command reads; give another output folder"):
        write(tmp_path / output, inputs=[tmp_path / "elsewhere", tmp_path / place], overwrite=True)
    assert contents(tmp_path) == before
    write(tmp_path / output, "second", inputs=[tmp_path / "outside"], overwrite=True)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "out" / "result.json").read_text() == "second"


def test_an_input_in_what_a_killed_run_left_is_refused(tmp_path):
    (tmp_path / "out.partial").mkdir()
    mark(tmp_path / "out.partial", "unfinished output")
    with pytest.raises(ValueError, match="partial holds"):
        write(tmp_path / "out", inputs=[tmp_path / "out.partial" / "model"])
    assert kind_of(tmp_path / "out.partial") == "unfinished output"


def test_a_folder_that_comes_while_ours_is_written_stays(tmp_path):
    for overwrite in (False, True):
        with (
            pytest.raises(FileExistsError),
            new_folder(tmp_path / "out", kind="result", inputs=(), overwrite=overwrite),
        ):
            (tmp_path / "out").mkdir(exist_ok=True)
            (tmp_path / "out" / "thesis.txt").write_bytes(MINE)
        assert contents(tmp_path) == {"out/thesis.txt": MINE}
        shutil.rmtree(tmp_path / "out")


# Of what leads elsewhere, hypothesis finds little by itself.
names = st.text() | st.text(alphabet="./\\\0ab~ \n", max_size=6)


def refused(check, *args) -> bool:
    try:
        check(*args, what="name")
    except ValueError as error:
        assert repr(args[-1]) in str(error) and "\n" not in str(error)
        return True
    return False


@given(names)
def test_a_plain_name_is_a_file_of_its_folder(name):
    if not refused(require_plain_name, name):
        assert os.path.normpath(f"/store/{name}") == f"/store/{name}" and os.path.dirname(name) == ""
        assert "\0" not in name and "\\" not in name and name.encode()


@given(st.text(alphabet="abcXYZ019-_. ", min_size=1))
def test_ordinary_names_are_plain(name):
    assert refused(require_plain_name, name) == (name in (".", ".."))


@given(names)
def test_a_path_inside_stays_inside(tmp_path_factory, name):
    store = tmp_path_factory.getbasetemp() / "store"
    if not refused(require_inside, store, name):
        assert os.path.normpath(store / name) == f"{store}/{name}" != str(store)
