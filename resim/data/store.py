"""The store of clips on disk: one folder with a Parquet index and mp4 shards, written whole or not at all.

``index.parquet`` has one row per clip (the fields of ``clip.Clip``) and, in its metadata, the schema version, the frame
size and every shard's size and sha256. ``shards/*.mp4`` hold the clips one after another at 10 Hz, each from a keyframe
on. ``scenes/`` (see ``data.scenes``) and ``latents/`` (see ``data.latents``) are optional.
"""

import json
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from resim.data.checks import validate_waypoints
from resim.data.files import new_folder, require_inside, require_plain_name, sha256_of
from resim.data.scenes import SUFFIX, read_scene, write_scene
from resim.data.video import Frames, VideoWriter, open_video, read_clip, resize_and_crop
from resim.datatypes.clip import FPS, NUM_FRAMES, NUM_HISTORY_FRAMES, NUM_WAYPOINTS, Clip, Infractions, command_of
from resim.datatypes.geometry import Camera
from resim.datatypes.scene import Scene

SCHEMA_VERSION = 1
CLIPS_PER_SHARD = 32  # opening a shard costs time for each frame that it holds
INDEX_NAME = "index.parquet"
SCENES_FOLDER = "scenes"
META_KEY = b"resim_store"
PLAIN_NAMES = ("clip_id", "scene_id", "source")  # caches and videos are named after them
POSE_SHAPES = {
    "waypoints": (NUM_WAYPOINTS, 3),
    "executed_waypoints": (NUM_WAYPOINTS, 3),
    "history_poses": (NUM_HISTORY_FRAMES, 3),
}
INFRACTIONS_TYPE = pa.struct(
    [(name, pa.bool_()) for name in ("collision", "off_road", "red_light", "wrong_way", "too_slow")]
    + [("progress", pa.float64()), ("score", pa.float64())]
)
CAMERA_TYPE = pa.struct(
    [(name, pa.int32()) for name in ("width_px", "height_px")]
    + [
        (name, pa.float64())
        for name in ("fx_px", "fy_px", "cx_px", "cy_px", "x_m", "y_m", "z_m", "pitch_rad", "yaw_rad", "roll_rad")
    ]
)
INDEX_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("clip_id", "source", "video", "scene_id", "driver", "command")]
    + [("start_s", pa.float64())]
    + [(name, pa.list_(pa.float32())) for name in POSE_SHAPES]
    + [("infractions", INFRACTIONS_TYPE), ("camera", CAMERA_TYPE)]
)


