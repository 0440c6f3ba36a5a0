"""What a person sees in the terminal: progress on standard error, results on standard output."""

import math
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pipeline.cells import Cell
from pipeline.sweep import FAILED, Outcome

LINE_EVERY = 5.0
WIDE = 160  # where output is no terminal, tables are not squeezed


def console(stderr: bool) -> Console:
    """Standard output or error; tables are never squeezed where there is no terminal."""
    plain = Console(stderr=stderr, highlight=False, soft_wrap=True)
    return plain if plain.is_terminal else Console(stderr=stderr, highlight=False, soft_wrap=True, width=WIDE)


out, err = console(stderr=False), console(stderr=True)


class Display:
    """Progress of a sweep: a bar in a terminal, else a plain line every few seconds. Use as a context manager."""

    def __init__(self, runs: int, updates: int) -> None:
        """How many runs, and how many updates of trajectories, there will be."""
        self.runs, self.updates = runs, max(updates, 1)
        self.done, self.made, self.best = 0, 0, math.inf
        self.started = self.printed = time.monotonic()
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[runs]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[best]}"),
            console=err,
            transient=True,
        )
        self.task = self.bar.add_task("", total=self.updates, runs=self.runs_text, best="")

    def __enter__(self) -> Self:
        if err.is_terminal:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if err.is_terminal:
            self.bar.stop()

    def report(self, updates: int, outcomes: Sequence[Outcome]) -> None:
        """Takes note of updates made and runs ended."""
        self.made += updates
        self.done += len(outcomes)
        losses = (outcome.metrics.get("result/final_loss", math.inf) for outcome in outcomes)
        self.best = min(self.best, *losses, math.inf)
        best = f"best loss {self.best:.3g}" if math.isfinite(self.best) else ""
        self.bar.update(self.task, completed=self.made, runs=self.runs_text, best=best)
        now = time.monotonic()
        if not err.is_terminal and now - self.printed > LINE_EVERY:
            self.printed = now
            rate = self.made / (now - self.started)
            share = f"{self.made / self.updates:.0%}"
            told = ", ".join(filter(None, [self.runs_text, share, f"{rate:,.0f} updates/s", best]))
            print(told, file=sys.stderr, flush=True)

    @property
    def runs_text(self) -> str:
        """How many of the runs have ended; empty where runs are not what is counted."""
        return f"{self.done}/{self.runs} runs" if self.runs else ""


def say(text: str) -> None:
    """Prints a line of results; `text` is not markup."""
    out.print(Text(text))


def warn(text: str) -> None:
    """Prints a note on standard error."""
    err.print(Text(f"note: {text}"))


def print_cells(cells: Sequence[Cell], most: int = 10) -> None:
    """Prints the best cells as a table."""
    table = Table(title=f"Best cells of {len(cells)} (final loss over seeds)", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("hidden", overflow="fold")
    for column in ("rate", "epochs", "seeds", "median", "lowest", "highest", "diverged"):
        table.add_column(column, justify="right", no_wrap=True)
    for cell in cells[:most]:
        losses = ("-" if math.isnan(loss) else f"{loss:.3g}" for loss in (cell.median, cell.best, cell.worst))
        hidden = str(list(cell.hidden))
        table.add_row(hidden, f"{cell.learning_rate:g}", str(cell.epochs), str(cell.n), *losses, str(cell.diverged))
    out.print(table)


def print_failures(outcomes: Sequence[Outcome], most: int = 20) -> None:
    """Prints each failed run with its reason and the command that repeats it."""
    failed = [outcome for outcome in outcomes if outcome.status == FAILED]
    for outcome in failed[:most]:
        err.print(Text(f"failed: {outcome.run.name}: {outcome.reason}\n  repeat it with: {outcome.run.command}"))
    if len(failed) > most:
        err.print(Text(f"... and {len(failed) - most} more failed runs, in failures.json of the sweep's run"))


def decimals(value: object) -> str:
    """A number with eight decimals, or eight digits where it is large."""
    return f"{value:.8f}" if isinstance(value, float) and abs(value) < 1e6 else f"{value:.8g}"


def print_predictions(columns: Sequence[str], rows: Sequence[Sequence[object]], most: int = 20) -> None:
    """Prints the predictions of a run as a table, with the eight decimals that the tutorials print; no features."""
    if not columns:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    kept = [i for i, name in enumerate(columns) if name.startswith(("input", "prediction", "target", "error"))]
    for i in kept:
        header = columns[i].replace("_unscaled", "\nunscaled")  # two lines, to fit a terminal of 80 columns
        table.add_column(header, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows[:most]:
        table.add_row(str(row[0]), *(decimals(row[i]) for i in kept[1:]))
    out.print(table)
    if len(rows) > most:
        say(f"... and {len(rows) - most} more rows")
