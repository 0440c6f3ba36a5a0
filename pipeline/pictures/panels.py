"""Pictures of a sweep: loss curves by cell and by key, each cell's seeds side by side, heat maps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.compare.metric import Metric
from pipeline.compare.wording import level
from pipeline.pictures.drawing import INK, WIDTH, draw, label, log_numbers, log_values, updates_across
from pipeline.results.record import PALETTE

Array = NDArray[np.float64]

COLORS = PALETTE[:7]  # the last is too dark for dark pages
MOST_CELLS = 6  # with a colour and a band; further ones are thin lines
MOST_LINES = 40
MOST_STRIPS = 24
MOST_LEVELS = 7
MOST_DOTS = 60  # of a cell
QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Band:
    """The curves of a group: steps (t,), and quantiles (5, t), lowest, quartiles and highest; infinite: diverged."""

    name: str
    steps: NDArray[np.int64]
    quantiles: Array


def bands(table: pd.DataFrame, runs: pd.DataFrame, key: str, names: Sequence[object]) -> Iterator[Band]:
    """The bands of the groups of runs that have these values of a column, in this order.

    `table` has a row a step and a column a run. Of a group's runs those with the most epochs count: shorter ones are
    their beginnings. Past its divergence a run is infinite.
    """
    for name in names:
        group = runs[runs[key] == name]
        longest = group[group["training.epochs"] == group["training.epochs"].max()]
        known = table[table.columns.intersection(longest["run_id"])].dropna(how="all")
        if known.size:
            values = known.to_numpy()
            yield Band(level(name), known.index.to_numpy(), quantiles(np.where(np.isnan(values), np.inf, values)))


def by_step(curves: pd.DataFrame) -> pd.DataFrame:
    """Curves as a table: a row a step, ascending, and a column a run; nan where a run has no point."""
    return curves.pivot(index="step", columns="run_id", values="value")


def quantiles(values: Array) -> Array:
    """Quantiles (5, t) of values (t, runs), each one of the values, so that infinite ones do not spoil finite ones."""
    found: Array = np.quantile(values, QUARTILES, axis=1, method="inverted_cdf")
    return found


def curves_by_cell(found: Sequence[Band], labels: Sequence[str], metric: str, trained: Sequence[Band] = ()) -> bytes:
    """The curves of cells, the best first: the first few with their bands, the others as thin lines.

    `trained`: where `found` is of validation rows, the curves of the training rows of the first few.
    """

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for band in reversed(found[MOST_CELLS:MOST_LINES]):
            axes.plot(band.steps, finite(band.quantiles[2]), color=INK, alpha=0.25, linewidth=0.7)
        for band, name, color in zip(found, labels, COLORS[:MOST_CELLS], strict=False):
            paint_band(axes, band, name, color)
        for band, color in zip(trained, COLORS[:MOST_CELLS], strict=False):
            axes.plot(band.steps, finite(band.quantiles[2]), color=color, linestyle="--", linewidth=1)
        finish(figure, axes, [*found, *trained], metric)

    return draw("curves", f"{metric} over updates, by cell", WIDTH, 4.6, paint)


def curves_by_level(found: Sequence[Band], key: str, metric: str) -> bytes:
    """The curves of the levels of a key."""

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for band, color in zip(found, COLORS, strict=False):
            paint_band(axes, band, f"{key.rpartition('.')[2]} {band.name}", color, whole=False)
        finish(figure, axes, found, metric)

    name = "".join(char if char.isalnum() else "-" for char in key)
    return draw(f"by-{name}", f"{metric} over updates, by {key}", WIDTH, 3.6, paint)


def paint_band(axes: Axes, band: Band, name: str, color: str, whole: bool = True) -> None:
    """A median with the middle half of the runs around it and, fainter, all of them if `whole`."""
    low, first, middle, third, high = map(finite, band.quantiles)
    if whole:
        axes.fill_between(band.steps, low, high, color=color, alpha=0.12, linewidth=0)
    axes.fill_between(band.steps, first, third, color=color, alpha=0.25, linewidth=0)
    axes.plot(band.steps, middle, color=color, label=label(name, 60))


def finish(figure: Figure, axes: Axes, found: Sequence[Band], metric: str) -> None:
    """Axes and legend of curves."""
    updates_across(axes, max((int(band.steps[-1]) for band in found), default=1))
    if all((band.quantiles > 0).all() for band in found):
        log_values(axes)
    axes.set_ylabel(metric)
    figure.legend(loc="outside lower center", ncols=2 if max(len(band.name) for band in found) > 12 else 4)


def finite(values: Array) -> Array:
    """The values with a gap where they are not finite."""
    return np.where(np.isfinite(values), values, np.nan)


def strips(runs: pd.DataFrame, table: pd.DataFrame, labels: Sequence[str], metric: Metric) -> bytes:
    """Each cell's runs as dots on a line, the best cell on top; its interval as a bar. What diverged is told in words.

    `table` is the cell table, `labels` what its rows are called.
    """
    count = min(len(table), MOST_STRIPS)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        values = {str(cell): group[metric.name].to_numpy(float) for cell, group in runs.groupby("cell")}
        for place, (_, row) in enumerate(table[:count].iterrows()):
            color = COLORS[0]
            dots = finite(values[row["cell"]])
            dots = np.sort(dots[~np.isnan(dots)])
            shown = dots[np.linspace(0, len(dots) - 1, min(len(dots), MOST_DOTS)).round().astype(int)]
            axes.plot([row["low"], row["high"]], [place, place], color=color, linewidth=6, alpha=0.35)
            axes.plot(shown, np.full(len(shown), place), "o", color=color, markersize=3.2, alpha=0.6)
            axes.plot([row["median"]], [place], "|", color=INK, markersize=11, markeredgewidth=1.6)
        axes.set_yticks(range(count), [label(name, 60) for name in labels[:count]])
        axes.set_ylim(count - 0.4, -0.6)
        if metric.log and np.isfinite(axes.dataLim.minposx):
            axes.set_xscale("log")
            log_numbers(axes.xaxis)
        axes.set_xlabel(metric.words)

    return draw("seeds", f"{metric.words} of every seed, by cell", WIDTH, 0.9 + 0.24 * count, paint)


def draw_heat_map(table: pd.DataFrame, metric: Metric, name: str) -> bytes:
    """A pivot of two keys (rows and columns with their names) in colours, the values written in.

    What is infinite (most runs diverged) has no colour, and says so.
    """
    values = table.to_numpy(dtype=np.float64)
    rows, columns = values.shape
    known = values[np.isfinite(values)]
    on_log = metric.log and bool((known > 0).all()) and known.size > 0 and known.max() > known.min()

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.grid(False)
        shade = np.ma.masked_invalid(values)
        norm = LogNorm(known.min(), known.max()) if on_log else None
        picture = axes.pcolormesh(shade, cmap="cividis" if metric.higher else "cividis_r", norm=norm, edgecolors="none")
        place = np.ma.filled(np.ma.asarray(picture.norm(shade)).astype(np.float64), 0.0)  # from 0 to 1, in colours
        for i, j in np.ndindex(values.shape):
            text = number_or_word(float(values[i, j]))
            bright = (place[i, j] > 0.5) == metric.higher
            color = INK if not np.isfinite(values[i, j]) else "#111111" if bright else "#f4f4f4"
            if columns <= 12:
                axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", color=color, fontsize=8)
        axes.set_xticks(np.arange(columns) + 0.5, [label(level(value), 16) for value in table.columns])
        axes.set_yticks(np.arange(rows) + 0.5, [label(level(value), 24) for value in table.index])
        axes.set_xlabel(str(table.columns.name))
        axes.set_ylabel(str(table.index.name))
        axes.invert_yaxis()
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)

    about = f"{metric.words} (median) by {table.index.name} and {table.columns.name}"
    return draw(name, about, WIDTH if columns > 4 else 4.6, 0.9 + 0.42 * rows, paint)


def number_or_word(value: float) -> str:
    """A value in a heat map."""
    if np.isnan(value):
        return ""
    return f"{value:.3g}" if np.isfinite(value) else "diverged"
