"""The comparison in the terminal."""

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pipeline.compare.comparison import Comparison
from pipeline.compare.results import Results
from pipeline.compare.wording import digits, level, p_text, short_keys, span
from pipeline.console import out, say


def print_all(results: Results, found: Comparison, cells: pd.DataFrame, most: int) -> None:
    """Prints the verdict, the cells, how they compare with the best, and what the keys do."""
    say(f"{results.title} in {results.shown_uri}: {len(found.runs):,} runs.")
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
    timed = "updates_needed" in cells
    title = f"{words.capitalize()} of {len(cells):,} {noun} over their seeds"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    columns = ["runs", "median", "iqm", "95 % interval", "lowest", "highest", "diverged"]
    columns += ["reached", "updates"] if timed else []
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for _, row in cells[:most].iterrows():
        told = [f"{row['n']:,}", *(digits(row[name]) for name in ("median", "iqm"))]
        told += [span(row["low"], row["high"]), digits(row["lowest"]), digits(row["highest"])]
        told += [f"{row['diverged']:,}"]
        told += [f"{row['reached']:,} of {row['n']:,}", digits(row["updates_needed"], "never")] if timed else []
        table.add_row(*(Text(level(row[key])) for key in keys), *told)
    out.print(table)
    rest(len(cells), most, noun)
    if cells["too_few"].any():
        say("Fewer than 10 seeds in some: their intervals are too narrow to be trusted.")
    if timed:
        say("Updates: what half of the runs need to reach the threshold, to the next kept point of their curves.")


def print_against(found: Comparison, most: int) -> None:
    """Prints how the other cells compare with the best."""
    table = found.verdicts.table
    if not len(table):
        return
    metric = found.metric
    gap = f"times {metric.better}" if metric.log else f"{metric.better} by"
    title = f"{found.verdicts.best} against the others"
    shown = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("other", overflow="fold")
    for column in (gap, "95 % interval", "p corrected", "told", "seeds needed"):
        shown.add_column(column, justify="right", no_wrap=True)
    for _, row in table[:most].iterrows():
        needed = "" if pd.isna(row["seeds_needed"]) else digits(row["seeds_needed"], "> 10,000")
        interval = span(row["low"], row["high"])
        told = "yes" if row["told"] else "no"
        shown.add_row(Text(row["label"]), digits(row["effect"]), interval, p_text(row["p_corrected"]), told, needed)
    out.print(shown)
    rest(len(table), most, "groups" if found.by else "cells")


def print_effects(found: Comparison) -> None:
    """Prints what each key explains."""
    if len(found.effects.terms):
        say(found.effects.sentence)


def rest(count: int, most: int, noun: str) -> None:
    """Says how many rows were left out."""
    if count > most:
        say(f"... and {count - most:,} more {noun}: `seedbed compare --most {count}` shows all.")
