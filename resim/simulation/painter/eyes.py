"""Eyes: the frames of a policy's cameras while a simulation runs, painted when they are asked for."""

from collections.abc import Mapping
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.geometry import Camera, FloatArray
from resim.datatypes.observation import Boxes
from resim.datatypes.scene import Scene
from resim.simulation.painter.moment import Follower, Moment, moments
from resim.simulation.painter.painter import Painter


class Eyes:
    """Follows one simulation of ``scene`` from ``first_step`` on. The history before it is the log's."""

    def __init__(self, scene: Scene, cameras: Mapping[str, Camera], first_step: int) -> None:
        self.scene = scene
        self.painters = {name: Painter(scene, camera) for name, camera in cameras.items()}
        self._follower = Follower(scene)
        for _ in islice(moments(scene, self._follower), first_step):
            pass
        self._moment: Moment | None = None

    def follow(self, axle_pose: FloatArray, boxes: Boxes, step: int) -> None:
        """Take note of the next step; every one must be told."""
        heading_rad = boxes.poses[:, 2]
        ahead = np.stack([np.cos(heading_rad), np.sin(heading_rad)], -1)
        speed_mps = (boxes.velocity_mps * ahead).sum(-1)
        lights = self.scene.light_states[:, step]
        self._moment = self._follower.next(axle_pose, boxes.poses, speed_mps, boxes.valid, lights)

    def frames(self) -> dict[str, NDArray[np.uint8]]:
        """What each camera sees now, uint8 (H, W, 3) RGB."""
        assert self._moment is not None  # a step was told
        return {name: painter.paint(self._moment) for name, painter in self.painters.items()}
