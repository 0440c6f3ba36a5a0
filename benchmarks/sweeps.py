"""Whole sweeps, from the command to its end: what a run costs with everything that is kept of it, and the start-up.

Everyone trains the 3-4-5-1 net from as many seeds in a process of its own, with a store that holds nothing yet. The
store was made before (MLflow takes seconds for that, whoever asks); each sweep gets a copy of it. Two sizes are timed:
their difference gives the seconds a run, what is left is start-up.
HydraFlow crashes where its experiment's folder is not there yet, so it is made too, outside the time. Trackio makes a
store of its own, inside the time.
"""

import importlib.util
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.processes import CrashError, run

APP = ("-m", "benchmarks.apps")
SEEDBED = ("-m", "pipeline", "sweep", "data=first_column", "network.hidden=[4,5]")
STORE = "sqlite:///mlflow.db"
MAKE_STORE = "import mlflow; mlflow.search_experiments()"
MAKE_EXPERIMENT = (
    "import mlflow, pathlib; made = mlflow.set_experiment('apps').experiment_id; "
    "pathlib.Path('mlruns', made).mkdir(parents=True, exist_ok=True)"
)


@dataclass(frozen=True)
class Way:
    """A way to run a sweep: the words before seeds and updates, the key of the updates, and how many runs are timed."""

    title: str
    words: tuple[str, ...]
    epochs: str = "updates"
    many: bool = False
    needs: str = "mlflow"


WAYS = {
    "usual": Way("Hydra + MLflow, log_metric", (*APP, "hydra", "--multirun", "logging=each")),
    "batched": Way("Hydra + MLflow, log_batch", (*APP, "hydra", "--multirun", "logging=batch")),
    "hydraflow": Way("HydraFlow, log_metric", (*APP, "hydraflow", "--multirun", "logging=each"), needs="hydraflow"),
    "hydraflow-batched": Way(
        "HydraFlow, log_batch", (*APP, "hydraflow", "--multirun", "logging=batch"), needs="hydraflow"
    ),
    "trackio": Way("Hydra + Trackio, log", (*APP, "trackio", "--multirun"), needs="trackio"),
    "seedbed": Way("Seedbed", SEEDBED, "training.epochs", many=True),
    "seedbed-none": Way("Seedbed, tracking=none", (*SEEDBED, "tracking=none"), "training.epochs", many=True),
}


@dataclass(frozen=True)
class Sweep:
    """What was measured of a way: seconds of the smaller and the larger sweep, one a round."""

    way: str
    updates: int
    sizes: tuple[int, int]
    seconds: tuple[tuple[float, ...], tuple[float, ...]]

    @property
    def each(self) -> float:
        """Seconds a run in the larger sweep, start-up included."""
        return median(self.seconds[1]) / self.sizes[1]

    @property
    def marginal(self) -> float:
        """Seconds a further run costs; not below 0, which noise could give."""
        small, large = map(median, self.seconds)
        return max(0.0, (large - small) / (self.sizes[1] - self.sizes[0]))

    @property
    def start_up(self) -> float:
        """Seconds before and after all runs."""
        return max(0.0, median(self.seconds[0]) - self.sizes[0] * self.marginal)


def measure(
    names: Sequence[str],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    updates: int,
    rounds: int,
    report: Callable[[str], None],
) -> tuple[list[Sweep], dict[str, str]]:
    """Times the ways: the first sizes are for the slow ones, the second for the fast. Also returns why some lack."""
    ways = {name: WAYS[name] for name in names}
    left_out = {name: f"{way.needs} is not installed" for name, way in ways.items() if not installed(way.needs)}
    taken: dict[tuple[str, int], list[float]] = {}
    with TemporaryDirectory() as made:
        run([sys.executable, "-c", MAKE_STORE], Path(made), MLFLOW_TRACKING_URI=STORE)
        for round_ in range(rounds):
            for name, way in ways.items():
                for size in sizes[way.many]:
                    if name in left_out:
                        continue
                    report(f"sweeps, round {round_ + 1} of {rounds}: {way.title}, {size} runs of {updates:,} updates")
                    try:
                        taken.setdefault((name, size), []).append(seconds(way, size, updates, Path(made)))
                    except CrashError as crash:
                        left_out[name] = f"crashed: {crash}"
    found = [sweep(name, sizes[way.many], updates, taken) for name, way in ways.items() if name not in left_out]
    return found, left_out


def sweep(name: str, sizes: tuple[int, int], updates: int, taken: dict[tuple[str, int], list[float]]) -> Sweep:
    """The measurements of one way."""
    return Sweep(name, updates, sizes, (tuple(taken[name, sizes[0]]), tuple(taken[name, sizes[1]])))


def installed(module: str) -> bool:
    """True if a module is there."""
    return importlib.util.find_spec(module) is not None


def seconds(way: Way, size: int, updates: int, made: Path) -> float:
    """Seconds of one sweep in a folder of its own with a copy of the empty store."""
    words: Sequence[str] = (*way.words, f"seed=range(0,{size})", f"{way.epochs}={updates}")
    with TemporaryDirectory() as folder:
        shutil.copy(made / "mlflow.db", folder)
        if way.needs == "hydraflow":
            run([sys.executable, "-c", MAKE_EXPERIMENT], Path(folder), MLFLOW_TRACKING_URI=STORE)
        started = time.perf_counter()
        run([sys.executable, *words], Path(folder), MLFLOW_TRACKING_URI=STORE)
        return time.perf_counter() - started
