"""What frames are like, pixel by pixel, in grey levels of 255."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from resim.datatypes.clip import NUM_HISTORY_FRAMES

Pixels = NDArray[np.uint8]  # ... T H W C


def difference_grey_levels(a: Pixels, b: Pixels) -> NDArray[np.float64]:
    """Mean absolute difference of each frame of (..., T, H, W, C) from that of the other -> (..., T)."""
    return np.abs(a.astype(np.int16) - b).mean(axis=(-3, -2, -1))


def divergence_grey_levels(clips_PTHWC: Pixels) -> float:
    """Mean absolute difference of every two of P clips."""
    pairs = combinations(clips_PTHWC, 2)
    return float(np.mean([difference_grey_levels(a, b).mean() for a, b in pairs]))


def sharpness_grey_levels(frames_THWC: Pixels) -> float:
    """Mean absolute difference between neighbouring pixels, averaged over the two directions."""
    values = frames_THWC.astype(np.int16)
    return float(np.mean([np.abs(np.diff(values, axis=axis)).mean() for axis in (1, 2)]))


def nearest_share(futures_PTHWC: Pixels, truths_PTHWC: Pixels) -> float:
    """Share of the futures to whose pixels the true future of their own path is the nearest of all the scene's."""
    made, true = (clips[:, NUM_HISTORY_FRAMES:].astype(np.float32) for clips in (futures_PTHWC, truths_PTHWC))
    distance = np.stack([((future - true) ** 2).mean(axis=(1, 2, 3, 4)) for future in made])  # future x truth
    return float((distance.argmin(axis=1) == np.arange(len(made))).mean())


def sharpness_share(made_THWC: Pixels, true_THWC: Pixels) -> float:
    """Sharpness of generated frames as a share of the true ones'."""
    return sharpness_grey_levels(made_THWC) / sharpness_grey_levels(true_THWC)


def future_differences(futures: Mapping[str, Pixels]) -> list[dict[str, object]]:
    """A row for every two of the futures (49, H, W, 3) by name: their mean difference over 4 s and at 4 s."""
    rows: list[dict[str, object]] = []
    for a, b in combinations(futures, 2):
        by_frame = difference_grey_levels(futures[a][NUM_HISTORY_FRAMES:], futures[b][NUM_HISTORY_FRAMES:])
        rows.append({"paths": f"{a}, {b}", "mean over 4 s": float(by_frame.mean()), "at 4 s": float(by_frame[-1])})
    return rows
