"""Colours of the painted world: one palette per look, and stable draws from names.

All colours are RGB in 0..255 under full daylight; ``ambient`` and ``headlights`` then say how much light falls on them.
"""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.geometry import FloatArray
from resim.datatypes.scene import Look

Colour = tuple[float, float, float] | FloatArray

CAR_COLOURS: tuple[Colour, ...] = (
    (176, 30, 34), (28, 62, 140), (214, 216, 218), (44, 46, 50), (122, 128, 134),
    (226, 196, 60), (36, 104, 72), (150, 92, 50), (240, 240, 236), (70, 120, 170),
)  # fmt: skip
CLOTHES: tuple[Colour, ...] = (
    (200, 60, 50), (50, 80, 160), (230, 190, 70), (60, 60, 66), (70, 140, 90), (220, 220, 215),
)  # fmt: skip
WALLS: tuple[Colour, ...] = ((186, 122, 98), (206, 192, 166), (150, 152, 160), (196, 164, 120), (128, 104, 94))
STRIPE: Colour = (236, 236, 230)
SKIN: Colour = (214, 168, 136)
GLASS: Colour = (46, 58, 72)
TYRE: Colour = (26, 26, 28)
BRAKE_ON: Colour = (255, 34, 22)
BRAKE_OFF: Colour = (112, 16, 18)
HEADLAMP_ON: Colour = (255, 250, 226)
HEADLAMP_OFF: Colour = (214, 216, 214)
LAMPS: tuple[Colour, ...] = ((0, 255, 120), (255, 200, 0), (255, 20, 10))  # green, yellow, red, lit


@dataclass(frozen=True, kw_only=True)
class Palette:
    """What a look does to colours and light."""

    sky_top: Colour
    sky_low: Colour
    cloud: Colour
    cloud_cover: float  # 0 clear .. 1 overcast
    skyline: Colour
    haze: Colour
    haze_length_m: float  # distance over which contrast falls to 1/e
    ambient: float  # light from the sky on everything, 1 = day
    sun: float  # extra light on faces turned to the sun
    shadow: float  # brightness of the ground under vehicles
    headlights: float  # light of the ego's own lamps at close range; 0 = off
    road: Colour
    verge: Colour
    sidewalk: Colour
    kerb: Colour
    window: Colour
    lit_windows: float  # fraction of windows with light in them


PALETTES: dict[Look, Palette] = {
    Look.DAY: Palette(
        sky_top=(82, 138, 206), sky_low=(190, 214, 232), cloud=(246, 247, 250), cloud_cover=0.45,
        skyline=(126, 150, 152), haze=(186, 204, 216), haze_length_m=140.0, ambient=0.74, sun=0.30, shadow=0.5,
        headlights=0.0, road=(112, 112, 116), verge=(104, 132, 70), sidewalk=(172, 166, 156), kerb=(206, 204, 198),
        window=(84, 104, 124), lit_windows=0.0,
    ),
    Look.DUSK: Palette(
        sky_top=(24, 32, 66), sky_low=(206, 120, 84), cloud=(92, 66, 92), cloud_cover=0.4,
        skyline=(38, 36, 54), haze=(74, 62, 78), haze_length_m=120.0, ambient=0.27, sun=0.05, shadow=0.55,
        headlights=0.5, road=(106, 106, 116), verge=(96, 120, 78), sidewalk=(168, 162, 160), kerb=(206, 204, 200),
        window=(60, 70, 92), lit_windows=0.4,
    ),
    Look.RAIN: Palette(
        sky_top=(132, 138, 144), sky_low=(172, 177, 181), cloud=(112, 118, 126), cloud_cover=0.8,
        skyline=(140, 147, 150), haze=(166, 171, 175), haze_length_m=75.0, ambient=0.70, sun=0.05, shadow=0.75,
        headlights=0.0, road=(82, 86, 92), verge=(86, 104, 72), sidewalk=(138, 138, 136), kerb=(168, 170, 168),
        window=(92, 102, 110), lit_windows=0.15,
    ),
}  # fmt: skip

PALETTES[Look.SLABS] = PALETTES[Look.DAY]
PALETTES[Look.NIGHT] = Palette(
    sky_top=(8, 12, 30), sky_low=(22, 28, 52), cloud=(30, 34, 52), cloud_cover=0.3,
    skyline=(14, 16, 26), haze=(16, 19, 34), haze_length_m=70.0, ambient=0.22, sun=0.0, shadow=0.6,
    headlights=0.75, road=(112, 112, 118), verge=(84, 104, 70), sidewalk=(160, 156, 156), kerb=(200, 200, 200),
    window=(40, 48, 66), lit_windows=0.5,
)  # fmt: skip


def unit_hash(*names: object) -> float:
    """A number in [0, 1) that depends on the names alone (str of each), on every machine."""
    digest = blake2b("/".join(map(str, names)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") / 2**32


def pick(colours: tuple[Colour, ...], *names: object) -> Colour:
    """One of ``colours``, chosen by name."""
    return colours[int(unit_hash(*names) * len(colours))]


def scaled(colour: Colour, factor: float | FloatArray) -> FloatArray:
    """``colour`` (..., 3) made brighter or darker, within 0..255."""
    return np.minimum(np.asarray(colour) * factor, 255.0)


def mixed(first: Colour, second: Colour, amount: float | FloatArray) -> FloatArray:
    """``first`` (..., 3) with ``amount`` in [0, 1] of ``second``."""
    return np.asarray(first) + amount * (np.asarray(second) - np.asarray(first))


def lattice(seed: int, first_x: int, first_y: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Random values (rows = y, columns = x) of the infinite integer lattice ``seed``: a pure function of the corner."""
    y = np.arange(first_y, first_y + shape[0]).astype(np.uint32)[:, None]
    x = np.arange(first_x, first_x + shape[1]).astype(np.uint32)
    h = x * np.uint32(0x9E3779B1) ^ y * np.uint32(0x85EBCA77) ^ np.uint32(seed & 0xFFFFFFFF)
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39), (15, 1)):
        h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
    return (h >> np.uint32(24)).astype(np.uint8)
