"""Video in and out: clips sampled by timestamp, resize and centre crop, and the one mp4 writer.

Prepared video (what :class:`VideoWriter` writes: h264, first frame at 0, no reordering) is read with decord. Anything
else (AV1, B-frames, edit lists, other containers) is read with PyAV, because decord cannot decode it or returns wrong
frames there. Which of the two reads a file follows from its header, never from a failure of the other.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import decord
import numpy as np
from numpy.typing import NDArray

from resim.datatypes.clip import FPS, NUM_FRAMES

Frames = NDArray[np.uint8]  # T H W C, RGB

DEMUXERS = {".mp4": "mp4", ".mov": "mp4", ".m4v": "mp4", ".mkv": "matroska", ".webm": "matroska", ".avi": "avi"}
MIN_DECORD_WIDTH_PX = 80  # decord 0.6 fails on some narrower frames (16, 24, 48, 72 pixels)
NEAREST_TOLERANCE = 0.75  # a sampled frame may lie this fraction of the sampling interval from the time asked for


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What the header of a video says. ``prepared``: decord reads it right. Times count from the first frame."""

    path: Path
    codec: str
    width_px: int
    height_px: int
    fps: float
    length_s: float
    prepared: bool


def open_video(path: Path | str) -> Any:
    """A PyAV input container with the demuxer fixed by the file's name and no other file or address reachable from it.

    Raises FileNotFoundError, and ValueError for an unknown ending, content that is not such a video (an html page, a
    playlist), no video stream, or a file that was cut off.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such video")
    if path.suffix.lower() not in DEMUXERS:
        raise ValueError(f"{path}: unknown video ending {path.suffix!r}; use one of {', '.join(sorted(DEMUXERS))}")
    try:
        container = av.open(str(path), format=DEMUXERS[path.suffix.lower()], options={"protocol_whitelist": "file"})
    except av.error.FFmpegError as error:
        with path.open("rb") as file:
            begin = file.read(24)
        raise ValueError(
            f"{path}: not a readable {path.suffix[1:]} video (damaged, cut off, or another kind of file): "
            f"{error.strerror}; it begins with {begin!r}; download or convert it again"
        ) from error
    if not container.streams.video:
        container.close()
        raise ValueError(f"{path}: holds no video stream")
    stream = container.streams.video[0]
    stream.codec_context.options = {"err_detect": "explode"}  # damage is an error, not a smeared picture
    entries = stream.index_entries
    if len(entries) and entries[-1].pos + entries[-1].size > path.stat().st_size:
        container.close()
        raise ValueError(f"{path}: cut off: its index reaches beyond the end of the file; download or copy it again")
    return container


def _info(path: Path, container: Any) -> VideoInfo:
    stream = container.streams.video[0]
    entries = stream.index_entries
    if stream.duration is not None:
        length_s = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        length_s = container.duration / av.time_base
    else:
        raise ValueError(f"{path}: its header states no length; convert it to mp4")
    codec = stream.codec_context.codec.canonical_name
    starts_at_zero = stream.start_time == 0 and len(entries) > 0 and entries[0].timestamp == 0
    wide_enough = stream.codec_context.width >= MIN_DECORD_WIDTH_PX
    return VideoInfo(
        path=path,
        codec=codec,
        width_px=stream.codec_context.width,
        height_px=stream.codec_context.height,
        fps=float(stream.average_rate),
        length_s=length_s,
        prepared=codec == "h264" and starts_at_zero and wide_enough,
    )


def video_info(path: Path | str) -> VideoInfo:
    """Header of a video. Raises as :func:`open_video`."""
    with open_video(path) as container:
        return _info(Path(path), container)


def read_clip(path: Path | str, start_s: float = 0.0, num_frames: int = NUM_FRAMES, fps: float = FPS) -> Frames:
    """``num_frames`` frames (T, H, W, 3) uint8 RGB at ``start_s + k / fps``, each the nearest in presentation time.

    ``start_s`` counts from the first frame. Variable frame rates are fine. Raises as :func:`open_video`, and ValueError
    where the video is too short, or has no frame near enough to a time asked for.
    """
    times_s = start_s + np.arange(num_frames) / fps
    with open_video(path) as container:
        info = _info(Path(path), container)
        try:
            if info.prepared:
                return _read_with_decord(info, times_s, fps)
            return _read_with_av(container, info, times_s, fps)
        except (av.error.FFmpegError, decord.DECORDError, decord.DECORDLimitReachedError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path}: does not decode from {start_s:.2f} s on, it is damaged: {reason}") from error


def _read_with_decord(info: VideoInfo, times_s: NDArray[np.float64], fps: float) -> Frames:
    reader = decord.VideoReader(str(info.path), num_threads=1)
    stamps_s = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0]
    nearest = np.abs(stamps_s - times_s[:, None]).argmin(axis=1)
    _check_near(info, times_s, stamps_s[nearest], fps)
    return reader.get_batch(nearest).asnumpy()


def _read_with_av(container: Any, info: VideoInfo, times_s: NDArray[np.float64], fps: float) -> Frames:
    stream = container.streams.video[0]
    first_s = float((stream.start_time if stream.start_time is not None else 0) * stream.time_base)
    container.seek(int((times_s[0] + first_s - 1 / fps) / stream.time_base), stream=stream, backward=True)
    frames: list[Frames] = []
    stamps_s: list[float] = []
    previous: Any = None
    previous_s = -np.inf
    for frame in container.decode(stream):
        stamp_s = frame.time - first_s
        while len(frames) < len(times_s) and times_s[len(frames)] <= stamp_s:
            time_s = times_s[len(frames)]
            nearest, nearest_s = (previous, previous_s) if time_s - previous_s <= stamp_s - time_s else (frame, stamp_s)
            frames.append(nearest.to_ndarray(format="rgb24"))
            stamps_s.append(nearest_s)
        if len(frames) == len(times_s):
            break
        previous, previous_s = frame, stamp_s
    if previous is None and not frames:
        raise ValueError(f"{info.path}: no frame could be decoded from {times_s[0]:.2f} s on")
    while len(frames) < len(times_s):  # beyond the last frame: near enough, or the check below refuses it
        frames.append(previous.to_ndarray(format="rgb24"))
        stamps_s.append(previous_s)
    _check_near(info, times_s, np.array(stamps_s), fps)
    return np.stack(frames)


def _check_near(info: VideoInfo, times_s: NDArray[np.float64], stamps_s: NDArray[np.float64], fps: float) -> None:
    off_s = np.abs(times_s - stamps_s)
    worst = int(np.argmax(off_s))
    if off_s[worst] <= NEAREST_TOLERANCE / fps:
        return
    need_s = times_s[-1] + 1 / fps
    if times_s[0] < 0 or need_s > info.length_s + NEAREST_TOLERANCE / fps:
        raise ValueError(
            f"{info.path}: {info.length_s:.2f} s long, but {len(times_s)} frames at {fps:g} Hz "
            f"from {times_s[0]:.2f} s need {need_s:.2f} s"
        )
    raise ValueError(
        f"{info.path}: no frame within {NEAREST_TOLERANCE / fps:.3f} s of {times_s[worst]:.2f} s "
        f"(nearest at {stamps_s[worst]:.2f} s); {fps:g} frames a second are needed throughout"
    )


def resize_and_crop(frames: Frames, height_px: int, width_px: int) -> Frames:
    """Aspect-preserving resize that covers (height_px, width_px), then centre crop, of (T, H, W, C) uint8.

    The geometry is that of ``geometry.Camera.resized_and_cropped`` to within half a source pixel: the source is cropped
    first, then resized once. Shrinking averages areas, so that nothing aliases.
    """
    source_height_px, source_width_px = frames.shape[1:3]
    if (source_height_px, source_width_px) == (height_px, width_px):
        return frames
    scale = max(height_px / source_height_px, width_px / source_width_px)
    crop_height_px, crop_width_px = height_px / scale, width_px / scale
    top_px, left_px = (source_height_px - crop_height_px) / 2, (source_width_px - crop_width_px) / 2
    rows = slice(round(top_px), round(top_px + crop_height_px))
    columns = slice(round(left_px), round(left_px + crop_width_px))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.stack([cv2.resize(f[rows, columns], (width_px, height_px), interpolation=how) for f in frames])


class VideoWriter:
    """Writes an mp4 that every reader agrees on: h264, constant rate, first frame at 0, no B-frames, no edit list.

    ``pixel_format`` 'yuv420p' plays everywhere and needs even sizes; 'yuv444p' keeps colour at full resolution and is
    for stores. ``keyframe_every``: frames from one keyframe to the next. The file appears under its name only when
    complete. Raises ValueError for odd sizes, an empty video, or a frame of another shape or type.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        fps: float = FPS,
        crf: int = 18,
        pixel_format: str = "yuv420p",
        keyframe_every: int = NUM_FRAMES,
    ) -> None:
        self.path = Path(path)
        self.num_frames = 0
        self._partial = self.path.with_name(self.path.name + ".partial")
        self._rate = Fraction(fps).limit_denominator(1000)
        self._options = {"crf": str(crf), "bf": "0", "preset": "veryfast", "sc_threshold": "0"}
        self._options |= {"g": str(keyframe_every), "keyint_min": str(keyframe_every)}
        self._pixel_format = pixel_format
        self._stream: Any = None

    def __enter__(self) -> "VideoWriter":
        self._container = av.open(str(self._partial), "w", format="mp4", options={"use_editlist": "0"})
        return self

    def write(self, frames: Iterable[Frames]) -> None:
        """Append frames (H, W, 3) uint8 RGB: an array (T, H, W, 3) or anything that yields them."""
        for frame in frames:
            if self._stream is None:
                self._start(frame)
            shape = (self._stream.height, self._stream.width, 3)
            if frame.shape != shape or frame.dtype != np.uint8:
                raise ValueError(
                    f"{self.path}: frame {self.num_frames} is {frame.dtype} {frame.shape}, not uint8 {shape}"
                )
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts = self.num_frames
            self._container.mux(self._stream.encode(picture))
            self.num_frames += 1

    def _start(self, frame: Frames) -> None:
        height_px, width_px = frame.shape[:2]
        if self._pixel_format == "yuv420p" and (height_px % 2 or width_px % 2):
            raise ValueError(f"{self.path}: {height_px} x {width_px} frames; yuv420p video needs even sizes")
        self._stream = self._container.add_stream("libx264", rate=self._rate, options=self._options)
        self._stream.height, self._stream.width = height_px, width_px
        self._stream.pix_fmt = self._pixel_format
        self._stream.codec_context.time_base = 1 / self._rate

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self.num_frames > 0:
            self._container.mux(self._stream.encode())
        self._container.close()
        if kind is None and self.num_frames > 0:
            self._partial.replace(self.path)
            return
        self._partial.unlink(missing_ok=True)  # made only with the first packet
        if kind is None:
            raise ValueError(f"{self.path}: no frame was written")


def write_video(path: Path | str, frames: Iterable[Frames], fps: float = FPS, crf: int = 18) -> None:
    """Write frames (T, H, W, 3) uint8 RGB as an mp4 that plays in every browser. Raises as :class:`VideoWriter`."""
    with VideoWriter(path, fps=fps, crf=crf) as writer:
        writer.write(frames)