class StoreWriter:
    """Writes a store beside ``path`` and renames it into place when the ``with`` block ends without error.

    ``inputs`` is every file and folder that the clips are made from. On entry raises as ``files.new_folder``: for an
    existing ``path`` without ``overwrite``, and with it where that is no store of ours or holds one of ``inputs``.
    Raises ValueError for a ``source`` that is no plain name.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        source: str,
        height_px: int,
        width_px: int,
        inputs: Iterable[Path],
        overwrite: bool = False,
        crf: int = 10,
    ) -> None:
        require_plain_name(source, what=f"{path}: source")
        self.path, self.inputs = Path(path), tuple(inputs)
        self.source, self.height_px, self.width_px, self.crf = source, height_px, width_px, crf
        self.overwrite = overwrite
        self._rows: list[dict[str, Any]] = []
        self._ids: set[str] = set()
        self._video: VideoWriter | None = None

    def __enter__(self) -> "StoreWriter":
        self._folder = ExitStack()
        folder = new_folder(self.path, kind="store of clips", inputs=self.inputs, overwrite=self.overwrite)
        self._partial = self._folder.enter_context(folder)
        (self._partial / "shards").mkdir()
        return self

    def add(
        self,
        frames: Iterable[Frames],
        *,
        clip_id: str,
        scene_id: str,
        driver: str | None = None,
        command: str | None = None,
        waypoints: ArrayLike | None = None,
        executed_waypoints: ArrayLike | None = None,
        history_poses: ArrayLike | None = None,
        infractions: Infractions | None = None,
        camera: Camera | None = None,
    ) -> None:
        """Append one clip: 49 frames uint8 (H, W, 3) RGB of the store's size, and what is known about it.

        ``command`` follows from ``waypoints`` when it is not given. Raises ValueError, naming the clip, for a repeated
        id, ids that are no plain names, the wrong number or size of frames, implausible waypoints, or a camera of
        another size.
        """
        require_plain_name(clip_id, what=f"{self.path}: clip_id")
        require_plain_name(scene_id, what=f"{self.path}: scene_id of clip {clip_id}")
        if clip_id in self._ids:
            raise ValueError(f"{self.path}: clip {clip_id} was added already; ids must differ")
        poses = {"executed_waypoints": executed_waypoints, "history_poses": history_poses}
        row: dict[str, Any] = {name: _flat(clip_id, name, value) for name, value in poses.items()}
        if waypoints is not None:
            checked = validate_waypoints(waypoints, what=f"clip {clip_id}")
            row["waypoints"] = checked.ravel().tolist()
            command = command_of(checked) if command is None else command
        if camera is not None and (camera.height_px, camera.width_px) != (self.height_px, self.width_px):
            raise ValueError(
                f"clip {clip_id}: camera of {camera.height_px} x {camera.width_px} pixels in a store "
                f"of {self.height_px} x {self.width_px}; use Camera.resized_and_cropped"
            )
        row |= {"clip_id": clip_id, "source": self.source, "scene_id": scene_id, "driver": driver, "command": command}
        row["infractions"] = None if infractions is None else asdict(infractions)
        row["camera"] = None if camera is None else asdict(camera)
        row["video"], row["start_s"] = self._write_frames(frames, clip_id)
        self._rows.append(row)
        self._ids.add(clip_id)

    def add_scene(self, scene: Scene) -> None:
        """Keep the scene that clips of this ``scene_id`` were made of, so that they can be driven and seen again.

        Raises ValueError for a repeated id or one that is no plain name.
        """
        require_plain_name(scene.scene_id, what=f"{self.path}: scene_id")
        folder = self._partial / SCENES_FOLDER
        folder.mkdir(exist_ok=True)
        file = folder / f"{scene.scene_id}{SUFFIX}"
        if file.exists():
            raise ValueError(f"{self.path}: scene {scene.scene_id} was added already; ids must differ")
        write_scene(file, scene)

    def add_copy(self, clip: Clip, frames: Iterable[Frames]) -> None:
        """Append what another store knows about ``clip``, with these 49 ``frames`` of it."""
        self.add(
            frames,
            **{name: getattr(clip, name) for name in ("clip_id", "scene_id", "driver", "command", "infractions")},
            **{name: getattr(clip, name) for name in POSE_SHAPES},
            camera=None if clip.camera is None else Camera(**clip.camera),  # type: ignore[arg-type]  # its ints are ints
        )

    def _write_frames(self, frames: Iterable[Frames], clip_id: str) -> tuple[str, float]:
        shard, place = divmod(len(self._rows), CLIPS_PER_SHARD)
        if place == 0:
            self._close_shard()
            self._video = VideoWriter(
                self._partial / "shards" / f"{shard:05d}.mp4", crf=self.crf, pixel_format="yuv444p"
            ).__enter__()
        assert self._video is not None
        count = 0
        for frame in frames:
            if frame.shape != (self.height_px, self.width_px, 3):
                raise ValueError(
                    f"clip {clip_id}: frame {count} has shape {frame.shape}, "
                    f"the store's is ({self.height_px}, {self.width_px}, 3)"
                )
            self._video.write([frame])
            count += 1
        if count != NUM_FRAMES:
            raise ValueError(f"clip {clip_id}: {count} frames; a clip has {NUM_FRAMES}")
        return f"shards/{shard:05d}.mp4", place * NUM_FRAMES / FPS

    def _close_shard(self) -> None:
        if self._video is not None:
            self._video.__exit__(None, None, None)
            self._video = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._folder:  # removes what was written when something below raises
            if error is not None:
                if self._video is not None:
                    self._video.__exit__(kind, error, trace)
                raise error
            self._close_shard()
            if not self._rows:
                raise ValueError(f"{self.path}: no clip was added; nothing is written")
            self._write_index()

    def _write_index(self) -> None:
        shards = {
            f"shards/{file.name}": {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
            for file in sorted((self._partial / "shards").iterdir())
        }
        scenes = self._partial / SCENES_FOLDER
        meta = {
            "schema_version": SCHEMA_VERSION,
            "height_px": self.height_px,
            "width_px": self.width_px,
            "shards": shards,
            "scenes": {file.name: sha256_of(file) for file in sorted(scenes.glob("*"))},
        }
        schema = INDEX_SCHEMA.with_metadata({META_KEY: json.dumps(meta).encode()})
        pq.write_table(pa.Table.from_pylist(self._rows, schema=schema), self._partial / INDEX_NAME)


def _flat(clip_id: str, name: str, value: ArrayLike | None) -> list[float] | None:
    if value is None:
        return None
    poses = np.asarray(value, dtype=np.float32)
    if poses.shape != POSE_SHAPES[name] or not np.isfinite(poses).all():
        raise ValueError(f"clip {clip_id}: {name} must be finite with shape {POSE_SHAPES[name]}, not {poses.shape}")
    return poses.ravel().tolist()


class ClipStore:
    """A store opened for reading: ``clips`` in the order they were added, frames and cached latents by their index.

    ``fingerprint`` is the sha256 of the index, which holds the shards' hashes, so it stands for the whole content.
    Raises FileNotFoundError for a missing store or shard, ValueError for another schema version or size of a shard, and
    for a name in the index that leads out of the store.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        index_file = self.path / INDEX_NAME
        if not index_file.is_file():
            raise FileNotFoundError(f"{self.path}: no store of clips here ({INDEX_NAME} is missing)")
        table = pq.read_table(index_file)
        metadata = table.schema.metadata
        if metadata is None or META_KEY not in metadata:
            raise ValueError(f"{index_file}: a Parquet file, but not the index of a store of clips")
        meta = json.loads(metadata[META_KEY])
        if meta["schema_version"] != SCHEMA_VERSION:
            raise ValueError(
                f"{index_file}: schema version {meta['schema_version']}, this code reads {SCHEMA_VERSION}; "
                "make the store again"
            )
        self.height_px, self.width_px = int(meta["height_px"]), int(meta["width_px"])
        self.shards: dict[str, dict[str, Any]] = meta["shards"]
        self.scenes: dict[str, str] = meta.get("scenes", {})  # stores of 0.1.0 know no scenes
        self.fingerprint = sha256_of(index_file)
        rows = table.to_pylist()
        self._require_safe_names(rows)
        self.clips = [_clip_from_row(row) for row in rows]
        self.clips_of: dict[str, list[int]] = {name: [] for name in self.shards}  # indices of each shard's clips
        for index, clip in enumerate(self.clips):
            self.clips_of[clip.video].append(index)
        for name, shard in self.shards.items():
            file = self.path / name
            if not file.is_file():
                raise FileNotFoundError(f"{file}: shard is missing; copy or make the store again")
            if file.stat().st_size != shard["bytes"]:
                raise ValueError(f"{file}: {file.stat().st_size} bytes, the index says {shard['bytes']}; copy it again")

    def _require_safe_names(self, rows: Iterable[dict[str, Any]]) -> None:
        index_file = self.path / INDEX_NAME
        for name in self.shards:
            require_inside(self.path, name, what=f"{index_file}: shard")
        for number, row in enumerate(rows):
            for field in PLAIN_NAMES:
                require_plain_name(row[field], what=f"{index_file}: {field} of row {number}")
            if row["video"] not in self.shards:
                raise ValueError(
                    f"{index_file}: video of row {number} is {row['video']!r}, which is no shard of it; "
                    "copy or make the store again"
                )

    def __len__(self) -> int:
        return len(self.clips)

    def read_frames(self, index: int, height_px: int, width_px: int) -> Frames:
        """Frames (49, height_px, width_px, 3) uint8 RGB of clip ``index``, resized and cropped from the centre."""
        clip = self.clips[index]
        return resize_and_crop(read_clip(self.path / clip.video, clip.start_s), height_px, width_px)

    def read_scene(self, index: int) -> Scene:
        """The scene that clip ``index`` was made of. Raises FileNotFoundError where the store does not keep it."""
        name = f"{self.clips[index].scene_id}{SUFFIX}"
        if name not in self.scenes:
            raise FileNotFoundError(f"{self.path}: scene {self.clips[index].scene_id} was not kept with its clips")
        return read_scene(self.path / SCENES_FOLDER / name)

    def problems(self) -> list[str]:
        """One line for each shard or scene whose sha256 differs from the index, or shard that does not decode whole."""
        found = []
        for name, sha256 in self.scenes.items():
            file = self.path / SCENES_FOLDER / name
            if not file.is_file() or sha256_of(file) != sha256:
                found.append(f"{file}: missing, or its sha256 differs from the index; copy or make the store again")
        for name, shard in self.shards.items():
            file = self.path / name
            if sha256_of(file) != shard["sha256"]:
                found.append(f"{file}: sha256 differs from the index; the file was changed or damaged")
                continue
            expected = NUM_FRAMES * len(self.clips_of[name])
            with open_video(file) as container:
                try:
                    decoded = sum(1 for _ in container.decode(video=0))
                except av.error.FFmpegError as error:
                    found.append(f"{file}: does not decode: {error.strerror}")
                    continue
            if decoded != expected:
                found.append(f"{file}: decodes to {decoded} frames, not {expected}")
        return found

    def verify(self) -> None:
        """Raises ValueError naming the first of :meth:`problems`."""
        for problem in self.problems():
            raise ValueError(problem)


def _clip_from_row(row: dict[str, Any]) -> Clip:
    poses: dict[str, NDArray[np.float32] | None] = {
        name: None if row[name] is None else np.array(row[name], dtype=np.float32).reshape(shape)
        for name, shape in POSE_SHAPES.items()
    }
    infractions = None if row["infractions"] is None else Infractions(**row["infractions"])
    return Clip(**{**row, **poses, "infractions": infractions})
