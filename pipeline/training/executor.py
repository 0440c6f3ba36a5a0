"""What an executor of stacks is, and the one that trains in this process.

It is a `concurrent.futures.Executor`: worker processes are one, and a cluster's can stand in their place.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from pipeline.identity import Run
from pipeline.numerics.train import Progress
from pipeline.training.continuing import Starts
from pipeline.training.points import Glimpse, Live
from pipeline.training.stack import Result, train_stack

P = ParamSpec("P")
T = TypeVar("T")

PROGRESS: ContextVar[Progress | None] = ContextVar("PROGRESS", default=None)
LIVE: ContextVar[Live | None] = ContextVar("LIVE", default=None)


class WorkerDiedError(RuntimeError):
    """A stack's worker died, and so did the one that tried again."""


class StackExecutor(Executor):
    """An executor, and what handing out stacks takes besides: how many it should have at a time, and its news."""

    room = 1

    def train(self, stack: Sequence[Run], starts: Starts) -> Future[list[Result]]:
        """Has a stack trained."""
        return self.submit(train_here, stack, starts)

    def news(self) -> int:
        """How many updates were made since this was called last, if nobody was told of them yet."""
        return 0

    def glimpses(self) -> list[Glimpse]:
        """What became known of curves since this was called last, if nobody was told of it yet."""
        return []


class Serial(StackExecutor):
    """Calls at once, in this process. `progress` is told of updates while they are made."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Calls `fn` and returns its result, or what it raised, as a future. Ctrl-C goes through."""
        future: Future[T] = Future()
        token = PROGRESS.set(self._progress)
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - the future raises it
            future.set_exception(error.with_traceback(None))  # whose frames would keep the stack's buffers in memory
        finally:
            PROGRESS.reset(token)
        return future


def train_here(stack: Sequence[Run], starts: Starts) -> list[Result]:
    """Trains a stack, wherever this is called."""
    return train_stack(stack, PROGRESS.get(), starts=starts, live=LIVE.get())


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
