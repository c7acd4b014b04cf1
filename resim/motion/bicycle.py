"""Kinematic bicycle at the rear axle, integrated exactly for a control held over one step.

State ``[x_m, y_m, heading_rad, speed_mps, steer_rad]`` of the rear axle; control ``(accel_mps2, steer_rad)``. Source of
the model: Rajamani, Vehicle Dynamics and Control, section 2.2 (no side slip at the rear axle). Written without branches
for any leading dimensions; ``xp`` is the namespace of the arrays, numpy or torch.
"""

from typing import Any

import numpy as np

from resim.datatypes.vehicle import Vehicle

Array = Any  # of the namespace xp


def limit_control(
    state: Array, accel_mps2: Array, steer_rad: Array, dt_s: float, vehicle: Vehicle, xp: Any = np
) -> tuple[Array, Array]:
    """The control (each ...) that ``vehicle`` can carry out from states (..., 5): acceleration, angle and its rate."""
    accel_mps2 = xp.clip(accel_mps2, -vehicle.max_brake_mps2, vehicle.max_accel_mps2)
    reach_rad = vehicle.max_steer_rate_radps * dt_s
    steer_rad = xp.clip(steer_rad, state[..., 4] - reach_rad, state[..., 4] + reach_rad)
    return accel_mps2, xp.clip(steer_rad, -vehicle.max_steer_rad, vehicle.max_steer_rad)


def step_bicycle(
    state: Array, accel_mps2: Array, steer_rad: Array, dt_s: float, wheelbase_m: float, xp: Any = np
) -> Array:
    """States (..., 5) after ``dt_s`` of constant acceleration and steering: an exact circular arc.

    The vehicle does not reverse: braking ends at standstill.
    """
    x_m, y_m, heading_rad, speed_mps = (state[..., i] for i in range(4))
    next_mps = xp.clip(speed_mps + accel_mps2 * dt_s, 0.0, None)
    stops = (accel_mps2 < 0) & (next_mps == 0.0)
    braked_m = speed_mps**2 / xp.where(stops, -2 * accel_mps2, 1.0)
    distance_m = xp.where(stops, braked_m, speed_mps * dt_s + 0.5 * accel_mps2 * dt_s**2)
    half_turn_rad = 0.5 * distance_m * xp.tan(steer_rad) / wheelbase_m
    chord_m = distance_m * xp.sinc(half_turn_rad / np.pi)
    ahead_rad = heading_rad + half_turn_rad
    moved = (
        x_m + chord_m * xp.cos(ahead_rad),
        y_m + chord_m * xp.sin(ahead_rad),
        heading_rad + 2 * half_turn_rad,
        next_mps,
        steer_rad + 0 * next_mps,
    )
    return xp.stack(moved, -1)


def steer_for_curvature(curvature_1pm: Array, wheelbase_m: float, xp: Any = np) -> Array:
    """Steering angle that drives a circle of this curvature (1/m, positive to the left)."""
    return xp.arctan(wheelbase_m * curvature_1pm)
