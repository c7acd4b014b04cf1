"""Named manoeuvres: the path each one promises, and headings that follow the motion."""

import numpy as np
import pytest

from resim.imagination.manoeuvres import LANE_CHANGE, MANOEUVRES, SWERVE, manoeuvre


@pytest.mark.parametrize("name", MANOEUVRES)
@pytest.mark.parametrize("speed_mps", [6.0, 13.0, 30.0])
def test_heading_follows_the_motion(name, speed_mps):
    waypoints = manoeuvre(name, speed_mps)
    assert waypoints.shape == (8, 3) and waypoints.dtype == np.float32
    path = np.concatenate([np.zeros((1, 3)), waypoints])
    step_m = np.diff(path[:, :2], axis=0)
    moving = np.linalg.norm(step_m, axis=1) > 0.5
    chord_rad = np.arctan2(step_m[:, 1], step_m[:, 0])
    mean_rad = (path[1:, 2] + path[:-1, 2]) / 2
    assert np.all(np.abs(chord_rad - mean_rad)[moving] < np.deg2rad(6))


def test_closed_forms():
    np.testing.assert_allclose(manoeuvre("straight", 10.0)[:, 0], np.arange(1, 9) * 5.0, rtol=1e-5)
    np.testing.assert_allclose(manoeuvre("accelerate", 5.0)[-1], [20 + 16, 0, 0], atol=1e-3)
    np.testing.assert_allclose(manoeuvre("brake", 8.0)[-1], [8.0, 0, 0], atol=1e-2)
    assert manoeuvre("lane_change_left", 12.0)[-1, 1] == pytest.approx(LANE_CHANGE[0], abs=0.01)
    assert manoeuvre("swerve_right", 12.0)[-1, 1] == pytest.approx(-SWERVE[0], abs=0.01)
    assert np.rad2deg(manoeuvre("left_turn", 0.0)[-1, 2]) == pytest.approx(75.0, abs=0.1)


@pytest.mark.parametrize("pair", [("left_turn", "right_turn"), ("lane_change_left", "lane_change_right")])
def test_left_mirrors_right(pair):
    left, right = (manoeuvre(name, 9.0) for name in pair)
    np.testing.assert_allclose(left * [1, -1, -1], right, atol=1e-6)


def test_errors_say_what_to_type():
    with pytest.raises(ValueError, match="did you mean 'left_turn'.*swerve_right"):
        manoeuvre("left_trun", 5.0)
    with pytest.raises(ValueError, match="needs at least 5.9 m/s"):
        manoeuvre("swerve_left", 2.0)
    with pytest.raises(ValueError, match="0 m/s or more"):
        manoeuvre("brake", -1.0)
