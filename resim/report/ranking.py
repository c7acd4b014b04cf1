"""A picture of a ranking."""

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from resim.datatypes.clip import NUM_FRAMES, NUM_HISTORY_FRAMES
from resim.imagination.scoring import Scores


def ranking_figure(scores: Scores) -> Figure:
    """Bird's eye view of all candidates, coloured by reward, beside frames of the best and the worst future."""
    figure = Figure(figsize=(12, 4))
    grid = figure.add_gridspec(2, 6, width_ratios=(2.2, 1, 1, 1, 1, 1))
    view = figure.add_subplot(grid[:, 0])
    reward_N = scores.reward_N
    scale = Normalize(float(reward_N.min()), float(reward_N.max()))
    for waypoints, reward in zip(scores.waypoints_N83, reward_N, strict=True):
        x_m, y_m = np.concatenate([np.zeros((1, 2)), waypoints[:, :2]]).T
        view.plot(y_m, x_m, color=colormaps["viridis"](scale(reward)), marker=".")
    view.invert_xaxis()  # y points left
    view.set(xlabel="y in m (left)", ylabel="x in m (ahead)", aspect="equal", adjustable="datalim")
    figure.colorbar(ScalarMappable(scale, "viridis"), ax=view, label="reward")
    for row, (word, index) in enumerate((("best", scores.order[0]), ("worst", scores.order[-1]))):
        for column, frame in enumerate(range(NUM_HISTORY_FRAMES - 1, NUM_FRAMES, 10)):
            axis = figure.add_subplot(grid[row, column + 1])
            axis.imshow(scores.futures_NTHWC[index, frame])
            axis.set_axis_off()
            axis.set_title(f"{column} s", fontsize=8)
            if column == 0:
                text = f"{word}: {scores.names[index]}, reward {reward_N[index]:.3f}"
                axis.text(0, -0.2, text, fontsize=9, transform=axis.transAxes)
    return figure
