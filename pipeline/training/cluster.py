"""Stacks on their way to workers elsewhere and back (pools.py), sent again if they are lost.

Only this process writes results.
"""

import dataclasses
import time
from collections.abc import Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType
from typing import Any, cast

from pipeline.data import Dataset
from pipeline.errors import UserError
from pipeline.executor_config import ExecutorConfig
from pipeline.identity import Run
from pipeline.training.continuing import Starts
from pipeline.training.executor import StackExecutor, WorkerDiedError
from pipeline.training.pools import Pool, dask_pool, named_pool
from pipeline.training.stack import Result, epochs_left, trajectories_of
from pipeline.training.worker import passport, train_there

MOST_LOST = 5  # times that a stack may be lost while its pool is connected


class Job:
    """A stack on its way: what was asked for, and the future that `train` gave out."""

    def __init__(self, stack: Sequence[Run], starts: Starts) -> None:
        self.stack, self.starts = stack, starts
        self.future: Future[list[Result]] = Future()
        self.lost = 0  # times

    @property
    def updates(self) -> int:
        """How many updates its networks make."""
        epochs = sum(epochs_left(runs, self.starts) for runs in trajectories_of(self.stack))
        return epochs * self.stack[0].updates_an_epoch


class Cluster(StackExecutor):
    """Trains stacks in a pool.

    A stack whose scheduler was lost is sent again when there is one, `timeout` seconds long; after that its future
    raises UserError. A stack that kills its workers raises WorkerDiedError.
    """

    def __init__(self, pool: Pool, timeout: float, told: str) -> None:
        """`told` is what the pool is called in messages."""
        self._pool, self._timeout, self._name = pool, timeout, told
        self._ended: SimpleQueue[tuple[Job, Future[tuple[list[Result], dict[str, Any]]]]] = SimpleQueue()
        self._jobs: set[Job] = set()  # given out and without a result
        self._lost: list[Job] = []  # of these, to be sent again

    @property
    def room(self) -> int:  # type: ignore[override]
        """Twice the workers, so that none waits while the driver writes results."""
        return 2 * self._pool.workers

    def train(self, stack: Sequence[Run], starts: Starts) -> Future[list[Result]]:
        """Has a stack trained by a worker."""
        job = Job(stack, starts)
        self._jobs.add(job)
        self._send(job)
        return job.future

    def news(self) -> int:
        """Updates of the stacks that have ended since the last call; sends lost ones again."""
        made = 0
        while not self._ended.empty():
            job, inner = self._ended.get()
            made += job.updates if self._settle(job, inner) else 0
        self._pool.count()
        lonely = self._pool.lonely_since
        if lonely is not None and time.monotonic() - lonely > self._timeout:
            for job in list(self._jobs):
                self._fail(job, UserError(gone(self._name, self._timeout)))
        elif self._pool.is_connected():
            jobs, self._lost = self._lost, []
            for job in jobs:
                self._send(job)
        return made

    def _send(self, job: Job) -> None:
        runs = [dataclasses.replace(run, dataset=cast("Dataset", None)) for run in job.stack]
        try:
            rows = self._pool.data(job.stack[0].dataset)
            inner = self._pool.executor.submit(train_there, passport(), runs, rows, job.starts)
        except (OSError, RuntimeError) as error:
            if self._pool.is_connected():
                self._fail(job, error)
            else:
                self._lost.append(job)
            return
        inner.add_done_callback(lambda done: self._ended.put((job, done)))

    def _settle(self, job: Job, inner: "Future[tuple[list[Result], dict[str, Any]]]") -> bool:
        """Gives a job its result or error; True for results. What was cancelled was lost with its scheduler."""
        if job not in self._jobs:
            return False
        if inner.cancelled():
            self._lose(job)
            return False
        error = inner.exception()
        if error is not None:
            self._fail(job, told(error, self._name))
            return False
        results, trained_on = inner.result()
        self._jobs.remove(job)
        job.future.set_result([dataclasses.replace(result, trained_on=trained_on) for result in results])
        return True

    def _lose(self, job: Job) -> None:
        """Takes note that a job is to be sent again, unless it has been too often."""
        job.lost += 1
        if job.lost <= MOST_LOST:
            self._lost.append(job)
        else:
            self._fail(job, WorkerDiedError(f"{self._name} lost it or its result {job.lost} times."))

    def _fail(self, job: Job, error: BaseException) -> None:
        self._jobs.remove(job)
        job.future.set_exception(error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()


def gone(name: str, timeout: float) -> str:
    """The sentence for a scheduler, or workers, that do not come back."""
    return (
        f"{name} has had no worker, or could not be reached, for {timeout:g} s: see that it runs and has some, and "
        "repeat the command, which goes on with what is not finished."
    )


def told(error: BaseException, name: str) -> BaseException:
    """An error of a worker, as a sweep takes it: UserError ends it, WorkerDiedError fails a stack."""
    if type(error).__name__ == "KilledWorker":
        return WorkerDiedError("The worker that trained it died, and so did those that tried it again.")
    if isinstance(error, ImportError | AttributeError):  # of another Seedbed, which lacks a module or a function
        return UserError(f"A worker of {name} lacks what trains ({error}): install there what is installed here.")
    return error


def make_cluster(config: ExecutorConfig) -> Cluster:
    """The cluster or executor that a config names. Raises UserError if it cannot be used."""
    if config.kind == "dask":
        name = f"The Dask scheduler at {config.scheduler}" if config.scheduler else "Dask"
        return Cluster(dask_pool(config), config.timeout, name)
    return Cluster(named_pool(config), config.timeout, str(config.factory))
