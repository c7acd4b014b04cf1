"""Draw the commanded path into the camera view and into a bird's eye view, and set panels side by side.

All pictures are RGB uint8. A path is 8 waypoints [x_m, y_m, heading_rad] at 0.5 .. 4.0 s in the ego frame at t = 0; the
waypoints themselves are taken for the ego's motion, so at time t the rest of the path is seen from where it says the
ego is by then. History frames (t < 0) stay as they are.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from resim.datatypes.clip import FPS, NUM_FRAMES, NUM_HISTORY_FRAMES, WAYPOINT_DT_S, WAYPOINT_TIMES_S
from resim.datatypes.geometry import Camera, FloatArray, points_to_frame, to_frame, wrap_angle
from resim.datatypes.road_map import StopKind, SurfaceKind
from resim.datatypes.scene import LightState, Scene, TrackKind, center_poses
from resim.datatypes.vehicle import CAR

Picture = NDArray[np.uint8]
Color = tuple[int, int, int]

ASPHALT = (SurfaceKind.DRIVABLE, SurfaceKind.INTERSECTION, SurfaceKind.CARPARK)
NEAR_M = 0.8  # nearest depth at which the ribbon is drawn
RIBBON_STEP_S = 0.05

COMMANDED: Color = (40, 220, 120)
CANDIDATES: tuple[Color, ...] = ((255, 170, 60), (90, 160, 255), (240, 100, 160), (190, 150, 255), (230, 220, 90))
PAPER: Color = (24, 27, 31)
INK: Color = (235, 235, 235)
GRID: Color = (58, 62, 68)
ROAD: Color = (52, 55, 60)
LIGHT_COLORS: dict[int, Color] = {
    LightState.UNKNOWN: (130, 130, 130),
    LightState.GREEN: (60, 200, 90),
    LightState.YELLOW: (240, 200, 60),
    LightState.RED: (235, 70, 60),
}
TRACK_COLORS: dict[int, Color] = {
    TrackKind.VEHICLE: (150, 160, 175),
    TrackKind.PEDESTRIAN: (240, 140, 90),
    TrackKind.CYCLIST: (200, 200, 110),
    TrackKind.STATIC: (230, 120, 50),
}


def frame_times_s(num_frames: int) -> FloatArray:
    """Times (T,) of the frames of a clip in seconds; frame 8 is t = 0."""
    return (np.arange(num_frames) - (NUM_HISTORY_FRAMES - 1)) / FPS


def path_poses(waypoints: FloatArray, times_s: FloatArray) -> FloatArray:
    """Poses (N, 3) on a path (8, 3) at ``times_s`` (N,) in 0 .. 4 s, starting at the origin at t = 0.

    A smooth curve through the waypoints: cubic between two of them, with the slopes of central differences.
    """
    knots = np.concatenate([np.zeros((1, 3)), waypoints])
    knots[:, 2] = np.unwrap(knots[:, 2])
    change = np.gradient(knots, axis=0)
    place = np.asarray(times_s) / WAYPOINT_DT_S
    before = np.clip(place.astype(int), 0, len(waypoints) - 1)
    u = (place - before)[:, None]
    smooth = u**2 * (3 - 2 * u)
    poses = (1 - smooth) * knots[before] + smooth * knots[before + 1]
    poses += u * (1 - u) * ((1 - u) * change[before] - u * change[before + 1])
    poses[:, 2] = wrap_angle(poses[:, 2])
    return poses


def draw_path(
    frame_HWC: Picture, camera: Camera, waypoints: FloatArray, *, time_s: float = 0.0, color: Color = COMMANDED
) -> Picture:
    """The camera frame at ``time_s`` (0 .. 4) with what is left of the path on the ground, as wide as the car.

    ``camera`` must have the frame's size (ValueError). At the end of the path the frame comes back as it is.
    """
    if (camera.height_px, camera.width_px) != frame_HWC.shape[:2]:
        raise ValueError(
            f"camera is {camera.height_px}x{camera.width_px} pixels but the frame is "
            f"{frame_HWC.shape[0]}x{frame_HWC.shape[1]}: use camera.resized_and_cropped"
        )
    end_s = WAYPOINT_TIMES_S[-1]
    if time_s > end_s - RIBBON_STEP_S:
        return frame_HWC.copy()
    poses = path_poses(waypoints, np.linspace(time_s, end_s, round((end_s - time_s) / RIBBON_STEP_S) + 1))
    left_m, right_m = _ribbon_edges(to_frame(poses, poses[0]))
    ribbon = np.zeros(frame_HWC.shape[:2], np.uint8)
    for i in range(len(left_m) - 1):
        quad = np.array([left_m[i], left_m[i + 1], right_m[i + 1], right_m[i]])
        _fill_ground_quad(ribbon, camera, quad)
    inside = ribbon > 0
    edge = cv2.morphologyEx(ribbon, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    drawn = frame_HWC.astype(np.float32)
    drawn[inside] = 0.55 * drawn[inside] + 0.45 * np.array(color)
    drawn[edge & inside] = color
    return drawn.round().astype(np.uint8)


def _ribbon_edges(poses: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Left and right edge (N, 2) of the strip that the car's width sweeps along poses (N, 3)."""
    normal = np.stack([-np.sin(poses[:, 2]), np.cos(poses[:, 2])], axis=-1)
    return poses[:, :2] + normal * CAR.width_m / 2, poses[:, :2] - normal * CAR.width_m / 2


