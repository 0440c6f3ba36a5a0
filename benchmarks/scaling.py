"""How cost grows with runs, epochs, network size and workers: `make bench ARGS="--only scaling"`.

Whole sweeps are timed by phase (phases.py), an update by network size (nets.py); growth.py makes a model of both.
"""

import importlib.util
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import create_engine, text

from benchmarks.commands import TINY
from benchmarks.growth import Line, Model, Pace, line, pace, total, walls
from benchmarks.large import looks
from benchmarks.nets import NETS
from benchmarks.places import POSTGRES, SQLITE, Maker, Place, open_place
from benchmarks.processes import CrashError, run
from benchmarks.tracking import ROWS, Tracking
from benchmarks.training import spread
from pipeline.errors import UserError

# The rows of tracking.py that say what a run costs.
STORES = ("bulk", "bulk-postgres", "http-app", "http-app-postgres", "http", "http-postgres")
EXPERIMENT = "first_column"
PATIENCE = 4 * 3600.0  # seconds that a sweep may take
Report = Callable[[str], None]

# Four stacks that take as long, the same whoever trains them, so that two workers have two each.
LOSSES = ("half_sse", "mse")
MIDDLING = ("data=first_column", "network.hidden=[16,16],[20,12]", "seed=range(0,128)", "tracking=none")
MIDDLING_RUNS = 2 * len(LOSSES) * 128
HALVES = "serial, two at once"
WAYS = {
    "serial": ("executor=serial",),
    "processes, 1 worker": ("executor=processes", "executor.workers=1"),
    "processes, 2 workers": ("executor=processes", "executor.workers=2"),
    "dask, 1 worker": ("executor=dask", "executor.workers=1"),
    "dask, 2 workers": ("executor=dask", "executor.workers=2"),
}


@dataclass(frozen=True)
class Extent:
    """How much is measured. `runs` are numbers of runs, each with its rounds; `few` train in the part on epochs."""

    rounds: int = 3
    worker_epochs: int = 6000
    runs: Mapping[int, int] = field(default_factory=lambda: {100: 3, 1000: 3, 10_000: 1})
    run_epochs: int = 1000
    few: int = 256
    epochs: tuple[int, ...] = (10, 100, 1000, 10_000)
    stores: tuple[str, ...] = (SQLITE, POSTGRES)


NORMAL = Extent()
LONG = Extent(5, runs={100: 5, 1000: 5, 10_000: 3, 100_000: 1}, epochs=(10, 100, 1000, 10_000, 100_000))
QUICK = Extent(1, 300, {100: 1, 200: 1}, 100, few=8, epochs=(), stores=(SQLITE,))


@dataclass
class Point:
    """What was measured at one place: samples by name, one a round. `what` says which place."""

    what: dict[str, Any]
    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, sample: Mapping[str, float]) -> None:
        """A round's."""
        for name, value in sample.items():
            self.samples.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """The median of the rounds."""
        return median(self.samples[name])

    def spread(self, name: str) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        return spread(self.samples[name])


@dataclass
class Scaling:
    """All points. `ways` are workers, by name; `left_out` says why something has none."""

    ways: dict[str, Point] = field(default_factory=dict)
    runs: list[Point] = field(default_factory=list)
    epochs: list[Point] = field(default_factory=list)
    nets: list[Point] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def ratio(self, slower: str, faster: str, name: str = "training") -> float | None:
        """How many times longer one way takes: the median of the rounds' own ratios."""
        if slower not in self.ways or faster not in self.ways:
            return None
        one, other = (self.ways[way].samples[name] for way in (slower, faster))
        return median(a / b for a, b in zip(one, other, strict=False))


def measure(extent: Extent, report: Report) -> Scaling:
    """All of it. What cannot be measured here says why."""
    found = Scaling()
    measure_workers(found, extent, report)
    for store in extent.stores:
        measure_store(found, store, extent, report)
    report("scaling: an update by network size")
    found.nets = nets(extent.rounds)
    return found


def command(words: Sequence[str], folder: Path, **variables: str) -> dict[str, float]:
    """Seconds of a whole command and of its phases (`other` is all the rest), and the driver's largest memory in GB."""
    file = folder / "phases.json"
    started = time.perf_counter()
    run([sys.executable, "-m", "benchmarks.phases", str(file), *words], folder, PATIENCE, **variables)
    whole = time.perf_counter() - started
    told = json.loads(file.read_text())
    phases = told["phases"]
    return {"whole": whole, **phases, "other": whole - sum(phases.values()), "memory": told["memory"]}


