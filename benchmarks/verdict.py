"""The goals, and whether a run of the benchmark met them. Numbers were set in the issue that asked for speed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.contenders import FAST, JAX, LOOP, PORTABLE, C
from benchmarks.sweeps import Sweep
from benchmarks.training import Training

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

    def number(self, part: str, key: str | None = None) -> float | None:
        """A number that `commands` measured, or None."""
        value = self.commands.get(part)
        if key is not None:
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


def ratio(slower: str, faster: str, net: str) -> Callable[[Results], float | None]:
    """How many times longer the first takes than the second, with 1,024 runs."""
    return lambda results: results.training.ratio(slower, faster, net, RUNS)


def cores(results: Results) -> float | None:
    """How many times faster two cores are."""
    value = results.cores.get("ratio")
    return value if isinstance(value, float) else None


def composing(results: Results) -> float | None:
    """Seconds for 10,000 runs; of fewer it would not be the goal."""
    enough = results.number("composing", "jobs") == 10_000
    return results.number("composing", "seconds") if enough else None


GOALS = (
    Goal("3-4-5-1, portable: the loop's speed", ratio(LOOP, PORTABLE, "3-4-5-1"), 40, "x", at_least=True),
    Goal("3-4-5-1, fast: the loop's speed", ratio(LOOP, FAST, "3-4-5-1"), 100, "x", at_least=True),
    Goal("2-3-1, fast: time against JAX", ratio(FAST, JAX, "2-3-1"), 1, "x"),
    Goal("3-4-5-1, fast: time against JAX", ratio(FAST, JAX, "3-4-5-1"), 1, "x"),
    Goal("3-4-1, fast: time against JAX", ratio(FAST, JAX, "3-4-1"), 1.3, "x"),
    Goal("3-4-5-1, fast: time against C", ratio(FAST, C, "3-4-5-1"), 4, "x"),
    Goal("3-4-5-1, portable: time against C", ratio(PORTABLE, C, "3-4-5-1"), 8, "x"),
    Goal("two cores: the speed of one", cores, 1.8, "x", at_least=True),
    Goal("480 runs of the default sweep", lambda results: results.number("default_sweep"), 2, " s"),
    Goal("composing 10,000 runs", composing, 10, " s"),
    Goal("start-up, tracking=none", lambda results: results.number("start_up", "none"), 0.7, " s"),
    Goal("start-up with a store", lambda results: results.number("start_up", "store"), 2, " s"),
    Goal("memory, 10,000 runs x 5,000 epochs", lambda results: results.number("memory"), 1.5, " GB"),
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
