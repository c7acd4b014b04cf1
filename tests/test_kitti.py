"""data_prep/kitti.py: sign conventions on a made left turn, and the real recording where it is at hand."""

import cv2
import numpy as np
import pytest

from data_prep.kitti import KittiArgs, axle_poses, import_sequence
from resim.data.store import ClipStore
from resim.datatypes.clip import WAYPOINT_TIMES_S
from resim.datatypes.geometry import Camera

SPEED_MPS, YAW_RATE_RADPS, CAMERA_X_M = 8.0, 0.2, 1.08


def left_turn(num_frames: int) -> np.ndarray:
    """KITTI camera poses (N, 3, 4) of a car whose rear axle drives a circle to the left, from the first camera on."""
    heading_rad = YAW_RATE_RADPS * np.arange(num_frames) / 10.0
    radius_m = SPEED_MPS / YAW_RATE_RADPS
    x_m = radius_m * np.sin(heading_rad) + CAMERA_X_M * (np.cos(heading_rad) - 1)
    y_m = radius_m * (1 - np.cos(heading_rad)) + CAMERA_X_M * np.sin(heading_rad)
    poses = np.zeros((num_frames, 3, 4))
    cos, sin = np.cos(heading_rad), np.sin(heading_rad)
    poses[:, 0, 0], poses[:, 0, 2], poses[:, 0, 3] = cos, -sin, -y_m  # turning left looks towards -x of KITTI
    poses[:, 1, 1] = 1.0
    poses[:, 2, 0], poses[:, 2, 2], poses[:, 2, 3] = sin, cos, x_m
    return poses


def write_sequence(folder, poses):
    (folder / "image_0").mkdir(parents=True)
    for i in range(len(poses)):
        cv2.imwrite(str(folder / "image_0" / f"{i:06d}.png"), np.full((40, 120), 2 * i, np.uint8))
    np.savetxt(folder / "poses.txt", poses.reshape(-1, 12))
    (folder / "calib.txt").write_text("P0: 70 0 60 0 0 70 20 0 0 0 1 0\nP1: 1 0 0 0 0 1 0 0 0 0 1 0\n")


def test_left_turn_is_left(tmp_path):
    write_sequence(tmp_path / "sequence", left_turn(70))
    args = KittiArgs(kitti=tmp_path / "sequence", output_dir=tmp_path / "store", height_px=32, width_px=56)
    import_sequence(args)
    store = ClipStore(tmp_path / "store")
    assert len(store) == 3
    heading_rad = YAW_RATE_RADPS * np.array(WAYPOINT_TIMES_S)
    radius_m = SPEED_MPS / YAW_RATE_RADPS
    circle = np.stack([radius_m * np.sin(heading_rad), radius_m * (1 - np.cos(heading_rad)), heading_rad], axis=1)
    for index, clip in enumerate(store.clips):
        assert clip.command == "left"
        # exact but for the linear interpolation of poses between frames, which only rounding causes here
        np.testing.assert_allclose(clip.waypoints, circle, atol=1e-4)
        np.testing.assert_allclose(clip.history_poses[-1], 0, atol=1e-6)
        assert clip.history_poses[0, 0] < 0 and clip.history_poses[0, 2] < 0
        frames = store.read_frames(index, 32, 56)
        assert np.ptp(frames, axis=(1, 2, 3)).max() <= 3  # grey stays grey
        np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), 2 * (10 * index + np.arange(49)), atol=3)
    camera = Camera(**store.clips[0].camera)
    assert (camera.height_px, camera.width_px) == (32, 56)
    assert camera.fx_px == pytest.approx(70 * 32 / 40)
    assert (camera.cx_px, camera.cy_px) == pytest.approx((28.4, 16.4))


def test_offset_to_the_rear_axle():
    """The camera's own path differs from the axle's when it turns: the offset is taken out along the heading."""
    poses = axle_poses(left_turn(5), CAMERA_X_M, 0.0)
    radius_m = SPEED_MPS / YAW_RATE_RADPS
    np.testing.assert_allclose(np.hypot(poses[:, 0] + CAMERA_X_M, poses[:, 1] - radius_m), radius_m)


def test_bad_input_is_named(tmp_path):
    write_sequence(tmp_path / "short", left_turn(48))
    with pytest.raises(ValueError, match=r"short: 4\.7 s long; a clip needs 4\.8 s"):
        import_sequence(KittiArgs(kitti=tmp_path / "short", output_dir=tmp_path / "store"))
    (tmp_path / "short" / "image_0" / "000000.png").unlink()
    with pytest.raises(ValueError, match="47 images, 48 poses"):
        import_sequence(KittiArgs(kitti=tmp_path / "short", output_dir=tmp_path / "store"))
    with pytest.raises(FileNotFoundError, match="no .*png"):
        import_sequence(KittiArgs(kitti=tmp_path, output_dir=tmp_path / "store"))
    assert not (tmp_path / "store").exists()


@pytest.mark.real_data
def test_real_drive(tmp_path, real_data):
    import_sequence(
        KittiArgs(kitti=real_data / "kitti_sequence_1", output_dir=tmp_path / "store", height_px=64, width_px=112)
    )
    (clip,) = ClipStore(tmp_path / "store").clips
    path = np.concatenate([np.zeros((1, 3)), clip.waypoints])
    speeds_mps = np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1) / 0.5
    assert np.all(np.abs(speeds_mps - 12.0) < 0.2)
    assert np.rad2deg(np.abs(clip.waypoints[:, 2])).max() < 3
    assert clip.command == "forward"
