"""Worker processes that train stacks and import neither MLflow nor Hydra.

A worker that dies takes a whole `ProcessPoolExecutor` with it, and nobody can tell which call killed it. So each worker
is a pool of one process, and a thread hands it one stack at a time: a death costs that stack alone, which a fresh
worker tries once more.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from pipeline.numerics.train import Progress
from pipeline.training.executor import LIVE, PROGRESS, Serial, StackExecutor, WorkerDiedError
from pipeline.training.points import Glimpse

P = ParamSpec("P")
T = TypeVar("T")

BLAS_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def make_executor(workers: int, progress: Progress) -> StackExecutor:
    """So many worker processes, or this process for 0; `progress` is told of updates made here."""
    return Processes(workers) if workers else Serial(progress)


class Processes(StackExecutor):
    """Calls in worker processes, started when they are first needed; left by an exception, it kills them.

    A call whose worker dies is made once more in a fresh one, then its future raises WorkerDiedError. `room` is twice
    the workers, so that none waits while the driver writes results.
    """

    def __init__(self, workers: int) -> None:
        self.room = 2 * workers
        self._told = 0
        self._glimpses: SimpleQueue[Glimpse] = SimpleQueue()
        self._workers = [Worker(self._glimpses) for _ in range(workers)]
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        resource_tracker.ensure_running()  # here, as its start would unblock what a thread has blocked
        self._threads = ThreadPoolExecutor(workers, "seedbed", block_interrupts)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Has `fn` called by the next worker that is idle; what goes to and fro is pickled."""
        return self._threads.submit(self._call, fn, args, kwargs)

    def _call(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        worker = self._idle.get()  # there are as many threads as workers
        try:
            return worker.call(fn, *args, **kwargs)
        finally:
            self._idle.put(worker)

    def news(self) -> int:
        """Updates made since the last call; negative if more were lost with a worker."""
        made = sum(worker.made.value for worker in self._workers)
        self._told, told = made, self._told
        return made - told

    def glimpses(self) -> list[Glimpse]:
        """What workers sent since the last call; a stack that is trained again is seen from its beginning again."""
        return [self._glimpses.get() for _ in range(self._glimpses.qsize())]

    def pids(self) -> list[int]:
        """The process ids of the workers that run now."""
        return [process.pid for worker in self._workers if (process := worker.process) and process.pid]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the workers when what was submitted is done."""
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            for worker in self._workers:
                worker.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.shutdown()
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        try:  # a second Ctrl-C would spare workers, and then this process would wait for them
            for worker in self._workers:
                worker.kill()
            self.shutdown(cancel_futures=True)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Worker:
    """A place for one worker process, which is started when it is needed and replaced when it has died.

    `made` counts the updates of all stacks trained at this place; the process writes it, in shared memory. What it
    sends through its pipe goes to `glimpses`.
    """

    starting = threading.Lock()  # shared by all: a start changes this process's environment for a moment

    def __init__(self, glimpses: SimpleQueue[Glimpse]) -> None:
        self._glimpses = glimpses
        self.made = multiprocessing.get_context("spawn").RawValue(ctypes.c_longlong)
        self.process: BaseProcess | None = None
        self._pool: ProcessPoolExecutor | None = None
        self._killed = False

    def call(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Calls `fn` in the process. Raises WorkerDiedError if it dies, and a fresh one as well."""
        ends: list[str] = []
        while len(ends) < 2:
            made = self.made.value
            try:
                pool = self._pool or self._start()
                return pool.submit(fn, *args, **kwargs).result()
            except BrokenProcessPool:
                ends.append(self._bury())
                self.made.value = made
        raise WorkerDiedError(f"The worker process that trained it {ends[0]}, and so did a second one: it {ends[1]}.")

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # not fork: this process has threads
        with self.starting, plain_start():
            if self._killed:
                raise BrokenProcessPool
            receiver, sender = context.Pipe(duplex=False)
            pool = ProcessPoolExecutor(1, context, start_worker, (self.made, sender))
            first = pool.submit(os.getpid)
            (self.process,) = pool._processes.values()  # has no public name before Python 3.14
            self._pool = pool
        # The process has the only other ends: reading stops when it dies, whatever it was sending.
        close_writer(pool)
        sender.close()
        threading.Thread(target=receive, args=(receiver, self._glimpses), daemon=True).start()
        first.result()  # a process that dies with a long message on its way to it may hang older Pythons
        return pool

    def _bury(self) -> str:
        """Clears a dead process away and says how it ended."""
        process = self.process
        self.close()
        code = process.exitcode if process else None
        if code is not None and code < 0:
            lacking = ", as happens when memory runs out" if -code == signal.SIGKILL else ""
            return f"was killed by {signal.Signals(-code).name}{lacking}"
        return f"ended with exit code {code}"

    def close(self) -> None:
        """Waits for the process to end, if there is one."""
        pool, self._pool, self.process = self._pool, None, None
        if pool:
            pool.shutdown()

    def kill(self) -> None:
        """Kills the process and lets no other start: calls end with BrokenProcessPool or WorkerDiedError."""
        with self.starting:
            self._killed = True
            process = self.process
        if process:
            process.kill()


def close_writer(pool: Any) -> None:
    """Closes the driver's own end for writing results: the pool would wait for the rest of one for ever otherwise."""
    pool._result_queue._writer.close()


def block_interrupts() -> None:
    """In a thread that starts workers: they, and the threads that watch them, inherit that Ctrl-C is not for them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


@contextlib.contextmanager
def plain_start() -> Iterator[None]:
    """What a process that starts inside of the block inherits: one BLAS thread, and no `__main__`.

    It would import the script or command that started this process, with all that this imports.
    """
    before = {name: os.environ.get(name) for name in BLAS_THREADS}
    main = sys.modules["__main__"]
    os.environ.update(dict.fromkeys(BLAS_THREADS, "1"))
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def receive(receiver: "connection.Connection[Any, Glimpse]", glimpses: SimpleQueue[Glimpse]) -> None:
    """In a thread of the driver: takes what a worker sends until that ends."""
    with receiver, contextlib.suppress(EOFError, OSError):
        while True:
            glimpses.put(receiver.recv())


def send(glimpses: SimpleQueue[Glimpse], sender: "connection.Connection[Glimpse, Any]") -> None:
    """In a thread of a worker, so that training never waits for the driver: sends what is put into the queue."""
    with sender, contextlib.suppress(OSError):  # the driver is gone
        while True:
            sender.send(glimpses.get())


def start_worker(made: ctypes.c_longlong, sender: "connection.Connection[Glimpse, Any]") -> None:
    """What a worker does first: leaves Ctrl-C to the driver, ends when the driver does, prepares to tell its news.

    It counts updates into `made`, and sends glimpses.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_driver, daemon=True).start()

    def count(updates: int) -> None:
        made.value += updates

    PROGRESS.set(count)
    glimpses: SimpleQueue[Glimpse] = SimpleQueue()
    threading.Thread(target=send, args=(glimpses, sender), daemon=True).start()
    LIVE.set(glimpses.put)


def end_with_driver() -> None:
    """Waits for the driver to end, however it does, and ends this process."""
    driver = multiprocessing.parent_process()
    if driver:
        connection.wait([driver.sentinel])
        os._exit(1)
