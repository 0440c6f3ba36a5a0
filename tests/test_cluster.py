"""Training elsewhere: a Dask cluster of real processes that are killed, stopped and restarted; any other executor."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.executor_config import ExecutorConfig
from pipeline.identity import Run
from pipeline.planning.plan import executor_of, make_plan
from pipeline.training import cluster
from pipeline.training import worker as on_worker
from pipeline.training.cluster import MOST_LOST, Cluster, make_cluster, told
from pipeline.training.executor import WorkerDiedError, share_out, train_stacks
from pipeline.training.pools import Pool, await_file, hand_over, reached
from pipeline.training.stack import Result, train_stack
from pipeline.training.worker import aligned, check_passport, passport
from tests.conftest import NEEDS_DASK, seedbed
from tests.factory import CAT_SHOP, run
from tests.ports import own_port

THREADS = "concurrent.futures.ThreadPoolExecutor"
RUNS = [
    run(**CAT_SHOP | {"hidden": hidden, "seed": seed, "epochs": 40})
    for hidden in ([2], [3], [2, 2])
    for seed in range(4)
]


def trained(config: ExecutorConfig, runs: Sequence[Run] = RUNS) -> dict[str, Result]:
    """What a cluster made of runs, by fingerprint."""
    stacks, _ = share_out(runs, config)
    found: dict[str, Result] = {}
    with make_cluster(config) as executor:
        for stack, future in train_stacks(executor, stacks, lambda _: None):
            found |= {one.fingerprint: result for one, result in zip(stack, future.result(), strict=True)}
    return found


def check_same(found: dict[str, Result], runs: Sequence[Run] = RUNS) -> None:
    """They have the bits of a training here."""
    assert found.keys() == {one.fingerprint for one in runs}
    for one in runs:
        (here,) = train_stack([one])
        there = found[one.fingerprint]
        assert there.curves["loss"].tobytes() == here.curves["loss"].tobytes()
        for mine, other in zip(here.final.matrices, there.final.matrices, strict=True):
            assert mine.tobytes() == other.tobytes()
        assert there.trained_on["machine"]


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


# --- Dask -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def process(folder: Path, *words: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A scheduler or worker; it and its children are gone afterwards."""
    log = folder / f"{words[0].rpartition('_')[2]}-{time.monotonic_ns()}.log"
    with log.open("wb") as out:
        started = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{words[0]}", *words[1:], "--no-dashboard"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        print(log.read_text())  # for who reads why a test failed


Running = contextlib.AbstractContextManager["subprocess.Popen[bytes]"]


def scheduler(folder: Path, port: int, **variables: str) -> Running:
    """A scheduler on this machine."""
    return process(folder, "dask_scheduler", "--host", "127.0.0.1", "--port", str(port), **variables)


def worker(folder: Path, port: int, **variables: str) -> Running:
    """A worker on this machine, without a nanny: nobody starts it again."""
    words = ("--nthreads", "1", "--no-nanny", "--host", "127.0.0.1")
    return process(folder, "dask_worker", f"tcp://127.0.0.1:{port}", *words, **variables)


def sweep_words(port: int, *more: str) -> list[str]:
    """A sweep of some seconds, in several stacks, by that scheduler's workers."""
    return [
        *("sweep", "data=cat_shop", "network.hidden=[2],[4],[3,3],[5,2]", "seed=range(0,8)", "training.epochs=40000"),
        *("executor=dask", f"executor.address=tcp://127.0.0.1:{port}", "executor.timeout=40", *more),
    ]


