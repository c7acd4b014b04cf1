"""Files and folders that are there whole or not at all."""

import os

from resim.files import append_line, write_aside


def test_writing_leaves_other_names_of_the_file_alone(tmp_path):
    (tmp_path / "kept").write_text("first\n")
    for write in (write_aside, append_line):
        os.link(tmp_path / "kept", tmp_path / "written")
        write(tmp_path / "written", "second")
        assert (tmp_path / "kept").read_text() == "first\n"
        assert (tmp_path / "written").read_text().endswith("second" if write is write_aside else "first\nsecond\n")
        (tmp_path / "written").unlink()
    append_line(tmp_path / "new", "line")
    assert (tmp_path / "new").read_text() == "line\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "new"]
