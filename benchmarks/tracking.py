"""What keeping a run costs: the same trained runs through Seedbed's two sinks and as people write them, in turn."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

from benchmarks.places import APP, APP_POSTGRES, HTTP, HTTP_POSTGRES, POSTGRES, SQLITE, Maker, open_place
from benchmarks.processes import CrashError, Worker
from benchmarks.trackers import BATCH, CLIENT, EACH, FLUENT, SEEDBED, TRACKIO
from benchmarks.training import spread
from pipeline.errors import UserError

UPDATES = 1000


@dataclass(frozen=True)
class Row:
    """A way to keep runs (trackers.py) in a kind of store (places.py), and how many runs a sample has: some seconds'.

    `needs` is the module without which it is left out.
    """

    title: str
    tracker: str
    place: str
    runs: int
    needs: str = "mlflow"


ROWS = {
    "bulk": Row("Seedbed, bulk sink", SEEDBED, SQLITE, 300),
    "client": Row("Seedbed, client sink", CLIENT, SQLITE, 12),
    "batch": Row("MLflow's client, log_batch", BATCH, SQLITE, 12),
    "each": Row("MLflow's client, log_metric", EACH, SQLITE, 2),
    "fluent": Row("mlflow.log_metric", FLUENT, SQLITE, 2),
    "trackio": Row("Trackio", TRACKIO, SQLITE, 30, needs="trackio"),
    "bulk-postgres": Row("Seedbed, bulk sink", SEEDBED, POSTGRES, 200),
    "client-postgres": Row("Seedbed, client sink", CLIENT, POSTGRES, 12),
    "batch-postgres": Row("MLflow's client, log_batch", BATCH, POSTGRES, 12),
    "http-app": Row("Seedbed, block sink", SEEDBED, APP, 200),
    "http-app-postgres": Row("Seedbed, block sink", SEEDBED, APP_POSTGRES, 200),
    "http": Row("Seedbed, client sink", SEEDBED, HTTP, 12),
    "batch-http": Row("MLflow's client, log_batch", BATCH, HTTP, 12),
    "http-postgres": Row("Seedbed, client sink", SEEDBED, HTTP_POSTGRES, 12),
    "batch-http-postgres": Row("MLflow's client, log_batch", BATCH, HTTP_POSTGRES, 12),
}


@dataclass
class Cost:
    """What was measured of a row: milliseconds a run, one sample a round."""

    row: str
    ms: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median milliseconds a run."""
        return median(self.ms)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        return spread(self.ms)


@dataclass
class Tracking:
    """All costs by row; `left_out` says why a row has none."""

    costs: dict[str, Cost] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def ratio(self, slower: str, faster: str) -> float | None:
        """How many times longer `slower` takes: the median of the rounds' own ratios."""
        if slower not in self.costs or faster not in self.costs:
            return None
        return median(a / b for a, b in zip(self.costs[slower].ms, self.costs[faster].ms, strict=False))


def measure(names: Sequence[str], rounds: int, report: Callable[[str], None]) -> Tracking:
    """Opens all stores, then asks row after row, round after round. `report` is told what is going on."""
    found = Tracking({}, {name: f"{ROWS[name].needs} is not installed" for name in names if not installed(name)})
    rows = {name: ROWS[name] for name in names if name not in found.left_out}
    with contextlib.ExitStack() as stack:
        makers = dict(opened(stack, rows, found, report))
        workers = Workers(stack)
        for round_ in range(rounds):
            for name in [name for name in rows if name not in found.left_out]:
                row = rows[name]
                report(f"tracking, round {round_ + 1} of {rounds}: {row.title}, {row.place}, {row.runs} runs")
                try:
                    sample = ms_per_run(row, makers[row.place], workers)
                except CrashError as crash:
                    found.left_out[name] = f"crashed: {crash}"
                    found.costs.pop(name, None)
                else:
                    found.costs.setdefault(name, Cost(name)).ms.append(sample)
    return found


def installed(name: str) -> bool:
    """True if what a row needs is there."""
    return importlib.util.find_spec(ROWS[name].needs) is not None


def opened(
    stack: contextlib.ExitStack, rows: dict[str, Row], found: Tracking, report: Callable[[str], None]
) -> Iterator[tuple[str, Maker]]:
    """Opens the kinds of stores that rows need, until the stack ends; leaves out the rows whose store cannot be."""
    for place in dict.fromkeys(row.place for row in rows.values()):
        report(f"tracking: opening stores, {place}")
        try:
            yield place, stack.enter_context(open_place(place))
        except (UserError, CrashError) as error:
            found.left_out |= {name: str(error) for name, row in rows.items() if row.place == place}


class Workers:
    """A process for each tracker, until the stack ends; one that crashed is started again."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.stack = stack
        self.workers: dict[str, Worker] = {}

    def of(self, tracker: str) -> Worker:
        """The tracker's process."""
        if tracker not in self.workers or self.workers[tracker].process.poll() is not None:
            self.workers[tracker] = Worker(tracker, "benchmarks.trackers")
            self.stack.callback(self.workers[tracker].close)
        return self.workers[tracker]


def ms_per_run(row: Row, make: Maker, workers: Workers) -> float:
    """A sample of a row, in a place of its own."""
    place = make(row.tracker in (SEEDBED, CLIENT))
    asked = {"place": asdict(place), "runs": row.runs, "updates": UPDATES}
    return float(1000 * workers.of(row.tracker).ask(asked)["seconds"] / row.runs)
