"""How well a predicted crash tells real ones; apart from the other metrics, because torchmetrics loads torch."""

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import binary_auroc

from resim.datatypes.geometry import FloatArray


def crash_auroc(crash: FloatArray, collided: NDArray[np.bool_]) -> float:
    """Area under the ROC curve of a crash's probability in [0, 1] as the sign of one; equal ones count half.

    Raises ValueError where all or none crash, which torchmetrics would call 0.
    """
    if collided.all() or not collided.any():
        raise ValueError(f"{int(collided.sum())} of {collided.size} drives crash: there is no curve")
    probability = torch.from_numpy(np.asarray(crash, dtype=np.float64).ravel())
    return float(binary_auroc(probability, torch.from_numpy(np.asarray(collided, dtype=np.int64).ravel())))
