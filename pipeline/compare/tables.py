"""The comparison in the terminal."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pipeline.compare.comparison import Comparison
from pipeline.compare.results import Results
from pipeline.compare.wording import counted, digits, level, p_text, short_keys, span
from pipeline.console import out, say

WIDE = 120  # characters


def print_all(results: Results, found: Comparison, cells: pd.DataFrame, most: int) -> None:
    """Prints the verdict, the cells, how they compare with the best, and what the keys do."""
    say(f"{results.title} in {results.shown_uri}: {counted(len(found.runs), 'runs')}.")
    say("")
    say(found.verdicts.sentence)
    print_cells(found, cells, most)
    print_against(found, most)
    print_effects(found)


def print_cells(found: Comparison, cells: pd.DataFrame, most: int) -> None:
    """Prints the first cells, or groups, of a table of them."""
    keys = list(found.by) or list(found.keys) or ["cell"]
    noun = "groups" if found.by else "cells"
    words = found.metric.words
    names = short_keys(keys)
    title = f"{words.capitalize()} of {counted(len(cells), noun)} over their seeds"
    table = new_table(title)
    for name in names:
        table.add_column(name, overflow="fold")
    columns = figures(found, cells)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for _, row in cells[:most].iterrows():
        table.add_row(*(Text(level(row[key])) for key in keys), *(tell(row) for tell in columns.values()))
    out.print(table)
    rest(len(cells), most, noun)
    if cells["too_few"].any():
        say("Fewer than 10 seeds in some: their intervals are too narrow to be trusted.")
    if "updates_needed" in cells:
        say("Updates: what half of the runs need to reach the threshold, to the next kept point of their curves.")


def figures(found: Comparison, cells: pd.DataFrame) -> dict[str, Callable[["pd.Series[Any]"], str]]:
    """The columns behind the keys: how each is told of a row. Best losses only where one is not the final loss.

    A narrow terminal gets the most important ones.
    """
    columns: dict[str, Callable[[pd.Series[Any]], str]] = {
        "runs": lambda row: f"{row['n']:,}",
        "median": lambda row: digits(row["median"]),
        "mean": lambda row: digits(row["mean"]),
        "iqm": lambda row: digits(row["iqm"]),
        "95 % interval": lambda row: span(row["low"], row["high"]),
        "worst": lambda row: digits(row["highest"] if not found.metric.higher else row["lowest"]),
        "of seed": lambda row: str(row["worst_seed"]),
        "diverged": lambda row: f"{row['diverged'] / row['n']:.0%}" if row["n"] else "-",
    }
    if out.width < WIDE:
        for name in ("median", "mean", "worst", "of seed"):
            del columns[name]
    elif found.metric.name != "best_loss" and not cells["best_iqm"].equals(cells["iqm"]):
        columns["best loss, iqm"] = lambda row: digits(row["best_iqm"])
        columns["its 95 %"] = lambda row: span(row["best_low"], row["best_high"])
    if "updates_needed" in cells:
        columns["reached"] = lambda row: f"{row['reached']:,} of {row['n']:,}"
        columns["updates"] = lambda row: digits(row["updates_needed"], "never")
    return columns


def new_table(title: str) -> Table:
    """An empty table; a narrow terminal gets a tighter one."""
    narrow = out.width < WIDE
    return Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=narrow)


def print_against(found: Comparison, most: int) -> None:
    """Prints how the other cells compare with the best."""
    table = found.verdicts.table
    if not len(table):
        return
    metric = found.metric
    gap = f"times {metric.better}" if metric.log else f"{metric.better} by"
    columns: dict[str, Callable[[pd.Series[Any]], str]] = {
        gap: lambda row: digits(row["effect"]),
        "95 % interval": lambda row: span(row["low"], row["high"]),
        "p corrected": lambda row: p_text(row["p_corrected"]),
        "told": lambda row: "yes" if row["told"] else "no",
        "seeds needed": lambda row: "" if pd.isna(row["seeds_needed"]) else digits(row["seeds_needed"], "> 10,000"),
    }
    if out.width < WIDE:
        del columns["p corrected"], columns["seeds needed"]
    shown = new_table(f"{found.verdicts.best} against the others")
    shown.add_column("other", overflow="fold")
    for name in columns:
        shown.add_column(name, justify="right", no_wrap=True)
    for _, row in table[:most].iterrows():
        shown.add_row(Text(row["label"]), *(tell(row) for tell in columns.values()))
    out.print(shown)
    rest(len(table), most, "groups" if found.by else "cells")


def print_map(found: Comparison, medians: pd.DataFrame) -> None:
    """Prints medians by two keys: the first column has the levels of one, the others are the levels of the other."""
    rows, columns = medians.columns[0], medians.columns.name
    table = new_table(f"Median {found.metric.words} by {rows} (down) and {columns} (across)")
    table.add_column(str(rows))
    for name in medians.columns[1:]:
        table.add_column(str(name), justify="right", no_wrap=True)
    for row in medians.itertuples(index=False, name=None):
        table.add_row(Text(level(row[0])), *map(digits, row[1:]))
    out.print(table)


def print_effects(found: Comparison) -> None:
    """Prints what each key explains."""
    if len(found.effects.terms):
        say(found.effects.sentence)


def rest(count: int, most: int, noun: str) -> None:
    """Says how many rows were left out."""
    if count > most:
        say(f"... and {count - most:,} more {noun}: `seedbed compare --most {count}` shows all.")
