"""Pictures of findings, small ones: runs by a key, curves, predictions beyond the training rows, time and memory."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.compare.metric import Metric, metric_of
from pipeline.errors import UserError
from pipeline.findings.arms import ARM, Evidence, levels_of, runs_of
from pipeline.findings.declared import Finding
from pipeline.findings.processes import ROWS
from pipeline.pictures.drawing import INK, draw, label, log_values
from pipeline.pictures.panels import COLORS, Band, bands, by_step, finish, paint_band
from pipeline.results.predict import run_predictor

Array = NDArray[np.float64]

WIDTH, HEIGHT = 6.0, 3.0  # inches
MOST_POINTS = 60  # of a curve
LEAST = 1e-8  # losses below it are drawn there
SPREAD = 0.3  # how far the dots of a level reach to either side
BEYOND = 0.6  # how far predictions are drawn beyond the training rows, in widths of these
GRID = 81


def picture(finding: Finding, evidence: Evidence, table: pd.DataFrame) -> bytes:
    """The SVG file of a finding; `table` are the runs of its arms. Raises UserError for a kind that is not known."""
    kinds: dict[str, Callable[[Finding, Evidence, pd.DataFrame], Callable[[Figure], None]]] = {
        "levels": levels,
        "curves": curves,
        "predictions": predictions,
        "resources": resources,
    }
    if finding.picture.kind not in kinds:
        raise UserError(f"The finding {finding.name} has a picture of no known kind: choose from {', '.join(kinds)}.")
    paint = kinds[finding.picture.kind](finding, evidence, table)
    return draw(finding.name.replace("_", "-"), finding.question, WIDTH, HEIGHT, paint)


def levels(finding: Finding, evidence: Evidence, _: pd.DataFrame) -> Callable[[Figure], None]:
    """The metric of every run as a dot, by the levels of the key `by` and, in colours, those of `color`.

    A line is the median, and a bar has the middle half of the runs. What diverged is told above.
    """
    asked = finding.picture
    runs = runs_of(evidence.runs, asked.where)
    metric = metric_of(runs, finding.metric)
    lost = runs["diverged_at"].notna()
    values = runs[metric.name].clip(lower=LEAST) if metric.log else runs[metric.name]
    runs = runs.assign(**{metric.name: values.where(~lost, np.inf)})
    places = list(dict.fromkeys(levels_of(runs, asked.by)))
    colors = list(dict.fromkeys(levels_of(runs, asked.color))) if asked.color else [""]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for i, name in enumerate(colors):
            group = runs_of(runs, {asked.color: name}) if asked.color else runs
            offset = (i - (len(colors) - 1) / 2) / len(colors) * 0.8
            for place, level in enumerate(places):
                values = group.loc[levels_of(group, asked.by) == level, metric.name].to_numpy(dtype=np.float64)
                strip(axes, values, place + offset, SPREAD / len(colors), COLORS[i])
            axes.plot([], [], "o", color=COLORS[i], label=name)
        axes.set_xticks(range(len(places)), [label(name.replace("'", ""), 22) for name in places])
        axes.set_xlabel(asked.by)
        axes.grid(False, axis="x")
        scale(axes, metric)
        if asked.color:
            figure.legend(loc="outside upper center", ncols=4)

    return paint


def strip(axes: Axes, values: Array, place: float, spread: float, color: str) -> None:
    """One level: dots side by side in the order of their runs, the middle half and the median; and what diverged."""
    finite = values[np.isfinite(values)]
    lost = len(values) - len(finite)
    if len(finite):
        across = place + spread * (np.modf(np.arange(len(finite)) * 0.618)[0] * 2 - 1)
        axes.plot(across, finite, "o", color=color, markersize=2.6, alpha=0.45, markeredgewidth=0)
    if len(finite) > len(values) / 2:
        low, middle, high = np.quantile(finite, (0.25, 0.5, 0.75))
        axes.plot([place, place], [low, high], color=color, linewidth=5, alpha=0.4, solid_capstyle="butt")
        axes.plot([place - spread, place + spread], [middle, middle], color=INK, linewidth=1.6)
    if lost:
        words = f"{100 * lost / len(values):.0f} % diverged"
        above = axes.get_xaxis_transform()
        axes.text(place, 1.01, words, transform=above, ha="center", va="bottom", fontsize=7)


def scale(axes: Axes, metric: Metric) -> None:
    """The vertical axis of a metric."""
    if metric.log:
        log_values(axes)
    axes.set_ylabel(metric.words)


def curves(finding: Finding, evidence: Evidence, table: pd.DataFrame) -> Callable[[Figure], None]:
    """Several curves of the runs that `where` says, or one curve of both arms: medians and the middle half of seeds."""
    asked = finding.picture
    found: list[Band] = []
    if len(asked.curves) > 1:
        runs = runs_of(evidence.runs, asked.where)
        for name in asked.curves:
            known = thinned(evidence.kept.curves(name), runs)
            found += bands(known, runs.assign(**{ARM: words(name)}), ARM, [words(name)])
    else:
        runs = table.merge(evidence.runs[["run_id", "training.epochs"]], on="run_id")
        known = thinned(evidence.kept.curves(asked.curves[0]), runs)
        found += bands(known, runs, ARM, [arm.name for arm in finding.arms])

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for band, color in zip(found, COLORS, strict=False):
            paint_band(axes, band, band.name, color, whole=False)
        finish(figure, axes, found, "loss" if len(asked.curves) > 1 else words(asked.curves[0]))

    return paint


def words(curve: str) -> str:
    """A curve's name for people."""
    return {"loss": "training loss", "val_loss": "validation loss", "test_loss": "test loss"}.get(curve, curve)


