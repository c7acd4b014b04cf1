"""The ground: bird's-eye canvases fixed to the world, painted tile by tile where the camera looks, and their warp.

Three canvases of growing texel size serve near, middle and far rows, so that a texel is never much smaller than a pixel
is wide. A pixel far ahead is much longer than wide; those rows are sampled several times and averaged. A tile is a pure
function of the scene and its place, so a frame does not depend on where the ego drives before or after it.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from resim.datatypes.geometry import Camera, FloatArray
from resim.datatypes.road_map import Lane, LineStyle, RoadMap, SurfaceKind
from resim.datatypes.scene import Look, Scene
from resim.simulation.painter.canvas import SHIFT, Canvas, Quads, Shapes, bars, seen
from resim.simulation.painter.looks import Colour, Palette, scaled, unit_hash

WHITE: Colour = (232, 232, 228)
YELLOW: Colour = (226, 178, 52)
LINE_WIDTH_M = 0.2
FAR_M = 220.0  # beyond this the ground is haze
# Canvases as (texel_m, reach_m, contrast of the texture, tile_m), for large and for small images.
FINE = ((0.05, 22.0, 1.0, 16.0), (0.2, 80.0, 0.9, 64.0), (0.8, FAR_M, 0.6, 128.0))
COARSE = ((0.1, 14.0, 1.0, 16.0), (0.2, 45.0, 0.9, 64.0), (0.8, FAR_M, 0.6, 128.0))
PAGE_M = 256.0  # a canvas serves the poses in a square of this size
SLACK_M = 1.0  # how far a view may move before it is asked again which tiles it needs
MARGIN_M = 1.0 + SLACK_M  # painted beyond what a view needs
PIECE = 12  # points of a polyline that are drawn or passed over together
SLAB_M = 4.2  # length of a slab
SLAB_SHADES = (0.7, 1.25)  # brightness of every other slab
USUAL_WIDTH_M = 3.5  # of lanes whose width the map does not know
ASPHALT = (SurfaceKind.DRIVABLE, SurfaceKind.INTERSECTION, SurfaceKind.CARPARK)


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


@dataclass(frozen=True, kw_only=True, eq=False)
class RoadPaint:
    """What is on the roads of a scene: surfaces, wheel tracks, and straight bars (N, 2, 2) from end to end."""

    surfaces: Shapes  # outer polygons
    holes: list[tuple[FloatArray, ...]]  # of each surface
    edges: Shapes
    tracks: Shapes  # where wheels have darkened the road
    patches: FloatArray  # (N, 4, 2) quads
    shades: FloatArray  # (N,) their brightness
    seams: FloatArray
    white: FloatArray
    yellow: FloatArray
    stripes: FloatArray  # of crosswalks
    stop_lines: FloatArray


def width_of(lane: Lane) -> float:
    """Width that is painted."""
    return USUAL_WIDTH_M if lane.width_m is None else lane.width_m


def lay_road_paint(scene: Scene) -> RoadPaint:
    """Surfaces, wear and markings of ``scene`` in world coordinates. Raises ValueError for an unknown style of line."""
    road, slabs = scene.road, scene.scenery is not None and scene.scenery.look in (Look.SLABS, Look.NIGHT)
    tracks, patches, shades, seams = _wear(scene.scene_id, road, slabs)
    white, yellow = _lines(road)
    none = np.zeros((0, 2, 2))
    surfaces = [(s.polygon_m, s.holes_m) for s in road.surfaces if s.kind in ASPHALT]
    if not surfaces:
        surfaces = [(outline, ()) for lane in road.lanes if (outline := lane.outline_m) is not None]
    quads, shade = np.array(patches).reshape(-1, 4, 2), np.array(shades)
    order = np.argsort(shade, kind="stable")  # dark ones first
    stops = [stop.line_m[None, :, :2] for stop in road.stops if stop.line_m is not None]
    return RoadPaint(
        surfaces=Shapes.of([polygon for polygon, _ in surfaces]),
        holes=[holes for _, holes in surfaces],
        edges=Shapes.of(list(road.edges), longest=PIECE),
        tracks=Shapes.of(tracks, longest=PIECE),
        patches=quads[order],
        shades=shade[order],
        seams=np.array(seams).reshape(-1, 2, 2),
        white=np.concatenate([none, *white]),
        yellow=np.concatenate([none, *yellow]),
        stripes=np.concatenate([none, *(_stripes(p) for p in road.polygons([SurfaceKind.CROSSWALK]))]),
        stop_lines=np.concatenate([none, *stops]),
    )


def _wear(scene_id: str, road: RoadMap, slabs: bool) -> tuple[list, list, list, list]:
    """Wheel tracks, patches with their brightness, and seams; concrete slabs instead where they are asked for."""
    tracks, patches, shades, seams = [], [], [], []
    for lane in road.lanes:
        if slabs:
            corners = lane_slabs(lane)
            patches += list(corners)
            shades += [SLAB_SHADES[i % 2] for i in range(len(corners))]
            continue
        points, left, _ = resampled(lane.centerline_m, 2.0)
        tracks += [points + offset_m * left for offset_m in (-0.85, 0.85)]
        half_m = width_of(lane) / 2
        for i in range(1, len(points) - 1):
            draw = unit_hash(scene_id, "wear", lane.lane_id, i)
            if draw < 0.10:
                seams.append((points[i] - half_m * left[i], points[i] + half_m * left[i]))
            elif draw < 0.20:
                length_m, side = 1.5 + 30 * (draw - 0.10), (0.35 * half_m + 6.0 * (draw - 0.10)) * left[i]
                centre = points[i] + (unit_hash(scene_id, "patch", lane.lane_id, i) - 0.5) * half_m * left[i]
                along = 0.5 * length_m * np.array([left[i, 1], -left[i, 0]])
                patches.append(
                    (centre - along - side, centre + along - side, centre + along + side, centre - along + side)
                )
                shades.append(0.8 if draw < 0.16 else 1.1)
    return tracks, patches, shades, seams


def _lines(road: RoadMap) -> tuple[list[FloatArray], list[FloatArray]]:
    """White and yellow bars of the painted lines; one of unknown style is painted solid."""
    white, yellow = [], []
    for line in road.lines:
        points, left, _ = resampled(line.points_m, 1.5)
        if line.style == LineStyle.DASHED:
            white.append(segments(points)[np.arange(len(points) - 1) % 6 < 2])
        elif line.style in (LineStyle.SOLID, LineStyle.UNKNOWN):
            white.append(segments(line.points_m))
        elif line.style == LineStyle.DOUBLE:
            yellow += [segments(points + offset_m * left) for offset_m in (-0.2, 0.2)]
        else:
            raise ValueError(f"road line style {line.style!r}: use one of {', '.join(LineStyle)}")
    return white, yellow


def lane_slabs(lane: Lane) -> FloatArray:
    """The lane cut into quads (N, 4, 2) of SLAB_M along it."""
    points, left, _ = resampled(lane.centerline_m, SLAB_M)
    sides = np.stack([points + width_of(lane) / 2 * left, points - width_of(lane) / 2 * left], 1)
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


class Layer:
    """The ground at one texel size: canvases of PAGE_M, painted a tile at a time where somebody looks."""

    def __init__(
        self,
        scene: Scene,
        palette: Palette,
        paint: RoadPaint,
        texel_m: float,
        reach_m: float,
        contrast: float,
        tile_m: float,
    ) -> None:
        self.scene_id, self.palette, self.road_paint = scene.scene_id, palette, paint
        self.texel_m, self.reach_m, self.contrast, self.tile_m = texel_m, reach_m, contrast, tile_m
        # Pages lie around where the log's ego is at t = 0, so that hardly any drive leaves its first.
        anchor_m = scene.ego.poses[scene.now_step, :2] - PAGE_M / 2
        self.anchor_m = np.floor(anchor_m / tile_m) * tile_m
        self.border_m = np.ceil((reach_m + MARGIN_M) / tile_m) * tile_m
        self._pages: dict[tuple[int, int], tuple[Canvas, NDArray[np.bool_]]] = {}
        road = np.array(palette.road)
        below = bars(((paint.seams, 0.22, scaled(road, 0.66)),), road, texel_m)
        self.worn = Quads(
            np.concatenate([paint.patches, below.corners_m]),
            np.concatenate([scaled(road, paint.shades[:, None]), below.colours]),
        )
        marks = ((paint.white, LINE_WIDTH_M, WHITE), (paint.yellow, LINE_WIDTH_M, YELLOW))
        self.markings = bars((*marks, (paint.stripes, 0.6, WHITE), (paint.stop_lines, 0.45, WHITE)), road, texel_m)
        self._looked: tuple[tuple[int, int], FloatArray] | None = None  # the page and pose looked at last

    def canvas(self, pose: FloatArray, view_tan: float) -> Canvas:
        """The canvas that serves ``pose`` (3,) of the camera, painted wherever it looks."""
        page = np.floor((pose[:2] - self.anchor_m) / PAGE_M).astype(int)
        key = (int(page[0]), int(page[1]))
        if key not in self._pages:
            tiles = round((PAGE_M + 2 * self.border_m) / self.tile_m)
            side_px = tiles * round(self.tile_m / self.texel_m)
            origin_m = self.anchor_m + page * PAGE_M - self.border_m
            canvas = Canvas(origin_m, self.texel_m, np.zeros((side_px, side_px, 3), np.uint8))
            self._pages[key] = canvas, np.zeros((tiles, tiles), bool)
        canvas, done = self._pages[key]
        if self._looked is not None and self._looked[0] == key:
            moved = pose - self._looked[1]
            if np.hypot(moved[0], moved[1]) + self.reach_m * (1 + view_tan) * abs(moved[2]) < SLACK_M:
                return canvas
        self._looked = key, pose
        for row, column in self._missing(canvas, done, pose, view_tan):
            side_px = round(self.tile_m / self.texel_m)
            view = canvas.pixels[row * side_px : (row + 1) * side_px, column * side_px : (column + 1) * side_px]
            self._paint(Canvas(canvas.origin_m + self.tile_m * np.array([column, row]), self.texel_m, view))
            done[row, column] = True
        return canvas

    def _missing(self, canvas: Canvas, done: NDArray[np.bool_], pose: FloatArray, view_tan: float) -> list[tuple]:
        """Tiles (row, column) in view that are not painted yet."""
        (x, y), (cos, sin), reach_m = pose[:2] - canvas.origin_m, (np.cos(pose[2]), np.sin(pose[2])), self.reach_m
        far_x, far_y, side_m = x + reach_m * cos, y + reach_m * sin, reach_m * view_tan
        xs = (x, far_x - side_m * sin, far_x + side_m * sin)
        ys = (y, far_y + side_m * cos, far_y - side_m * cos)
        first = max(int((min(xs) - MARGIN_M) // self.tile_m), 0), max(int((min(ys) - MARGIN_M) // self.tile_m), 0)
        last = int((max(xs) + MARGIN_M) // self.tile_m) + 1, int((max(ys) + MARGIN_M) // self.tile_m) + 1
        unpainted = ~done[first[1] : last[1], first[0] : last[0]]
        if not unpainted.any():
            return []
        rows, columns = np.nonzero(unpainted)
        rows, columns = rows + first[1], columns + first[0]
        dx, dy = self.tile_m * (columns + 0.5) - x, self.tile_m * (rows + 0.5) - y
        around_m = self.tile_m * np.sqrt(0.5) + MARGIN_M
        ahead_m, aside_m = cos * dx + sin * dy, np.abs(cos * dy - sin * dx)
        in_view = (ahead_m > -around_m) & (ahead_m < self.reach_m + around_m)
        in_view &= aside_m < view_tan * np.maximum(ahead_m, 0) + around_m * np.hypot(1.0, view_tan)
        return list(zip(rows[in_view].tolist(), columns[in_view].tolist(), strict=True))

    def _paint(self, canvas: Canvas) -> None:
        """Paint one tile."""
        paint, palette = self.road_paint, self.palette
        canvas.pixels[:] = np.array(palette.verge, np.uint8)
        edges = canvas.lines(paint.edges, 4.8)
        canvas.strokes(edges, 4.8, palette.sidewalk)
        canvas.strokes(edges, 0.9, palette.kerb)
        on_road = np.zeros(canvas.pixels.shape[:2], np.uint8)
        for index in seen(paint.surfaces, canvas):
            polygon, holes = paint.surfaces.points_m[index], paint.holes[index]
            outlines = [canvas.fixed_point(points_m) for points_m in (polygon, *holes)]
            cv2.fillPoly(on_road, outlines, 255, cv2.LINE_8, SHIFT)
            cv2.fillPoly(canvas.pixels, outlines, palette.road, cv2.LINE_AA, SHIFT)
        canvas.strokes(edges, 0.25, scaled(palette.road, 0.62))
        canvas.strokes(canvas.lines(paint.tracks, 0.6), 0.6, scaled(palette.road, 0.9))
        canvas.quads(self.worn)
        self._texture(canvas, on_road)
        canvas.quads(self.markings)

    def _texture(self, canvas: Canvas, on_road: NDArray[np.uint8]) -> None:
        """Multiply in smooth noise at three scales, weak on the road and strong beside it."""
        noise, contrast = np.full(on_road.shape, 128, np.uint8), self.contrast
        for scale_m, weight in ((8.0, 0.55), (2.0, 0.55), (0.5, 0.3)):
            if scale_m >= 2 * canvas.texel_m:
                seed = int(unit_hash(self.scene_id, "ground", scale_m) * 2**32)
                noise = cv2.addWeighted(noise, 1.0, canvas.noise(seed, scale_m), weight, -128 * weight)
        gain = cv2.convertScaleAbs(noise, alpha=0.42 * contrast, beta=128 * (1 - 0.42 * contrast))
        cv2.copyTo(cv2.convertScaleAbs(noise, alpha=0.16 * contrast, beta=128 * (1 - 0.16 * contrast)), on_road, gain)
        cv2.multiply(canvas.pixels, cv2.merge([gain, gain, gain]), canvas.pixels, scale=1 / 128)


class Ground:
    """The ground of one scene as one camera sees it; ``camera`` is not rolled."""

    def __init__(self, scene: Scene, palette: Palette, camera: Camera, final_width_px: int):
        self.camera, self.palette = camera, palette
        self.horizon_px = camera.cy_px - camera.fy_px * np.tan(camera.pitch_rad)
        self.first_row = int(np.clip(np.ceil(self.horizon_px), 0, camera.height_px))
        final_fx_px = camera.fx_px * final_width_px / camera.width_px
        widest_px = max(camera.cx_px, camera.width_px - camera.cx_px)
        self.view_tan = 1.1 * widest_px / camera.fx_px
        road_paint = lay_road_paint(scene)
        self.layers: list[tuple[Layer, list[tuple[int, int, int]]]] = []  # and their rows: first, last, samples
        bottom = camera.height_px
        for texel_m, reach_m, contrast, tile_m in FINE if final_fx_px > 160 else COARSE:
            layer = Layer(scene, palette, road_paint, texel_m, reach_m, contrast, tile_m)
            top = self.first_row if reach_m == FAR_M else max(self.first_row, int(np.ceil(self._row(reach_m))))
            # Rows are as long as 2 texels per sample; those that need many samples are a band of their own.
            rows = np.arange(top, bottom)
            samples = np.ceil((self._ahead(rows + 0.5) - self._ahead(rows + 1.5)) / (2 * texel_m))
            split = bottom - int(np.sum(samples <= 2))
            parts = [(first, last) for first, last in ((split, bottom), (top, split)) if first < last]
            bands = [(first, last, int(np.clip(samples[first - top], 1, 6))) for first, last in parts]
            self.layers.append((layer, bands))
            bottom = min(bottom, top)
        self._level_from_image = _level_from_image(camera)
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

    def paint(self, image: NDArray[np.uint8], camera_pose: FloatArray) -> None:
        """Paint everything below the horizon into ``image`` (H, W, 3), seen from ``camera_pose`` (3,), world."""
        verge = tuple(float(c) for c in self.palette.verge)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        for layer, bands in self.layers:
            canvas = layer.canvas(camera_pose, self.view_tan)
            canvas_from_image = _texel_from_level(canvas, camera_pose) @ self._level_from_image
            for top, bottom, samples in bands:
                matrix = canvas_from_image @ np.array([[1.0, 0, 0.5], [0, 1 / samples, top + 0.5 / samples], [0, 0, 1]])
                size = (self.camera.width_px, (bottom - top) * samples)
                band = cv2.warpPerspective(
                    canvas.pixels, matrix, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=verge
                )
                if samples > 1:
                    band = cv2.resize(band, (size[0], bottom - top), interpolation=cv2.INTER_AREA)
                image[top:bottom] = band
        ground = image[self.first_row :]
        cv2.multiply(ground, self._gain, ground, scale=1 / 255)
        cv2.add(ground, self._haze, ground)


def _level_from_image(camera: Camera) -> FloatArray:
    """Homography (3, 3) from image points (u, v, 1) to places ahead and left of the spot below the camera."""
    # A ray (depth 1, left, up) of the camera, turned level, meets the ground after sinking by z_m.
    ray_from_image = np.array(
        [
            [0, 0, 1],
            [-1 / camera.fx_px, 0, camera.cx_px / camera.fx_px],
            [0, -1 / camera.fy_px, camera.cy_px / camera.fy_px],
        ]
    )
    level_from_ray = replace(camera, yaw_rad=0.0, roll_rad=0.0).camera_from_body().T
    meets_ground = np.array([[camera.z_m, 0, 0], [0, camera.z_m, 0], [0, 0, -1.0]])
    return meets_ground @ level_from_ray @ ray_from_image


def _texel_from_level(canvas: Canvas, pose: FloatArray) -> FloatArray:
    """Homography (3, 3) from places ahead and left of ``pose`` (3,) to texel indices of ``canvas``."""
    cos, sin, per_m = np.cos(pose[2]), np.sin(pose[2]), 1 / canvas.texel_m
    x, y = (pose[:2] - canvas.origin_m) * per_m - 0.5
    return np.array([[cos * per_m, -sin * per_m, x], [sin * per_m, cos * per_m, y], [0, 0, 1]])


def light_at(palette: Palette, ahead_m: FloatArray, left_m: FloatArray) -> FloatArray:
    """Light from above and from the ego's own lamps at points ``ahead_m``, ``left_m`` of the camera."""
    beam = np.exp(-((left_m / (2.5 + 0.22 * np.maximum(ahead_m, 0))) ** 2)) * np.exp(-np.maximum(ahead_m, 0) / 28.0)
    return np.minimum(palette.ambient + palette.sun * 0.7 + palette.headlights * beam, 1.0)


def clearness(palette: Palette, distance_m: FloatArray) -> FloatArray:
    """Fraction of contrast left at a distance."""
    return np.exp(-((distance_m / palette.haze_length_m) ** 1.3))
