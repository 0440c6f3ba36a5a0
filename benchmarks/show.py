"""Results as tables in a terminal, and as JSON."""

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from benchmarks import scaled, scaling
from benchmarks.contenders import CONTENDERS, LOOP
from benchmarks.sweeps import WAYS, Sweep
from benchmarks.tables import short, table
from benchmarks.tasks import NETS, WIDE, WIDE_ROWS
from benchmarks.tracking import ROWS, Tracking
from benchmarks.training import Training
from benchmarks.verdict import Results, judge
from pipeline import __version__

COLOURS = {"met": "green", "not met": "red", "not measured": "dim"}


def tables(results: Results) -> Iterator[Table | str]:
    """Everything there is to show, in order."""
    if results.training.timings:
        yield "Microseconds of one core per run and update: the median, ± half the distance between the quartiles."
        for net in (*NETS, WIDE):
            yield training_table(results.training, net)
        yield from training_notes(results.training)
    for updates in sorted({found.updates for found in results.sweeps}):
        yield sweeps_table([found for found in results.sweeps if found.updates == updates], updates)
    for name, reason in results.sweeps_left_out.items():
        yield f"{WAYS[name].title}: left out, {reason}"
    if results.tracking.costs:
        yield tracking_table(results.tracking)
    for name, reason in results.tracking.left_out.items():
        yield f"{ROWS[name].title}, {ROWS[name].place}: left out, {reason}"
    yield from digits_notes(results)
    yield from large_notes(results)
    yield from command_notes(results)
    if results.scaling != scaling.Scaling():
        yield from scaled.tables(results.scaling, scaling.model(results.scaling, results.tracking))
    if results.load:
        yield "Load of the machine before and after: {:.1f}, {:.1f}.".format(*results.load)
    yield verdict_table(results)


def training_table(training: Training, net: str) -> Table:
    """Contenders by number of runs, and the ratio to the tutorials' loop at the largest."""
    counts = sorted({timing.runs for timing in training.timings.values() if timing.net == net})
    columns = [f"{count:,} run{'s' * (count > 1)}" for count in counts]
    made = table(f"Net {net}, {WIDE_ROWS if net == WIDE else len(NETS[net].X)} rows", "", [*columns, "x loop"])
    for name, contender in CONTENDERS.items():
        cells = [cell(training, name, net, count) for count in counts]
        if any(cells):
            ratio = training.ratio(LOOP, name, net, counts[-1])
            made.add_row(contender.title, *cells, short(ratio) if ratio else "")
    return made


def cell(training: Training, name: str, net: str, count: int) -> str:
    """Median and spread."""
    timing = training.timings.get((name, net, count))
    return f"{short(timing.median)} [dim]±{timing.spread:.0%}[/dim]" if timing else ""


def training_notes(training: Training) -> Iterator[str]:
    """What the numbers mean, who is missing and why."""
    ready: dict[str, list[float]] = {}
    for timing in training.timings.values():
        ready.setdefault(timing.contender, []).append(timing.ready)
    slow = [f"{CONTENDERS[name].title} {median(took):.1f} s" for name, took in ready.items() if median(took) > 0.1]
    if slow:
        yield f"Not in these times: making a task ready, above all compiling ({', '.join(slow)} a task, in the median)."
    if training.differences:
        most = max(training.differences[name] for name in training.differences if name not in training.left_out)
        yield f"Final losses from the same weights agree with the loop's within {most:.0e} (relative)."
    if any(not CONTENDERS[timing.contender].checked for timing in training.timings.values()):
        yield "scikit-learn is not part of that check: it draws its own weights, has biases, and its output is linear."
    for name, reason in training.left_out.items():
        yield f"{CONTENDERS[name].title}: left out, {reason}"


def sweeps_table(sweeps: Sequence[Sweep], updates: int) -> Table:
    """Ways to run a whole sweep."""
    title = f"Whole sweeps, 3-4-5-1, {updates:,} updates: seconds, into an empty store"
    made = table(title, "", ["runs", "in all", "start-up", "a further run"])
    for found in sweeps:
        row = (f"{found.sizes[1]:,}", median(found.seconds[1]), found.start_up, found.marginal)
        made.add_row(WAYS[found.way].title, row[0], *(short(value) for value in row[1:]))
    return made


