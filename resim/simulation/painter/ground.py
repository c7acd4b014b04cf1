"""The ground: bird's-eye canvases fixed to the world, painted once per clip, and their warp into the camera view.

Three canvases of growing texel size serve near, middle and far rows, so that a texel is never much smaller than a pixel
is wide. A pixel far ahead is much longer than wide; those rows are sampled several times and averaged.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from resim.datatypes.geometry import Camera, FloatArray
from resim.datatypes.scene import Lane, Look, Scene
from resim.simulation.painter.looks import Colour, Palette, lattice, mixed, scaled, unit_hash

WHITE: Colour = (232, 232, 228)
YELLOW: Colour = (226, 178, 52)
LINE_WIDTH_M = 0.2
SNAP_M = 8.0  # canvases start and end on multiples of this, so that one place is painted alike in every clip
FAR_M = 220.0  # beyond this the ground is haze
# Canvases as (texel_m, reach_m, contrast of the texture), for large and for small images.
FINE = ((0.05, 22.0, 1.0), (0.2, 80.0, 0.9), (0.8, FAR_M, 0.6))
COARSE = ((0.1, 14.0, 1.0), (0.2, 45.0, 0.9), (0.8, FAR_M, 0.6))
SLAB_M = 4.2  # length of a slab
SLAB_SHADES = (0.7, 1.25)  # brightness of every other slab
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

    def quads(self, quads_m: FloatArray, colour: Colour) -> None:
        """Paint convex quads (N, 4, 2)."""
        inside = np.all(quads_m.max(1) > self.origin_m, axis=1)
        inside &= np.all(quads_m.min(1) < self.origin_m + self.size_m, axis=1)
        for quad in self.fixed_point(quads_m[inside]):
            cv2.fillConvexPoly(self.pixels, quad, tuple(colour), cv2.LINE_AA, SHIFT)

    def stroke(self, line_m: FloatArray, width_m: float, colour: Colour) -> None:
        """Paint a wide band along a polyline (N, 2)."""
        if self.sees(line_m, width_m):
            width_px = max(1, round(width_m / self.texel_m))
            cv2.polylines(self.pixels, [self.fixed_point(line_m)], False, tuple(colour), width_px, cv2.LINE_AA, SHIFT)

    def bars(self, bars_m: FloatArray, width_m: float, colour: Colour, below: Colour) -> None:
        """Paint straight bars (N, 2, 2), from end to end, of ``width_m``; thinner than a texel they fade to ``below``.

        OpenCV's anti-aliased fill is about 1.4 px wider than asked, and never thinner than 1.8 px: allowed for here.
        """
        along = bars_m[:, 1] - bars_m[:, 0]
        along = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
        half_m = max(width_m - 1.4 * self.texel_m, 0.0) / 2
        side = np.stack([-along[:, 1], along[:, 0]], -1) * half_m
        quads = np.stack([bars_m[:, 0] + side, bars_m[:, 1] + side, bars_m[:, 1] - side, bars_m[:, 0] - side], 1)
        self.quads(quads, mixed(below, colour, min(1.0, width_m / self.texel_m / 1.8)))

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


@dataclass(frozen=True, kw_only=True)
class RoadPaint:
    """What is on the roads of a scene, cut into straight bars (N, 2, 2) from end to end and quads (N, 4, 2)."""

    tracks: tuple[FloatArray, ...]  # polylines where wheels have darkened the road
    patches: FloatArray  # quads
    patch_shades: FloatArray  # (N,)
    seams: FloatArray  # bars, as all below
    white: FloatArray
    yellow: FloatArray
    stop_lines: FloatArray
    stripes: FloatArray  # of crosswalks


def lay_road_paint(scene: Scene) -> RoadPaint:
    """Wear and markings of ``scene`` in world coordinates. Raises ValueError for an unknown style of line."""
    tracks, patches, shades, seams = [], [], [], []
    for lane in scene.lanes:
        if scene.look == Look.SLABS:
            corners = lane_slabs(lane)
            patches += list(corners)
            shades += [SLAB_SHADES[i % 2] for i in range(len(corners))]
            continue
        points, left, _ = resampled(lane.centerline_m, 2.0)
        tracks += [points + offset_m * left for offset_m in (-0.85, 0.85)]
        half_m = lane.width_m / 2
        for i in range(1, len(points) - 1):
            draw = unit_hash(scene.scene_id, "wear", lane.lane_id, i)
            if draw < 0.10:
                seams.append((points[i] - half_m * left[i], points[i] + half_m * left[i]))
            elif draw < 0.20:
                length_m, side = 1.5 + 30 * (draw - 0.10), (0.35 * half_m + 6.0 * (draw - 0.10)) * left[i]
                centre = points[i] + (unit_hash(scene.scene_id, "patch", lane.lane_id, i) - 0.5) * half_m * left[i]
                along = 0.5 * length_m * np.array([left[i, 1], -left[i, 0]])
                patches.append(
                    (centre - along - side, centre + along - side, centre + along + side, centre - along + side)
                )
                shades.append(0.8 if draw < 0.16 else 1.1)
    white, yellow = [], []
    for line in scene.road_lines:
        points, left, _ = resampled(line.points_m, 1.5)
        if line.style == "dashed":
            white.append(segments(points)[np.arange(len(points) - 1) % 6 < 2])
        elif line.style == "solid":
            white.append(segments(line.points_m))
        elif line.style == "double":
            yellow += [segments(points + offset_m * left) for offset_m in (-0.2, 0.2)]
        else:
            raise ValueError(f"road line style {line.style!r}: use 'solid', 'dashed' or 'double'")
    none = np.zeros((0, 2, 2))
    return RoadPaint(
        tracks=tuple(tracks),
        patches=np.array(patches).reshape(-1, 4, 2),
        patch_shades=np.array(shades),
        seams=np.array(seams).reshape(-1, 2, 2),
        white=np.concatenate([none, *white]),
        yellow=np.concatenate([none, *yellow]),
        stop_lines=np.concatenate([none, *(light.stop_line_m[None, :, :2] for light in scene.lights)]),
        stripes=np.concatenate([none, *(_stripes(polygon) for polygon in scene.crosswalks)]),
    )


def lane_slabs(lane: Lane) -> FloatArray:
    """The lane cut into quads (N, 4, 2) of SLAB_M along it."""
    points, left, _ = resampled(lane.centerline_m, SLAB_M)
    sides = np.stack([points + lane.width_m / 2 * left, points - lane.width_m / 2 * left], 1)
    return np.concatenate([sides[:-1], sides[1:, ::-1]], axis=1)


def _stripes(polygon: FloatArray) -> FloatArray:
    """Bars of 0.6 m along the short side of the crosswalk's box, one every 1.2 m along its long side."""
    (cx, cy), (w, h), angle_deg = cv2.minAreaRect(polygon.astype(np.float32))
    across = np.array([np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))])
    along = np.array([-across[1], across[0]])
    if h > w:
        w, h, across, along = h, w, along, across
    at = np.arange(-w / 2 + 0.6, w / 2 - 0.3, 1.2)[:, None]
    centre = np.array([cx, cy]) + at * across
    return np.stack([centre - h / 2 * along, centre + h / 2 * along], 1)


