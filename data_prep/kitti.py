"""Import a KITTI odometry sequence (images of the left grey camera, poses.txt, calib.txt) into a store of clips.

KITTI's poses are those of the left grey camera in the frame of its first image: x right, y down, z forward. Here they
become poses of the rear axle: x forward, y left, heading counter-clockwise.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from resim.data.store import StoreWriter
from resim.data.video import NEAREST_TOLERANCE, resize_and_crop
from resim.datatypes.clip import FPS, NUM_FRAMES, NUM_HISTORY_FRAMES, WAYPOINT_TIMES_S
from resim.datatypes.geometry import Camera, resample_poses, to_frame
from resim.entry_point import run

IMAGE_FOLDERS = ("image_0", "image_l")
CLIP_LENGTH_S = (NUM_FRAMES - 1) / FPS
CLIP_TIMES_S = np.arange(NUM_FRAMES) / FPS
PRESENT_S = (NUM_HISTORY_FRAMES - 1) / FPS  # t = 0 of a clip, counted from its first frame


@dataclass(frozen=True, kw_only=True)
class KittiArgs:
    """Which sequence, and how it becomes clips.

    The mounting defaults follow the setup published with KITTI (Geiger et al. 2013): the cameras are 1.65 m above the
    ground and 0.27 + 0.81 m ahead of the IMU, which sits nearly above the rear axle.
    """

    # Folder with the images (image_0/ or image_l/), poses.txt, calib.txt and, where there is one, times.txt.
    kitti: Path
    # The store to write.
    output_dir: Path
    # Poses, where they are not in the sequence's own folder.
    poses: Path | None = None
    # Size of the stored frames; their view is the centre crop of KITTI's wide images.
    height_px: int = 256
    width_px: int = 448
    # From the start of one clip to the start of the next.
    stride_s: float = 1.0
    # Mounting of the left camera: ahead of the rear axle, left of it, above the ground.
    camera_x_m: float = 1.08
    camera_y_m: float = 0.0
    camera_z_m: float = 1.65
    # Replace the store of an earlier run.
    overwrite: bool = False


def read_rows(path: Path, columns: int) -> NDArray[np.float64]:
    """Numbers (N, columns) of a text file. Raises FileNotFoundError, and ValueError for anything else in it."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        rows = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if rows.shape[1] != columns or not np.isfinite(rows).all():
        raise ValueError(f"{path}: rows of {rows.shape[1]} numbers; each must have {columns} finite ones")
    return rows


def read_intrinsics(path: Path) -> NDArray[np.float64]:
    """The left grey camera's matrix (3, 3): calib.txt's line 'P0: ..', or its first line where lines have no names."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    for line in path.read_text().splitlines():
        name, _, numbers = line.rpartition(":")
        if name in ("", "P0"):
            return np.array([float(n) for n in numbers.split()]).reshape(3, 4)[:, :3]
    raise ValueError(f"{path}: no projection matrix P0")


def axle_poses(camera_poses: NDArray[np.float64], camera_x_m: float, camera_y_m: float) -> NDArray[np.float64]:
    """KITTI camera poses (N, 3, 4) -> planar rear axle poses (N, 3) [x_m, y_m, heading_rad].

    World frame: that of the first camera, x along its view (KITTI's z), y to its left (minus KITTI's x).
    """
    x_m, y_m = camera_poses[:, 2, 3], -camera_poses[:, 0, 3]
    heading_rad = np.arctan2(-camera_poses[:, 0, 2], camera_poses[:, 2, 2])  # where the camera's z axis points
    cos, sin = np.cos(heading_rad), np.sin(heading_rad)
    return np.stack(
        [x_m - cos * camera_x_m + sin * camera_y_m, y_m - sin * camera_x_m - cos * camera_y_m, heading_rad], axis=1
    )


def find_images(folder: Path) -> list[Path]:
    """The sequence's images in order. Raises FileNotFoundError where there are none."""
    for name in IMAGE_FOLDERS:
        images = sorted((folder / name).glob("*.png"))
        if images:
            return images
    raise FileNotFoundError(f"{folder}: no *.png in {' or '.join(IMAGE_FOLDERS)}")


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image (H, W, 3) uint8 RGB; grey becomes three equal channels. Raises ValueError for a damaged file."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path}: not a readable image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_frames(
    images: list[Path], times_s: NDArray[np.float64], start_s: float, height_px: int, width_px: int
) -> Iterator[NDArray[np.uint8]]:
    """The clip's 49 frames: for each of its times the nearest image. Raises ValueError where none is near enough."""
    for time_s in start_s + CLIP_TIMES_S:
        nearest = int(np.argmin(np.abs(times_s - time_s)))
        if abs(times_s[nearest] - time_s) > NEAREST_TOLERANCE / FPS:
            raise ValueError(f"{images[nearest]}: at {times_s[nearest]:.2f} s, too far from the {time_s:.2f} s needed")
        yield resize_and_crop(read_image(images[nearest])[None], height_px, width_px)[0]


