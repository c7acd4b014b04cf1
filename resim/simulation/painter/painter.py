"""The painter: a camera's view of a Scene at any moment, with NumPy and OpenCV alone.

Sky panorama, ground canvases and polygons, from back to front. Every colour and texture is a pure function of the
scene's and tracks' ids and of world position, so that one place looks alike in every frame, clip and resolution, and a
frame depends on nothing that comes after it.
"""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from resim.datatypes.geometry import Camera, FloatArray, from_frame
from resim.datatypes.scene import Look, Scene
from resim.simulation.painter.ground import FAR_M, Ground, clearness, light_at
from resim.simulation.painter.looks import PALETTES, Palette, lattice, unit_hash
from resim.simulation.painter.meshes import Meshes, Placed
from resim.simulation.painter.moment import Moment, moments
from resim.simulation.painter.things import build_meshes

NEAR_M = 0.5  # polygons are cut here, so nothing behind the camera is projected
SMALL_PX = 128  # images up to this height are painted twice as large and averaged
SHIFT = 4  # fixed-point bits of the coordinates that OpenCV draws


def paint_clip(scene: Scene, camera: Camera) -> NDArray[np.uint8]:
    """All T frames of ``scene`` -> uint8 (T, H, W, 3), RGB. Raises ValueError where the ego is not always known."""
    return Painter(scene, camera).paint_log(scene)