def _fill_ground_quad(mask: Picture, camera: Camera, corners_m: FloatArray) -> None:
    """Fill a quad (4, 2) on the ground into ``mask``, or nothing of it where a corner lies before the near plane."""
    pixels, depth_m = camera.project(np.concatenate([corners_m, np.zeros((4, 1))], axis=-1))
    if depth_m.min() >= NEAR_M:
        limit = 8 * max(mask.shape)  # OpenCV's fixed-point coordinates overflow far outside the image
        cv2.fillConvexPoly(mask, np.clip(pixels * 16, -limit * 16, limit * 16).astype(np.int32), (255,), shift=4)


def enlarge(frames_THWC: Picture, height_px: int, *, smooth: bool = True) -> Picture:
    """Frames resized to ``height_px``, width in proportion and even; cubic, or nearest when not ``smooth``."""
    height, width = frames_THWC.shape[1:3]
    width_px = round(width * height_px / height / 2) * 2
    how = cv2.INTER_CUBIC if smooth else cv2.INTER_NEAREST
    return np.stack([cv2.resize(frame, (width_px, height_px), interpolation=how) for frame in frames_THWC])


def draw_path_video(
    frames_THWC: Picture,
    camera: Camera,
    waypoints: FloatArray,
    *,
    height_px: int,
    color: Color = COMMANDED,
) -> Picture:
    """A clip (history first, t = 0 at frame 8) enlarged to ``height_px`` with the path drawn in from t = 0 on.

    ``camera`` is that of ``frames_THWC``; more than 49 frames are an error, since the path ends at 4 s.
    """
    if len(frames_THWC) > NUM_FRAMES:
        raise ValueError(f"{len(frames_THWC)} frames, but a path ends with frame {NUM_FRAMES}: draw each round alone")
    large = enlarge(frames_THWC, height_px)
    large_camera = camera.resized_and_cropped(*large.shape[1:3])
    for i, time_s in enumerate(frame_times_s(len(large))):
        if time_s >= 0:
            large[i] = draw_path(large[i], large_camera, waypoints, time_s=time_s, color=color)
    return large


