"""Kinematic bicycle at the rear axle, integrated exactly for a control held over one step.

State ``[x_m, y_m, heading_rad, speed_mps, steer_rad]`` of the rear axle; control ``(accel_mps2, steer_rad)``. Source of
the model: Rajamani, Vehicle Dynamics and Control, section 2.2 (no side slip at the rear axle).
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]

WHEELBASE_M = 2.8
MAX_STEER_RAD = 0.6
MAX_STEER_RATE_RADPS = 0.8
MAX_ACCEL_MPS2 = 4.0
MAX_BRAKE_MPS2 = 8.0


def limit_control(state: FloatArray, accel_mps2: float, steer_rad: float, dt_s: float) -> tuple[float, float]:
    """The control the vehicle can carry out from ``state``: limits of acceleration, steering angle and its rate."""
    accel_mps2 = float(np.clip(accel_mps2, -MAX_BRAKE_MPS2, MAX_ACCEL_MPS2))
    reach_rad = MAX_STEER_RATE_RADPS * dt_s
    steer_rad = float(np.clip(steer_rad, state[4] - reach_rad, state[4] + reach_rad))
    return accel_mps2, float(np.clip(steer_rad, -MAX_STEER_RAD, MAX_STEER_RAD))


def step_bicycle(state: FloatArray, accel_mps2: float, steer_rad: float, dt_s: float) -> FloatArray:
    """State (5,) after ``dt_s`` of constant acceleration and steering: an exact circular arc.

    The vehicle does not reverse: braking ends at standstill.
    """
    x_m, y_m, heading_rad, speed_mps, _ = state
    next_speed_mps = max(0.0, speed_mps + accel_mps2 * dt_s)
    if accel_mps2 < 0 and next_speed_mps == 0.0:
        distance_m = speed_mps**2 / (-2 * accel_mps2)
    else:
        distance_m = speed_mps * dt_s + 0.5 * accel_mps2 * dt_s**2
    half_turn_rad = 0.5 * distance_m * np.tan(steer_rad) / WHEELBASE_M
    chord_m = distance_m * np.sinc(half_turn_rad / np.pi)
    return np.array(
        [
            x_m + chord_m * np.cos(heading_rad + half_turn_rad),
            y_m + chord_m * np.sin(heading_rad + half_turn_rad),
            heading_rad + 2 * half_turn_rad,
            next_speed_mps,
            steer_rad,
        ]
    )


def steer_for_curvature(curvature_1pm: float) -> float:
    """Steering angle that drives a circle of this curvature (1/m, positive to the left)."""
    return float(np.arctan(WHEELBASE_M * curvature_1pm))
