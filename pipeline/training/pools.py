"""Workers elsewhere as pools: those of a Dask cluster, or of any other `concurrent.futures.Executor`."""

import contextlib
import importlib
import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from pipeline.checks import shown
from pipeline.data import Dataset
from pipeline.errors import UserError
from pipeline.executor_config import ExecutorConfig
from pipeline.training.executor import cores
from pipeline.training.processes import plain_start
from pipeline.training.worker import received

P = ParamSpec("P")
T = TypeVar("T")

WORKER_TTL = "60 s"  # of a cluster that is started here: after so long without a sign a worker's stack goes to another
COUNT_SECONDS = 5.0  # how often the workers are counted


class Pool:
    """Workers elsewhere behind an executor: how many there are, and how rows get to them."""

    def __init__(self, executor: Executor, workers: int) -> None:
        self.executor, self.workers = executor, workers
        self.lonely_since: float | None = None  # time.monotonic() since when there has been nobody to train

    def data(self, dataset: Dataset) -> Any:
        """What is sent in place of rows."""
        return dataset

    def is_connected(self) -> bool:
        """False while there is nobody who could take a stack."""
        return True

    def count(self) -> None:
        """Counts the workers, now and then."""

    def close(self) -> None:
        """Leaves the workers, whatever they do."""
        self.executor.shutdown(wait=False, cancel_futures=True)


class DaskExecutor(Executor):
    """A Dask client as an executor, which gives each call to the worker that has the fewest.

    Dask itself would give it to those that have the rows already, and move it elsewhere late. And the futures of
    `Client.get_executor()` stay without an outcome for ever if the network fails while a result is on its way: here
    they are cancelled.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._given: dict[Future[Any], str] = {}  # to whom, of what has no outcome yet
        self.threads: Mapping[str, int] = {}  # of each worker, by its address

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Has `fn` called by a worker."""
        future: Future[T] = Future()
        given = Counter(list(self._given.values()))
        options: dict[str, Any] = {"pure": False}
        if self.threads:
            self._given[future] = min(self.threads, key=lambda worker: given[worker] / self.threads[worker])
            options |= {"workers": [self._given[future]], "allow_other_workers": True}  # as it may be gone by then

        def end(done: Any) -> None:
            self._given.pop(future, None)
            hand_over(done, future)

        try:
            self._client.submit(fn, *args, **kwargs, **options).add_done_callback(end)
        except BaseException:
            self._given.pop(future, None)
            raise
        return future


def hand_over(done: Any, future: Future[Any]) -> None:
    """In a thread of Dask's: gives the outcome of its future to another, which is cancelled if it was lost."""
    try:
        result = done.result()
    except BaseException as error:  # noqa: BLE001 - asyncio's CancelledError too: the future must have an outcome
        if done.status == "error":
            future.set_exception(error)
        else:
            future.cancel()
    else:
        future.set_result(result)


class DaskPool(Pool):
    """The workers of a Dask cluster. Rows are a task of their own, which a worker that needs them gets once."""

    def __init__(self, client: Any, cluster: Any) -> None:
        """A `distributed.Client`, and the cluster that was started for it, if one was."""
        self._executor = DaskExecutor(client)
        super().__init__(self._executor, 1)
        self._client, self._cluster = client, cluster
        self._data: dict[str, Any] = {}
        self._counted = -COUNT_SECONDS
        self.count()

    def data(self, dataset: Dataset) -> Any:
        """A future of the rows. Lost with its worker, it is computed again."""
        key = dataset.digest
        if key not in self._data or self._data[key].cancelled():
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sending large graph")  # once a data set, and it must not be lost
                self._data[key] = self._client.submit(received, dataset, key=f"seedbed-rows-{key}")
        return self._data[key]

    def is_connected(self) -> bool:
        """False while the client looks for its scheduler, and after it gave up."""
        return bool(self._client.status == "running")

    def count(self) -> None:
        """Counts the workers' threads, now and then: they may come and go."""
        now = time.monotonic()
        if now - self._counted < COUNT_SECONDS:
            return
        self._counted, threads = now, {}
        if self.is_connected():
            with contextlib.suppress(OSError, TimeoutError):
                threads = self._client.nthreads()
        self._executor.threads = threads
        self.workers = max(1, sum(threads.values()))
        self.lonely_since = None if threads else self.lonely_since or now

    def close(self) -> None:
        """Cancels what is not done, and ends the cluster if it was started here."""
        with contextlib.suppress(Exception):  # the scheduler may be gone: nothing is left to be done then
            self.executor.shutdown(wait=False)
        with contextlib.suppress(Exception):
            self._client.close(timeout=5)
        if self._cluster is not None:
            self._cluster.close(timeout=5)


