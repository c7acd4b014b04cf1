"""The ground: bird's-eye canvases fixed to the world, painted once per clip, and their warp into the camera view.

Three canvases of growing texel size serve near, middle and far rows, so that a texel is never much smaller than a pixel
is wide. A pixel far ahead is much longer than wide; those rows are sampled several times and averaged.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from resim.geometry import Camera, FloatArray, points_from_frame
from resim.scene import Scene
from resim.simulation.painter_looks import Colour, Palette, lattice, mixed, scaled, unit_hash

WHITE: Colour = (232, 232, 228)
YELLOW: Colour = (226, 178, 52)
LINE_WIDTH_M = 0.2
SNAP_M = 8.0  # canvases start and end on multiples of this, so that one place is painted alike in every clip
FAR_M = 220.0  # beyond this the ground is haze
# Canvases as (texel_m, reach_m, contrast of the texture), for large and for small images.
FINE = ((0.05, 22.0, 1.0), (0.2, 80.0, 0.9), (0.8, FAR_M, 0.6))
COARSE = ((0.1, 14.0, 1.0), (0.2, 45.0, 0.9), (0.8, FAR_M, 0.6))
SHIFT = 4  # fixed-point bits of the coordinates that OpenCV draws


class Canvas:
    """A bird's-eye image: column = world x, row = world y, ``texel_m`` metres each, from the corner ``origin_m``."""

    def __init__(self, low_m: FloatArray, high_m: FloatArray, texel_m: float):
        self.origin_m = np.floor(low_m / SNAP_M) * SNAP_M
        self.size_m = np.ceil(high_m / SNAP_M) * SNAP_M - self.origin_m
        self.texel_m = texel_m
        columns, rows = np.round(self.size_m / texel_m).astype(int)
        self.pixels = np.zeros((rows, columns, 3), np.uint8)

    def fixed_point(self, points_m: FloatArray) -> NDArray[np.int32]:
        """World points (..., 2) in OpenCV's fixed-point pixel coordinates."""
        pixels = (points_m - self.origin_m) / self.texel_m - 0.5
        return np.round(np.clip(pixels, -30000, 30000) * (1 << SHIFT)).astype(np.int32)

    def sees(self, points_m: FloatArray, margin_m: float = 0.0) -> bool:
        """Whether the bounding box of ``points_m`` (N, 2) touches the canvas."""
        high_m = self.origin_m + self.size_m + margin_m
        return bool(np.all(points_m.max(0) > self.origin_m - margin_m) and np.all(points_m.min(0) < high_m))

    def fill(self, polygon_m: FloatArray, colour: Colour) -> None:
        """Paint a polygon (N, 2)."""
        if self.sees(polygon_m):
            cv2.fillPoly(self.pixels, [self.fixed_point(polygon_m)], colour, cv2.LINE_AA, SHIFT)

    def stroke(self, line_m: FloatArray, width_m: float, colour: Colour) -> None:
        """Paint a wide band along a polyline (N, 2)."""
        if self.sees(line_m, width_m):
            width_px = max(1, round(width_m / self.texel_m))
            cv2.polylines(self.pixels, [self.fixed_point(line_m)], False, colour, width_px, cv2.LINE_AA, SHIFT)

    def bars(self, bars_m: FloatArray, width_m: float, colour: Colour, below: Colour, strength: float = 1.0) -> None:
        """Paint straight bars (N, 2, 2), from end to end, of ``width_m``; thinner than a texel they fade to ``below``.

        OpenCV's anti-aliased fill is about 1.4 px wider than asked, and never thinner than 1.8 px: allowed for here.
        """
        inside = np.all(bars_m.max(1) > self.origin_m, axis=1)
        inside &= np.all(bars_m.min(1) < self.origin_m + self.size_m, axis=1)
        bars_m = bars_m[inside]
        if not len(bars_m):
            return
        along = bars_m[:, 1] - bars_m[:, 0]
        along = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
        half_m = max(width_m - 1.4 * self.texel_m, 0.0) / 2
        side = np.stack([-along[:, 1], along[:, 0]], -1) * half_m
        quads = np.stack([bars_m[:, 0] + side, bars_m[:, 1] + side, bars_m[:, 1] - side, bars_m[:, 0] - side], 1)
        colour = mixed(below, colour, strength * min(1.0, width_m / self.texel_m / 1.8))
        for quad in self.fixed_point(quads):
            cv2.fillConvexPoly(self.pixels, quad, colour, cv2.LINE_AA, SHIFT)

    def noise(self, seed: int, scale_m: float) -> NDArray[np.uint8]:
        """Smooth world-anchored noise with blobs of ``scale_m``, as large as the canvas."""
        pad = 2
        first = np.round(self.origin_m / scale_m).astype(int) - pad
        cells = np.round(self.size_m / scale_m).astype(int) + 2 * pad
        pad_px = round(pad * scale_m / self.texel_m)
        rows, columns = self.pixels.shape[:2]
        size = (columns + 2 * pad_px, rows + 2 * pad_px)
        cell_values = lattice(seed, first[0], first[1], (cells[1], cells[0]))
        values = cv2.resize(cell_values, size, interpolation=cv2.INTER_CUBIC)
        return values[pad_px : pad_px + rows, pad_px : pad_px + columns]


