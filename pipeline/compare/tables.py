"""The comparison in the terminal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pipeline.compare.comparison import Comparison
from pipeline.compare.results import Results
from pipeline.compare.wording import digits, level, p_text, short_keys, span
from pipeline.terminal import MOST_WIDE, counted, out, print_table, say, widest

WIDE = 120  # characters
GAP = 2  # between the columns of a narrow table
FOLDED = 24  # of a text at least so much of a line, if it is folded
# What a narrow terminal has no room for goes in this order; what is left is the least that says which cell is best.
SPARE = (
    *("its 95 %", "best loss, iqm", "mean", "of seed", "worst", "seeds needed", "p corrected"),
    *("median", "diverged", "runs", "reached", "95 % interval", "updates"),
)

Columns = Mapping[str, Sequence[str]]


def print_all(results: Results, found: Comparison, cells: pd.DataFrame, most: int) -> None:
    """Prints the verdict, the cells, how they compare with the best, and what the keys do."""
    say(f"{results.title} in {results.shown_uri}: {counted(len(found.runs), 'run')}.")
    say("")
    say(found.verdicts.sentence)
    print_cells(found, cells, most)
    print_against(found, most)
    print_effects(found)


def print_cells(found: Comparison, cells: pd.DataFrame, most: int) -> None:
    """Prints the first cells, or groups, of a table of them."""
    keys = list(found.by) or list(found.keys) or ["cell"]
    noun = "group" if found.by else "cell"
    words = found.metric.words
    names = short_keys(keys)
    title = f"{words.capitalize()} of {counted(len(cells), noun)} over their seeds"
    table = new_table(title)
    shown = cells[:most]
    levels = {name: [level(value) for value in shown[key]] for name, key in zip(names, keys, strict=True)}
    add_columns(table, levels, figures(found, shown))
    print_table(table)
    rest(len(cells), most, noun)
    if cells["too_few"].any():
        say("Fewer than 10 seeds in some: their intervals are too narrow to be trusted.")
    if "updates_needed" in cells:
        say("Updates: what half of the runs need to reach the threshold, to the next kept point of their curves.")


def add_columns(table: Table, texts: Columns, figures: Columns) -> None:
    """Fills a table with columns of text, which may be folded, and of as many figures as a terminal has room for."""
    figures = dict(figures)
    for name in SPARE:
        if out.is_terminal and width_of(texts, FOLDED) + width_of(figures, MOST_WIDE) >= out.width:
            figures.pop(name, None)
    for name, cells in texts.items():
        table.add_column(name, overflow="fold", min_width=min(FOLDED, widest_of(name, cells)))
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    for row in zip(*texts.values(), *figures.values(), strict=True):
        table.add_row(*map(Text, row))


def width_of(columns: Columns, most: int) -> int:
    """The characters that columns of a narrow table take, if none takes more than `most`."""
    return sum(min(most, widest_of(name, cells)) + GAP for name, cells in columns.items())


def widest_of(name: str, cells: Sequence[str]) -> int:
    """The characters of a column's widest cell, its name included."""
    return max(map(widest, (name, *cells)))


def told(rows: pd.DataFrame, columns: Mapping[str, Callable[["pd.Series[Any]"], str]]) -> Columns:
    """What is told of each row, column by column."""
    return {name: [tell(row) for _, row in rows.iterrows()] for name, tell in columns.items()}


def figures(found: Comparison, cells: pd.DataFrame) -> Columns:
    """The columns behind the keys. Best losses only where one is not the final loss."""
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
    if found.metric.name != "best_loss" and not cells["best_iqm"].equals(cells["iqm"]):
        columns["best loss, iqm"] = lambda row: digits(row["best_iqm"])
        columns["its 95 %"] = lambda row: span(row["best_low"], row["best_high"])
    if "updates_needed" in cells:
        columns["reached"] = lambda row: f"{row['reached']:,} of {row['n']:,}"
        columns["updates"] = lambda row: digits(row["updates_needed"], "never")
    return told(cells, columns)


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
    shown = new_table(f"{found.verdicts.best} against the others")
    add_columns(shown, {"other": list(table["label"][:most])}, told(table[:most], columns))
    print_table(shown)
    rest(len(table), most, "group" if found.by else "cell")


def print_map(found: Comparison, medians: pd.DataFrame) -> None:
    """Prints medians by two keys: the first column has the levels of one, the others are the levels of the other."""
    rows, columns = medians.columns[0], medians.columns.name
    table = new_table(f"Median {found.metric.words} by {rows} (down) and {columns} (across)")
    table.add_column(str(rows))
    for name in medians.columns[1:]:
        table.add_column(str(name), justify="right", no_wrap=True)
    for row in medians.itertuples(index=False, name=None):
        table.add_row(Text(level(row[0])), *map(digits, row[1:]))
    print_table(table)


def print_effects(found: Comparison) -> None:
    """Prints what each key explains."""
    if len(found.effects.terms):
        say(found.effects.sentence)


def rest(count: int, most: int, noun: str) -> None:
    """Says how many rows were left out."""
    if count > most:
        say(f"... and {counted(count - most, f'more {noun}')}: `seedbed compare --most {count}` shows all.")