def paint_canvas(scene: Scene, palette: Palette, road_paint: RoadPaint, canvas: Canvas, contrast: float) -> None:
    """Paint the map of ``scene`` and a world-anchored texture (of ``contrast`` in [0, 1]) into ``canvas``."""
    canvas.pixels[:] = np.array(palette.verge, np.uint8)
    for edge in scene.road_edges:
        canvas.stroke(edge, 4.8, palette.sidewalk)
    for edge in scene.road_edges:
        canvas.stroke(edge, 0.9, palette.kerb)
    on_road = np.zeros(canvas.pixels.shape[:2], np.uint8)
    for polygon in scene.drivable:
        if canvas.sees(polygon):
            cv2.fillPoly(on_road, [canvas.fixed_point(polygon)], 255, cv2.LINE_8, SHIFT)
            cv2.fillPoly(canvas.pixels, [canvas.fixed_point(polygon)], palette.road, cv2.LINE_AA, SHIFT)
    for edge in scene.road_edges:
        canvas.stroke(edge, 0.25, scaled(palette.road, 0.62))
    for track in road_paint.tracks:
        canvas.stroke(track, 0.6, scaled(palette.road, 0.9))
    for shade in np.unique(road_paint.patch_shades):
        canvas.quads(road_paint.patches[road_paint.patch_shades == shade], scaled(palette.road, shade))
    canvas.bars(road_paint.seams, 0.22, scaled(palette.road, 0.66), palette.road)
    _texture(scene, canvas, on_road, contrast)
    canvas.bars(road_paint.white, LINE_WIDTH_M, WHITE, palette.road)
    canvas.bars(road_paint.yellow, LINE_WIDTH_M, YELLOW, palette.road)
    canvas.bars(road_paint.stripes, 0.6, WHITE, palette.road)
    canvas.bars(road_paint.stop_lines, 0.45, WHITE, palette.road)


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


class Ground:
    """The ground of one scene as one camera sees it from poses of the ego's rear axle (T, 3)."""

    def __init__(self, scene: Scene, palette: Palette, camera: Camera, final_width_px: int):
        self.camera, self.palette = camera, palette
        self.horizon_px = camera.cy_px - camera.fy_px * np.tan(camera.pitch_rad)
        self.first_row = int(np.clip(np.ceil(self.horizon_px), 0, camera.height_px))
        final_fx_px = camera.fx_px * final_width_px / camera.width_px
        view_tan = 1.1 * camera.width_px / 2 / camera.fx_px
        poses = scene.ego_axle_poses()
        ahead = np.stack([np.cos(poses[:, 2]), np.sin(poses[:, 2])], -1)[:, None]
        left = np.stack([-ahead[..., 1], ahead[..., 0]], -1)
        road_paint = lay_road_paint(scene)
        self.bands: list[tuple[Canvas, int, int, int]] = []
        bottom = camera.height_px
        for texel_m, reach_m, contrast in FINE if final_fx_px > 160 else COARSE:
            corners = reach_m * np.array([[0, 0], [1, -view_tan], [1, view_tan]])[None, :, :, None]
            seen = (poses[:, None, :2] + corners[:, :, 0] * ahead + corners[:, :, 1] * left).reshape(-1, 2)
            canvas = Canvas(seen.min(0) - 2.0, seen.max(0) + 2.0, texel_m)
            paint_canvas(scene, palette, road_paint, canvas, contrast)
            top = self.first_row if reach_m == FAR_M else max(self.first_row, int(np.ceil(self._row(reach_m))))
            # Rows are as long as 2 texels per sample; those that need many samples are a band of their own.
            rows = np.arange(top, bottom)
            samples = np.ceil((self._ahead(rows + 0.5) - self._ahead(rows + 1.5)) / (2 * texel_m))
            split = bottom - int(np.sum(samples <= 2))
            for first, last in ((split, bottom), (top, split)):
                if first < last:
                    self.bands.append((canvas, first, last, int(np.clip(samples[first - top], 1, 6))))
            bottom = min(bottom, top)
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