def tracking_table(tracking: Tracking) -> Table:
    """What keeping a run costs, by store."""
    made = table("Keeping a run, 300 curve points: milliseconds", "", ["store", "runs", "ms a run", "x bulk, SQLite"])
    for name, cost in tracking.costs.items():
        row, ratio = ROWS[name], tracking.ratio(name, "bulk")
        told = f"{short(cost.median)} [dim]±{cost.spread:.0%}[/dim]"
        made.add_row(row.title, row.place, f"{row.runs}", told, short(ratio) if ratio else "")
    return made


def digits_notes(results: Results) -> Iterator[str]:
    """What the sweep on digits took, here and there."""
    if "left_out" in results.digits:
        yield f"digits: {results.digits['left_out']}"
    elif results.digits:
        runs, epochs, ours, theirs = (results.number("digits", key) for key in ("runs", "epochs", "seedbed", "sklearn"))
        yield f"Digits, {runs:,.0f} runs of {epochs:.0f} epochs in mini-batches, command and new store: {ours:.0f} s;"
        yield f"scikit-learn in workers with MLflow: {theirs:.0f} s."


def large_notes(results: Results) -> Iterator[str]:
    """What whole sweeps took, and the UI on the largest."""
    for name, value in results.large.items():
        for part, one in {name: value, **mapping(value)}.items():
            if "left_out" in mapping(one):
                yield f"{part}: {mapping(one)['left_out']}"
    runs, first, again = (results.number("twice", key) for key in ("runs", "first", "again"))
    if runs and first and again and runs < 1000:
        yield f"{runs:,.0f} runs of 1,000 epochs into a new store took {first:.1f} s, and {again:.1f} s again."
    for look, what in (("page", "a page of 100 runs by loss"), ("curves", "their curves")):
        after, before = (results.number("ten_thousand", key, look) for key in ("ui", "without_analyze"))
        if after and before:
            yield f"MLflow's UI on 10,000 runs, {what}: {short(after)} s; without ANALYZE {short(before)} s."


def mapping(value: object) -> Mapping[str, object]:
    """A value that may be a mapping; else an empty one."""
    return value if isinstance(value, Mapping) else {}


def command_notes(results: Results) -> Iterator[str]:
    """What commands took, where the verdict does not say it."""
    for name, value in {**results.commands, "two cores": results.cores}.items():
        if isinstance(value, Mapping) and "left_out" in value:
            yield f"{name}: {value['left_out']}"
    if "epochs" in results.cores:
        yield "Two cores against one: {runs:,} runs of {epochs:,} epochs, tracking=none.".format(**results.cores)
    jobs, seconds = results.number("composing", "jobs"), results.number("composing", "seconds")
    if jobs and seconds and jobs < 10_000:
        yield f"A sweep of {jobs:,.0f} runs without an update took {seconds:.1f} s."


def verdict_table(results: Results) -> Table:
    """Goals beside what was measured."""
    made = table("Goals", "", ["goal", "measured", ""])
    for said in judge(results):
        measured = "" if said.measured is None else f"{short(said.measured)}{said.unit}"
        made.add_row(said.goal, said.wanted, measured, f"[{COLOURS[said.verdict]}]{said.verdict}")
    return made


def as_json(results: Results, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything measured, with every sample, as plain values."""
    training = results.training
    timings = [
        asdict(timing) | {"median": timing.median, "spread": timing.spread} for timing in training.timings.values()
    ]
    sweeps = [
        asdict(found) | {"each": found.each, "marginal": found.marginal, "start_up": found.start_up}
        for found in results.sweeps
    ]
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "seedbed": __version__,
        "machine": machine(),
        "settings": dict(settings),
        "training": {"timings": timings, "left_out": training.left_out, "differences": training.differences},
        "sweeps": {"ways": sweeps, "left_out": results.sweeps_left_out},
        "cores": dict(results.cores),
        "commands": dict(results.commands),
        "tracking": {
            "costs": [
                asdict(cost) | asdict(ROWS[name]) | {"median": cost.median, "spread": cost.spread}
                for name, cost in results.tracking.costs.items()
            ],
            "left_out": results.tracking.left_out,
            **results.large,
        },
        "digits": dict(results.digits),
        "scaling": scaling.as_json(results.scaling, scaling.model(results.scaling, results.tracking)),
        "load": results.load,
        "verdict": [asdict(said) for said in judge(results)],
    }


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "hydra-core", "mlflow")},
    }


def processor() -> str:
    """The processor's name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())
