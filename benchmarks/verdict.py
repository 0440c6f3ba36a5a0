"""The goals, and whether a run of the benchmark met them. Numbers were set in the issues that asked for speed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.contenders import FAST, JAX, LOOP, PORTABLE, C
from benchmarks.scaling import Scaling
from benchmarks.sweeps import Sweep
from benchmarks.tasks import WIDE
from benchmarks.tracking import Tracking
from benchmarks.training import WIDE_RUNS, Training

MET, MISSED, UNKNOWN = "met", "not met", "not measured"
RUNS = 1024


@dataclass
class Results:
    """What one run of the benchmark measured; parts that were not asked for are empty."""

    training: Training = field(default_factory=Training)
    sweeps: list[Sweep] = field(default_factory=list)
    sweeps_left_out: dict[str, str] = field(default_factory=dict)
    cores: Mapping[str, object] = field(default_factory=dict)
    commands: Mapping[str, object] = field(default_factory=dict)
    tracking: Tracking = field(default_factory=Tracking)
    large: Mapping[str, object] = field(default_factory=dict)
    load: tuple[float, ...] = ()
    digits: Mapping[str, object] = field(default_factory=dict)
    scaling: Scaling = field(default_factory=Scaling)

    def number(self, *keys: str) -> float | None:
        """A number that `commands` or `large` measured, or None."""
        value: object = {**self.commands, **self.large, "digits": self.digits}
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return float(value) if isinstance(value, int | float) else None


@dataclass(frozen=True)
class Goal:
    """A number to reach: `measured` gives it or None, which must be at least, or at most, `bound`."""

    text: str
    measured: Callable[[Results], float | None]
    bound: float
    unit: str
    at_least: bool = False

    @property
    def wanted(self) -> str:
        """The bound in words."""
        return f"{'at least' if self.at_least else 'at most'} {self.bound:g}{self.unit}"


@dataclass(frozen=True)
class Verdict:
    """A goal beside what was measured."""

    goal: str
    wanted: str
    measured: float | None
    unit: str
    verdict: str


def ratio(slower: str, faster: str, net: str, runs: int = RUNS) -> Callable[[Results], float | None]:
    """How many times longer the first takes than the second, with 1,024 runs."""
    return lambda results: results.training.ratio(slower, faster, net, runs)


def cores(results: Results) -> float | None:
    """How many times faster two cores are."""
    value = results.cores.get("ratio")
    return value if isinstance(value, float) else None


def digits_ratio(results: Results) -> float | None:
    """How many times longer the peer takes for the sweep on digits; of fewer runs it would not be the goal."""
    return results.number("digits", "ratio") if results.number("digits", "runs") == 360 else None


def composing(results: Results) -> float | None:
    """Seconds for 10,000 runs; of fewer it would not be the goal."""
    enough = results.number("composing", "jobs") == 10_000
    return results.number("composing", "seconds") if enough else None


def two_workers(executor: str) -> Callable[[Results], float | None]:
    """How many times faster two workers train than one."""
    return lambda results: results.scaling.ratio(f"{executor}, 1 worker", f"{executor}, 2 workers")


def tracking_cost(row: str) -> Callable[[Results], float | None]:
    """Milliseconds a run, as Seedbed keeps it in a kind of store."""
    return lambda results: results.tracking.costs[row].median if row in results.tracking.costs else None


def large(*keys: str) -> Callable[[Results], float | None]:
    """A number of the sweep of 1,000 runs; of fewer it would not be the goal."""
    return lambda results: results.number(*keys) if results.number("twice", "runs") == 1000 else None


def further_run(slower: str) -> Callable[[Results], float | None]:
    """How many times longer a further run of 5,000 updates takes than Seedbed's."""

    def measured(results: Results) -> float | None:
        marginal = {found.way: found.marginal for found in results.sweeps if found.updates == 5000}
        known = slower in marginal and marginal.get("seedbed")
        return marginal[slower] / marginal["seedbed"] if known else None

    return measured