def import_sequence(args: Annotated[KittiArgs, tyro.conf.arg(name="")]) -> None:
    """Import a KITTI odometry sequence into a store of clips of 4.9 s with their waypoints."""
    images = find_images(args.kitti)
    camera_poses = read_rows(args.kitti / "poses.txt" if args.poses is None else args.poses, 12).reshape(-1, 3, 4)
    times_file = args.kitti / "times.txt"
    times_s = read_rows(times_file, 1)[:, 0] if times_file.is_file() else np.arange(len(images)) / FPS
    if not len(images) == len(camera_poses) == len(times_s):
        raise ValueError(f"{args.kitti}: {len(images)} images, {len(camera_poses)} poses, {len(times_s)} times")
    starts_s = np.arange(times_s[0], times_s[-1] - CLIP_LENGTH_S + 1e-6, args.stride_s)
    if len(starts_s) == 0:
        raise ValueError(f"{args.kitti}: {times_s[-1] - times_s[0]:.1f} s long; a clip needs {CLIP_LENGTH_S:.1f} s")
    poses = axle_poses(camera_poses, args.camera_x_m, args.camera_y_m)
    height_px, width_px = read_image(images[0]).shape[:2]
    matrix = read_intrinsics(args.kitti / "calib.txt")
    camera = Camera(
        width_px=width_px, height_px=height_px, fx_px=matrix[0, 0], fy_px=matrix[1, 1],
        cx_px=matrix[0, 2] + 0.5, cy_px=matrix[1, 2] + 0.5,  # KITTI counts from the centre of the first pixel
        x_m=args.camera_x_m, y_m=args.camera_y_m, z_m=args.camera_z_m, pitch_rad=0.0,
    ).resized_and_cropped(args.height_px, args.width_px)  # fmt: skip
    with StoreWriter(
        args.output_dir,
        source="kitti",
        height_px=args.height_px,
        width_px=args.width_px,
        inputs=[args.kitti] if args.poses is None else [args.kitti, args.poses],
        overwrite=args.overwrite,
    ) as store:
        for start_s in tqdm(starts_s, desc="clips"):
            present_s = start_s + PRESENT_S
            origin = resample_poses(times_s, poses, np.array([present_s]))[0]
            waypoints = to_frame(resample_poses(times_s, poses, present_s + np.array(WAYPOINT_TIMES_S)), origin)
            history_times_s = start_s + CLIP_TIMES_S[:NUM_HISTORY_FRAMES]
            store.add(
                read_frames(images, times_s, start_s, args.height_px, args.width_px),
                clip_id=f"{args.kitti.resolve().name}-{start_s:07.2f}",
                scene_id=args.kitti.resolve().name,
                waypoints=waypoints,
                executed_waypoints=waypoints,
                history_poses=to_frame(resample_poses(times_s, poses, history_times_s), origin),
                camera=camera,
            )


if __name__ == "__main__":
    run(import_sequence)
