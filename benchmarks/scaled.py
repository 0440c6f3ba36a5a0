"""The tables of scaling.py."""

import math
from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table

from benchmarks.growth import Line, Model, walls
from benchmarks.nets import NETS
from benchmarks.scaling import MIDDLING_RUNS, RATIOS, SECONDS, SIZES, Point, Scaling, epochs_of
from benchmarks.tables import short, table

FAR = (1e6, 1e8)  # runs
WORKERS = (1, 2, 100)
QUANTITIES = {  # title and unit
    "driver": ("whole command without training", "s"),
    "other": ("  start-up, Hydra, end", "s"),
    "open": ("  opening the store", "s"),
    "compose": ("  composing", "s"),
    "plan": ("  planning", "s"),
    "workers": ("  workers' start and end", "s"),
    "run": ("  handing over", "s"),
    "write": ("  writing", "s"),
    "close": ("  closing the sweep", "s"),
    "compare": ("  comparison and report", "s"),
    "again": ("the same again", "s"),
    "page": ("UI: a page by loss", "s"),
    "curves": ("UI: its curves", "s"),
    "memory": ("driver's memory", "GB"),
    "database": ("database", "GB"),
    "artifacts": ("artifacts", "GB"),
    "disk": ("disk", "GB"),
    "files": ("files", ""),
    "send": ("writing over HTTP", "s"),
}


def tables(found: Scaling, made: Model) -> Iterator[Table | str]:
    """Everything that was measured, and the model."""
    if found.ways:
        yield workers_table(found)
        yield ratios_table(found)
    for store in dict.fromkeys(point.what["store"] for point in found.runs):
        points = [point for point in found.runs if point.what["store"] == store]
        title = f"Whole sweeps into {store}, 3-4-5-1, {epochs_of(points[0])}, executor=serial"
        yield points_table(title, points, [f"{point.what['runs']:,} runs" for point in points])
    if found.epochs:
        title = f"Whole sweeps of {found.epochs[0].what['runs']} runs into {found.epochs[0].what['store']}"
        yield points_table(title, found.epochs, list(map(epochs_of, found.epochs)))
    if found.nets:
        yield nets_table(found, made)
        for layout, pace in made.paces.items():
            yield f"{layout}: {1000 * pace.units:.3g} ns an activation, {1000 * pace.products:.3g} ns a product."
    for store, lines in made.lines.items():
        yield lines_table(store, lines)
    if found.runs and found.nets:
        yield times_table(found, made)
    if made.lines:
        yield walls_table(made)
    for name, reason in found.left_out.items():
        yield f"scaling, {name}: left out, {reason}"


def told(point: Point, name: str) -> str:
    """A median with its spread; nothing for what was not measured."""
    if name not in point.samples:
        return ""
    value = point.median(name)
    if len(point.samples[name]) < 2:
        return size(value)
    return f"{size(value)} [dim]±{point.spread(name):.0%}[/dim]"


def size(value: float) -> str:
    """A number of any size; what is below a thousandth is shown as 0."""
    if not math.isfinite(value):
        return "never"
    return f"{value:.1e}" if value >= 1e6 else short(value) if value >= 1e-3 else "0"


def workers_table(found: Scaling) -> Table:
    """Seconds by who trains."""
    made = table(f"{MIDDLING_RUNS} runs, tracking=none: seconds", "", ["training", "cluster's start, end", "whole"])
    for way, point in found.ways.items():
        made.add_row(way, *(told(point, name) for name in ("training", "start", "whole")))
    return made


def ratios_table(found: Scaling) -> Table:
    """What a second worker brings; `the machine` is two processes that share nothing."""
    made = table("Two against one", "", ["times faster"])
    for name, ways, sort in RATIOS:
        if ratio := found.ratio(*ways, name=sort):
            made.add_row(name, f"{ratio:.2f}")
    return made


def points_table(title: str, points: Sequence[Point], columns: Sequence[str]) -> Table:
    """Phases and sizes of whole sweeps."""
    made = table(title, "", columns)
    names = {"whole": ("whole command", "s"), "train": ("  training", "s")} | QUANTITIES
    for name in ("whole", "train", *SECONDS, *SIZES):
        if name in points[0].samples:
            label, unit = names[name]
            made.add_row(f"{label}, {unit}" if unit else label, *(told(point, name) for point in points))
    return made


def nets_table(found: Scaling, made: Model) -> Table:
    """An update by network size, beside the model."""
    residuals = {layout: iter(pace.residuals) for layout, pace in made.paces.items()}
    shown = table("Microseconds per run and update, one core", "", ["rows", "layout", "µs", "off the model"])
    for net, point in zip(NETS, found.nets, strict=False):
        off = f"{next(residuals[net.layout]):+.0%}"
        shown.add_row(net.title, str(net.rows), net.layout, told(point, "us"), off)
    return shown


def lines_table(store: str, lines: Mapping[str, Line]) -> Table:
    """The model of a store: what is fixed, what a run adds, and how far each measured size is from it."""
    made = table(f"Model, {store}: fixed + each x runs", "", ["fixed", "each 1,000 runs", "off the model"])
    for name, one in lines.items():
        label, unit = QUANTITIES[name]
        off = " ".join(f"{residual:+.0%}" for residual in one.residuals)
        made.add_row(f"{label}, {unit}" if unit else label, size(one.fixed), size(1000 * one.each), off)
    return made


def times_table(found: Scaling, made: Model) -> Table:
    """The model's seconds of whole sweeps, beside those that were measured."""
    columns = ["store", "measured", *(f"{workers} worker{'s' * (workers > 1)}" for workers in WORKERS)]
    shown = table("Whole sweeps by the model, 3-4-5-1: seconds", "", columns)
    us = next(made.paces[net.layout].at(net.units, net.products) for net in NETS if net.title == "3-4-5-1")
    for store in dict.fromkeys(point.what["store"] for point in found.runs):
        points = [point for point in found.runs if point.what["store"] == store]
        measured = {float(point.what["runs"]): told(point, "whole") for point in points}
        for runs in (*measured, *FAR):
            seconds = [made.seconds(store, runs, points[0].what["epochs"], us, workers) for workers in WORKERS]
            shown.add_row(f"{runs:,.0f} runs", store, measured.get(runs, ""), *map(size, seconds))
    return shown


def walls_table(model: Model) -> Table:
    """Where the lines lead."""
    columns = ["store", *(f"{runs:.0e} runs" for runs in FAR), "limit", "met at runs"]
    made = table("Walls, the first of each store first", "", columns)
    for wall in walls(model):
        label, unit = QUANTITIES[wall.quantity]
        values = [size(wall.line.at(runs)) for runs in FAR]
        made.add_row(f"{label.strip()}, {unit}".strip(", "), wall.store, *values, size(wall.limit), size(wall.runs))
    return made