def slowest_look(results: Results) -> float | None:
    """Seconds of the slower of the UI's two requests on 10,000 runs."""
    looks = [results.number("ten_thousand", "ui", look) for look in ("page", "curves")]
    return max((look for look in looks if look is not None), default=None)


GOALS = (
    Goal("3-4-5-1, portable: the loop's speed", ratio(LOOP, PORTABLE, "3-4-5-1"), 40, "x", at_least=True),
    Goal("3-4-5-1, fast: the loop's speed", ratio(LOOP, FAST, "3-4-5-1"), 100, "x", at_least=True),
    Goal("2-3-1, fast: time against JAX", ratio(FAST, JAX, "2-3-1"), 1, "x"),
    Goal("3-4-5-1, fast: time against JAX", ratio(FAST, JAX, "3-4-5-1"), 1, "x"),
    Goal("3-4-1, fast: time against JAX", ratio(FAST, JAX, "3-4-1"), 1.3, "x"),
    Goal("3-4-5-1, fast: time against C", ratio(FAST, C, "3-4-5-1"), 4, "x"),
    Goal("3-4-5-1, portable: time against C", ratio(PORTABLE, C, "3-4-5-1"), 8, "x"),
    *(
        Goal(f"{WIDE}, 16 runs: time against {title}", ratio(FAST, name, WIDE, WIDE_RUNS), 1, "x")
        for name, title in ((JAX, "JAX"), ("torch-bmm", "PyTorch bmm"), ("matmul", "stacked matmul"))
    ),
    Goal("360 runs on digits: scikit-learn + MLflow's time", digits_ratio, 3, "x", at_least=True),
    Goal("two cores: the speed of one", cores, 1.8, "x", at_least=True),
    Goal("two worker processes: the speed of one", two_workers("processes"), 1.7, "x", at_least=True),
    Goal("two Dask workers: the speed of one", two_workers("dask"), 1.7, "x", at_least=True),
    Goal("480 runs of the default sweep", lambda results: results.number("default_sweep"), 2, " s"),
    Goal("composing 10,000 runs", composing, 10, " s"),
    Goal("start-up, tracking=none", lambda results: results.number("start_up", "none"), 0.7, " s"),
    Goal("start-up with a store", lambda results: results.number("start_up", "store"), 2, " s"),
    Goal("memory, 10,000 runs x 5,000 epochs", lambda results: results.number("memory"), 1.5, " GB"),
    Goal("keeping a run: bulk sink, SQLite", tracking_cost("bulk"), 4, " ms"),
    Goal("keeping a run: bulk sink, PostgreSQL", tracking_cost("bulk-postgres"), 12, " ms"),
    Goal("keeping a run: HTTP, SQLite", tracking_cost("http-app"), 60, " ms"),
    Goal("keeping a run: HTTP, PostgreSQL", tracking_cost("http-app-postgres"), 60, " ms"),
    Goal("1,000 runs x 1,000 epochs, new store", large("twice", "first"), 15, " s"),
    Goal("the same again, nothing to do", large("twice", "again"), 5, " s"),
    Goal("10,000 such runs", lambda results: results.number("ten_thousand", "seconds"), 90, " s"),
    Goal("their memory", lambda results: results.number("ten_thousand", "memory"), 2, " GB"),
    Goal("the UI's slower request on them", slowest_look, 1, " s"),
    Goal("5,000 epochs: Hydra + log_metric", further_run("usual"), 1000, "x", at_least=True),
    Goal("5,000 epochs: Hydra + log_batch", further_run("batched"), 100, "x", at_least=True),
    Goal("5,000 epochs: Hydra + Trackio", further_run("trackio"), 40, "x", at_least=True),
)


def judge(results: Results) -> list[Verdict]:
    """A verdict for every goal."""
    return [verdict(goal, goal.measured(results)) for goal in GOALS]


def verdict(goal: Goal, measured: float | None) -> Verdict:
    """One goal's verdict."""
    if measured is None:
        said = UNKNOWN
    else:
        reached = measured >= goal.bound if goal.at_least else measured <= goal.bound
        said = MET if reached else MISSED
    return Verdict(goal.text, goal.wanted, measured, goal.unit, said)
