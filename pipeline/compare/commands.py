"""What `seedbed compare` does: reads its words, compares, prints."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.checks import shown
from pipeline.compare.comparison import Comparison, check_column, compare, keys_to_choose, runs_with
from pipeline.compare.effects import heat_map
from pipeline.compare.results import Results, Selection, read_results
from pipeline.compare.tables import print_all, print_map
from pipeline.compare.wording import level
from pipeline.errors import UserError
from pipeline.key_values import check_keys, key_values
from pipeline.store.address import store_uri

SELECTING = ("sweep", "experiment", "filter", "tracking.uri")
COMPARING = ("metric", "by", "threshold")
SORT, MAP = "sort", "map"


def print_comparison(words: Sequence[str], form: str, most: int) -> None:
    """Prints the comparison that the words ask for, as a table for people or in another format."""
    values = key_values(words)
    check_keys(values, (*SELECTING, *COMPARING, SORT, MAP))
    results, found = compared(values)
    cells = in_order(found.cells, values.get(SORT)) if MAP not in values else heat_map_of(found, keys_of(values[MAP]))
    if form == "table" and MAP in values:
        print_map(found, cells)
    elif form == "table":
        print_all(results, found, cells, most)
    elif form == "parquet":
        write_parquet(cells)
    else:
        sys.stdout.write(FORMATTERS[form](results, found, cells))


def heat_map_of(found: Comparison, keys: Sequence[str]) -> pd.DataFrame:
    """The median by two keys: a row a level of the first, named in the first column, a column a level of the second."""
    if len(keys) != 2:
        raise UserError(f"{MAP}={shown(','.join(keys))} must be two keys, like {MAP}=network.hidden,training.epochs.")
    for key in keys:
        check_column(MAP, key, keys_to_choose(found.runs))
    medians = heat_map(found.runs, found.metric, *keys).medians
    medians.columns = pd.Index([level(value) for value in medians.columns], name=medians.columns.name)
    return medians.reset_index()


def compared(values: Mapping[str, Any]) -> tuple[Results, Comparison]:
    """The runs that words select, and their comparison."""
    selection = Selection(texted(values, "sweep"), texted(values, "experiment"), texted(values, "filter"))
    if selection.sweep is not None and selection.filter is not None:
        raise UserError("Choose runs by sweep= or by filter=, not both.")
    threshold = threshold_of(values.get("threshold"))
    results = read_results(store_uri(values.get("tracking.uri")), selection)
    return results, compare(runs_with(results, threshold), texted(values, "metric"), keys_of(values.get("by")))


def threshold_of(value: object) -> float | None:
    """A loss to reach, if one is given. Raises UserError for what is no number."""
    if value is None:
        return None
    try:
        threshold = math.nan if isinstance(value, bool) else float(str(value))  # YAML leaves 1e-3 a text
    except ValueError:
        threshold = math.nan
    if math.isnan(threshold):
        raise UserError(f"threshold is {shown(value)}, but it must be a number: a loss to reach.")
    return threshold


def texted(values: Mapping[str, Any], key: str) -> str | None:
    """A word's value as text; None if it is not given."""
    return None if values.get(key) is None else str(values[key])


def keys_of(by: object) -> list[str]:
    """Keys to group by: `network.hidden`, `[network.hidden, training.epochs]`, or separated by commas."""
    if by is None:
        return []
    listed = by if isinstance(by, list) else str(by).split(",")
    return [str(key).strip() for key in listed if str(key).strip()]


def in_order(cells: pd.DataFrame, column: object) -> pd.DataFrame:
    """The cells ordered by one of their columns, from low to high, or with a `-` before it from high to low."""
    if column is None:
        return cells
    name = str(column)
    falls, name = name.startswith("-"), name.removeprefix("-")
    if name not in cells.columns:
        raise UserError(f"{SORT}={shown(str(column))} is no column: choose from {', '.join(cells.columns)}.")
    return cells.sort_values(name, ascending=not falls, kind="stable", ignore_index=True)


# --- formats ----------------------------------------------------------------------------------------------------


def as_csv(results: Results, found: Comparison, cells: pd.DataFrame) -> str:
    """The cell table alone."""
    return cells.to_csv(index=False, lineterminator="\n")


def as_markdown(results: Results, found: Comparison, cells: pd.DataFrame) -> str:
    """Verdict and cell table."""
    rows = [[cell_text(value) for value in row] for row in cells.itertuples(index=False, name=None)]
    lines = [list(map(str, cells.columns)), ["---"] * len(cells.columns), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"# {results.title}\n\n{found.verdicts.sentence}\n\n{table}\n"


def cell_text(value: object) -> str:
    """A value in a Markdown table."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def as_json(results: Results, found: Comparison, cells: pd.DataFrame) -> str:
    """All of it: the sweep, the cells, the verdicts, the effects. What is not finite becomes null or `inf`."""
    content = {
        "title": results.title,
        "runs": len(found.runs),
        "metric": found.metric.name,
        "verdict": found.verdicts.sentence,
        "best": found.verdicts.best,
        "alike": list(found.verdicts.alike),
        "cells": records(cells),
        "against_best": records(found.verdicts.table),
        "effects": records(found.effects.terms),
        "seed_share": plain(found.effects.noise),
    }
    return json.dumps(content, indent=2) + "\n"


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as JSON can hold them."""
    return [{str(key): plain(value) for key, value in row.items()} for row in table.to_dict("records")]


def plain(value: Any) -> Any:
    """A value as JSON has it: no NaN (null) and no infinity (text)."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else str(value)
    return value


def write_parquet(cells: pd.DataFrame) -> None:
    """Writes the cell table as Parquet to standard output. Raises UserError if that is a terminal."""
    if sys.stdout.isatty():
        raise UserError("Parquet is no text: redirect it, as in `seedbed compare --format parquet > cells.parquet`.")
    sys.stdout.buffer.write(cells.to_parquet(index=False))


FORMATTERS = {"csv": as_csv, "markdown": as_markdown, "json": as_json}
