"""Frames of reference: SE(2) poses, the ego frame, resampling, and the pinhole camera.

Body frame: x forward, y left, z up; origin on the ground below the rear axle; angles counter-clockwise, wrapped to
(-pi, pi]. A pose is a row ``[x_m, y_m, heading_rad]``. This module imports nothing of ours, and every foreign
convention is turned into these in the one importer that reads it.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]


def wrap_angle(angle_rad: FloatArray | float) -> FloatArray:
    """Wrap angles to (-pi, pi]."""
    return np.pi - np.mod(np.pi - np.asarray(angle_rad), 2 * np.pi)


def to_frame(poses: FloatArray, origin: FloatArray) -> FloatArray:
    """Express poses (..., 3) given in some frame in the frame of ``origin`` (3,), itself given in that same frame."""
    poses, origin = np.asarray(poses), np.asarray(origin)
    xy_m = points_to_frame(poses[..., :2], origin)
    heading_rad = wrap_angle(poses[..., 2] - origin[2])
    return np.concatenate([xy_m, heading_rad[..., None]], axis=-1)


def from_frame(poses: FloatArray, origin: FloatArray) -> FloatArray:
    """Inverse of :func:`to_frame`: poses (..., 3) given in the frame of ``origin`` back into the outer frame."""
    poses, origin = np.asarray(poses), np.asarray(origin)
    xy_m = points_from_frame(poses[..., :2], origin)
    heading_rad = wrap_angle(poses[..., 2] + origin[2])
    return np.concatenate([xy_m, heading_rad[..., None]], axis=-1)


def points_to_frame(xy_m: FloatArray, origin: FloatArray) -> FloatArray:
    """Express points (..., 2) in the frame of the pose ``origin`` (3,)."""
    cos, sin = np.cos(origin[2]), np.sin(origin[2])
    d = np.asarray(xy_m) - np.asarray(origin)[:2]
    return np.stack([cos * d[..., 0] + sin * d[..., 1], -sin * d[..., 0] + cos * d[..., 1]], axis=-1)


def points_from_frame(xy_m: FloatArray, origin: FloatArray) -> FloatArray:
    """Inverse of :func:`points_to_frame`."""
    cos, sin = np.cos(origin[2]), np.sin(origin[2])
    p = np.asarray(xy_m)
    return np.stack(
        [cos * p[..., 0] - sin * p[..., 1] + origin[0], sin * p[..., 0] + cos * p[..., 1] + origin[1]], axis=-1
    )


def resample_poses(times_s: FloatArray, poses: FloatArray, query_times_s: FloatArray) -> FloatArray:
    """Poses (N, 3) at increasing ``times_s`` (N,), interpolated linearly at ``query_times_s`` (M,) -> (M, 3).

    Headings are unwrapped before and wrapped after. Raises ValueError outside the recorded interval: nothing is
    extrapolated.
    """
    times_s, poses, query_times_s = np.asarray(times_s), np.asarray(poses), np.asarray(query_times_s)
    if np.any(np.diff(times_s) <= 0):
        raise ValueError("pose timestamps must increase strictly")
    slack_s = 1e-6
    if query_times_s.min() < times_s[0] - slack_s or query_times_s.max() > times_s[-1] + slack_s:
        raise ValueError(
            f"poses asked for at {query_times_s.min():.3f}..{query_times_s.max():.3f} s "
            f"but recorded only at {times_s[0]:.3f}..{times_s[-1]:.3f} s"
        )
    columns = (poses[:, 0], poses[:, 1], np.unwrap(poses[:, 2]))
    x, y, heading = (np.interp(query_times_s, times_s, c) for c in columns)
    return np.stack([x, y, wrap_angle(heading)], axis=-1)


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Pinhole camera fixed to the ego body.

    Intrinsics in pixels of an image of ``width_px`` x ``height_px``, u to the right, v down, pixel centres at .5.
    Mounted at (``x_m``, ``y_m``, ``z_m``) in the ego frame; turned to the left by ``yaw_rad``, then pitched down by
    ``pitch_rad`` (positive looks at the road), then rolled about its view by ``roll_rad`` (positive lifts the left).
    """

    width_px: int
    height_px: int
    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float
    x_m: float
    y_m: float
    z_m: float
    pitch_rad: float
    yaw_rad: float = 0.0
    roll_rad: float = 0.0

    def camera_from_body(self) -> FloatArray:
        """Rotation (3, 3) of vectors [forward, left, up] of the ego body into [depth, left, up] of the camera."""
        (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (self.yaw_rad, self.pitch_rad, self.roll_rad))
        yaw = np.array([[cy, sy, 0], [-sy, cy, 0], [0, 0, 1]])
        pitch = np.array([[cp, 0, -sp], [0, 1, 0], [sp, 0, cp]])
        roll = np.array([[1, 0, 0], [0, cr, sr], [0, -sr, cr]])
        return roll @ pitch @ yaw

    def project(self, points_m: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Ego-frame points (..., 3) -> pixels (..., 2) and depth in metres (...).

        Pixels are meaningful only where depth > 0; callers clip against their near plane first.
        """
        d = np.asarray(points_m) - np.array([self.x_m, self.y_m, self.z_m])
        seen_m = d @ self.camera_from_body().T
        depth_m = seen_m[..., 0]
        return self.pixels(np.where(np.abs(depth_m) < 1e-9, 1e-9, depth_m), seen_m[..., 1], seen_m[..., 2]), depth_m

    def pixels(self, depth_m: FloatArray, left_m: FloatArray, up_m: FloatArray) -> FloatArray:
        """Pixels (..., 2) of places given in the camera's own axes; their depth (...) is not 0."""
        u = self.cx_px - self.fx_px * left_m / depth_m
        v = self.cy_px - self.fy_px * up_m / depth_m
        return np.stack([u, v], axis=-1)

    def resized_and_cropped(self, height_px: int, width_px: int) -> "Camera":
        """The camera after the aspect-preserving resize and centre crop to (height_px, width_px) that images get."""
        scale = max(height_px / self.height_px, width_px / self.width_px)
        left_px = (self.width_px * scale - width_px) / 2
        top_px = (self.height_px * scale - height_px) / 2
        return replace(
            self,
            width_px=width_px,
            height_px=height_px,
            fx_px=self.fx_px * scale,
            fy_px=self.fy_px * scale,
            cx_px=self.cx_px * scale - left_px,
            cy_px=self.cy_px * scale - top_px,
        )


def simulation_camera(height_px: int, width_px: int) -> Camera:
    """The simulator's ego camera: 70 degrees across 512x896, 1.5 m ahead of the rear axle, 1.5 m up, 2 degrees down.

    Other sizes are the resize and centre crop of that image, so that every resolution shows the same view.
    """
    fx_px = 896 / 2 / np.tan(np.deg2rad(70) / 2)
    full = Camera(
        width_px=896, height_px=512, fx_px=fx_px, fy_px=fx_px, cx_px=448.0, cy_px=256.0,
        x_m=1.5, y_m=0.0, z_m=1.5, pitch_rad=float(np.deg2rad(2.0)),
    )  # fmt: skip
    return full.resized_and_cropped(height_px, width_px)
