"""A network as a diagram: layers as columns of circles, weights as lines, before and after training."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from pipeline.numerics.train import Snapshot
from pipeline.pictures.drawing import INK, WIDTH, label, number
from pipeline.pictures.replay import Replay
from pipeline.results.record import PALETTE

Array = NDArray[np.float64]

POSITIVE, NEGATIVE = PALETTE[0], PALETTE[1]
NODE = "#8a8a8a"  # seen on white and on black
ALL_UNITS = 16  # a layer of more is cut
SOME_UNITS = 10
MOST_NUMBERS = 8  # lines between two layers, if they are to have their weights beside them
WIDEST, THINNEST = 6.0, 0.7  # points
CHARACTER = 5.2  # points, about, of a label
POINTS = 72  # an inch
HEAD, FOOT = 30.0, 34.0  # points above a network, and below both


@dataclass(frozen=True)
class Column:
    """A layer as it is drawn: the names of the units shown, how many are not, and whether a bias stands above them."""

    names: tuple[str, ...]
    more: int
    bias: bool

    def heights(self) -> Array:
        """Where its circles are, around 0, in rows from the top: the bias first, then the units."""
        count = self.bias + len(self.names)
        return (count - 1) / 2 - np.arange(count, dtype=np.float64)

    @property
    def rows(self) -> int:
        """How many rows it takes."""
        return self.bias + len(self.names) + bool(self.more)


@dataclass(frozen=True)
class Line:
    """A weight that is drawn, from one place to another, each (x, y) in points.

    fans_out: lines come apart towards their ends; has_room: there is room for its number.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    weight: float
    fans_out: bool
    has_room: bool