def resampled(line_m: FloatArray, step_m: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Points (M, 2) every ``step_m`` along a polyline (N, 2), their left normals (M, 2) and distances (M,)."""
    pieces = np.linalg.norm(np.diff(line_m, axis=0), axis=1)
    distance = np.concatenate([[0.0], np.cumsum(pieces)])
    at = np.arange(0.0, distance[-1] + 1e-6, step_m)
    points = np.stack([np.interp(at, distance, line_m[:, i]) for i in (0, 1)], -1)
    ahead = np.stack([np.interp(at + 0.5, distance, line_m[:, i]) for i in (0, 1)], -1)
    behind = np.stack([np.interp(at - 0.5, distance, line_m[:, i]) for i in (0, 1)], -1)
    along = ahead - behind
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    return points, np.stack([-along[:, 1], along[:, 0]], -1), at


def segments(points: FloatArray) -> FloatArray:
    """Neighbouring points (N, 2) as bars (N-1, 2, 2)."""
    return np.stack([points[:-1], points[1:]], 1)


def paint_canvas(scene: Scene, palette: Palette, canvas: Canvas, contrast: float) -> None:
    """Paint the map of ``scene`` and a world-anchored texture (of ``contrast`` in [0, 1]) into ``canvas``."""
    canvas.pixels[:] = np.array(palette.verge, np.uint8)
    for edge in scene.road_edges:
        canvas.stroke(edge, 4.8, palette.sidewalk)
    for edge in scene.road_edges:
        canvas.stroke(edge, 0.9, palette.kerb)
    rows, columns = canvas.pixels.shape[:2]
    on_road = np.zeros((rows, columns), np.uint8)
    for polygon in scene.drivable:
        if canvas.sees(polygon):
            cv2.fillPoly(on_road, [canvas.fixed_point(polygon)], 255, cv2.LINE_8, SHIFT)
            canvas.fill(polygon, palette.road)
    for edge in scene.road_edges:
        canvas.stroke(edge, 0.25, scaled(palette.road, 0.62))
    _wear(scene, palette, canvas)
    _texture(scene, canvas, on_road, contrast)
    _markings(scene, palette, canvas)


def _wear(scene: Scene, palette: Palette, canvas: Canvas) -> None:
    """Wheel tracks, tar seams and patches along the lanes."""
    for lane in scene.lanes:
        if not canvas.sees(lane.centerline_m, lane.width_m):
            continue
        points, left, _ = resampled(lane.centerline_m, 3.0)
        for offset_m in (-0.85, 0.85):
            track = points + offset_m * left
            canvas.stroke(track, 0.6, scaled(palette.road, 0.9))
        points, left, at = resampled(lane.centerline_m, 2.0)
        along = np.stack([left[:, 1], -left[:, 0]], -1)
        for i in range(1, len(points) - 1):
            draw = unit_hash(scene.scene_id, "wear", lane.lane_id, i)
            half_m = lane.width_m / 2
            if draw < 0.10:
                seam = np.stack([points[i] - half_m * left[i], points[i] + half_m * left[i]])[None]
                canvas.bars(seam, 0.22, scaled(palette.road, 0.66), palette.road)
            elif draw < 0.20:
                length_m, width_m = 1.5 + 30 * (draw - 0.10), 0.35 * half_m + 6.0 * (draw - 0.10)
                centre = points[i] + (unit_hash(scene.scene_id, "patch", lane.lane_id, i) - 0.5) * half_m * left[i]
                corners = [centre + a * length_m * along[i] + b * width_m * left[i]
                           for a, b in ((-0.5, -1), (0.5, -1), (0.5, 1), (-0.5, 1))]  # fmt: skip
                canvas.fill(np.stack(corners), scaled(palette.road, 0.8 if draw < 0.16 else 1.1))


def _texture(scene: Scene, canvas: Canvas, on_road: NDArray[np.uint8], contrast: float) -> None:
    """Multiply in smooth noise at three scales, weak on the road and strong beside it."""
    noise = np.full(on_road.shape, 128, np.uint8)
    for scale_m, weight in ((8.0, 0.55), (2.0, 0.55), (0.5, 0.3)):
        if scale_m >= 2 * canvas.texel_m:
            seed = int(unit_hash(scene.scene_id, "ground", scale_m) * 2**32)
            noise = cv2.addWeighted(noise, 1.0, canvas.noise(seed, scale_m), weight, -128 * weight)
    gain = cv2.convertScaleAbs(noise, alpha=0.42 * contrast, beta=128 * (1 - 0.42 * contrast))
    cv2.copyTo(cv2.convertScaleAbs(noise, alpha=0.16 * contrast, beta=128 * (1 - 0.16 * contrast)), on_road, gain)
    cv2.multiply(canvas.pixels, cv2.merge([gain, gain, gain]), canvas.pixels, scale=1 / 128)


def _markings(scene: Scene, palette: Palette, canvas: Canvas) -> None:
    """Lane lines, crosswalks and stop lines."""
    for line in scene.road_lines:
        if not canvas.sees(line.points_m, 1.0):
            continue
        if line.style == "dashed":
            points, _, _ = resampled(line.points_m, 1.5)
            bars = segments(points)
            canvas.bars(bars[np.arange(len(bars)) % 6 < 2], LINE_WIDTH_M, WHITE, palette.road)
        elif line.style == "solid":
            canvas.bars(segments(line.points_m), LINE_WIDTH_M, WHITE, palette.road)
        elif line.style == "double":
            points, left, _ = resampled(line.points_m, 1.5)
            for offset_m in (-0.2, 0.2):
                canvas.bars(segments(points + offset_m * left), LINE_WIDTH_M, YELLOW, palette.road)
        else:
            raise ValueError(f"road line style {line.style!r}: use 'solid', 'dashed' or 'double'")
    for polygon in scene.crosswalks:
        _crosswalk(polygon, palette, canvas)
    for light in scene.lights:
        canvas.bars(light.stop_line_m[None, :, :2], 0.45, WHITE, palette.road)


def _crosswalk(polygon: FloatArray, palette: Palette, canvas: Canvas) -> None:
    """Stripes of 0.6 m along the short side of the crosswalk's box, one every 1.2 m along its long side."""
    (cx, cy), (w, h), angle_deg = cv2.minAreaRect(polygon.astype(np.float32))
    across = np.array([np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))])
    along = np.array([-across[1], across[0]])
    if h > w:
        w, h, across, along = h, w, along, across
    at = np.arange(-w / 2 + 0.6, w / 2 - 0.3, 1.2)[:, None]
    centre = np.array([cx, cy]) + at * across
    bars = np.stack([centre - h / 2 * along, centre + h / 2 * along], 1)
    canvas.bars(bars, 0.6, WHITE, palette.road)


