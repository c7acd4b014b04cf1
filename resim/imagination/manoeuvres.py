"""Named manoeuvres as waypoints: what to type where there is no recorded path.

Each one is a speed profile and a heading profile over 4 s from a given initial speed, integrated, so the heading of
every waypoint is the direction of motion there.
"""

import difflib

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.clip import WAYPOINT_TIMES_S
from resim.datatypes.geometry import FloatArray

HORIZON_S = WAYPOINT_TIMES_S[-1]
INTEGRATION_DT_S = 0.01

TURN_SPEED_MPS = 6.0  # what a turn slows down (or speeds up) to
TURN_HEADING_RAD = float(np.deg2rad(75.0))
TURN_LATERAL_MPS2 = 4.0  # a turn is opened up where it would need more
BRAKE_MPS2 = 4.0
ACCELERATE_MPS2 = 2.0
SPEED_CHANGE_MPS2 = 3.0
LANE_CHANGE = (3.5, 3.5)  # metres sideways, seconds it takes
SWERVE = (2.5, 1.6)
MAX_SLIP_SINE = 0.5  # sideways over forward motion: beyond it a car does not move sideways, it turns

MANOEUVRES = (
    "straight", "left_turn", "right_turn", "lane_change_left", "lane_change_right", "brake", "accelerate",
    "swerve_left", "swerve_right",
)  # fmt: skip


def manoeuvre(name: str, speed_mps: float) -> NDArray[np.float32]:
    """Waypoints (8, 3) [x_m, y_m, heading_rad] at 0.5 .. 4.0 s of a named manoeuvre, ego frame at t = 0.

    Args:
        name: one of ``MANOEUVRES``.
        speed_mps: speed at t = 0, not negative.

    Raises:
        ValueError: unknown name, negative or non-finite speed, or too slow to move sideways as the name asks.
    """
    if name not in MANOEUVRES:
        close = difflib.get_close_matches(name, MANOEUVRES, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else "."
        raise ValueError(f"no manoeuvre '{name}'{hint} Choose from: {', '.join(MANOEUVRES)}")
    if not np.isfinite(speed_mps) or speed_mps < 0:
        raise ValueError(f"manoeuvre '{name}' needs a speed of 0 m/s or more, got {speed_mps}")
    times_s = np.arange(0.0, HORIZON_S + INTEGRATION_DT_S / 2, INTEGRATION_DT_S)
    side = -1.0 if name.endswith("right") or name == "right_turn" else 1.0
    speeds_mps = np.full_like(times_s, speed_mps)
    headings_rad = np.zeros_like(times_s)
    if name == "brake":
        speeds_mps = np.maximum(speed_mps - BRAKE_MPS2 * times_s, 0.0)
    elif name == "accelerate":
        speeds_mps = speed_mps + ACCELERATE_MPS2 * times_s
    elif name.endswith("_turn"):
        speeds_mps, headings_rad = _turn(times_s, speed_mps)
    elif name.startswith(("lane_change", "swerve")):
        headings_rad = _sidestep(name, times_s, speed_mps)
    return _integrate(times_s, speeds_mps, side * headings_rad)


def _turn(times_s: FloatArray, speed_mps: float) -> tuple[FloatArray, FloatArray]:
    """Speeds and headings of a left turn: the speed goes to ``TURN_SPEED_MPS``, the yaw rate rises and falls."""
    change_mps = TURN_SPEED_MPS - speed_mps
    speeds_mps = speed_mps + np.sign(change_mps) * np.minimum(abs(change_mps), SPEED_CHANGE_MPS2 * times_s)
    peak_rate_per_rad = 1.875 / HORIZON_S  # of _minimum_jerk, half way
    gentlest_rad = TURN_LATERAL_MPS2 / (speeds_mps[len(times_s) // 2] * peak_rate_per_rad)
    return speeds_mps, min(TURN_HEADING_RAD, gentlest_rad) * _minimum_jerk(times_s / HORIZON_S)


def _sidestep(name: str, times_s: FloatArray, speed_mps: float) -> FloatArray:
    """Headings of a step to the left at constant speed that ends parallel to where it began."""
    shift_m, duration_s = SWERVE if name.startswith("swerve") else LANE_CHANGE
    slowest_mps = 1.875 * shift_m / duration_s / MAX_SLIP_SINE
    if speed_mps < slowest_mps:
        raise ValueError(f"manoeuvre '{name}' needs at least {slowest_mps:.1f} m/s, got {speed_mps:.1f}")
    u = np.clip(times_s / duration_s, 0.0, 1.0)
    sideways_mps = shift_m / duration_s * 30 * u**2 * (1 - u) ** 2
    return np.arcsin(sideways_mps / speed_mps)


def _minimum_jerk(u: FloatArray) -> FloatArray:
    """0 to 1 over u in [0, 1] with zero first and second derivatives at both ends; steepest 1.875 at 1/2."""
    return u**3 * (10 - 15 * u + 6 * u**2)


def _integrate(times_s: FloatArray, speeds_mps: FloatArray, headings_rad: FloatArray) -> NDArray[np.float32]:
    """Positions by the midpoint rule, read at the waypoint times -> (8, 3)."""
    step_m = INTEGRATION_DT_S * (speeds_mps[1:] + speeds_mps[:-1]) / 2
    middle_rad = (headings_rad[1:] + headings_rad[:-1]) / 2
    x_m = np.concatenate([[0.0], np.cumsum(step_m * np.cos(middle_rad))])
    y_m = np.concatenate([[0.0], np.cumsum(step_m * np.sin(middle_rad))])
    at = np.searchsorted(times_s, np.array(WAYPOINT_TIMES_S) - INTEGRATION_DT_S / 2)
    return np.stack([x_m[at], y_m[at], headings_rad[at]], axis=-1).astype(np.float32)
