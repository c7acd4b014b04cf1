"""What a vehicle is to the one who drives it: size, axles, and what it can do."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Vehicle:
    """A vehicle steered at the front. The box centre lies ``rear_axle_to_center_m`` ahead of the rear axle."""

    length_m: float
    width_m: float
    height_m: float
    wheelbase_m: float
    rear_axle_to_center_m: float
    max_accel_mps2: float
    max_brake_mps2: float
    max_steer_rad: float
    max_steer_rate_radps: float


CAR = Vehicle(
    length_m=4.6,
    width_m=1.9,
    height_m=1.5,
    wheelbase_m=2.8,
    rear_axle_to_center_m=1.4,
    max_accel_mps2=4.0,
    max_brake_mps2=8.0,
    max_steer_rad=0.6,
    max_steer_rate_radps=0.8,
)
