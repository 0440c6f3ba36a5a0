"""The report's pictures of how the loss falls, by cell and by key, and of the seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from pipeline.compare.comparison import Comparison
from pipeline.compare.effects import in_order
from pipeline.compare.pairs import labels
from pipeline.compare.results import Results
from pipeline.pictures.drawing import as_inline
from pipeline.pictures.panels import MOST_CELLS, Band, bands, by_step, curves_by_cell, curves_by_level, strips

MOST_KEYS = 4  # that have a picture of their curves
MOST_LEVELS = 7
MOST_CURVES = 3000  # that are read: those of 100,000 runs would take gigabytes, and draw the same bands
ABOUT_BAND = "Line: median over the seeds. Dark band: the middle half of them; light band: all."
ABOUT_TRAINED = "Dashed: of the training rows, medians; where the two part, the network learns its rows by heart."


@dataclass(frozen=True)
class Picture:
    """An SVG element and what stands below it."""

    svg: Markup
    caption: str


def learning(results: Results, comparison: Comparison) -> dict[str, Any]:
    """The pictures of the curves, and of the seeds."""
    runs, cells = comparison.runs, comparison.cells
    if comparison.by:
        return {"curves": [], "strips": None}
    held = "val_loss" in runs and bool(runs["val_loss"].notna().any())
    drawn_runs = spread_evenly(runs)
    curves = by_step(results.curves("val_loss" if held else "loss", drawn_runs))
    longest = cells[is_longest(cells, comparison.keys)]
    loss = str(runs["training.loss"].iloc[0]) if runs["training.loss"].nunique() == 1 else "loss"
    loss = f"validation {loss}" if held else loss
    found = list(bands(curves, runs, "cell", list(longest["cell"])))
    drawn = []
    if found:
        names = labels(longest[["cell", *comparison.keys]], None)
        best = list(longest["cell"])[:MOST_CELLS]
        trained = list(bands(by_step(results.curves(run_ids=drawn_runs)), runs, "cell", best)) if held else []
        more = " Thin lines: other cells, their medians." if len(found) > MOST_CELLS else ""
        more += f" {ABOUT_TRAINED}" if held else ""
        more += f" Of {len(drawn_runs):,} of the {len(runs):,} runs." if len(drawn_runs) < len(runs) else ""
        drawn.append(picture(curves_by_cell(found, names, loss, trained), f"The best cells. {ABOUT_BAND}{more}"))
    for key in [key for key in comparison.keys if key != "training.epochs"][:MOST_KEYS]:
        by_level = level_bands(curves, runs, key)
        if len(by_level) > 1:
            caption = f"By {key}, all else pooled. Line: median; band: the middle half of the runs."
            drawn.append(picture(curves_by_level(by_level, key, loss), caption))
    caption = (
        "Every dot is a run, that is a seed. Bar: 95 % interval of the interquartile mean; tick: median. "
        "What diverged has no dot."
    )
    dots = picture(strips(runs, cells, labels(cells[["cell", *comparison.keys]], None), comparison.metric), caption)
    return {"curves": drawn, "strips": dots}


def spread_evenly(runs: pd.DataFrame) -> list[str]:
    """The ids of the runs whose curves are drawn: all, or of each cell as many, spread over its seeds."""
    of_cell = runs.groupby("cell")["cell"]
    room = max(1, MOST_CURVES // of_cell.ngroups)
    share, place = room / of_cell.transform("size"), of_cell.cumcount()
    chosen = np.floor(place * share) > np.floor((place - 1) * share)
    return list(runs.loc[chosen, "run_id"].unique())


def is_longest(cells: pd.DataFrame, keys: Sequence[str]) -> "pd.Series[bool]":
    """Which cells are no beginning of another: of those that differ in the epochs only, the one with the most."""
    rest = [key for key in keys if key != "training.epochs"]
    if "training.epochs" not in keys:
        return pd.Series(True, index=cells.index)
    most = (
        cells.groupby(rest, dropna=False)["training.epochs"].transform("max")
        if rest
        else cells["training.epochs"].max()
    )
    return cells["training.epochs"] == most


def level_bands(curves: pd.DataFrame, runs: pd.DataFrame, key: str) -> list[Band]:
    """The curves of a key's levels, of at most MOST_LEVELS of them, in order."""
    levels = runs[key].drop_duplicates().tolist()
    levels = [levels[place] for place in in_order(levels)]
    if len(levels) > MOST_LEVELS:
        levels = [levels[place] for place in np.linspace(0, len(levels) - 1, MOST_LEVELS).round().astype(int)]
    return list(bands(curves, runs, key, levels))


def picture(svg: bytes, caption: str) -> Picture:
    """A picture for the page."""
    return Picture(Markup(as_inline(svg)), caption)  # noqa: S704  # drawing.py has escaped what it draws
