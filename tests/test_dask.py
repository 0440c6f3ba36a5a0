"""A Dask cluster of real processes that are killed, stopped and restarted."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.executor_config import ExecutorConfig
from pipeline.servers.ports import HOST
from pipeline.training.pools import await_file, reached
from tests.clusters import check_same, trained
from tests.conftest import NEEDS_DASK, seedbed
from tests.ports import own_port
from tests.processes import eventually, started
from tests.sweeps import prepared

TALKATIVE = "import pipeline.planning.console\npipeline.planning.console.LINE_EVERY = 0.1\n"


@contextlib.contextmanager
def logged(folder: Path, *words: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A scheduler or worker; it and its children are gone afterwards."""
    log = folder / f"{words[0].rpartition('_')[2]}-{time.monotonic_ns()}.log"
    command = (f"distributed.cli.{words[0]}", *words[1:], "--no-dashboard")
    try:
        with log.open("wb") as out, started(*command, cwd=folder, out=out, variables=variables) as process:
            yield process
    finally:
        print(log.read_text())  # for who reads why a test failed


Running = contextlib.AbstractContextManager["subprocess.Popen[str]"]


def scheduler(folder: Path, port: int, **variables: str) -> Running:
    """A scheduler on this machine."""
    return logged(folder, "dask_scheduler", "--host", "127.0.0.1", "--port", str(port), **variables)


def worker(folder: Path, port: int, **variables: str) -> Running:
    """A worker on this machine, without a nanny: nobody starts it again."""
    words = ("--nthreads", "1", "--no-nanny", "--host", "127.0.0.1")
    return logged(folder, "dask_worker", f"tcp://127.0.0.1:{port}", *words, **variables)


def sweep_words(port: int, *more: str) -> list[str]:
    """A sweep of some seconds, in several stacks, by that scheduler's workers."""
    return [
        *("sweep", "data=cat_shop", "network.hidden=[2],[4],[3,3],[5,2]", "seed=range(0,8)", "training.epochs=40000"),
        *("executor=dask", f"executor.address=tcp://127.0.0.1:{port}", "executor.timeout=120", *more),
    ]


def sweeping(folder: Path, port: int) -> Running:
    """Such a sweep, which says how far it is as soon as it knows."""
    path = os.pathsep.join([str(prepared(folder, TALKATIVE)), *sys.path])
    return started("pipeline", *sweep_words(port), cwd=folder, variables={"PYTHONPATH": path})


def is_there(port: int) -> bool:
    """True if a scheduler takes connections."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), 5):
        return True
    return False


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
        found = trained(ExecutorConfig("dask", address=f"tcp://127.0.0.1:{port}", timeout=120))
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
        eventually(lambda: is_there(port), 300)
        told_ = seedbed(*sweep_words(port, "executor.timeout=15", "tracking=none"), cwd=tmp_path)
    assert told_.returncode == 1
    assert f"No worker came to the Dask scheduler at tcp://127.0.0.1:{port} within 15 s" in told_.stderr


@NEEDS_DASK
@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_hangs_costs_nothing(kind: signal.Signals, tmp_path: Path) -> None:
    """One that hangs is left for another after the scheduler's own time-out, worker-ttl."""
    port = own_port()
    ttl = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "30 s"}
    with scheduler(tmp_path, port, **ttl), worker(tmp_path, port) as one, worker(tmp_path, port):
        with sweeping(tmp_path, port) as sweep:
            wait_for_training(sweep)
            os.killpg(one.pid, kind)
            said, _ = sweep.communicate(timeout=600)
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
        said, _ = sweep.communicate(timeout=600)
        assert sweep.returncode == 0, said
    check_whole(tmp_path)


@NEEDS_DASK
@pytest.mark.slow
def test_a_killed_driver_goes_on_with_the_same_command(tmp_path: Path) -> None:
    port = own_port()
    with scheduler(tmp_path, port), worker(tmp_path, port), worker(tmp_path, port):
        with sweeping(tmp_path, port) as sweep:
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
        with sweeping(folder, port) as sweep:
            yield sweep, servers


def wait_for_training(sweep: "subprocess.Popen[str]") -> None:
    """Until the first stack has ended, as its progress says."""
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