def thinned(points: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Curves of some runs as a table (see by_step), with about MOST_POINTS of their steps, evenly on a log scale."""
    table = by_step(points[points["run_id"].isin(runs["run_id"])])
    steps = table.index.to_numpy()
    wanted = np.searchsorted(steps, np.geomspace(1, max(steps[-1], 1), MOST_POINTS))
    chosen = sorted({0, *np.minimum(wanted, len(steps) - 1).tolist()})
    return table.iloc[chosen]


def predictions(finding: Finding, evidence: Evidence, _: pd.DataFrame) -> Callable[[Figure], None]:
    """Predictions over the one feature and beyond its range, by the levels of `by`, with the rows trained on.

    The band has nine of ten seeds; crosses are the arms' own rows.
    """
    runs, by = evidence.runs, finding.picture.by
    kept = {
        name: [evidence.kept.kept(run_id) for run_id in group["run_id"]] for name, group in runs.groupby(by, sort=False)
    }
    dataset = next(iter(kept.values()))[0].dataset
    low, high = float(dataset.raw_X.min()), float(dataset.raw_X.max())
    grid = np.linspace(low - BEYOND * (high - low), high + BEYOND * (high - low), GRID)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.axvspan(low, high, color=INK, alpha=0.07, linewidth=0)
        for color, (name, group) in zip(COLORS, kept.items(), strict=False):
            lines = np.array([run_predictor(run).outputs(grid[:, None])[:, 0] for run in group])
            least, middle, most = np.quantile(lines, (0.05, 0.5, 0.95), axis=0)
            axes.fill_between(grid, least, most, color=color, alpha=0.2, linewidth=0)
            axes.plot(grid, middle, color=color, label=str(name))
        axes.plot(dataset.raw_X[:, 0], dataset.raw_y[:, 0], "o", color=INK, markersize=2.5, label="trained on")
        rows = [(x, y) for arm in finding.arms if arm.at for x, y in zip(arm.at["X"], arm.at["y"], strict=True)]
        truth = np.array(rows, dtype=np.float64)
        axes.plot(truth[:, 0, 0], truth[:, 1, 0], "x", color=INK, markersize=5, label="not trained on")
        axes.set_xlabel(dataset.features[0])
        axes.set_ylabel(dataset.targets[0])
        figure.legend(loc="outside lower center", ncols=5)

    return paint


def resources(_finding: Finding, evidence: Evidence, _table: pd.DataFrame) -> Callable[[Figure], None]:
    """Time and peak memory of processes by the number of rows that they train on."""

    def paint(figure: Figure) -> None:
        for axes, name in zip(figure.subplots(1, 2), ("seconds", "megabytes"), strict=True):
            axes.plot(evidence.runs[ROWS] / 1e6, evidence.runs[name], "o", color=COLORS[0], markersize=4, alpha=0.6)
            axes.set_xlim(0, None)
            axes.set_ylim(0, None)
            axes.set_xlabel("million rows")
            axes.set_ylabel(name)

    return paint