class Ground:
    """The ground of one scene as one camera sees it from poses of the ego's rear axle (T, 3)."""

    def __init__(self, scene: Scene, palette: Palette, camera: Camera, final_width_px: int):
        self.camera, self.palette = camera, palette
        self.horizon_px = camera.cy_px - camera.fy_px * np.tan(camera.pitch_rad)
        self.first_row = int(np.clip(np.ceil(self.horizon_px), 0, camera.height_px))
        final_fx_px = camera.fx_px * final_width_px / camera.width_px
        view_tan = 1.1 * camera.width_px / 2 / camera.fx_px
        poses = scene.ego_axle_poses()
        self.bands: list[tuple[Canvas, int, int, int]] = []
        bottom = camera.height_px
        for texel_m, reach_m, contrast in FINE if final_fx_px > 160 else COARSE:
            corners = np.array([[0, 0], [reach_m, -reach_m * view_tan], [reach_m, reach_m * view_tan]])
            seen = np.concatenate([points_from_frame(corners, pose) for pose in poses])
            canvas = Canvas(seen.min(0) - 2.0, seen.max(0) + 2.0, texel_m)
            paint_canvas(scene, palette, canvas, contrast)
            top = self.first_row if reach_m == FAR_M else max(self.first_row, int(np.ceil(self._row(reach_m))))
            if top < bottom:
                length_m = self._ahead(top + 0.5) - self._ahead(top + 1.5)
                samples = int(np.clip(np.ceil(length_m / (2.0 * texel_m)), 1, 6))
                self.bands.append((canvas, top, bottom, samples))
                bottom = top
        self._light()

    def _ahead(self, row_px: FloatArray | float) -> FloatArray:
        """Distance ahead of the camera, in metres, at which image height ``row_px`` meets the ground."""
        angle_rad = np.arctan((row_px - self.camera.cy_px) / self.camera.fy_px) + self.camera.pitch_rad
        return self.camera.z_m / np.tan(np.maximum(angle_rad, 1e-4))

    def _row(self, ahead_m: float) -> float:
        """Inverse of :meth:`_ahead`."""
        angle_rad = np.arctan(self.camera.z_m / ahead_m) - self.camera.pitch_rad
        return self.camera.cy_px + self.camera.fy_px * np.tan(angle_rad)

    def _light(self) -> None:
        """Light and haze on each ground pixel, as one factor and one addend image."""
        camera, palette = self.camera, self.palette
        ahead_m = self._ahead(np.arange(self.first_row, camera.height_px) + 0.5)[:, None]
        left_m = (camera.cx_px - np.arange(camera.width_px) - 0.5) / camera.fx_px * ahead_m
        light = light_at(palette, ahead_m, left_m)
        clear = clearness(palette, np.hypot(ahead_m, left_m))
        self._gain = np.repeat(np.round(255 * clear * light)[..., None], 3, axis=2).astype(np.uint8)
        self._haze = np.round((1 - clear)[..., None] * np.array(palette.haze)).astype(np.uint8)

    def paint(self, image: NDArray[np.uint8], axle_pose: FloatArray) -> None:
        """Paint everything below the horizon into ``image`` (H, W, 3), seen from ``axle_pose`` (3,)."""
        verge = tuple(float(c) for c in self.palette.verge)
        for canvas, top, bottom, samples in self.bands:
            matrix = self._canvas_from_image(canvas, axle_pose) @ np.array(
                [[1.0, 0, 0.5], [0, 1 / samples, top + 0.5 / samples], [0, 0, 1]]
            )
            size = (self.camera.width_px, (bottom - top) * samples)
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            band = cv2.warpPerspective(
                canvas.pixels, matrix, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=verge
            )
            if samples > 1:
                band = cv2.resize(band, (size[0], bottom - top), interpolation=cv2.INTER_AREA)
            image[top:bottom] = band
        ground = image[self.first_row :]
        cv2.multiply(ground, self._gain, ground, scale=1 / 255)
        cv2.add(ground, self._haze, ground)

    def _canvas_from_image(self, canvas: Canvas, axle_pose: FloatArray) -> FloatArray:
        """Homography (3, 3) from image points (u, v, 1) to texel indices of ``canvas``."""
        c = self.camera
        sin, cos = np.sin(c.pitch_rad), np.cos(c.pitch_rad)
        # A ray (depth 1, left, up) of the camera, turned into the body frame, meets the ground after sinking by z_m.
        ray_from_image = np.array(
            [[0, 0, 1], [-1 / c.fx_px, 0, c.cx_px / c.fx_px], [0, -1 / c.fy_px, c.cy_px / c.fy_px]]
        )
        body_from_ray = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        meets_ground = np.array([[c.z_m, 0, -c.x_m], [0, c.z_m, -c.y_m], [0, 0, -1.0]])
        hc, hs = np.cos(axle_pose[2]), np.sin(axle_pose[2])
        world_from_body = np.array([[hc, -hs, axle_pose[0]], [hs, hc, axle_pose[1]], [0, 0, 1]])
        per_m = 1 / canvas.texel_m
        texel_from_world = np.array(
            [[per_m, 0, -canvas.origin_m[0] * per_m - 0.5], [0, per_m, -canvas.origin_m[1] * per_m - 0.5], [0, 0, 1]]
        )
        return texel_from_world @ world_from_body @ meets_ground @ body_from_ray @ ray_from_image


def light_at(palette: Palette, ahead_m: FloatArray, left_m: FloatArray) -> FloatArray:
    """Light from above and from the ego's own lamps at points ``ahead_m``, ``left_m`` of the camera."""
    beam = np.exp(-((left_m / (2.5 + 0.22 * np.maximum(ahead_m, 0))) ** 2)) * np.exp(-np.maximum(ahead_m, 0) / 28.0)
    return np.minimum(palette.ambient + palette.sun * 0.7 + palette.headlights * beam, 1.0)


def clearness(palette: Palette, distance_m: FloatArray) -> FloatArray:
    """Fraction of contrast left at a distance."""
    return np.exp(-((distance_m / palette.haze_length_m) ** 1.3))