# --- workers ------------------------------------------------------------------------------------------------------


def measure_workers(found: Scaling, extent: Extent, report: Report) -> None:
    """The same training by different workers, in turn; and what the machine gives two processes that share nothing."""
    if importlib.util.find_spec("distributed") is None:
        found.left_out |= {way: "distributed is not installed" for way in WAYS if way.startswith("dask")}
    words = ("sweep", *MIDDLING, f"training.epochs={extent.worker_epochs}")
    for round_ in range(extent.rounds):
        for way in [*WAYS, HALVES]:
            if way in found.left_out:
                continue
            report(f"scaling, round {round_ + 1} of {extent.rounds}: {MIDDLING_RUNS} runs, {way}")
            try:
                sample = halves(words) if way == HALVES else trained(words, LOSSES, WAYS[way])
            except CrashError as crash:
                found.left_out[way] = f"crashed: {crash}"
                found.ways.pop(way, None)
            else:
                found.ways.setdefault(way, Point({"way": way})).add(sample)


def trained(words: Sequence[str], losses: Sequence[str], executor: Sequence[str]) -> dict[str, float]:
    """Seconds of a sweep in all, of its training, and of the workers' start and end where they are a cluster."""
    with TemporaryDirectory() as folder:
        told = command([*words, f"training.loss={','.join(losses)}", *executor], Path(folder))
    return {"whole": told["whole"], "training": told["train"] + told["run"], "start": told["workers"]}


def halves(words: Sequence[str]) -> dict[str, float]:
    """The same work as two sweeps at once, each in one process of its own."""
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda loss: trained(words, [loss], WAYS["serial"]), LOSSES))
    return {name: max(one[name] for one in both) for name in both[0]}


# --- runs, epochs, network size -------------------------------------------------------------------------------------


def measure_store(found: Scaling, store: str, extent: Extent, report: Report) -> None:
    """Whole sweeps into a store, by runs; by epochs too in the first of the stores."""
    by_epochs = extent.epochs if store == extent.stores[0] else ()
    points = [Point({"store": store, "runs": runs, "epochs": extent.run_epochs}) for runs in extent.runs]
    others = [Point({"store": store, "runs": extent.few, "epochs": epochs}) for epochs in by_epochs]
    try:
        with open_place(store) as make:
            for round_ in range(max(extent.rounds, *extent.runs.values())):
                due = [point for point in points if round_ < extent.runs[point.what["runs"]]]
                for point in due + (others if round_ < extent.rounds else []):
                    report(f"scaling, round {round_ + 1}, {store}: {point.what['runs']:,} runs of {epochs_of(point)}")
                    point.add(whole(make, point, look=point in points))
    except (UserError, CrashError, OSError) as error:
        found.left_out[store] = str(error)
    found.runs += [point for point in points if point.samples]
    found.epochs += [point for point in others if point.samples]


def epochs_of(point: Point) -> str:
    """In words."""
    return f"{point.what['epochs']:,} epochs"


def whole(make: Maker, point: Point, look: bool) -> dict[str, float]:
    """A whole sweep into a new store, with its report; the same again; its size; the UI's requests if it is to look."""
    place = make(True)
    words = (
        *("sweep", *TINY, f"seed=range(0,{point.what['runs']})", f"training.epochs={point.what['epochs']}"),
        *("executor=serial", f"tracking.artifacts={place.artifacts}"),
    )
    variables = {"MLFLOW_TRACKING_URI": place.uri, "SEEDBED_REPORT": "true"}
    sample = command(words, Path(place.folder), **variables)
    again = command(words, Path(place.folder), **variables)
    if again["train"]:
        raise CrashError("the second sweep trained what the first had finished")
    sample |= {"driver": sample["whole"] - sample["train"], "again": again["whole"], **sizes(place)}
    if look:
        sample |= looks(place.uri)
    shutil.rmtree(place.folder)  # or the disk would fill
    return sample


