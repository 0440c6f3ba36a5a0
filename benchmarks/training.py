"""Training only: every contender on every net and number of runs, asked in turn, so that all meet the same noise."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

from benchmarks.contenders import CONTENDERS, FAST, JAX, LOOP
from benchmarks.processes import CrashError, Worker
from benchmarks.tasks import NETS, WIDE

CHECK_RUNS, CHECK_UPDATES, TOLERANCE = 16, 200, 1e-6
WIDE_RUNS, WIDE_UPDATES = 16, 20
WIDE_CONTENDERS = (FAST, LOOP, "matmul", "sklearn", "torch-bmm", JAX)


@dataclass
class Timing:
    """A contender on one net and number of runs: microseconds per run and update, one sample a round.

    `ready` is how many seconds the task took to be made ready, above all to compile.
    """

    contender: str
    net: str
    runs: int
    updates: int
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    ready: float = 0.0

    @property
    def median(self) -> float:
        """Median microseconds of the core, per run and update."""
        return median(self.cpu)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        return spread(self.cpu)


def spread(samples: Sequence[float]) -> float:
    """Half the distance between the quartiles, as a share of the median; 0 of a single sample."""
    if len(samples) < 2:
        return 0.0
    low, _, high = quantiles(samples, n=4, method="inclusive")
    return (high - low) / 2 / median(samples)


@dataclass
class Training:
    """All timings; `left_out` says why a contender has none (not installed, crashed, or trains something else).

    `differences`: the largest relative difference of a contender's final losses from those of the tutorials' loop.
    """

    timings: dict[tuple[str, str, int], Timing] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)

    def ratio(self, slower: str, faster: str, net: str, runs: int) -> float | None:
        """How many times longer `slower` takes: the median of the rounds' own ratios."""
        one, other = self.timings.get((slower, net, runs)), self.timings.get((faster, net, runs))
        if not (one and other and one.cpu and other.cpu):
            return None
        return median(a / b for a, b in zip(one.cpu, other.cpu, strict=False))


def measure(
    names: Sequence[str], runs: Sequence[int], updates: int, rounds: int, report: Callable[[str], None]
) -> Training:
    """Checks that all contenders train the same, then times them. `report` is told what is going on."""
    found = Training({}, {name: f"{CONTENDERS[name].missing} is not installed" for name in names if missing(name)})
    workers = {name: Worker(name) for name in names if name not in found.left_out}
    try:
        report("checking that all train the same")
        check(workers, found)
        for round_ in range(rounds):
            for net, count in places(runs):
                report(f"training, round {round_ + 1} of {rounds}: {net}, {count:,} runs")
                for name in list(workers):
                    with_worker(workers, found, Timing(name, net, count, updates))
            report(f"training, round {round_ + 1} of {rounds}: {WIDE}, {WIDE_RUNS} runs")
            for name in [name for name in WIDE_CONTENDERS if name in workers]:
                with_worker(workers, found, Timing(name, WIDE, WIDE_RUNS, WIDE_UPDATES))
    finally:
        for worker in workers.values():
            worker.close()
    return found


def missing(name: str) -> bool:
    """True if what the contender needs is not installed."""
    return CONTENDERS[name].missing is not None


def places(runs: Sequence[int]) -> Iterator[tuple[str, int]]:
    """All nets and numbers of runs."""
    return ((net, count) for net in NETS for count in runs)


def with_worker(workers: dict[str, Worker], found: Training, empty: Timing) -> None:
    """Adds a sample to the timing, which is `empty` in the first round. A crash ends a contender's part."""
    name, net, count, updates = empty.contender, empty.net, empty.runs, empty.updates
    try:
        answer = workers[name].ask({"net": net, "runs": count, "updates": updates})
    except CrashError as crash:
        drop(workers, found, name, f"crashed: {crash}")
        return
    timing = found.timings.setdefault((name, net, count), empty)
    timing.ready = timing.ready or answer["ready"]
    per = 1e6 / (answer["runs"] * updates)
    timing.cpu.append(answer["cpu"] * per)
    timing.wall.append(answer["wall"] * per)


def drop(workers: dict[str, Worker], found: Training, name: str, reason: str) -> None:
    """Leaves a contender out from now on."""
    found.left_out[name] = reason
    workers.pop(name).close()


def check(workers: dict[str, Worker], found: Training) -> None:
    """Leaves out whoever ends elsewhere than the tutorials' loop, from the same weights after the same updates."""
    for net in (*NETS, WIDE):
        updates = WIDE_UPDATES if net == WIDE else CHECK_UPDATES
        request = {"net": net, "runs": CHECK_RUNS, "updates": updates, "check": True}
        expected = workers[LOOP].ask(request)["losses"]
        asked = [name for name in workers if net != WIDE or name in WIDE_CONTENDERS]
        for name in [name for name in asked if CONTENDERS[name].checked]:
            try:
                losses = workers[name].ask(request)["losses"]
            except CrashError as crash:
                drop(workers, found, name, f"crashed: {crash}")
                continue
            difference = relative_difference(losses, expected)
            found.differences[name] = max(difference, found.differences.get(name, 0.0))
            if not difference <= TOLERANCE:
                drop(workers, found, name, f"trains something else: its losses on {net} are off by {difference:.1e}")


def relative_difference(losses: Sequence[float], expected: Sequence[float]) -> float:
    """The largest relative difference; of as many losses as both have."""
    return max(abs(loss - other) / abs(other) for loss, other in zip(losses, expected, strict=False))