class BirdEyeView:
    """A map of the ego frame at t = 0, heading up: x_m points up, y_m to the left, with a grid labelled in metres.

    Draws several named paths, the ego where ``shown`` says it is at a time, and a Scene's lanes, lights and boxes when
    one is given. The window fits all paths.
    """

    def __init__(
        self,
        paths: Mapping[str, FloatArray],
        *,
        shown: str,
        scene: Scene | None = None,
        height_px: int = 256,
        width_px: int = 256,
    ) -> None:
        if shown not in paths:
            raise ValueError(f"no path '{shown}' among {', '.join(paths)}")
        self.paths, self.shown, self.scene = paths, shown, scene
        xy_m = np.concatenate([np.zeros((1, 2)), *(p[:, :2] for p in paths.values())])
        bottom_m, top_m = min(-8.0, xy_m[:, 0].min() - 4), max(30.0, xy_m[:, 0].max() + 6)
        half_m = max(8.0, float(np.abs(xy_m[:, 1]).max()) + 4)
        self.px_per_m = min(height_px / (top_m - bottom_m), width_px / (2 * half_m))
        self.center_m = np.array([(top_m + bottom_m) / 2, 0.0])
        self.size_px = np.array([height_px, width_px])
        self.ground = self._ground()

    def pixels(self, xy_m: FloatArray) -> NDArray[np.int32]:
        """Ego-frame points (..., 2) -> pixels (..., 2) as [column, row]."""
        d = (np.asarray(xy_m) - self.center_m) * self.px_per_m
        return np.stack([self.size_px[1] / 2 - d[..., 1], self.size_px[0] / 2 - d[..., 0]], axis=-1).astype(np.int32)

    def draw(self, time_s: float) -> Picture:
        """The map at ``time_s`` in -0.8 .. 4.0 s -> uint8 (H, W, 3)."""
        picture = self.ground.copy()
        if self.scene is not None:
            self._draw_traffic(picture, self.scene, time_s)
        others = [name for name in self.paths if name != self.shown]
        for name in [*others, self.shown]:
            self._draw_path(picture, name)
        if time_s >= 0:
            pose = path_poses(self.paths[self.shown], np.array([min(time_s, WAYPOINT_TIMES_S[-1])]))[0]
            vehicle = CAR if self.scene is None else self.scene.ego_vehicle
            box = self._box(center_poses(pose, vehicle), vehicle.length_m, vehicle.width_m)
            cv2.fillPoly(picture, [box], INK, cv2.LINE_AA)
        return picture

    def video(self, num_frames: int) -> Picture:
        """One map per frame of a clip -> uint8 (T, H, W, 3)."""
        return np.stack([self.draw(time_s) for time_s in frame_times_s(num_frames)])

    def color(self, name: str) -> Color:
        """The colour a path is drawn in: green for the shown one, its own for each other."""
        return COMMANDED if name == self.shown else CANDIDATES[list(self.paths).index(name) % len(CANDIDATES)]

    def _draw_path(self, picture: Picture, name: str) -> None:
        waypoints = self.paths[name]
        poses = path_poses(waypoints, np.linspace(0, WAYPOINT_TIMES_S[-1], 81))
        thickness = max(1, round(0.9 * self.px_per_m)) if name == self.shown else 1
        cv2.polylines(picture, [self.pixels(poses[:, :2])], False, self.color(name), thickness, cv2.LINE_AA)
        for point in self.pixels(waypoints[:, :2]):
            cv2.circle(picture, (int(point[0]), int(point[1])), 2, self.color(name), -1, cv2.LINE_AA)

    def _ground(self) -> Picture:
        """What does not move: road surface, road lines, grid and its labels."""
        picture = np.full((*self.size_px, 3), PAPER, np.uint8)
        if self.scene is not None:
            origin = self._origin(self.scene)
            for polygon in self.scene.road.polygons(ASPHALT):
                cv2.fillPoly(picture, [self.pixels(points_to_frame(polygon, origin))], ROAD, cv2.LINE_AA)
            for edge in self.scene.road.edges:
                points = self.pixels(points_to_frame(edge, origin))
                cv2.polylines(picture, [points], False, (150, 150, 150), 1, cv2.LINE_AA)
            for lane in self.scene.road.lanes:
                points = self.pixels(points_to_frame(lane.centerline_m, origin))
                cv2.polylines(picture, [points], False, (84, 88, 96), 1, cv2.LINE_AA)
        self._draw_grid(picture)
        return picture

    def _draw_grid(self, picture: Picture) -> None:
        """Lines every 10 m (or the next round step that leaves 30 pixels), labelled along the left and lower edge."""
        half_m = self.size_px / 2 / self.px_per_m
        step_m = next(s for s in (10, 20, 50, 100, 200, 500) if s * self.px_per_m >= 30)
        low, high = self.center_m - half_m, self.center_m + half_m
        height, width = (int(n) for n in self.size_px)
        for x_m in np.arange(np.ceil(low[0] / step_m), np.floor(high[0] / step_m) + 1) * step_m:
            row = int(self.pixels(np.array([x_m, 0.0]))[1])
            cv2.line(picture, (0, row), (width, row), GRID, 1)
            _write(picture, f"{x_m + 0:.0f} m", (3, row - 3), size=0.32)
        for y_m in np.arange(np.ceil(low[1] / step_m), np.floor(high[1] / step_m) + 1) * step_m:
            column = int(self.pixels(np.array([0.0, y_m]))[0])
            cv2.line(picture, (column, 0), (column, height), GRID, 1)
            _write(picture, f"{y_m + 0:.0f}", (column + 2, height - 4), size=0.32)

    def _draw_traffic(self, picture: Picture, scene: Scene, time_s: float) -> None:
        """Stop lines in their light's colour and every other track's box, at the scene step of ``time_s``."""
        origin = self._origin(scene)
        step = scene.now_step + round(time_s / scene.dt_s)
        for stop, state in zip(scene.road.stops, scene.light_states[:, step], strict=True):
            if stop.line_m is not None:
                a, b = self.pixels(points_to_frame(stop.line_m, origin)).tolist()
                color = LIGHT_COLORS[int(state)] if stop.kind == StopKind.LIGHT else INK
                cv2.line(picture, a, b, color, 2, cv2.LINE_AA)
        for index, track in enumerate(scene.tracks):
            if index != scene.ego_index and track.valid[step]:
                box = self._box(to_frame(track.poses[step], origin), track.length_m, track.width_m)
                cv2.fillPoly(picture, [box], TRACK_COLORS[int(track.kind)], cv2.LINE_AA)

    def _origin(self, scene: Scene) -> FloatArray:
        return scene.ego_axle_poses()[scene.now_step]

    def _box(self, pose: FloatArray, length_m: float, width_m: float) -> NDArray[np.int32]:
        forward = np.array([np.cos(pose[2]), np.sin(pose[2])]) * length_m / 2
        left = np.array([-np.sin(pose[2]), np.cos(pose[2])]) * width_m / 2
        return self.pixels(pose[:2] + np.array([forward + left, forward - left, -forward - left, -forward + left]))


def _write(picture: Picture, text: str, at: tuple[int, int], *, size: float, color: Color = INK) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)


def side_by_side(panels: Sequence[tuple[str, Picture]], *, height_px: int = 256, smooth: bool = True) -> Picture:
    """Captioned videos (T, H, W, 3) in one row of ``height_px`` + a caption bar -> uint8 (T, H', W', 3), even sizes.

    All panels must have the same number of frames (ValueError).
    """
    lengths = {caption: len(frames) for caption, frames in panels}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"panels differ in length: {lengths}")
    captioned = []
    for caption, frames in panels:
        large = frames if frames.shape[1] == height_px else enlarge(frames, height_px, smooth=smooth)
        bar = np.full((20, large.shape[2], 3), PAPER, np.uint8)
        _write(bar, caption, (4, 14), size=0.42)
        captioned.append(np.concatenate([np.broadcast_to(bar, (len(large), *bar.shape)), large], axis=1))
    row = np.concatenate(captioned, axis=2)
    return row[:, : row.shape[1] // 2 * 2, : row.shape[2] // 2 * 2]
