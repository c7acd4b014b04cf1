"""How sure a mean is."""

import numpy as np
from numpy.typing import NDArray


def bootstrap_interval(values: NDArray[np.floating], *, seed: int = 0, draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of ``values``, whose every axis is drawn anew with replacement.

    Scenes (S,), or seeds and scenes (K, S), each independent of the other. Raises ValueError for no values.

    scipy.stats.bootstrap draws along one axis only, not seeds and scenes crossed, and refuses a single scene.
    """
    values = np.asarray(values)
    if values.size == 0:
        raise ValueError(f"values of shape {values.shape} have no mean")
    rng = np.random.default_rng(seed)
    drawn = []
    for axis, size in enumerate(values.shape):
        shape = [draws] + [size if other == axis else 1 for other in range(values.ndim)]
        drawn.append(rng.integers(size, size=shape))
    means = values[tuple(drawn)].reshape(draws, -1).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
