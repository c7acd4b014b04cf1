"""The intelligent driver model, and which stop lines it has to respect, for any leading dimensions.

``xp`` is the namespace of the arrays, numpy or torch.
"""

from typing import Any

import numpy as np

from resim.datatypes.scene import LightState

Array = Any  # of the namespace xp
MAX_BRAKE_MPS2 = 8.0


def idm_accel(
    speed_mps: Array,
    wanted_mps: Array,
    gap_m: Array,
    lead_mps: Array,
    *,
    max_accel_mps2: float = 0.73,
    comfortable_brake_mps2: float = 1.67,
    time_gap_s: float = 1.6,
    min_gap_m: float = 2.0,
    exponent: float = 4.0,
    xp: Any = np,
) -> Array:
    """Acceleration of the intelligent driver model; an infinite ``gap_m`` is a free road.

    Treiber, Hennecke, Helbing, Phys. Rev. E 62 (2000), equations 2 and 3, with that paper's parameters as defaults.
    The braking is limited to what a vehicle can do.
    """
    braking_m = speed_mps * (speed_mps - lead_mps) / (2 * np.sqrt(max_accel_mps2 * comfortable_brake_mps2))
    wanted_gap_m = min_gap_m + xp.clip(speed_mps * time_gap_s + braking_m, 0.0, None)
    free = 1 - (speed_mps / xp.clip(wanted_mps, 0.1, None)) ** exponent
    accel = max_accel_mps2 * (free - (wanted_gap_m / xp.clip(gap_m, 0.1, None)) ** 2)
    return xp.clip(accel, -MAX_BRAKE_MPS2, max_accel_mps2)


def gap_to_stop(
    front_to_line_m: Array, speed_mps: Array, state: Array, firm_brake_mps2: float = 3.0, xp: Any = np
) -> Array:
    """Gap to a stop line that must be respected, else infinity: red, or yellow while stopping is still reasonable."""
    can_stop = speed_mps**2 <= 2 * firm_brake_mps2 * xp.clip(front_to_line_m, 0.01, None)
    must_stop = (state == int(LightState.RED)) | ((state == int(LightState.YELLOW)) & can_stop)
    return xp.where(must_stop & (front_to_line_m > -0.5), xp.clip(front_to_line_m, 0.1, None), np.inf)
