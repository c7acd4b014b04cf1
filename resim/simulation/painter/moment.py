"""Moments: all that moves at one step, for the painter; made of the past alone, so they follow any simulation."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.geometry import FloatArray
from resim.datatypes.scene import Scene

BRAKING_MPS2 = 0.7  # who slows down by more shows brake lamps
STANDS_MPS = 0.3


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """One step. Others are the scene's tracks without the ego, in their order (A)."""

    axle_pose: FloatArray  # (3,) of the ego, world
    poses: FloatArray  # (A, 3) world
    valid: NDArray[np.bool_]  # (A,)
    braking: NDArray[np.bool_]  # (A,) slows down, or stands after it has moved
    gone_m: FloatArray  # (A,) distance gone so far, from which limbs swing
    light_states: NDArray[np.int8]  # (stops,)


class Follower:
    """Makes the moments of one scene, step after step from its first."""

    def __init__(self, scene: Scene) -> None:
        self.dt_s = scene.dt_s
        count = len(scene.tracks) - 1
        self._before_mps: FloatArray | None = None
        self._gone = np.zeros(count)  # metres a second, summed
        self._fastest_mps = np.zeros(count)

    def next(
        self,
        axle_pose: FloatArray,
        poses: FloatArray,
        speed_mps: FloatArray,
        valid: NDArray[np.bool_],
        light_states: NDArray[np.int8],
    ) -> Moment:
        """The moment of the next step; ``speed_mps`` (A,) may have either sign."""
        speed_mps = np.where(valid, np.abs(speed_mps), 0.0)  # rows that are not valid may be NaN
        before_mps = speed_mps if self._before_mps is None else self._before_mps
        self._before_mps = speed_mps
        self._gone = self._gone + speed_mps
        self._fastest_mps = np.maximum(self._fastest_mps, np.where(valid, speed_mps, 0.0))
        slows = (speed_mps - before_mps) / self.dt_s < -BRAKING_MPS2
        stands = (speed_mps < STANDS_MPS) & (self._fastest_mps > 0.5)
        return Moment(
            axle_pose=axle_pose,
            poses=poses,
            valid=valid,
            braking=slows | stands,
            gone_m=self._gone * self.dt_s,
            light_states=light_states,
        )


def moments(scene: Scene, follower: Follower | None = None) -> Iterator[Moment]:
    """The moments of a scene's log, in order, made by ``follower`` or by one of its own.

    Raises ValueError where the ego is not known at every step.
    """
    if not scene.ego.valid.all():
        raise ValueError(f"scene {scene.scene_id}: the ego is not valid at every step, so its camera has no place")
    others, count = scene.others(), len(scene.tracks) - 1
    poses = np.array([t.poses for t in others]).reshape(count, scene.num_steps, 3)
    speed_mps = np.array([t.speed_mps for t in others]).reshape(count, scene.num_steps)
    valid = np.array([t.valid for t in others], bool).reshape(count, scene.num_steps)
    axle, follower = scene.ego_axle_poses(), Follower(scene) if follower is None else follower
    for t in range(scene.num_steps):
        yield follower.next(axle[t], poses[:, t], speed_mps[:, t], valid[:, t], scene.light_states[:, t])
