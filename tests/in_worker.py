"""What tests have a worker process do: it imports this module, so nothing of a test's own is imported here."""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.identity import Run
from pipeline.numerics import train
from pipeline.training import points
from pipeline.training.continuing import Starts
from pipeline.training.executor import LIVE, PROGRESS, train_here
from pipeline.training.points import Glimpse, Points
from pipeline.training.processes import BLAS_THREADS
from pipeline.training.stack import Result

DEADLY = 3  # units of the hidden layer


def about() -> dict[str, Any]:
    """What this process has imported, and what it inherited."""
    square = np.ones((300, 300))
    (square @ square).sum()  # BLAS starts its threads at the latest now
    return {
        "pid": os.getpid(),
        "modules": set(sys.modules),
        "blas": [os.environ.get(name) for name in BLAS_THREADS],
        "threads": len(list(Path("/proc/self/task").iterdir())) - threading.active_count(),
        "sigint": signal.getsignal(signal.SIGINT),
        "sigterm": signal.getsignal(signal.SIGTERM),
    }


def leave_a_line(file: str, how: str) -> int:
    """Adds a line to a file; then `return`s how many there are, `raise`s, ends or is killed (only the first time)."""
    with Path(file).open("a") as lines:
        lines.write("called\n")
    count = Path(file).read_text().count("called")
    if how == "raise":
        raise ZeroDivisionError("as asked")
    if how == "lack memory":
        raise MemoryError("as asked")
    if how == "end":
        os._exit(7)
    if how == "be killed once" and count == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "be killed once, half of the answer being sent" and count == 1:
        connection.Connection._send = send_half_and_die  # type: ignore[attr-defined]
    return count


def send_half_and_die(self: Any, message: bytes, *_: object) -> None:
    """Stands in for what writes messages to a pipe."""
    os.write(self.fileno(), message[: len(message) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


def make_updates(updates: int) -> None:
    """Says that updates were made."""
    progress = PROGRESS.get()
    assert progress
    progress(updates)


def make_updates_and_die(updates: int) -> None:
    """Says that updates were made, and ends."""
    make_updates(updates)
    time.sleep(0.05)
    os._exit(1)


def tell_much(megabytes: int, die: bool) -> float:
    """Tells of so many points and returns how long that took; or is killed while they are on their way."""
    tell, started = LIVE.get(), time.monotonic()
    assert tell
    for _ in range(megabytes):
        tell(Glimpse({"any": Points(np.arange(2**16), {"loss": np.zeros(2**16)})}))
    if die:
        time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
    return time.monotonic() - started


def train_watched(stack: Sequence[Run], starts: Starts) -> list[Result]:
    """Trains a stack and tells of it at every report; is killed the first time, when it has told twice.

    The second time it waits beyond half of its updates until they were told: the driver leaves a file.
    """
    points.LIVE_SECONDS, train.REPORT_EVERY = 0.0, 100
    tell, told = LIVE.get(), 0

    def tell_twice(glimpse: Glimpse) -> None:
        nonlocal told
        assert tell
        tell(glimpse)
        told += 1
        if told == 2:
            Path("died").touch()
            time.sleep(0.3)  # until it was sent
            os.kill(os.getpid(), signal.SIGKILL)

    def tell_and_wait(glimpse: Glimpse) -> None:
        assert tell
        tell(glimpse)
        half = stack[0].config.training.epochs / 2
        deadline = time.monotonic() + 300
        for fingerprint, some in glimpse.points.items():
            while some.steps[-1] > half and not Path(fingerprint).exists() and time.monotonic() < deadline:
                time.sleep(0.02)

    token = LIVE.set(tell_and_wait if Path("died").exists() else tell_twice)
    try:
        return train_here(stack, starts)
    finally:
        LIVE.reset(token)


def sleep(seconds: float) -> None:
    """Waits."""
    time.sleep(seconds)


def train_or_die(stack: Sequence[Run], starts: Starts) -> list[Result]:
    """Trains a stack, but ends this process if its networks have DEADLY hidden units."""
    if stack[0].config.network.hidden == [DEADLY]:
        os._exit(1)
    return train_here(stack, starts)


def train_or_die_once(stack: Sequence[Run], starts: Starts) -> list[Result]:
    """The same, but the second time it trains."""
    first = Path("died")
    if stack[0].config.network.hidden == [DEADLY] and not first.exists():
        first.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return train_here(stack, starts)


def train_or_raise(stack: Sequence[Run], starts: Starts) -> list[Result]:
    """The same, but it raises an error."""
    if stack[0].config.network.hidden == [DEADLY]:
        raise FloatingPointError("as asked")
    return train_here(stack, starts)
