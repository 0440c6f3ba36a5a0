"""What `seedbed published` prints: every figure of the tutorials beside ours."""

import itertools
from collections.abc import Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pipeline.checks import shown
from pipeline.errors import FailedRunsError, UserError
from pipeline.planning.console import Display
from pipeline.terminal import print_table, say
from pipeline.verbs.published import (
    AGREES,
    DIFFERS,
    MISPRINT,
    Comparison,
    Figure,
    LongRun,
    compare_tutorial,
    tutorials,
    updates_needed,
)

QUANTILES = {"lowest": 0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "highest": 1}


def print_published(names: Sequence[str]) -> None:
    """Compares the tutorials named (all if none is). Raises FailedRunsError if a figure that should agree does not."""
    known = tutorials()
    for name in names:
        if name not in known:
            raise UserError(f"There is no tutorial {shown(name)}: choose from {', '.join(known)}.")
    chosen = list(dict.fromkeys(names)) or list(known)
    with Display(0, sum(updates_needed(name) for name in chosen)) as display:
        comparisons = [compare_tutorial(name, lambda updates: display.report(updates, ())) for name in chosen]
    for comparison in comparisons:
        print_comparison(comparison)
    figures = [figure for comparison in comparisons for figure in comparison.figures]
    bad = [figure for figure in figures if figure.verdict == DIFFERS]
    printed = [figure.verdict for figure in figures if not figure.computed]
    computed = [figure.verdict for figure in figures if figure.computed]
    say(f"{count_of(AGREES, printed)} printed figures agree; {printed.count(MISPRINT)} are misprints of the text.")
    if computed:
        say(f"{count_of(AGREES, computed)} figures that no text prints agree with what was computed once.")
    if bad:
        named = "; ".join(f"{figure.where}, {figure.what}" for figure in bad)
        raise FailedRunsError(f"{len(bad)} figures differ from the printed ones: {named}.")


def count_of(verdict: str, verdicts: Sequence[str]) -> str:
    """`3 of 4`."""
    return f"{verdicts.count(verdict)} of {len(verdicts)}"


def print_comparison(comparison: Comparison) -> None:
    """Prints a tutorial's figures beside ours, what its text got wrong, and its long run."""
    for where, figures in itertools.groupby(comparison.figures, key=lambda figure: figure.where):
        table = Table(title=f"{comparison.tutorial}: {where}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("figure")
        for column in ("printed", "ours"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("verdict, digits that agree")
        for figure in figures:
            ours = f"{figure.ours:.{min(figure.digits + 2, 17)}g}"
            table.add_row(Text(figure.what), figure.printed, ours, Text(told_verdict(figure)))
        print_table(table)
    for remark in comparison.remarks:
        say(f"  - {remark}")
    if comparison.long_run:
        print_long_run(comparison.long_run)
    say("")


def told_verdict(figure: Figure) -> str:
    """A figure's verdict with how many digits agree, and why it is a misprint or not printed."""
    why = figure.misprint or figure.computed
    return f"{figure.verdict}, {figure.agreeing} of {figure.digits}" + (f": {why}" if why else "")


def print_long_run(run: LongRun) -> None:
    """Prints where the exam text's unseeded long run lies among seeded ones."""
    right = ", ".join(f"{value:.4f}" for value in run.row_scaled_right)
    table = Table(title=f"The run without a seed, among {len(run.mse)} seeds", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("after 100,000 updates")
    for column in ("mse\n(after 99,999)", "prediction of\n[0.5, 1.0], as printed", f"prediction of\n[{right}]"):
        table.add_column(column, justify="right", no_wrap=True)
    below = [f"{np.mean(run.mse < run.printed_mse):.0%}", f"{np.mean(run.as_in_the_text < run.printed_prediction):.0%}"]
    table.add_row("printed", f"{run.printed_mse:.9g}", f"{run.printed_prediction:.8f}", "")
    table.add_row("seeds below it", *below, "")
    for name, share in QUANTILES.items():
        values = [np.quantile(each, share) for each in (run.mse, run.as_in_the_text, run.scaled_right)]
        table.add_row(name, f"{values[0]:.3g}", f"{values[1]:.8f}", f"{values[2]:.8f}")
    print_table(table)
    stuck = run.mse[run.stuck]
    if len(stuck):
        say(f"  {len(stuck)} of {len(run.mse)} runs are stuck, at a median mse of {np.median(stuck):.3g}.")
