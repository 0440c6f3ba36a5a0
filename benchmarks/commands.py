"""Seedbed's own commands against a clock: two cores against one, start-up, composing, the default sweep, memory."""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from subprocess import DEVNULL, Popen
from tempfile import TemporaryDirectory

from benchmarks.processes import CrashError, cores, environment, run

SEEDBED = (sys.executable, "-m", "pipeline")
TINY = ("data=first_column", "network.hidden=[4,5]")


def seconds(*words: str, folder: Path) -> float:
    """How long a command takes."""
    started = time.perf_counter()
    run([*SEEDBED, *words], folder)
    return time.perf_counter() - started


def told(printed: str) -> float:
    """The seconds that a sweep's last line tells: training and keeping, without start-up and composing."""
    return float(re.findall(r"in ([\d.]+) s\.", printed)[-1])


def two_cores(runs: int, epochs: int, rounds: int) -> dict[str, object]:
    """executor=serial against executor=processes, both as the sweep itself tells its seconds (start-up apart)."""
    if len(cores()) < 2:
        return {"left_out": "this machine has one core"}
    words = ("sweep", *TINY, "tracking=none", f"seed=range(0,{runs})", f"training.epochs={epochs}")
    taken: dict[str, list[float]] = {"serial": [], "processes": []}
    with TemporaryDirectory() as folder:
        for _ in range(rounds):
            for executor, samples in taken.items():
                try:
                    samples.append(told(run([*SEEDBED, *words, f"executor={executor}"], Path(folder))))
                except CrashError as crash:
                    return {"left_out": f"executor={executor} is not available: {crash}"}
    ratio = median(taken["serial"]) / median(taken["processes"])
    return {"runs": runs, "epochs": epochs, "seconds": taken, "ratio": ratio}


def start_up(rounds: int) -> dict[str, float]:
    """Seconds of a whole `seedbed train` that makes no update: tracking=none, and into a store that is there."""
    words = ("train", *TINY, "training.epochs=0")
    with TemporaryDirectory() as name:
        folder = Path(name)
        seconds(*words, "seed=1000000", folder=folder)
        none, store = [], []
        for round_ in range(rounds):  # a seed of its own each: a run that is there would not be trained
            none.append(seconds(*words, f"seed={round_}", "tracking=none", folder=folder))
            store.append(seconds(*words, f"seed={round_}", folder=folder))
    return {"none": median(none), "store": median(store)}


def composing(jobs: int) -> float:
    """Seconds of a whole sweep of so many runs that make no update: composing, checking, planning and start-up."""
    words = ("sweep", *TINY, "tracking=none", "training.epochs=0", f"seed=range(0,{jobs})")
    with TemporaryDirectory() as folder:
        return seconds(*words, folder=Path(folder))


def default_sweep() -> float:
    """Seconds that the 480 runs of `make sweep` train, as the sweep tells them."""
    with TemporaryDirectory() as folder:
        return told(run([*SEEDBED, "sweep", "experiment=architectures", "tracking=none"], Path(folder)))


def memory(runs: int, epochs: int) -> float | None:
    """Largest memory of a sweep that is not kept, in GB."""
    words = ("sweep", *TINY, "tracking=none", f"seed=range(0,{runs})", f"training.epochs={epochs}")
    with TemporaryDirectory() as folder:
        return watched(words, Path(folder))


def watched(words: tuple[str, ...], folder: Path) -> float | None:
    """Largest memory of a command with its workers while it runs, in GB; None where there is no /proc to ask."""
    most = 0
    process = Popen([*SEEDBED, *words], cwd=folder, env=environment(), stdout=DEVNULL, stderr=DEVNULL)
    try:
        while process.poll() is None:
            most = max(most, sum(map(proportional_kilobytes, family(process.pid))))
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise CrashError(f"the sweep ended with code {process.returncode}")
    return most * 1024 / 1e9 if most else None


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for process in found:  # grows while it is walked
        try:
            for children in Path(f"/proc/{process}/task").glob("*/children"):
                found += map(int, children.read_text().split())
        except OSError:
            continue  # it has ended
    return found


def proportional_kilobytes(pid: int) -> int:
    """A process's memory, pages that it shares counted by its share; 0 if it has ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss: +(\d+)", rollup, re.MULTILINE)
    return int(found[1]) if found else 0


def measure(long: bool, quick: bool, report: Callable[[str], None]) -> dict[str, object]:
    """All of it but two cores; memory with `long` only."""
    found: dict[str, object] = {}

    def attempt(name: str, what: str, measured: Callable[[], object]) -> None:
        report(what)
        try:
            found[name] = measured()
        except CrashError as crash:
            found[name] = {"left_out": f"crashed: {crash}"}

    attempt("start_up", "start-up", lambda: start_up(2 if quick else 5))
    if not quick:
        attempt("default_sweep", "the 480 runs of the default sweep", default_sweep)
    jobs = 500 if quick else 10_000
    attempt("composing", f"composing {jobs:,} runs", lambda: {"jobs": jobs, "seconds": composing(jobs)})
    if long:
        attempt("memory", "memory of 10,000 runs of 5,000 epochs", lambda: memory(10_000, 5_000))
    return found
