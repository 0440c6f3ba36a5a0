"""What a person sees of plans and runs in the terminal: progress on standard error, results on standard output."""

import importlib.util
import math
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from pipeline.planning.plan import FAILED, FOUND, Outcome
from pipeline.planning.preview import Preview
from pipeline.terminal import SHOWN, counted, duration, err, print_table, say, short

MOST_PREDICTIONS = 20  # rows of a run that are printed
LINE_EVERY = 5.0
BESIDE = 17  # characters of the bar's line that are not what is told


class Display:
    """Progress of a sweep: a bar in a terminal or notebook, else a plain line every few seconds.

    Use as a context manager.
    """

    def __init__(self, runs: int, updates: int) -> None:
        """How many runs, and how many updates of trajectories, there will be."""
        self.runs, self.updates = runs, max(updates, 1)
        self.done, self.found, self.made, self.best = 0, 0, 0, math.inf
        self.started = self.printed = time.monotonic()
        self.bar = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:.0f} %"),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[told]}", table_column=Column(no_wrap=True)),
            console=err,
            transient=True,
            expand=True,
        )
        self.task = self.bar.add_task("", total=self.updates, told=self.runs_text)
        self.is_shown = SHOWN.get()
        moves = err.is_terminal and not err.is_dumb_terminal
        self.has_bar = self.is_shown and (moves or can_draw_in_notebook())

    def __enter__(self) -> Self:
        if self.has_bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.has_bar:
            self.bar.stop()

    def report(self, updates: int, outcomes: Sequence[Outcome]) -> None:
        """Takes note of updates made and runs ended."""
        self.made += updates
        self.done += len(outcomes)
        self.found += sum(outcome.status == FOUND for outcome in outcomes)
        losses = (outcome.metrics.get("result/final_loss", math.inf) for outcome in outcomes)
        self.best = min(self.best, *losses, math.inf)
        now = time.monotonic()
        told = self.told(max(now - self.started, 1e-9), err.width - BESIDE if self.has_bar else math.inf)
        self.bar.update(self.task, completed=self.made, told=" ".join(told))
        if self.is_shown and not self.has_bar and now - self.printed > LINE_EVERY:
            self.printed = now
            share = f"{self.made / self.updates:.0%}"
            print(", ".join([share, *told]), file=sys.stderr, flush=True)

    def told(self, seconds: float, room: float) -> list[str]:
        """What is known after so many seconds: runs done, updates a second, time left, the best loss so far.

        Of these as many as `room` characters hold.
        """
        left = self.seconds_left(seconds)
        texts = {
            "runs": self.runs_text,
            "rate": f"{short(self.made / seconds)} updates/s" if self.made else "",
            "left": f"{duration(left)} left" if math.isfinite(left) else "",
            "best": f"best {self.best:.3g}" if math.isfinite(self.best) else "",
        }
        for spare in ("rate", "best", "left"):
            if len(" ".join(filter(None, texts.values()))) > room:
                texts[spare] = ""
        return [text for text in texts.values() if text]

    def seconds_left(self, seconds: float) -> float:
        """How long it will still take, going by updates and, once runs have ended, by runs: they are written, too."""
        trained = self.done - self.found
        by_updates = seconds * (self.updates - self.made) / self.made if self.made else math.inf
        by_runs = seconds * (self.runs - self.done) / trained if trained else 0.0
        return max(by_updates, by_runs, 0.0)

    @property
    def runs_text(self) -> str:
        """How many of the runs have ended; empty where runs are not what is counted."""
        return f"{self.done}/{self.runs} runs" if self.runs else ""


def can_draw_in_notebook() -> bool:
    """True in a notebook that can change what it has shown."""
    return err.is_jupyter and importlib.util.find_spec("ipywidgets") is not None


