"""The report page: everything inside it, everything escaped, and only videos that play."""

import json
import re

import numpy as np
import pytest

from resim.data.video import VideoWriter, write_video
from resim.report import Report, line_plot, write_json

FRAMES = np.random.default_rng(0).integers(0, 255, (5, 32, 48, 3), dtype=np.uint8)


def test_page_holds_everything_and_fetches_nothing(tmp_path):
    write_video(tmp_path / "a.mp4", FRAMES)
    report = Report("Futures <of> a car")
    report.heading("A & B")
    report.paragraph("x < y")
    report.table([{"stage": "one", "loss": 0.123456, "steps": 1200, "done": True}])
    report.video(tmp_path / "a.mp4", "a video")
    report.picture(FRAMES[0], "a picture")
    report.plot(line_plot({"train": ([0, 1, 2], [3.0, 2.0, 1.0])}, "step", "loss"), "a plot")
    report.write(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Futures &lt;of&gt; a car" in page and "A &amp; B" in page and "x &lt; y" in page
    assert '<td class="number">0.1235</td><td class="number">1,200</td><td>True</td>' in page
    assert page.count("<video") == 1 and page.count("<img") == 1 and page.count("<svg") == 1
    fetched = [s for s in re.findall(r'(?:src|href)="([^"]{0,40})', page) if not s.startswith(("data:", "#"))]
    assert not fetched
    assert [p.name for p in tmp_path.glob("*.partial")] == []


def test_video_that_browsers_do_not_play_is_refused(tmp_path):
    with VideoWriter(tmp_path / "full_colour.mp4", pixel_format="yuv444p") as writer:
        writer.write(FRAMES)
    with pytest.raises(ValueError, match="full_colour.mp4: h264 yuv444p"):
        Report("r").video(tmp_path / "full_colour.mp4", "no")


def test_table_rows_must_have_the_same_columns():
    with pytest.raises(ValueError, match="columns"):
        Report("r").table([{"a": 1}, {"b": 2}])


def test_json_is_strict_and_written_whole(tmp_path):
    write_json(tmp_path / "report.json", {"wall_s": 1.5, "scenes": []})
    assert json.loads((tmp_path / "report.json").read_text()) == {"wall_s": 1.5, "scenes": []}
    with pytest.raises(ValueError):
        write_json(tmp_path / "bad.json", {"loss": float("nan")})
    assert not list(tmp_path.glob("bad.json*"))
