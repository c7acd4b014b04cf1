"""Drawing of paths: where the pixels go, what stays untouched, and what is refused."""

import numpy as np
import pytest

from resim.datatypes.geometry import simulation_camera
from resim.imagination.manoeuvres import manoeuvre
from resim.report.overlay import COMMANDED, NEAR_M, BirdEyeView, draw_path, draw_path_video, path_poses, side_by_side

CAMERA = simulation_camera(256, 448)
GREY = np.full((256, 448, 3), 90, np.uint8)


def changed_columns(frame, row):
    return np.flatnonzero(np.any(frame[row] != 90, axis=-1))


def test_straight_ribbon_lies_where_the_camera_projects_the_lane():
    frame = draw_path(GREY, CAMERA, manoeuvre("straight", 10.0))
    for ahead_m in (6.0, 12.0, 25.0):
        pixels, depth_m = CAMERA.project(np.array([[ahead_m, 0.95, 0.0], [ahead_m, -0.95, 0.0]]))
        assert depth_m.min() > NEAR_M
        columns = changed_columns(frame, int(pixels[0, 1]))
        assert abs(columns.min() - pixels[0, 0]) <= 2 and abs(columns.max() - pixels[1, 0]) <= 2


def test_left_turn_goes_left_and_the_path_runs_out():
    left = manoeuvre("left_turn", 8.0)
    far_row = np.flatnonzero(np.any(draw_path(GREY, CAMERA, left) != 90, axis=(1, 2)))[0]
    assert changed_columns(draw_path(GREY, CAMERA, left), far_row + 1).max() < CAMERA.cx_px
    sizes = [np.any(draw_path(GREY, CAMERA, left, time_s=t) != 90, axis=-1).sum() for t in (0.0, 2.0, 3.9, 4.0)]
    assert sizes[0] > sizes[1] > sizes[2] and sizes[3] == 0


def test_video_leaves_the_history_alone():
    frames = np.full((49, 64, 112, 3), 90, np.uint8)
    drawn = draw_path_video(frames, simulation_camera(64, 112), manoeuvre("straight", 10.0), height_px=128)
    assert drawn.shape == (49, 128, 224, 3)
    assert np.all(drawn[:8] == 90) and np.any(drawn[8] != 90)
    with pytest.raises(ValueError, match="50 frames"):
        draw_path_video(np.concatenate([frames, frames[:1]]), CAMERA, manoeuvre("brake", 5.0), height_px=64)


def test_camera_of_another_size_is_refused():
    with pytest.raises(ValueError, match="256x448.*64x112"):
        draw_path(np.zeros((64, 112, 3), np.uint8), CAMERA, manoeuvre("straight", 5.0))


def test_path_poses_pass_through_origin_and_waypoints():
    waypoints = manoeuvre("swerve_left", 9.0)
    poses = path_poses(waypoints, np.array([0.0, 0.5, 4.0]))
    np.testing.assert_allclose(poses, [[0, 0, 0], waypoints[0], waypoints[-1]], atol=1e-6)
    steady = path_poses(manoeuvre("straight", 9.0), np.linspace(0, 4, 41))
    np.testing.assert_allclose(steady[:, 0], 9.0 * np.linspace(0, 4, 41), atol=1e-5)


def test_birds_eye_view_directions_and_shown_path():
    paths = {"straight": manoeuvre("straight", 8.0), "left": manoeuvre("left_turn", 8.0)}
    view = BirdEyeView(paths, shown="left", height_px=200, width_px=160)
    origin, ahead, left = view.pixels(np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 5.0]]))
    assert ahead[1] < origin[1] and ahead[0] == origin[0]
    assert left[0] < origin[0] and left[1] == origin[1]
    column, row = view.pixels(paths["left"][-1, :2])
    assert tuple(view.draw(-0.8)[row, column]) == COMMANDED
    assert view.video(49).shape == (49, 200, 160, 3)
    with pytest.raises(ValueError, match="no path 'right' among straight, left"):
        BirdEyeView(paths, shown="right")


def test_side_by_side_has_even_sizes_and_refuses_unequal_lengths():
    small, wide = np.zeros((3, 64, 112, 3), np.uint8), np.zeros((3, 100, 301, 3), np.uint8)
    row = side_by_side([("history", small), ("generated", wide)], height_px=128)
    assert row.shape == (3, 148, 224 + 386, 3)
    with pytest.raises(ValueError, match="differ in length"):
        side_by_side([("a", small), ("b", wide[:2])])
