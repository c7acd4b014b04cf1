"""Closed forms of motion: one code for numpy and torch, any leading dimensions."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from resim.datatypes.scene import LightState
from resim.datatypes.vehicle import CAR
from resim.motion.bicycle import limit_control, steer_for_curvature, step_bicycle
from resim.motion.idm import gap_to_stop, idm_accel

seeds = st.integers(0, 2**31)


@given(seeds)
def test_bicycle_is_the_same_in_torch_and_one_state_at_a_time(seed):
    rng = np.random.default_rng(seed)
    states = rng.uniform([-50, -50, -3, 0, -0.5], [50, 50, 3, 15, 0.5], (3, 7, 5))
    wanted = rng.uniform([-12, -1], [6, 1], (3, 7, 2))
    accel, steer = limit_control(states, wanted[..., 0], wanted[..., 1], 0.1, CAR)
    after = step_bicycle(states, accel, steer, 0.1, CAR.wheelbase_m)
    in_torch = [torch.from_numpy(np.ascontiguousarray(x)) for x in (states, wanted[..., 0], wanted[..., 1])]
    limited = limit_control(*in_torch, 0.1, CAR, xp=torch)
    np.testing.assert_allclose(step_bicycle(in_torch[0], *limited, 0.1, CAR.wheelbase_m, xp=torch), after, atol=1e-12)
    one = step_bicycle(states[1, 2], float(accel[1, 2]), float(steer[1, 2]), 0.1, CAR.wheelbase_m)
    np.testing.assert_array_equal(one, after[1, 2])
    assert np.all(after[..., 3] >= 0) and np.abs(after[..., 4]).max() <= CAR.max_steer_rad
    curvature = torch.tensor([0.05, -0.1], dtype=torch.float64)
    np.testing.assert_allclose(
        torch.tan(steer_for_curvature(curvature, CAR.wheelbase_m, xp=torch)) / CAR.wheelbase_m, curvature
    )


@given(seeds)
def test_idm_and_stop_lines_are_the_same_in_torch(seed):
    rng = np.random.default_rng(seed)
    speed, wanted, gap, lead = rng.uniform(0, [[15], [15], [80], [15]], (4, 20))
    gap[::5] = np.inf
    state = rng.integers(0, 4, 20).astype(np.int8)
    line = rng.uniform(-3, 40, 20)
    parts = [torch.from_numpy(x) for x in (speed, wanted, gap, lead)]
    np.testing.assert_allclose(idm_accel(*parts, xp=torch), idm_accel(speed, wanted, gap, lead), atol=1e-12)
    in_torch = gap_to_stop(torch.from_numpy(line), parts[0], torch.from_numpy(state), xp=torch)
    np.testing.assert_array_equal(in_torch, gap_to_stop(line, speed, state))
    assert np.all(np.isinf(gap_to_stop(line, speed, np.full(20, LightState.GREEN))))