def print_plan(title: str, plan: Preview) -> None:
    """Prints what would be done in one MLflow experiment, a line a figure."""
    to_train = plan.runs - plan.found
    by = f"in {counted(plan.workers, 'worker process', 'es')}" if plan.workers else "in this process"
    stacks = f"{counted(plan.stacks, 'stack')}, {by}" if to_train else ""
    shared = f"not {plan.epochs:,}: longer runs hold shorter ones" if plan.epochs > plan.updates else ""
    if plan.going_on:
        shared = f"not {plan.epochs:,}: {counted(plan.going_on, 'run')} go on from finished ones"
    store = "an MLflow server" if plan.server else "MLflow with SQLite"
    lines = [
        ("runs", f"{plan.runs:,}", f"{counted(plan.cells, 'cell')}, {counted(plan.seeds, 'seed')}"),
        ("duplicates", f"{plan.duplicates:,}", "dropped"),
        ("found finished", f"{plan.found:,}", "in the store: not trained again"),
        ("to train", f"{to_train:,}", stacks),
        ("updates", f"{plan.updates:,}", shared),
        ("training", duration(plan.training), "estimated from the pace measured here just now"),
        ("writing", duration(plan.writing), f"estimated for {store}"),
        ("disk", f"{short(plan.bytes)}B", "estimated"),
    ]
    no_need = {"duplicates": not plan.duplicates, "found finished": not plan.found}
    no_need |= dict.fromkeys(("updates", "training"), not to_train)
    no_need |= dict.fromkeys(("writing", "disk"), not plan.bytes)
    say(title)
    for name, figure, about in lines:
        if not no_need.get(name):
            say(f"  {name:<14} {figure:>13}  {about}".rstrip())
    if not to_train:
        say("  Nothing to train: every run is finished in the store.")


def print_end_of_plan(plans: Sequence[Preview]) -> None:
    """Prints the totals of several MLflow experiments."""
    if len(plans) > 1:
        runs, found = sum(plan.runs for plan in plans), sum(plan.found for plan in plans)
        training, writing = sum(plan.training for plan in plans), sum(plan.writing for plan in plans)
        disk = f", {short(sum(plan.bytes for plan in plans))}B" if writing else ""
        times = f"about {duration(training)} of training" + (f" and {duration(writing)} of writing" if writing else "")
        say(f"All {len(plans)}: {runs - found:,} of {runs:,} runs to train, {times}{disk}.")


def print_refused(refused: Sequence[tuple[str, str]], most: int = 10) -> None:
    """Prints jobs that cannot run, the words of each and why not."""
    say(f"Cannot run: {len(refused):,}")
    for words, reason in refused[:most]:
        say(f"  {words}\n    {reason}")
    if len(refused) > most:
        say(f"  ... and {len(refused) - most:,} more")


def print_failures(outcomes: Sequence[Outcome], most: int = 20) -> None:
    """Prints each failed run with its reason and the command that repeats it."""
    failed = [outcome for outcome in outcomes if outcome.status == FAILED]
    for outcome in failed[:most]:
        err.print(Text(f"failed: {outcome.run.name}: {outcome.reason}\n  repeat it with: {outcome.run.command}"))
    if len(failed) > most:
        err.print(Text(f"... and {len(failed) - most} more failed runs, in failures.json of the sweep's run"))


def decimals(value: object) -> str:
    """A number with eight decimals, or eight digits where it is large; text as it is."""
    if isinstance(value, str):
        return value
    return f"{value:.8f}" if isinstance(value, float) and abs(value) < 1e6 else f"{value:.8g}"


def as_classes(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    """Predictions of classes in short: the most probable one, how probable it is, and the right one; else as they are.

    Classes are several outputs of which one has the target 1 and the others 0.
    """
    prefix, outputs = "prediction_", {}
    for i, name in enumerate(columns):
        target = f"target_{name.removeprefix(prefix)}"
        if name.startswith(prefix) and target in columns:
            outputs[name.removeprefix(prefix)] = i, columns.index(target)
    if len(outputs) < 2 or any(sorted(row[j] for _, j in outputs.values())[-2:] != [0.0, 1.0] for row in rows):
        return columns, rows
    parts = [i for i, name in enumerate(columns) if name == "part"]
    short = []
    for row in rows:
        best = max(outputs, key=lambda name: row[outputs[name][0]])
        right = next(name for name, (_, j) in outputs.items() if row[j])
        short.append([row[0], best, row[outputs[best][0]], right, *(row[i] for i in parts)])
    return ["input", "prediction", "prediction's share", "target", *("part" for _ in parts)], short


def print_predictions(columns: Sequence[str], rows: Sequence[Sequence[object]], count: int) -> None:
    """Prints the predictions of a run as a table, with the eight decimals that the tutorials print; no features.

    `rows` are the first of `count`, MOST_PREDICTIONS at least if there are as many.
    """
    if not columns:
        return
    columns, rows = as_classes(columns, rows)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    kept = [
        i
        for i, name in enumerate(columns)
        if name.startswith(("input", "prediction", "target", "error")) or name == "part"
    ]
    for i in kept:
        header = columns[i].replace("_unscaled", "\nunscaled")  # two lines, to fit a terminal of 80 columns
        table.add_column(header, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows[:MOST_PREDICTIONS]:
        table.add_row(str(row[0]), *(decimals(row[i]) for i in kept[1:]))
    print_table(table)
    if count > MOST_PREDICTIONS:
        say(f"... and {count - MOST_PREDICTIONS:,} more rows")
