"""What frames are like, pixel by pixel, in grey levels of 255."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

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