def dask_pool(config: ExecutorConfig) -> DaskPool:
    """The workers of the scheduler that a config names, or of a cluster on this machine."""
    import dask
    from distributed import Client, LocalCluster

    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # of a lost scheduler it prints tracebacks
    if config.scheduler:
        given = {"address": config.address} if config.address else {"scheduler_file": config.scheduler_file}
        with reached(config):
            await_file(config)
            client = Client(**given, timeout=config.timeout, set_as_default=False, name="seedbed")
            client.wait_for_workers(1, timeout=config.timeout)
        return DaskPool(client, None)
    settings = {"distributed.scheduler.worker-ttl": WORKER_TTL, "distributed.worker.profile.enabled": False}
    with dask.config.set(settings), plain_start():
        workers = config.workers or cores()
        quiet = {"silence_logs": logging.ERROR, "dashboard_address": "127.0.0.1:0"}  # else it warns of a second sweep's
        cluster = LocalCluster(n_workers=workers, threads_per_worker=1, host="127.0.0.1", **quiet)
        return DaskPool(Client(cluster, set_as_default=False, name="seedbed"), cluster)


def await_file(config: ExecutorConfig) -> None:
    """Waits for a scheduler's file. Raises OSError if it does not come: Dask would wait for ever."""
    deadline = time.monotonic() + config.timeout
    while config.scheduler_file and not Path(config.scheduler_file).exists():
        if time.monotonic() > deadline:
            raise FileNotFoundError(f"there is no such file after {config.timeout:g} s")
        time.sleep(0.1)


@contextlib.contextmanager
def reached(config: ExecutorConfig) -> Iterator[None]:
    """Rewords what goes wrong while a scheduler and its workers are looked for."""
    key = "executor.address" if config.address else "executor.scheduler_file"
    given = config.scheduler
    try:
        yield
    except TimeoutError:
        raise UserError(
            f"No worker came to the Dask scheduler at {given} within {config.timeout:g} s: start some with "
            f"`dask worker {given} --nthreads 1`, or wait longer with executor.timeout."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{key} is {given}, where no Dask scheduler answers ({error}): start one, or change it."
        ) from None


def named_pool(config: ExecutorConfig) -> Pool:
    """Any executor by its name, `module.Class`, made with `max_workers` if `executor.workers` is given."""
    make = found(str(config.factory))
    try:
        executor = make(max_workers=config.workers) if config.workers else make()
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        why = f"executor.factory is {config.factory}, which cannot be made ({error})"
        raise UserError(f"{why}: name a concurrent.futures.Executor.") from None
    if not callable(getattr(executor, "submit", None)):
        given = shown(config.factory)
        raise UserError(f"executor.factory is {given}, which has no submit: name a concurrent.futures.Executor.")
    return Pool(executor, config.workers or getattr(executor, "_max_workers", None) or cores())


def found(name: str) -> Callable[..., Any]:
    """What a dotted name names. Raises UserError if there is no such thing."""
    module, _, attribute = name.rpartition(".")
    try:
        return cast("Callable[..., Any]", getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"executor.factory is {shown(name)}, which is not to be had ({error}): name a class like "
            "mpi4py.futures.MPIPoolExecutor."
        ) from None