class Painter:
    """Paints moments of one scene, and of every drive through it, through one camera that hangs on the rear axle."""

    def __init__(self, scene: Scene, camera: Camera):
        factor = 2 if camera.height_px <= SMALL_PX else 1
        self.rolled = camera.resized_and_cropped(factor * camera.height_px, factor * camera.width_px)
        self.camera = unrolled(self.rolled)
        self.final_size = (camera.width_px, camera.height_px)
        self.palette = PALETTES[Look.DAY if scene.scenery is None else scene.scenery.look]
        self.ground = Ground(scene, self.palette, self.camera, self.camera.width_px // factor)
        self.sky = Sky(scene.scene_id, self.palette, self.camera)
        self.meshes = build_meshes(scene, self.palette)
        self.sun_rad = 2 * np.pi * unit_hash(scene.scene_id, "sun")

    def paint_log(self, scene: Scene) -> NDArray[np.uint8]:
        """All T frames of this scene, or of a drive through it -> uint8 (T, H, W, 3)."""
        return np.stack([self.paint(moment) for moment in moments(scene)])

    def paint(self, moment: Moment) -> NDArray[np.uint8]:
        """The frame (H, W, 3), RGB."""
        # On the ground below the camera, turned the way it looks.
        pose = from_frame(np.array([self.camera.x_m, self.camera.y_m, self.camera.yaw_rad]), moment.axle_pose)
        image = np.empty((self.camera.height_px, self.camera.width_px, 3), np.uint8)
        self.sky.paint(image, pose[2])
        self.ground.paint(image, pose)
        self._paint_meshes(image, self.meshes.at(moment), pose)
        image = roll(image, self.camera, self.rolled)
        size = self.final_size
        return image if image.shape[1] == size[0] else cv2.resize(image, size, interpolation=cv2.INTER_AREA)

    def _paint_meshes(self, image: NDArray[np.uint8], placed: Placed, pose: FloatArray) -> None:
        """Draw polygons from far to near."""
        meshes, camera = self.meshes, self.camera
        where, distance_m = _relative(placed, pose)
        chosen = self._facing(placed, where, distance_m)
        points = _in_camera(meshes, chosen, where, placed.swing, camera)
        depth_m, left_m, _ = points
        edge_m = self._half_width() * 1.02 * depth_m
        kept = (depth_m.max(0) > NEAR_M) & ((left_m - edge_m).min(0) < 0) & ((left_m + edge_m).max(0) > 0)
        chosen, points = chosen[kept], np.ascontiguousarray(points[..., kept].T)
        cut = (points[..., 0].min(1) < NEAR_M).tolist()
        pixels, counts = _fixed_point(points, camera), meshes.counts[chosen].tolist()
        colours = self._colours(placed, chosen, where, distance_m).tolist()
        for i, (corners, count, colour) in enumerate(zip(pixels, counts, colours, strict=True)):
            corners = _fixed_point(clip_near(points[i, :count]), camera) if cut[i] else corners[:count]
            cv2.fillConvexPoly(image, corners, colour, cv2.LINE_AA, SHIFT)

    def _facing(self, placed: Placed, where: FloatArray, distance_m: FloatArray) -> NDArray[np.int64]:
        """Polygons of owners in view that turn their front to the camera, from far to near."""
        meshes = self.meshes
        owner_distance_m = distance_m[meshes.owners]
        seen = self._owners_in_view(placed, where, distance_m)[meshes.owners] & (owner_distance_m < meshes.reach_m)
        chosen = np.flatnonzero(seen)
        ahead_m, left_m, turn_rad = where[:, meshes.owners[chosen]]
        cos, sin = np.cos(turn_rad), np.sin(turn_rad)
        x, y, z = meshes.normals[:, chosen]
        corner_x, corner_y, corner_z = meshes.vertices[:3, 0, chosen]
        camera_x, camera_y = -cos * ahead_m - sin * left_m, sin * ahead_m - cos * left_m
        facing = x * (camera_x - corner_x) + y * (camera_y - corner_y) + z * (self.camera.z_m - corner_z) > 0
        chosen = chosen[meshes.two_sided[chosen] | facing]
        return chosen[np.argsort(-owner_distance_m[chosen], kind="stable")]

    def _half_width(self) -> float:
        """Half of the view's width at a depth of 1; the wider half of a camera that looks to one side."""
        camera = self.camera
        return max(camera.cx_px, camera.width_px - camera.cx_px) / camera.fx_px

    def _owners_in_view(self, placed: Placed, where: FloatArray, distance_m: FloatArray) -> NDArray[np.bool_]:
        """Owners (O,) that may touch the image."""
        ahead_m, left_m, turn_rad = where
        radius_m = self.meshes.radii_m
        half = self._half_width()
        turned_away = self.meshes.flat & (ahead_m * np.cos(turn_rad) + left_m * np.sin(turn_rad) > 0)
        beside = np.abs(left_m) - 1.3 * radius_m > half * (ahead_m + radius_m)
        behind = ahead_m + radius_m < NEAR_M
        return placed.valid & ~(turned_away | beside | behind | (distance_m > FAR_M))

    def _colours(
        self, placed: Placed, chosen: NDArray[np.int64], where: FloatArray, distance_m: FloatArray
    ) -> FloatArray:
        """Colours (P, 3) of polygons after lamps, light and haze."""
        meshes, palette = self.meshes, self.palette
        owners = meshes.owners[chosen]
        lit = meshes.lit_states[chosen] == placed.states[owners]
        glowing = lit | meshes.glowing[chosen]
        base = np.where(lit[:, None], meshes.lit_colours[chosen], meshes.colours[chosen])
        fade = np.clip(3 * distance_m[owners] / meshes.reach_m[chosen] - 2, 0, 1)[:, None]
        base += fade * (meshes.fade_colours[chosen] - base)
        sun_rad = self.sun_rad - placed.poses[owners, 2]
        x, y, z = meshes.normals[:, chosen]
        facing = np.maximum(0.6 * np.cos(sun_rad) * x + 0.6 * np.sin(sun_rad) * y + 0.8 * z, 0.0)
        facing = np.where(meshes.two_sided[chosen], 0.7, facing)
        lamps = light_at(palette, where[0], where[1])[owners] - palette.sun * 0.7
        light = np.where(glowing, 1.0, lamps + palette.sun * facing)
        clear = clearness(palette, distance_m)[owners]
        clear = np.where(glowing, np.sqrt(clear), clear)[:, None]
        return np.minimum(base * light[:, None], 255.0) * clear + (1 - clear) * np.array(palette.haze)


class Sky:
    """Everything above the horizon: a panorama of gradient, clouds and distant hills that turns with the heading."""

    def __init__(self, scene_id: str, palette: Palette, camera: Camera):
        self.columns_per_rad = camera.fx_px
        columns = int(np.ceil(2 * np.pi * self.columns_per_rad))
        self.columns_per_rad = columns / (2 * np.pi)
        horizon_px = camera.cy_px - camera.fy_px * np.tan(camera.pitch_rad)
        self.rows = int(np.clip(np.ceil(horizon_px), 0, camera.height_px))
        u, v = np.meshgrid(np.arange(camera.width_px) + 0.5, np.arange(self.rows) + 0.5)
        left, up = (camera.cx_px - u) / camera.fx_px, (camera.cy_px - v) / camera.fy_px
        sin, cos = np.sin(camera.pitch_rad), np.cos(camera.pitch_rad)
        ahead, up = cos + sin * up, cos * up - sin
        elevation_rad = np.arctan2(up, np.hypot(ahead, left))
        panorama = paint_panorama(scene_id, palette, columns, float(elevation_rad.max(initial=0.1)))
        pad = columns // 4  # so that no view crosses the panorama's ends
        self.panorama = cv2.copyMakeBorder(panorama, 0, 0, pad, pad, cv2.BORDER_WRAP)
        self._x = (pad - np.arctan2(left, ahead) * self.columns_per_rad).astype(np.float32)
        self._y = (self.panorama.shape[0] - 1 - elevation_rad * self.columns_per_rad).astype(np.float32)

    def paint(self, image: NDArray[np.uint8], heading_rad: float) -> None:
        """Paint the rows above the horizon of ``image`` (H, W, 3)."""
        if self.rows:
            x = self._x + np.float32(np.mod(-heading_rad, 2 * np.pi) * self.columns_per_rad)
            image[: self.rows] = cv2.remap(self.panorama, x, self._y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def paint_panorama(scene_id: str, palette: Palette, columns: int, top_rad: float) -> NDArray[np.uint8]:
    """Sky (rows, columns, 3): a column per azimuth (clockwise), a row per elevation, the horizon in the last row."""
    rows = int(np.ceil(top_rad * columns / (2 * np.pi))) + 2
    elevation_rad = (rows - 1 - np.arange(rows)) * 2 * np.pi / columns
    height = np.clip(elevation_rad / 0.40, 0, 1)[:, None, None] ** 0.8
    sky = (1 - height) * np.array(palette.sky_low) + height * np.array(palette.sky_top)
    clouds = np.zeros((rows, columns), np.float32)
    for scale, weight in ((1, 0.6), (2, 0.4)):
        around, up = 24 * scale, 10 * scale
        seed = int(unit_hash(scene_id, "cloud", scale) * 2**32)
        values = np.pad(lattice(seed, 0, 0, (up, around)), ((0, 0), (2, 2)), mode="wrap").astype(np.float32) / 255
        wide = cv2.resize(values, (columns * (around + 4) // around, int(columns / 9)), interpolation=cv2.INTER_CUBIC)
        start = (wide.shape[1] - columns) // 2
        clouds += weight * wide[:rows, start : start + columns]
    cover = np.clip((clouds - 0.5) * 5 + 3 * palette.cloud_cover - 1.2, 0, 1)
    cover *= np.clip(elevation_rad / 0.12, 0, 1)[:, None]
    sky = sky + (0.75 * cover)[..., None] * (np.array(palette.cloud) - sky)
    seed = int(unit_hash(scene_id, "hills") * 2**32)
    hills = np.pad(lattice(seed, 0, 0, (1, 60)), ((0, 0), (2, 2)), mode="wrap").astype(np.float32) / 255
    outline = cv2.resize(hills, (columns * 64 // 60, 1), interpolation=cv2.INTER_CUBIC)[0]
    start = (len(outline) - columns) // 2
    outline_rad = 0.012 + 0.035 * outline[start : start + columns]
    below = np.clip((outline_rad[None] - elevation_rad[:, None]) / 0.006 + 0.5, 0, 1)[..., None]
    fade = np.clip(1 - elevation_rad / 0.03, 0.0, 1.0)[:, None, None] * 0.5
    hill = (1 - fade) * np.array(palette.skyline) + fade * np.array(palette.haze)
    return np.clip(sky + below * (hill - sky), 0, 255).astype(np.uint8)


def unrolled(camera: Camera) -> Camera:
    """The same camera held level, and as much larger as it takes to see all that the rolled one sees."""
    if camera.roll_rad == 0:
        return camera
    cos, sin = abs(np.cos(camera.roll_rad)), abs(np.sin(camera.roll_rad))
    width_px = int(np.ceil(camera.width_px * cos + camera.height_px * sin)) + 2
    height_px = int(np.ceil(camera.width_px * sin + camera.height_px * cos)) + 2
    return replace(
        camera,
        width_px=width_px,
        height_px=height_px,
        cx_px=camera.cx_px + (width_px - camera.width_px) / 2,
        cy_px=camera.cy_px + (height_px - camera.height_px) / 2,
        roll_rad=0.0,
    )


def roll(image: NDArray[np.uint8], level: Camera, rolled: Camera) -> NDArray[np.uint8]:
    """What ``rolled`` sees, from what ``level`` (see :func:`unrolled`) sees: a turn about the optical axis."""
    if rolled.roll_rad == 0:
        return image
    cos, sin = np.cos(rolled.roll_rad), np.sin(rolled.roll_rad)
    turn = np.array([[cos, -sin * rolled.fx_px / rolled.fy_px], [sin * rolled.fy_px / rolled.fx_px, cos]])
    centre = np.array([rolled.cx_px, rolled.cy_px]) - 0.5  # OpenCV counts from the middle of the first pixel
    shift = np.array([level.cx_px, level.cy_px]) - 0.5 - turn @ centre
    matrix = np.concatenate([turn, shift[:, None]], axis=1)
    size = (rolled.width_px, rolled.height_px)
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def _relative(placed: Placed, pose: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Owner poses (3, O) relative to the spot below the camera, ``pose`` (3,), and their distances (O,)."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    dx, dy, turn_rad = placed.poses.T - pose[:, None]
    ahead_m, left_m = cos * dx + sin * dy, -sin * dx + cos * dy
    return np.stack([ahead_m, left_m, turn_rad]), np.hypot(ahead_m, left_m)


def _in_camera(
    meshes: Meshes, chosen: NDArray[np.int64], where: FloatArray, swing: FloatArray, camera: Camera
) -> FloatArray:
    """Corners (3, CORNERS, P) of the chosen polygons as depth, left and up before the camera, in metres."""
    owners = meshes.owners[chosen]
    x, y, z, w, reach = meshes.vertices[:, :, chosen]
    ahead_m, left_m, heading_rad = where[:, owners]
    x = x + reach * swing[owners]
    cos, sin = np.cos(heading_rad), np.sin(heading_rad)
    ahead_m, left_m = ahead_m + cos * x - sin * y, left_m + sin * x + cos * y + w
    up_m = z - camera.z_m
    cos, sin = np.cos(camera.pitch_rad), np.sin(camera.pitch_rad)
    return np.stack([cos * ahead_m - sin * up_m, left_m, sin * ahead_m + cos * up_m])


def _fixed_point(points: FloatArray, camera: Camera) -> NDArray[np.int32]:
    """Camera points (..., 3) -> OpenCV's fixed-point pixel coordinates (..., 2)."""
    pixels = camera.pixels(np.maximum(points[..., 0], NEAR_M), points[..., 1], points[..., 2])
    pixels = np.clip(pixels - 0.5, -16000, 16000)
    return np.round(pixels * (1 << SHIFT)).astype(np.int32)


def clip_near(points: FloatArray) -> FloatArray:
    """The part of a convex polygon (N, 3) of [depth, left, up] that lies beyond NEAR_M of depth."""
    result = []
    for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
        if a[0] >= NEAR_M:
            result.append(a)
        if (a[0] >= NEAR_M) != (b[0] >= NEAR_M):
            result.append(a + (NEAR_M - a[0]) / (b[0] - a[0]) * (b - a))
    return np.array(result)