class Diagram:
    """Where everything of a network is, in points: `width` x `height` of one panel."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.columns = list(columns(replay))
        rows = max(column.rows for column in self.columns)
        self.pitch = 44.0 if rows <= 5 else 30.0 if rows <= 8 else 22.0
        self.radius = 9.0 if rows <= 5 else 7.0
        self.width, self.height = WIDTH * POINTS, HEAD + rows * self.pitch
        left, right = (CHARACTER * max(map(len, column.names)) + 24 for column in (self.columns[0], self.columns[-1]))
        self.across = np.linspace(left, self.width - right, len(self.columns))

    @property
    def inches(self) -> float:
        """The height of the whole picture."""
        return (2 * self.height + FOOT) / POINTS

    def circles(self, layer: int) -> list[tuple[float, float]]:
        """Where a layer's circles are: a bias first, then the units."""
        column = self.columns[layer]
        middle = (self.height - HEAD) / 2
        shift = 0.5 if column.more else 0.0
        return [(float(self.across[layer]), float(middle + (y + shift) * self.pitch)) for y in column.heights()]

    def lines(self, network: Snapshot) -> Iterator[Line]:
        """The weights between units that are drawn."""
        for layer, matrix in enumerate(network.matrices):
            biases = [network.biases[layer]] if network.biases else []
            rows = np.vstack([*biases, matrix])
            starts, ends = self.circles(layer), self.circles(layer + 1)[self.columns[layer + 1].bias :]
            has_room = min(len(starts), len(ends)) <= 2 and len(starts) * len(ends) <= MOST_NUMBERS
            for (i, start), (j, end) in itertools.product(enumerate(starts), enumerate(ends)):
                yield Line(start, end, float(rows[i, j]), len(ends) > len(starts), has_room)

    def paint(self, figure: Figure) -> None:
        """Draws the untrained network above the trained one, and what the lines mean."""
        figure.set_layout_engine("none")
        first, last = self.replay.networks[0], self.replay.networks[-1]
        both = [*self.lines(first), *self.lines(last)]
        largest = max((abs(line.weight) for line in both if np.isfinite(line.weight)), default=0.0)
        total = 2 * self.height + FOOT
        titles = "Before training", f"After {self.replay.updates:,} updates"
        for place, (network, title) in enumerate(zip((first, last), titles, strict=True)):
            bottom = (FOOT + (1 - place) * self.height) / total
            axes = figure.add_axes((0, bottom, 1, self.height / total))
            self.paint_network(axes, list(self.lines(network)), largest)
            axes.text(6, self.height - 14, f"{title} · {label(self.replay.name, 60)}", fontsize=10)
        self.paint_legend(figure, largest)

    def paint_network(self, axes: Axes, lines: list[Line], largest: float) -> None:
        """Draws one network on axes in points."""
        axes.set(xlim=(0, self.width), ylim=(0, self.height))
        axes.axis("off")
        drawn = [line for line in sorted(lines, key=lambda line: abs(line.weight)) if line.weight]
        axes.add_collection(
            LineCollection(
                [(line.start, line.end) for line in drawn],
                colors=[POSITIVE if line.weight > 0 else NEGATIVE for line in drawn],
                linewidths=[width_of(line.weight, largest) for line in drawn],
                zorder=1,
            ),
            autolim=False,
        )
        for layer, column in enumerate(self.columns):
            self.paint_column(axes, layer, column)
        for line in drawn:
            if line.has_room:
                self.paint_number(axes, line)

    def paint_column(self, axes: Axes, layer: int, column: Column) -> None:
        """Draws a layer's circles, its names if they are the data's, and how many units are left out."""
        circles = self.circles(layer)
        size = (2 * self.radius) ** 2
        x, y = np.array(circles[column.bias :]).T
        axes.scatter(x, y, s=size, c=NODE, edgecolors="none", zorder=2)
        if column.bias:
            axes.scatter(circles[0][0], circles[0][1], s=0.6 * size, c=NODE, marker="s", edgecolors="none", zorder=2)
            axes.text(*circles[0], "1", ha="center", va="center_baseline", fontsize=8, color="#ffffff", zorder=3)
        for (x, y), name in zip(circles[column.bias :], column.names, strict=True):
            if layer == 0:
                axes.text(x - self.radius - 5, y, name, ha="right", va="center_baseline")
            elif layer == len(self.columns) - 1:
                axes.text(x + self.radius + 5, y, name, ha="left", va="center_baseline")
        if column.more:
            x, y = circles[-1]
            axes.text(x, y - self.pitch, f"… {column.more:,} more", ha="center", va="center")

    def paint_number(self, axes: Axes, line: Line) -> None:
        """Writes a weight along its line, on the side where lines are apart from each other."""
        (x0, y0), (x1, y1) = line.start, line.end
        part = 0.7 if line.fans_out else 0.3
        angle = float(np.degrees(np.arctan2(y1 - y0, x1 - x0)))
        place = x0 + part * (x1 - x0), y0 + part * (y1 - y0)
        text = f"{line.weight:.2f}" if abs(line.weight) < 1000 else f"{line.weight:.1e}"
        axes.annotate(
            text, place, (0, 5), textcoords="offset points", rotation=angle, rotation_mode="anchor", ha="center",
            fontsize=7.5,
        )  # fmt: skip

    def paint_legend(self, figure: Figure, largest: float) -> None:
        """Says what colours and widths mean."""
        samples = {
            "positive weight": Line2D([], [], color=POSITIVE, linewidth=3),
            "negative weight": Line2D([], [], color=NEGATIVE, linewidth=3),
            f"widest: |weight| = {number(float(f'{largest:.3g}'))}": Line2D([], [], color=INK, linewidth=WIDEST),
        }
        if self.columns[0].bias:
            samples["bias"] = Line2D([], [], color=NODE, marker="s", linestyle="none", markersize=9)
        figure.legend(list(samples.values()), list(samples), loc="lower center", ncols=len(samples))


def columns(replay: Replay) -> Iterator[Column]:
    """The layers of a network as they are drawn."""
    dataset, sizes = replay.run.dataset, replay.run.sizes
    for layer, size in enumerate(sizes):
        shown = size if size <= ALL_UNITS else SOME_UNITS
        last = layer == len(sizes) - 1
        names = dataset.features if layer == 0 else dataset.targets if last else ("",) * size
        bias = replay.run.config.network.bias and not last
        yield Column(tuple(label(name, 18) for name in names[:shown]), size - shown, bias)


def width_of(weight: float, largest: float) -> float:
    """A line's width in points, growing with its weight; a weight that is no finite number is as the largest."""
    share = abs(weight) / largest if np.isfinite(weight) and largest else 1.0
    return THINNEST + (WIDEST - THINNEST) * share
