"""Training elsewhere: any executor, what a worker must have, and a pool that comes and goes."""

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.executor_config import ExecutorConfig
from pipeline.planning.plan import executor_of, make_plan
from pipeline.training import cluster
from pipeline.training import worker as on_worker
from pipeline.training.cluster import MOST_LOST, Cluster, make_cluster, told
from pipeline.training.executor import WorkerDiedError
from pipeline.training.handing_out import share_out, train_stacks
from pipeline.training.pools import Pool, hand_over
from pipeline.training.stack import Result
from pipeline.training.worker import aligned, check_passport, passport
from tests.clusters import RUNS, check_same, trained

THREADS = "concurrent.futures.ThreadPoolExecutor"


# --- any executor -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", [THREADS, "concurrent.futures.ProcessPoolExecutor"])
def test_any_executor_trains_the_same_bits(factory: str) -> None:
    check_same(trained(ExecutorConfig("futures", workers=2, factory=factory)))


@pytest.mark.parametrize(
    ("factory", "sentence"),
    [
        ("no.such.Thing", "executor.factory is no.such.Thing, which is not to be had"),
        ("Thing", "executor.factory is Thing, which is not to be had"),
        ("math.sin", "executor.factory is math.sin, which cannot be made"),
        ("collections.OrderedDict", "executor.factory is collections.OrderedDict, which has no submit"),
    ],
)
def test_what_is_no_executor_is_told(factory: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace(".", r"\.")):
        make_cluster(ExecutorConfig("futures", factory=factory))


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"kind": "serial", "factory": THREADS}, "executor.factory is"),
        ({"kind": "futures"}, "executor.factory is null"),
        ({"kind": "dask", "timeout": 0.0}, "executor.timeout is 0"),
        ({"kind": "dask", "address": "tcp://a:1", "scheduler_file": "b"}, "leave one of them out"),
    ],
)
def test_settings_that_contradict_each_other_are_told(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        ExecutorConfig(**keys)


def test_the_plan_says_who_trains() -> None:
    """A single run is trained here, whatever the config says."""
    elsewhere = ExecutorConfig("futures", workers=2, factory=THREADS)
    runs = [replace(one, config=replace(one.config, executor=elsewhere)) for one in RUNS]
    with executor_of(make_plan(runs, None), lambda _: None) as executor:
        assert isinstance(executor, Cluster)
    assert make_plan(runs[:1], None).workers == 0


# --- what a worker must have ------------------------------------------------------------------------------------


def test_a_worker_with_other_code_or_versions_refuses() -> None:
    check_passport(passport())
    with pytest.raises(UserError, match=r"has NumPy .* instead of 1\.0: install there what is installed here"):
        check_passport(passport() | {"NumPy": "1.0"})
    with pytest.raises(UserError, match=r"has numerics code .* instead of 0000 and Python"):
        check_passport(passport() | {"numerics code": "0000", "Python": "2.7"})


def test_a_refusal_ends_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = passport() | {"NumPy": "1.0"}
    monkeypatch.setattr(cluster, "passport", lambda: wanted)
    monkeypatch.setattr(on_worker, "check_passport", refuse)
    with pytest.raises(UserError, match=r"a worker that wants no NumPy 1\.0"):
        trained(ExecutorConfig("futures", workers=1, factory=THREADS))


def refuse(given: Mapping[str, str]) -> None:
    """As a worker does."""
    raise UserError(f"a worker that wants no NumPy {given['NumPy']}")


def test_errors_of_workers_as_a_sweep_takes_them() -> None:
    killed = type("KilledWorker", (Exception,), {})  # Dask's
    assert isinstance(told(killed(), "Dask"), WorkerDiedError)
    lacking = told(ModuleNotFoundError("No module named 'pipeline'"), "The Dask scheduler at tcp://a:1")
    assert str(lacking).startswith("A worker of The Dask scheduler at tcp://a:1 lacks what trains (No module named")
    error = ValueError("x")
    assert told(error, "Dask") is error


# --- a pool that comes and goes ---------------------------------------------------------------------------------


class Shaky(Pool):
    """Loses the first `losses` stacks, as a scheduler does that is started again; is not connected for `away` looks."""

    def __init__(self, losses: int, away: int) -> None:
        super().__init__(ThreadPoolExecutor(1), 1)
        self.losses, self.away, self.sent = losses, away, 0
        self._threads, self.executor = self.executor, self  # type: ignore[assignment]

    def submit(self, *args: Any) -> "Future[Any]":
        """Loses or trains."""
        self.sent += 1
        if self.sent <= self.losses:
            lost: Future[Any] = Future()
            lost.cancel()
            lost.set_running_or_notify_cancel()
            return lost
        return self._threads.submit(*args)

    def is_connected(self) -> bool:
        """After some looks."""
        self.away -= 1
        return self.away < 0

    def count(self) -> None:
        """Nobody there while not connected."""
        self.lonely_since = None if self.away < 0 else self.lonely_since or time.monotonic()

    def close(self) -> None:
        """Ends the thread."""
        self._threads.shutdown()


def test_a_lost_stack_is_sent_again() -> None:
    stacks, _ = share_out(RUNS, ExecutorConfig("futures", workers=2, factory=THREADS))
    pool = Shaky(losses=2, away=3)
    made: list[int] = []
    found: dict[str, Result] = {}
    with Cluster(pool, 60.0, "It") as executor:
        for stack, future in train_stacks(executor, stacks, made.append):
            found |= {one.fingerprint: result for one, result in zip(stack, future.result(), strict=True)}
    check_same(found)
    assert pool.sent == len(stacks) + 2
    assert sum(made) == sum(one.config.training.epochs for one in RUNS)


def test_a_stack_that_is_lost_again_and_again_fails() -> None:
    """As one does whose results cannot travel: it would be trained for ever."""
    pool = Shaky(losses=9, away=0)
    with Cluster(pool, 60.0, "It") as executor:
        ((_, future),) = train_stacks(executor, [RUNS[:1]], lambda _: None)
        with pytest.raises(WorkerDiedError, match="It lost it or its result 6 times"):
            future.result()
    assert pool.sent == MOST_LOST + 1


def test_workers_that_do_not_come_back_end_the_sweep() -> None:
    stacks, _ = share_out(RUNS, ExecutorConfig("futures", workers=2, factory=THREADS))
    with Cluster(Shaky(losses=99, away=10**9), 0.5, "It") as executor:
        ((_, future), *_) = train_stacks(executor, stacks, lambda _: None)
        with pytest.raises(
            UserError, match=r"It has had no worker, or could not be reached, for 0\.5 s: see that it runs"
        ):
            future.result()


@pytest.mark.parametrize(("status", "lost"), [("finished", True), ("cancelled", True), ("error", False)])
def test_a_result_that_was_lost_on_its_way_is_no_error(status: str, lost: bool) -> None:
    """It is there, but the network fails; it was cancelled, as its scheduler is gone; or its worker raised this."""

    class Ended:
        def __init__(self) -> None:
            self.status = status

        def result(self) -> None:
            raise OSError("No route to host")

    future: Future[Any] = Future()
    hand_over(Ended(), future)
    assert future.cancelled() is lost
    assert lost or isinstance(future.exception(), OSError)


def test_rows_at_odd_addresses_are_put_right() -> None:
    """Dask cuts them out of what it received, wherever they lie there; NumPy would take a third longer."""
    rows = RUNS[0].dataset
    odd = np.frombuffer(b"-" + rows.X.tobytes(), np.float64, offset=1).reshape(rows.X.shape)
    assert not odd.flags.aligned
    put_right = aligned(replace(rows, X=odd))
    assert put_right.X.flags.aligned
    assert put_right.X.tobytes() == rows.X.tobytes()
    assert put_right.y is rows.y


def test_rows_are_sent_apart_from_the_stack() -> None:
    """So that a pool can send them once."""
    sent: list[tuple[Any, ...]] = []

    class Watching(Pool):
        def __init__(self) -> None:
            super().__init__(ThreadPoolExecutor(1), 1)
            self._threads, self.executor = self.executor, self  # type: ignore[assignment]

        def submit(self, *args: Any) -> "Future[Any]":
            sent.append(args)
            return self._threads.submit(*args)

        def close(self) -> None:
            self._threads.shutdown()

    with Cluster(Watching(), 1.0, "It") as executor:
        executor.train(RUNS[:4], {})
    ((_, _, runs, rows, _),) = sent
    assert rows is RUNS[0].dataset
    assert [one.dataset for one in runs] == [None] * 4
