"""Seedbed's command with a clock at its phases: `python -m benchmarks.phases FILE sweep WORD ...`.

It is the command as it is, and writes to the file, as JSON, the seconds of each phase without those inside of it, and
the largest memory of this process. What is in no phase (start-up, Hydra's own work, the end) is the caller's to find.
"""

import functools
import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

# Where phases begin and end. `run` is what the driver does while runs train, and with workers the wait for them;
# `workers` is their start and end, of a cluster above all.
STAMPS = (
    ("pipeline.application.launcher", "Jobs", "runs", "compose"),
    ("pipeline.session", "", "make_plan", "plan"),
    ("pipeline.session", "SweepSession", "run", "run"),
    ("pipeline.planning.plan", "", "executor_of", "workers"),
    ("pipeline.training.cluster", "Cluster", "__exit__", "workers"),
    ("pipeline.training.executor", "", "train_here", "train"),
    ("pipeline.session", "SweepSession", "_close", "close"),
    ("pipeline.session", "SweepSession", "conclude", "compare"),
)
PHASES = ("open", "compose", "plan", "workers", "train", "run", "write", "close", "compare")
BYTES_A_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss


class Clock:
    """Seconds by phase; a phase inside of another one stops the other's time."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._open: list[str] = []
        self._since = 0.0

    def timed(self, phase: str, call: Callable[..., T]) -> Callable[..., T]:
        """A callable that does what `call` does, in this phase."""

        @functools.wraps(call)
        def timed(*args: Any, **kwargs: Any) -> T:
            self._turn(phase)
            try:
                return call(*args, **kwargs)
            finally:
                self._turn(None)

        return timed

    def _turn(self, phase: str | None) -> None:
        """Begins a phase, or ends the innermost one."""
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now
        if phase:
            self._open.append(phase)
        else:
            self._open.pop()


def stamp(clock: Clock) -> None:
    """Puts the clock at all phases of Seedbed in this process."""
    for module, owner, name, phase in STAMPS:
        found = importlib.import_module(module)
        found = getattr(found, owner) if owner else found
        setattr(found, name, clock.timed(phase, getattr(found, name)))
    session = importlib.import_module("pipeline.session")
    opened = session.open_store

    def open_store(*args: Any) -> Any:
        store = clock.timed("open", opened)(*args)
        for name in ("write", "grow", "send", "keep_data") if store else ():
            setattr(store, name, clock.timed("write", getattr(store, name)))
        return store

    session.open_store = open_store  # type: ignore[attr-defined]


def main(file: Path, words: list[str]) -> None:
    """Runs the command and exits as it does; the file is written whatever happens."""
    from pipeline.__main__ import main as seedbed

    clock = Clock()
    stamp(clock)
    try:
        seedbed(words)
    finally:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_A_UNIT / 1e9
        file.write_text(json.dumps({"phases": clock.seconds, "memory": memory}), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
