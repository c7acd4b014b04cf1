"""Frames of reference and the camera against closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resim.datatypes.clip import SCENE_PROMPT, command_of, prompt_for
from resim.datatypes.geometry import from_frame, resample_poses, simulation_camera, to_frame, wrap_angle

poses = st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(-3.1, 3.1)).map(np.array)


@given(st.floats(-50, 50))
def test_wrapped_angles_are_the_same_direction_in_the_half_open_circle(angle):
    wrapped = float(wrap_angle(angle))
    assert -np.pi < wrapped <= np.pi
    assert np.cos(wrapped) == pytest.approx(np.cos(angle), abs=1e-9)
    assert np.sin(wrapped) == pytest.approx(np.sin(angle), abs=1e-9)


def test_wrap_keeps_plus_pi():
    assert wrap_angle(np.pi) == pytest.approx(np.pi) and wrap_angle(-np.pi) == pytest.approx(np.pi)


@given(pose=poses, origin=poses)
def test_into_a_frame_and_back(pose, origin):
    back = from_frame(to_frame(pose, origin), origin)
    assert np.allclose(back[:2], pose[:2], atol=1e-9)
    assert float(wrap_angle(back[2] - pose[2])) == pytest.approx(0, abs=1e-9)


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
