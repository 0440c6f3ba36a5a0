"""A sweep over several hosts: scheduler and store on one, a worker each on two, the user's command on a fourth.

The hosts are network namespaces. The user's command is on a host of its own, as a laptop is beside a cluster: so its
network can be cut without that of the workers.
"""

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from pipeline.leash import let_go, on_leash
from pipeline.servers.postgres import Cluster
from tests.conftest import NEEDS_DASK, seedbed
from tests.hosts import Hosts, hosts_or_skip
from tests.postgres import NOT_DURABLE, skip_without_postgres
from tests.stored import Seen, finished, seen
from tests.sweeps import prepared

pytestmark = [
    pytest.mark.slow,
    NEEDS_DASK,
]

SERVER, WORKERS, LAPTOP = "server", ("one", "two"), "laptop"
CUT_SECONDS = 30.0
LESS = {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX"}  # tells the second worker's runs
RUNS = 16
# Of a user's sweep: it stays behind its first stack for as long as there is the file.
HELD = """
import os, time
from pipeline.store.track import Store
write = Store.write
def held(*given):
    written = write(*given)
    while os.path.exists({file!r}):
        time.sleep(0.01)
    return written
Store.write = held
"""
# Of a worker: it stays in the training of its second stack for as long as there is the file; another one says so.
BUSY = """
import os, time
from pathlib import Path
from pipeline.training import worker
train_stack = worker.train_stack
trained = []
def train_long(stack, **given):
    results = train_stack(stack, **given)
    trained.append(stack[0].name)
    while len(trained) > 1 and os.path.exists({file!r}):
        Path({file!r} + '.' + {name!r}).touch()
        time.sleep(0.01)
    return results
worker.train_stack = train_long
"""
SHAPES = "[2],[3],[4],[5],[2,2],[3,3],[4,2],[5,2]"  # a stack each
IMPATIENT = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12 s", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
Alone = dict[str, tuple[object, ...]]  # what each run of the sweep is, by fingerprint, where one process trains it
WORDS = ("sweep", "data=cat_shop", f"network.hidden={SHAPES}", "seed=range(0,2)", "training.epochs=10000")


@dataclass(frozen=True)
class Site:
    """The hosts with all that runs on them, and the folder with what it keeps."""

    hosts: Hosts
    folder: Path

    @property
    def scheduler(self) -> str:
        """Dask's."""
        return f"tcp://{self.hosts.address(SERVER)}:8786"

    @property
    def store(self) -> str:
        """MLflow's server."""
        return f"http://{self.hosts.address(SERVER)}:5000"

    @property
    def database(self) -> str:
        """What is behind it, as its own host sees it."""
        return f"postgresql+psycopg://seedbed@127.0.0.1:5432/mlflow?passfile={self.folder / 'pgpass'}"

    @contextlib.contextmanager
    def running(self, host: str, name: str, *words: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        """A Python module's command on a host, until the block or this process ends; what it prints goes to a file."""
        variables = {"PYTHONPATH": os.pathsep.join(sys.path)} | variables
        command = [sys.executable, "-m", *words]
        with self.said(name).open("wb") as log, self.hosts.inside(host):
            process = on_leash(command, signal.SIGKILL, log, variables=variables, folder=self.folder)
        try:
            yield process
        finally:
            let_go(process)
            print(f"--- {name}", *self.said(name).read_text().splitlines()[-40:], sep="\n")  # why a test failed

    def said(self, name: str) -> Path:
        """The file with what a command printed."""
        return self.folder / f"{name}.log"

    def has_said(self, name: str, text: str) -> bool:
        """True once a command has printed this."""
        return text in self.said(name).read_text()

    def sweeping(
        self, name: str, *more: str, **variables: str
    ) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        """The user's command on the laptop, into the MLflow experiment of that name."""
        elsewhere = ("executor=dask", f"executor.address={self.scheduler}", f"tracking.uri={self.store}")
        return self.running(
            LAPTOP, name, "pipeline", *WORDS, *elsewhere, f"tracking.experiment={name}", *more, **variables
        )

    @contextlib.contextmanager
    def in_the_middle(self, name: str, *more: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        """The sweep when the store has some of its runs, and both workers train: all wait until they are to `go_on`."""
        busy = [self.held.with_name(f"{self.held.name}.{name}") for name in WORKERS]
        for file in busy:
            file.unlink(missing_ok=True)
        self.held.touch()
        path = [str(prepared(self.folder, HELD.format(file=str(self.held)))), *sys.path]
        with self.sweeping(name, *more, PYTHONPATH=os.pathsep.join(path), **variables) as sweep:
            wait_until(lambda: any(one.status == "FINISHED" for one in self.runs(name)), "some runs are kept")
            wait_until(lambda: all(file.exists() for file in busy), "both workers train")
            assert sweep.poll() is None, "it has ended before"
            yield sweep

    @property
    def held(self) -> Path:
        """The file that keeps a sweep, and the workers, in the middle."""
        return self.folder / "held"

    def go_on(self) -> None:
        """Has all of them go on."""
        self.held.unlink()

    def runs(self, name: str) -> list[Seen]:
        """What the store has of an MLflow experiment."""
        engine = sa.create_engine(self.database)
        with self.hosts.inside(SERVER):
            with engine.connect() as connection:
                query = sa.text("SELECT experiment_id FROM experiments WHERE name = :name")
                number = connection.execute(query, {"name": name}).scalar()
            engine.dispose()
            return [one for one in seen(self.database) if one.location.split("/")[1] == str(number)]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """The hosts, with PostgreSQL, MLflow's server, Dask's scheduler and two of its workers running."""
    skip_without_postgres()
    with contextlib.ExitStack() as stack:
        hosts = stack.enter_context(hosts_or_skip([SERVER, *WORKERS, LAPTOP]))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seedbed-hosts-")))
        folder.chmod(0o711)  # PostgreSQL runs as another user
        site = Site(hosts, folder)
        start_store(site, stack)
        start_scheduler(site, stack)
        yield site


def start_store(site: Site, stack: contextlib.ExitStack) -> None:
    """PostgreSQL for its own host only, and an MLflow server for all, as docs/SERVER.md has one start it oneself."""
    cluster = Cluster(site.folder / "postgres", site.folder / "pgpass")
    cluster.make(durable=False)
    with site.hosts.inside(SERVER):
        stack.enter_context(cluster.running(5432, site.folder / "postgres.log", NOT_DURABLE))
        cluster.make_database(5432, "mlflow")
    variables = {
        "MLFLOW_BACKEND_STORE_URI": site.database,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    where = ("--host", site.hosts.address(SERVER), "--port", "5000", "--workers", "1")
    files = ("--serve-artifacts", "--artifacts-destination", str(site.folder / "artifacts"))
    stack.enter_context(site.running(SERVER, "mlflow", "mlflow", "server", *where, *files, **variables))
    wait_until(lambda: answers(site, 5000), "MLflow's server answers")


def start_scheduler(site: Site, stack: contextlib.ExitStack) -> None:
    """Dask's scheduler."""
    where = ("--host", site.hosts.address(SERVER), "--no-dashboard")
    stack.enter_context(site.running(SERVER, "scheduler", "distributed.cli.dask_scheduler", *where))
    wait_until(lambda: answers(site, 8786), "the scheduler answers")


@pytest.fixture(autouse=True)
def _workers(site: Site) -> Iterator[None]:
    """The workers, with nannies as `dask worker` has them. Those that were cut off for long have ended."""
    with contextlib.ExitStack() as stack:
        for name, variables in zip(WORKERS, ({}, LESS), strict=True):
            words = (site.scheduler, "--nthreads", "1", "--host", site.hosts.address(name), "--no-dashboard")
            (site.folder / name).mkdir(exist_ok=True)
            busy = prepared(site.folder / name, BUSY.format(file=str(site.held), name=name))
            path = {"PYTHONPATH": os.pathsep.join([str(busy), *sys.path])}
            stack.enter_context(
                site.running(name, f"worker-{name}", "distributed.cli.dask_worker", *words, **path, **variables)
            )
        for name in WORKERS:  # else one of them might train all
            is_there = functools.partial(site.has_said, f"worker-{name}", "Registered to")
            wait_until(is_there, f"the worker {name} is there")
        yield


def answers(site: Site, port: int) -> bool:
    """True if the server's port takes connections from the laptop."""
    with contextlib.suppress(OSError), site.hosts.inside(LAPTOP):
        socket.create_connection((site.hosts.address(SERVER), port), 1).close()
        return True
    return False


def wait_until(happened: Callable[[], bool], what: str) -> None:
    """Returns when it has happened; fails after five minutes."""
    deadline = time.monotonic() + 300
    while not happened():
        assert time.monotonic() < deadline, f"in five minutes not: {what}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """The sweep without any of the hosts."""
    folder = tmp_path_factory.mktemp("alone")
    done = seedbed(*WORDS, "executor=serial", cwd=folder)
    assert done.returncode == 0, done.stderr
    return finished(f"sqlite:///{folder}/mlflow.db")


def check_whole(site: Site, name: str, alone: Alone, sweeps: int = 1, others: Sequence[str] = ()) -> None:
    """Every run is FINISHED in the store once, below a sweep's run, and is what it is where it is trained alone.

    `others`: what else there may be, for runs whose writing was cut off and which were written again.
    """
    runs = site.runs(name)
    parents = {one.run_id for one in runs if one.is_parent}
    children = [one for one in runs if not one.is_parent]
    assert len(parents) == sweeps
    assert {one.tags["mlflow.parentRunId"] for one in children} <= parents
    kept = [one for one in children if one.status == "FINISHED"]
    assert len(kept) == RUNS
    assert {one.tags["fingerprint"]: one.result(site.folder / "artifacts") for one in kept} == alone
    assert {one.status for one in children} <= {"FINISHED", *others}


def check_ended(sweep: subprocess.Popen[bytes], site: Site, name: str) -> None:
    """The sweep ends well."""
    assert sweep.wait(600) == 0, site.said(name).read_text()


def test_three_hosts_train_what_one_process_does(site: Site, alone: Alone) -> None:
    """Both workers train, of which one has another processor; each run says which."""
    with site.sweeping("whole") as sweep:
        check_ended(sweep, site, "whole")
    check_whole(site, "whole", alone)
    files = [one.files(site.folder / "artifacts") for one in site.runs("whole") if not one.is_parent]
    trained_on = [json.loads(each["environment.json"])["variables"] for each in files]
    assert 0 < sum(LESS.items() <= variables.items() for variables in trained_on) < RUNS


def test_a_worker_that_is_cut_off_costs_nothing(site: Site, alone: Alone) -> None:
    with site.in_the_middle("worker-cut") as sweep:
        with site.hosts.cut(WORKERS[0]):
            site.go_on()
            time.sleep(CUT_SECONDS)
        check_ended(sweep, site, "worker-cut")
    check_whole(site, "worker-cut", alone)


def test_a_user_who_is_cut_off_loses_nothing(site: Site, alone: Alone) -> None:
    with site.in_the_middle("user-cut") as sweep:
        with site.hosts.cut(LAPTOP):
            site.go_on()
            time.sleep(CUT_SECONDS)
        check_ended(sweep, site, "user-cut")
    check_whole(site, "user-cut", alone, others=["RUNNING", "KILLED"])


def test_a_user_who_is_cut_off_for_too_long_is_told_and_goes_on_with_the_same_command(site: Site, alone: Alone) -> None:
    with site.in_the_middle("long-cut", "executor.timeout=8", **IMPATIENT) as sweep, site.hosts.cut(LAPTOP):
        site.go_on()
        assert sweep.wait(600) == 1
    said = site.said("long-cut").read_text()
    assert f"error: The Dask scheduler at {site.scheduler} has had no worker, or could not be reached, for 8 s" in said
    assert f"note: The store {site.store} fails" in said
    assert "Traceback" not in said
    with site.sweeping("long-cut") as sweep:
        check_ended(sweep, site, "long-cut")
    check_whole(site, "long-cut", alone, sweeps=2, others=["KILLED"])
