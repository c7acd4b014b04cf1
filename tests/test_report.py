"""The report page and what fills it: everything inside, everything escaped, only videos that play."""

import json
import re
import time

import numpy as np
import pytest
import torch
from tiny_run import write_model

from resim.data.video import VideoWriter, write_video
from resim.datatypes.geometry import simulation_camera
from resim.imagination.futures import imagine, model_size_px
from resim.imagination.manoeuvres import manoeuvre
from resim.imagination.sampling import Sampling
from resim.report.demo import Cost
from resim.report.futures import report_futures
from resim.report.page import Report, line_plot, write_json
from resim.world_model.pipeline import ReSimPipeline

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


def test_markup_in_any_text_is_shown_and_not_obeyed(tmp_path):
    write_video(tmp_path / "a.mp4", FRAMES)
    evil = "\"><script>alert('1')</script>&"
    report = Report(evil)
    report.heading(evil)
    report.paragraph(evil)
    report.table([{evil: evil, "n": 1}])
    report.video(tmp_path / "a.mp4", evil)
    report.picture(FRAMES[0], evil)
    report.plot(line_plot({"train": ([0, 1], [1.0, 2.0])}, "step", "loss"), evil)
    report.write(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert page.count("&#34;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;") == 10


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


def test_futures_share_history_and_noise_and_are_reported(tmp_path):
    pipe = ReSimPipeline.from_pretrained(write_model(tmp_path / "model"))
    pipe.set_progress_bar_config(disable=True)
    torch.nn.init.normal_(pipe.trajectory_encoder.out.weight)
    size = model_size_px(pipe)
    assert size == (32, 64)
    truth = np.random.default_rng(0).integers(0, 255, (49, *size, 3), dtype=np.uint8)
    straight, left = manoeuvre("straight", 8.0), manoeuvre("left_turn", 8.0)
    paths = {"straight": straight, "again": straight, "left": left}
    commanded = np.stack(list(paths.values()))[:, None]
    imagined = imagine(pipe, truth[:9], commanded, Sampling(num_inference_steps=2, guidance_scale=0.0))
    futures = dict(zip(paths, imagined, strict=True))
    np.testing.assert_array_equal(futures["straight"], futures["again"])
    assert np.any(futures["straight"] != futures["left"])

    report = Report("r")
    camera = simulation_camera(*size)
    found = report_futures(report, tmp_path, "scene", paths, futures, {"straight": truth}, camera, scenes={})
    assert [path["name"] for path in found["paths"]] == list(paths)
    assert found["paths"][2]["waypoints"] == left.tolist()
    assert all((tmp_path / path["video"]).is_file() for path in found["paths"])
    differences = {row["paths"]: row["mean over 4 s"] for row in found["differences"]}
    assert differences["straight, again"] == 0 < differences["straight, left"]
    report.write(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text().count("<video") == 3


def test_cost_times_phases_and_sees_memory():
    with Cost() as cost:
        with cost.phase("hold 200 MiB"):
            held = np.ones(25 * 2**20)
            for _ in range(100):  # until it was sampled
                if cost.peak_memory_gib > held.nbytes / 2**30:
                    break
                time.sleep(0.1)
    assert list(cost.seconds) == ["hold 200 MiB"]
    assert held.nbytes / 2**30 < cost.peak_memory_gib < 64
    assert cost.seconds["hold 200 MiB"] <= cost.wall_s
