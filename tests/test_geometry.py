"""Frames of reference against scipy's rotations and rigid transforms, the camera against closed forms."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import RigidTransform, Rotation

from resim.datatypes.clip import SCENE_PROMPT, command_of, prompt_for
from resim.datatypes.geometry import (
    from_frame,
    points_from_frame,
    points_to_frame,
    resample_poses,
    simulation_camera,
    to_frame,
    wrap_angle,
)

poses = st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(-50, 50)).map(np.array)
batches = st.lists(poses, min_size=1, max_size=5).map(np.stack)  # (N, 3)


def rotation(heading_rad):
    return Rotation.from_euler("z", heading_rad)


def in_space(xy_m):
    """Points (N, 2) in the plane z = 0."""
    return np.pad(xy_m, ((0, 0), (0, 1)))


def rigid(pose):
    """A pose as the rigid transform from its frame to the outer one."""
    return RigidTransform.from_components([*pose[:2], 0.0], rotation(pose[2]))


def assert_same_poses(found_N3, transforms):
    for pose, transform in zip(found_N3, transforms, strict=True):
        assert np.allclose(pose[:2], transform.translation[:2], atol=1e-9)
        assert (rotation(pose[2]).inv() * transform.rotation).magnitude() == pytest.approx(0, abs=1e-7)
        assert -np.pi < pose[2] <= np.pi


@given(st.floats(-50, 50))
def test_wrapped_angles_are_the_same_direction_in_the_half_open_circle(angle):
    wrapped = float(wrap_angle(angle))
    assert -np.pi < wrapped <= np.pi
    assert (rotation(wrapped).inv() * rotation(angle)).magnitude() == pytest.approx(0, abs=1e-7)


def test_wrap_keeps_plus_pi():
    assert wrap_angle(np.pi) == pytest.approx(np.pi) and wrap_angle(-np.pi) == pytest.approx(np.pi)


@given(poses_N3=batches, origin=poses)
def test_frames_are_scipys_rigid_transforms(poses_N3, origin):
    outer = rigid(origin)
    assert_same_poses(to_frame(poses_N3, origin), [outer.inv() * rigid(pose) for pose in poses_N3])
    assert_same_poses(from_frame(poses_N3, origin), [outer * rigid(pose) for pose in poses_N3])
    assert_same_poses(from_frame(to_frame(poses_N3, origin), origin), [rigid(pose) for pose in poses_N3])


@given(poses_N3=batches, origin=poses)
def test_points_move_as_scipy_moves_them(poses_N3, origin):
    points_N2, outer = poses_N3[:, :2], rigid(origin)
    assert np.allclose(points_to_frame(points_N2, origin), outer.inv().apply(in_space(points_N2))[:, :2], atol=1e-9)
    assert np.allclose(points_from_frame(points_N2, origin), outer.apply(in_space(points_N2))[:, :2], atol=1e-9)


def test_every_leading_shape_is_the_same_poses():
    rng = np.random.default_rng(0)
    poses_543, origin = rng.normal(size=(5, 4, 3)), rng.normal(size=3)
    for change in (to_frame, from_frame):
        each = np.stack([change(pose, origin) for pose in poses_543.reshape(-1, 3)])
        assert np.array_equal(change(poses_543, origin).reshape(-1, 3), each)


def test_x_is_forward_and_y_left():
    north = np.array([10.0, 20.0, np.pi / 2])  # at (10, 20), looking along world y
    assert np.allclose(to_frame(np.array([10.0, 25.0, np.pi / 2]), north), [5, 0, 0])  # ahead
    assert np.allclose(to_frame(np.array([7.0, 20.0, np.pi]), north), [0, 3, np.pi / 2])  # left, facing left


def test_resampling_is_linear_and_crosses_pi():
    times_s = np.array([0.0, 1.0])
    recorded = np.array([[0.0, 0.0, 3.0], [2.0, 4.0, -3.0]])
    middle = resample_poses(times_s, recorded, np.array([0.5]))[0]
    assert np.allclose(middle[:2], [1, 2])
    assert abs(middle[2]) == pytest.approx(np.pi)
    with pytest.raises(ValueError, match=r"asked for at 0.500..1.500 s but recorded only at 0.000..1.000 s"):
        resample_poses(times_s, recorded, np.array([0.5, 1.5]))
    with pytest.raises(ValueError, match="increase strictly"):
        resample_poses(np.array([0.0, 0.0]), recorded, np.array([0.0]))


def test_the_simulation_camera_by_hand():
    camera = simulation_camera(512, 896)
    cos, sin = np.cos(camera.pitch_rad), np.sin(camera.pitch_rad)
    along_axis = np.array([camera.x_m + 10 * cos, 0.0, camera.z_m - 10 * sin])
    pixel, depth_m = camera.project(along_axis)
    assert np.allclose(pixel, [448, 256]) and depth_m == pytest.approx(10)
    # The edge of the 70 degree field of view, to the left.
    left, _ = camera.project(along_axis + [0, 10 * np.tan(np.deg2rad(35)), 0])
    assert np.allclose(left, [0, 256])
    above, _ = camera.project(along_axis + 10 * 0.1 * np.array([sin, 0, cos]))
    assert np.allclose(above, [448, 256 - 0.1 * camera.fy_px])
    assert camera.project(np.array([-5.0, 0.0, 1.0]))[1] < 0  # behind


@pytest.mark.parametrize("size", [(256, 448), (64, 112), (64, 64)])
def test_other_sizes_are_resize_and_centre_crop(size):
    full, small = simulation_camera(512, 896), simulation_camera(*size)
    point = np.array([20.0, 1.0, 0.5])
    scale = max(size[0] / 512, size[1] / 896)
    crop_px = (np.array([896, 512]) * scale - np.array(size[::-1])) / 2
    assert np.allclose(small.project(point)[0], full.project(point)[0] * scale - crop_px)


def test_commands_follow_the_heading():
    straight = np.zeros((8, 3), dtype=np.float32)
    left, right = straight.copy(), straight.copy()
    left[-1, 2], right[-1, 2] = 0.5, -0.5
    assert [command_of(path) for path in (left, straight, right)] == ["left", "forward", "right"]
    assert prompt_for(None) == SCENE_PROMPT and prompt_for("left") == SCENE_PROMPT + " Turning left."


@given(st.tuples(st.floats(-3, 3), st.floats(-0.6, 0.6), st.floats(-0.6, 0.6)), st.integers(0, 2**31))
def test_a_turned_and_rolled_camera_projects_as_scipy_rotates(angles, seed):
    camera = replace(
        simulation_camera(256, 448), yaw_rad=angles[0], pitch_rad=angles[1], roll_rad=angles[2], x_m=1.2, y_m=-0.4
    )
    # Body frame: turns about z, then about the y that has turned with it, then about the x.
    body_from_camera = Rotation.from_euler("ZYX", angles)
    points = np.random.default_rng(seed).uniform(-30, 30, (20, 3))
    seen = body_from_camera.inv().apply(points - [camera.x_m, camera.y_m, camera.z_m])
    pixels, depth_m = camera.project(points)
    np.testing.assert_allclose(depth_m, seen[:, 0], atol=1e-9)
    far = np.abs(seen[:, 0]) > 0.1
    np.testing.assert_allclose(pixels[far, 0], camera.cx_px - camera.fx_px * seen[far, 1] / seen[far, 0], rtol=1e-6)
    np.testing.assert_allclose(pixels[far, 1], camera.cy_px - camera.fy_px * seen[far, 2] / seen[far, 0], rtol=1e-6)
