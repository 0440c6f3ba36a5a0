"""What a network of two features predicts for every pair of them."""

import itertools

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from pipeline.data import filled
from pipeline.numerics.network import predict
from pipeline.pictures.drawing import label, number
from pipeline.pictures.replay import Replay
from pipeline.results.record import PALETTE

Array = NDArray[np.float64]

COLORS = LinearSegmentedColormap.from_list("seedbed", [PALETTE[0], "#f4f4f4", PALETTE[1]])
GRID = 81  # points along each feature
MARGIN = 0.25  # of the rows' range, around it
MOST_PANELS = 4
MOST_NAMED = 12  # rows
CHUNK = 2**16  # predicted rows times widest layer, at a time


def paint_surface(figure: Figure, replay: Replay) -> None:
    """A panel an output, in the data's units, with the rows on it."""
    dataset = replay.run.dataset
    across, up = (axis_points(points(replay)[:, j]) for j in range(2))
    surfaces = predicted(replay, np.array(list(itertools.product(across, up))))
    shown = range(min(len(dataset.targets), MOST_PANELS))
    panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    panels[0].set_title(f"Predictions of all pairs · {label(replay.name, 60)}")
    for j, axes in zip(shown, panels, strict=True):
        paint_panel(axes, replay, j, (across, up, surfaces[:, j].reshape(GRID, GRID).T))


def points(replay: Replay) -> Array:
    """The rows (n, 2) in the data's units, with what stands in for missing numbers."""
    return filled(replay.run.dataset.raw_X, replay.run.sample.input_scale.fill)


def axis_points(values: Array) -> Array:
    """GRID points over a feature's range (n,) and some way beyond."""
    low, high = float(values.min()), float(values.max())
    margin = MARGIN * (high - low) or 1.0
    return np.linspace(low - margin, high + margin, GRID)


def predicted(replay: Replay, rows: Array) -> Array:
    """The trained network's predictions (m, k) for rows (m, 2), both in the data's units."""
    run, sample, network = replay.run, replay.run.sample, replay.networks[-1]
    size = max(CHUNK // max(replay.run.sizes), 1)
    chunks = [
        predict(sample.input_scale.apply(rows[i : i + size]), network.matrices, network.biases, run.mode)
        for i in range(0, len(rows), size)
    ]
    return sample.target_scale.invert(np.concatenate(chunks))


def paint_panel(axes: Axes, replay: Replay, j: int, plane: tuple[Array, Array, Array]) -> None:
    """Output j as colours with lines of equal prediction, and the rows in their targets' colours.

    The plane is: points across, points up, and predictions (up, across).
    """
    *_, surface = plane
    dataset = replay.run.dataset
    targets = dataset.raw_y[:, j]
    low, high = float(min(surface.min(), targets.min())), float(max(surface.max(), targets.max()))
    levels = MaxNLocator(10, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    colored = axes.contourf(*plane, levels, cmap=COLORS)
    lines = axes.contour(*plane, levels[::2], colors="#00000055", linewidths=0.6)
    axes.clabel(lines, fmt=FuncFormatter(number), fontsize=7, colors="#222222")
    axes.grid(visible=False)
    bar = axes.figure.colorbar(colored, ax=axes)
    bar.set_label(f"predicted {label(dataset.targets[j])}")
    bar.ax.yaxis.set_major_formatter(FuncFormatter(number))
    x, y = points(replay).T
    axes.scatter(
        x, y, s=60, c=targets, cmap=COLORS, vmin=levels[0], vmax=levels[-1], edgecolors="#000000", linewidths=1.2
    )
    name_rows(axes, replay, j)
    axes.set(xlabel=label(dataset.features[0]), ylabel=label(dataset.features[1]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(number))


def name_rows(axes: Axes, replay: Replay, j: int) -> None:
    """Writes each row's name and target beside it, towards the middle, if there are not too many."""
    dataset = replay.run.dataset
    if len(dataset.rows) > MOST_NAMED:
        return
    places = points(replay)
    middle = (places.min(axis=0) + places.max(axis=0)) / 2
    for name, place, target in zip(dataset.rows, places, dataset.raw_y[:, j], strict=True):
        left = place[0] <= middle[0]
        axes.annotate(
            f"{label(name, 14)}: {number(target)}", (float(place[0]), float(place[1])), (8 if left else -8, 0),
            textcoords="offset points", ha="left" if left else "right", va="center_baseline", fontsize=8,
            color="#000000", bbox={"boxstyle": "round,pad=0.2", "facecolor": "#ffffffb0", "edgecolor": "none"},
        )  # fmt: skip