def sizes(place: Place) -> dict[str, float]:
    """What a store takes: GB of its database and of its files, as a disk counts them, and how many files these are."""
    files = [path for path in Path(place.artifacts or "").rglob("*") if path.is_file()]
    kept = sum(path.stat().st_blocks * 512 for path in files) / 1e9
    rows = database_bytes(place.uri) / 1e9
    return {"database": rows, "artifacts": kept, "disk": rows + kept, "files": float(len(files))}


def database_bytes(uri: str) -> int:
    """Bytes of a database in SQLite or PostgreSQL."""
    of_sqlite = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    of_postgres = "SELECT pg_database_size(current_database())"
    engine = create_engine(uri)
    try:
        with closing(engine.connect()) as connection:
            asked = of_sqlite if uri.startswith("sqlite") else of_postgres
            return int(connection.execute(text(asked)).scalar_one())
    finally:
        engine.dispose()


def nets(rounds: int) -> list[Point]:
    """Microseconds per run and update by network, each round in a process of its own."""
    points = [Point({"net": net.title, "rows": net.rows, "layout": net.layout}) for net in NETS]
    for _ in range(rounds):
        printed = run([sys.executable, "-m", "benchmarks.nets"], Path.cwd(), OPENBLAS_NUM_THREADS="1")
        for point, took in zip(points, json.loads(printed), strict=True):
            point.add({"us": took})
    return points


# --- the model --------------------------------------------------------------------------------------------------------

DRIVER = ("other", "open", "compose", "plan", "workers", "run", "write", "close", "compare")  # all but training
SECONDS = ("driver", *DRIVER, "again", "page", "curves")
SIZES = ("memory", "database", "artifacts", "disk", "files")


def model(found: Scaling, tracking: Tracking) -> Model:
    """The model of what was measured; what keeping a run over HTTP takes comes from the part on tracking."""
    lines: dict[str, dict[str, Line]] = {}
    for store in dict.fromkeys(point.what["store"] for point in found.runs):
        points = [point for point in found.runs if point.what["store"] == store]
        runs = [point.what["runs"] for point in points]
        names = [name for name in SECONDS + SIZES if name in points[0].samples]
        values = {name: [point.median(name) for point in points] for name in names}
        lines[store] = {name: line(runs, values[name]) for name in names}
        parts = [lines[store][name] for name in DRIVER if name in names]
        lines[store]["driver"] = total(parts, runs, values["driver"])
    for name in [name for name in STORES if name.startswith("http") and name in tracking.costs]:
        lines[ROWS[name].place] = {"send": Line(0.0, tracking.costs[name].median / 1000)}
    ratio = found.ratio("processes, 1 worker", "processes, 2 workers")
    return Model(lines, paces(found.nets), min(1.0, ratio - 1) if ratio else 1.0)


def paces(points: Sequence[Point]) -> dict[str, Pace]:
    """The pace by layout."""
    known = [(net, point.median("us")) for net, point in zip(NETS, points, strict=False)]
    return {
        layout: pace(*zip(*[(net.units, net.products, us) for net, us in known if net.layout == layout], strict=True))
        for layout in dict.fromkeys(net.layout for net, _ in known)
    }


def as_json(found: Scaling, made: Model) -> dict[str, Any]:
    """Every sample, its median and spread, and the model."""
    return {
        "workers": [told(point) for point in found.ways.values()],
        "ratios": {name: found.ratio(*ways, name=sort) for name, ways, sort in RATIOS},
        "runs": [told(point) for point in found.runs],
        "epochs": [told(point) for point in found.epochs],
        "nets": [told(point) for point in found.nets],
        "model": asdict(made),
        "walls": [
            {"store": wall.store, "quantity": wall.quantity, "limit": wall.limit, "runs": wall.runs}
            for wall in walls(made)
        ],
        "left_out": found.left_out,
    }


def told(point: Point) -> dict[str, Any]:
    """A point for JSON."""
    numbers = {
        name: {"median": point.median(name), "spread": point.spread(name), "samples": samples}
        for name, samples in point.samples.items()
    }
    return point.what | numbers


RATIOS = tuple(
    (f"{title}, {sort}", ways, sort)
    for title, ways in (
        ("processes", ("processes, 1 worker", "processes, 2 workers")),
        ("dask", ("dask, 1 worker", "dask, 2 workers")),
        ("the machine", ("serial", HALVES)),
    )
    for sort in ("training", "whole")
)
