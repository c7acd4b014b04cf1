"""Video reading by timestamp, what is refused, resize and crop against the camera model, and the writer."""

from fractions import Fraction

import av
import numpy as np
import pytest

from resim.data.video import VideoWriter, read_clip, resize_and_crop, video_info, write_video
from resim.datatypes.geometry import Camera

H, W = 32, 96


def grey_frames(values) -> np.ndarray:
    return np.stack([np.full((H, W, 3), v, np.uint8) for v in values])


def shades(frames) -> np.ndarray:
    """Which shade each frame shows, in steps of 4 (two of yuv's rounding errors)."""
    return np.round(frames.mean(axis=(1, 2, 3)) / 4).astype(int)


def write_with(path, values, times_ms, *, codec="libx264", options=None, fmt="mp4"):
    """A video of grey frames at given times, in any codec that PyAV has."""
    with av.open(str(path), "w", format=fmt) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for frame, time_ms in zip(grey_frames(values), times_ms, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def test_write_and_read_back(tmp_path):
    path = tmp_path / "v.mp4"
    write_video(path, grey_frames(4 * np.arange(60)))
    info = video_info(path)
    assert (info.codec, info.prepared, info.fps, info.length_s) == ("h264", True, 10.0, pytest.approx(6.0))
    np.testing.assert_array_equal(shades(read_clip(path)), np.arange(49))
    np.testing.assert_array_equal(shades(read_clip(path, start_s=1.1)), np.arange(11, 60))
    assert list(tmp_path.iterdir()) == [path]


def test_yuv444p_keeps_colour(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (49, H, W, 3), dtype=np.uint8)
    with VideoWriter(tmp_path / "v.mp4", crf=1, pixel_format="yuv444p") as writer:
        writer.write(frames)
    error = read_clip(tmp_path / "v.mp4").astype(float) - frames
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 40


@pytest.mark.parametrize(
    ("codec", "options", "prepared"),
    [
        ("libx264", {"bf": "0", "g": "12"}, True),
        ("libx264", {"bf": "2", "g": "12"}, False),
        ("libsvtav1", {"preset": "12", "svtav1-params": "lp=1"}, False),
    ],
)
@pytest.mark.parametrize("variable", [False, True])
def test_sampling_is_by_timestamp(tmp_path, codec, options, prepared, variable):
    """25 fps, and a variable rate between 12 and 40 fps: each sampled frame is the one nearest in time."""
    rng = np.random.default_rng(0)
    steps_ms = rng.integers(25, 80, 130) if variable else np.full(140, 40)
    times_ms = np.concatenate([[0], np.cumsum(steps_ms)])
    values = 4 * np.arange(len(times_ms)) % 252
    write_with(tmp_path / "v.mp4", values, times_ms, codec=codec, options=options)
    assert video_info(tmp_path / "v.mp4").prepared == prepared
    start_s = 0.43
    off_ms = np.abs(times_ms - 1000 * (start_s + np.arange(49)[:, None] / 10))
    expected = off_ms.argmin(axis=1)
    got = shades(read_clip(tmp_path / "v.mp4", start_s=start_s))
    clear = np.sort(off_ms, axis=1)
    decided = clear[:, 1] - clear[:, 0] > 1  # not halfway between two frames
    assert decided.sum() > 30
    np.testing.assert_array_equal(got[decided], (values[expected] // 4)[decided])


def test_refused_files(tmp_path):
    html = tmp_path / "page.mp4"
    html.write_text("<!doctype html><html><body>Not found</body></html>")
    with pytest.raises(ValueError, match=r"page\.mp4: not a readable mp4 video.*<!doctype html>"):
        read_clip(html)
    video = tmp_path / "v.mp4"
    write_video(video, grey_frames(range(60)))
    playlist = tmp_path / "list.mp4"
    playlist.write_text("ffconcat version 1.0\nfile v.mp4\n")
    with pytest.raises(ValueError, match=r"list\.mp4: not a readable mp4 video"):
        read_clip(playlist)
    with pytest.raises(FileNotFoundError, match="absent.mp4: no such video"):
        read_clip(tmp_path / "absent.mp4")
    with pytest.raises(ValueError, match=r"unknown video ending '\.txt'"):
        read_clip(playlist.rename(tmp_path / "list.txt"))


@pytest.mark.parametrize("fast_start", [False, True])
def test_truncated_video_is_refused(tmp_path, fast_start):
    """Cut off before the index, and, with the index in front, cut off within the frames."""
    whole = tmp_path / "whole.mp4"
    flags = {"movflags": "faststart"} if fast_start else {}
    frames = np.random.default_rng(0).integers(0, 255, (60, H, W, 3), dtype=np.uint8)
    with av.open(str(whole), "w", format="mp4", options=flags) as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "0"})
        stream.width, stream.height = W, H
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    cut = tmp_path / "cut.mp4"
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(ValueError, match=r"cut\.mp4: .*cut off"):
        read_clip(cut)


@pytest.mark.parametrize("bf", ["0", "2"])
def test_too_short(tmp_path, bf):
    write_with(tmp_path / "v.mp4", [0] * 48, 100 * np.arange(48), options={"bf": bf})
    with pytest.raises(ValueError, match=r"v\.mp4: 4\.\d+ s long, but 49 frames at 10 Hz from 0\.00 s need 4\.90 s"):
        read_clip(tmp_path / "v.mp4")
    assert len(read_clip(tmp_path / "v.mp4", num_frames=48)) == 48


@pytest.mark.parametrize("bf", ["0", "2"])
def test_gap_is_refused(tmp_path, bf):
    times_ms = np.concatenate([np.arange(0, 2000, 40), np.arange(3000, 6000, 40)])
    write_with(tmp_path / "v.mp4", np.zeros(len(times_ms), int), times_ms, options={"bf": bf})
    with pytest.raises(ValueError, match=r"v\.mp4: no frame within 0\.075 s of 2\.\d+ s"):
        read_clip(tmp_path / "v.mp4")


def test_writer_refuses(tmp_path):
    with pytest.raises(ValueError, match="yuv420p video needs even sizes"):
        write_video(tmp_path / "v.mp4", np.zeros((3, 31, 96, 3), np.uint8))
    with pytest.raises(ValueError, match=r"frame 0 is float64"):
        write_video(tmp_path / "v.mp4", np.zeros((3, 32, 96, 3)))
    with pytest.raises(ValueError, match="no frame was written"):
        write_video(tmp_path / "v.mp4", [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [(64, 112), (40, 40), (30, 120), (128, 224)])
def test_resize_and_crop_is_the_cameras(size):
    """A bright dot lands where the resized and cropped camera projects it."""
    camera = Camera(
        width_px=224, height_px=128, fx_px=150.0, fy_px=150.0, cx_px=112.0, cy_px=64.0,
        x_m=0.0, y_m=0.0, z_m=0.0, pitch_rad=0.0,
    )  # fmt: skip
    point_m = np.array([10.0, 1.5, 0.7])
    (u, v), _ = camera.project(point_m)
    rows, columns = np.arange(128)[:, None] + 0.5, np.arange(224) + 0.5
    image = 255 * np.exp(-((rows - v) ** 2 + (columns - u) ** 2) / (2 * 6.0**2))
    frame = np.repeat(image.astype(np.uint8)[None, :, :, None], 3, axis=3)
    got = resize_and_crop(frame, *size)[0, :, :, 0].astype(float)
    (u, v), _ = camera.resized_and_cropped(*size).project(point_m)
    centre_v = (got * (np.arange(size[0])[:, None] + 0.5)).sum() / got.sum()
    centre_u = (got * (np.arange(size[1]) + 0.5)).sum() / got.sum()
    assert (centre_u, centre_v) == pytest.approx((u, v), abs=0.3)


def test_narrow_video_is_read_too(tmp_path):
    """decord fails at 48 pixels, so such a video counts as not prepared."""
    frames = np.random.default_rng(0).integers(0, 255, (49, 32, 48, 3), dtype=np.uint8)
    with VideoWriter(tmp_path / "v.mp4", crf=1, pixel_format="yuv444p") as writer:
        writer.write(frames)
    assert not video_info(tmp_path / "v.mp4").prepared
    assert np.abs(read_clip(tmp_path / "v.mp4").astype(float) - frames).mean() < 3


def test_damaged_frames_are_refused(tmp_path):
    """Bytes changed inside the frames of a video that PyAV reads."""
    frames = np.random.default_rng(0).integers(0, 255, (60, H, W, 3), dtype=np.uint8)
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "2"})
        stream.width, stream.height = W, H
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(b ^ 0x5A for b in content[middle : middle + 2000])
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"v\.mp4: does not decode from 0\.00 s on, it is damaged"):
        read_clip(path)


def test_edit_list_is_followed(tmp_path):
    """A cut by stream copy: 12 frames before 0 that must not show, where decord shows them."""
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    write_with(whole, 4 * np.arange(63), 100 * np.arange(63), options={"bf": "0", "g": "63"})
    with av.open(str(whole)) as source, av.open(str(cut), "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                shift = int(1.2 / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = stream
                target.mux(packet)
    assert not video_info(cut).prepared
    np.testing.assert_array_equal(shades(read_clip(cut)), np.arange(12, 61))


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["udacity_solidWhiteRight.mp4", "cosmos_predict2_input3.mp4"])
def test_recorded_video_equals_decoding_it_all(real_data, name):
    path = real_data / "video" / name
    with av.open(str(path)) as container:
        every = [(float(f.time), f.to_ndarray(format="rgb24")[::16, ::16]) for f in container.decode(video=0)]
    times_s = np.array([time_s for time_s, _ in every])
    frames = read_clip(path, start_s=0.03, num_frames=20)
    for k, frame in enumerate(frames):
        near = int(np.abs(times_s - (0.03 + k / 10)).argmin())
        assert np.abs(frame[::16, ::16].astype(int) - every[near][1]).mean() < 2.0