@contextlib.contextmanager
def sweeping(folder: Path, words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """The command, as it runs."""
    started = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.communicate()


def check_whole(folder: Path, runs: int = 32) -> None:
    """Every run is in the store once, and is the one that is trained here."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    ids = [one.experiment_id for one in client.search_experiments()]
    kept = [one for one in client.search_runs(ids, max_results=1000) if one.data.tags.get("kind") != "sweep"]
    assert len({one.data.tags["fingerprint"] for one in kept}) == len(kept) == runs
    assert {one.info.status for one in kept} == {"FINISHED"}
    again = seedbed("reproduce", "--sample", "4", cwd=folder)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "IDENTICAL" in again.stdout


@NEEDS_DASK
@pytest.mark.slow
def test_a_cluster_on_this_machine_trains_the_same_bits() -> None:
    check_same(trained(ExecutorConfig("dask", workers=2)))


@NEEDS_DASK
@pytest.mark.slow
def test_workers_with_other_processors_give_the_same_bits_and_say_what_they_are(tmp_path: Path) -> None:
    port = own_port()
    less = {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX"}
    with scheduler(tmp_path, port), worker(tmp_path, port, **less):
        found = trained(ExecutorConfig("dask", address=f"tcp://127.0.0.1:{port}", timeout=40))
    check_same(found)
    assert {one.trained_on["variables"]["NPY_DISABLE_CPU_FEATURES"] for one in found.values()} == set(less.values())


@NEEDS_DASK
@pytest.mark.slow
def test_nobody_answers_or_no_worker_comes(tmp_path: Path) -> None:
    port = own_port()
    told_ = seedbed(*sweep_words(port, "executor.timeout=1", "tracking=none"), cwd=tmp_path)
    assert (told_.returncode, told_.stderr.count("error:")) == (1, 1)
    assert f"executor.address is tcp://127.0.0.1:{port}, where no Dask scheduler answers" in told_.stderr
    with scheduler(tmp_path, port):
        told_ = seedbed(*sweep_words(port, "executor.timeout=4", "tracking=none"), cwd=tmp_path)
    assert told_.returncode == 1
    assert f"No worker came to the Dask scheduler at tcp://127.0.0.1:{port} within 4 s" in told_.stderr


@NEEDS_DASK
@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_hangs_costs_nothing(kind: signal.Signals, tmp_path: Path) -> None:
    """One that hangs is left for another after the scheduler's own time-out, worker-ttl."""
    port = own_port()
    ttl = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10 s"}
    with scheduler(tmp_path, port, **ttl), worker(tmp_path, port) as one, worker(tmp_path, port):
        with sweeping(tmp_path, sweep_words(port)) as sweep:
            wait_for_training(sweep)
            os.killpg(one.pid, kind)
            said, _ = sweep.communicate(timeout=120)
        assert sweep.returncode == 0, said
    check_whole(tmp_path)


@NEEDS_DASK
@pytest.mark.slow
def test_a_scheduler_that_is_started_again_costs_nothing(tmp_path: Path) -> None:
    """Its workers end with it: whoever starts it again starts them, too."""
    port = own_port()
    with contextlib.ExitStack() as second, sweeping_with(tmp_path, port) as (sweep, first):
        wait_for_training(sweep)
        first.close()
        second.enter_context(scheduler(tmp_path, port))
        second.enter_context(worker(tmp_path, port))
        said, _ = sweep.communicate(timeout=150)
        assert sweep.returncode == 0, said
    check_whole(tmp_path)


@NEEDS_DASK
@pytest.mark.slow
def test_a_killed_driver_goes_on_with_the_same_command(tmp_path: Path) -> None:
    port = own_port()
    with scheduler(tmp_path, port), worker(tmp_path, port), worker(tmp_path, port):
        with sweeping(tmp_path, sweep_words(port)) as sweep:
            wait_for_training(sweep)
        done = seedbed(*sweep_words(port), cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    check_whole(tmp_path)


@contextlib.contextmanager
def sweeping_with(folder: Path, port: int) -> Iterator[tuple["subprocess.Popen[str]", contextlib.ExitStack]]:
    """A sweep with a scheduler and a worker, which the stack that comes with it ends."""
    with contextlib.ExitStack() as servers:
        servers.enter_context(scheduler(folder, port))
        servers.enter_context(worker(folder, port))
        with sweeping(folder, sweep_words(port)) as sweep:
            yield sweep, servers


def wait_for_training(sweep: "subprocess.Popen[str]") -> None:
    """Until the first stack has ended, as its progress says; a line comes every five seconds."""
    assert sweep.stdout
    for line in sweep.stdout:
        if "%" in line and "left" in line:
            return
    pytest.fail("it ended before")


@NEEDS_DASK
def test_a_scheduler_s_file_that_never_comes_is_one_sentence(tmp_path: Path) -> None:
    config = ExecutorConfig("dask", scheduler_file=str(tmp_path / "none.json"), timeout=0.2)
    sentence = r"executor.scheduler_file is .*none.json, .*no such file after 0.2 s"
    with pytest.raises(UserError, match=sentence), reached(config):
        await_file(config)
