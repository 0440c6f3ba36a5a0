"""A real `seedbed sweep` in a process of its own, which tests kill, or whose store they take away."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.servers.ports import HOST
from pipeline.servers.ui import server
from pipeline.store.database import close_connections, prepare
from pipeline.store.outbox import Outbox
from tests.conftest import in_process, shared
from tests.processes import TWO, eventually, started

WORDS = (
    *("sweep", "data=cat_shop", "network.hidden=[2],[4],[3,3],[5,2]", "seed=range(0,8)", "training.epochs=40,4000"),
    *("training.metrics=[mse]", "tracking.experiment=killed"),
)
RUNS = 64
# Else nothing this short is ever RUNNING.
LIVE = "import pipeline.training.points\npipeline.training.points.LIVE_SECONDS = 0.2\n"
# Training that waits, from its first report on, for a file: else a fast machine has ended before a test sees it, and a
# slow one where nobody expects it.
HOLD = """import time
from pathlib import Path
from pipeline.training import points

points.LIVE_SECONDS = {seconds}
look = points.Watcher.__call__


def hold(self, order, moment):
    is_held = self._trajectories[0][0].config.network.hidden in {hidden}
    if is_held and {tells}:
        self._due = 0.0
    look(self, order, moment)
    while is_held and not Path({go!r}).exists():
        time.sleep(0.02)


points.Watcher.__call__ = hold
"""
EVERY = ([2], [4], [3, 3], [5, 2])  # the hidden layers of WORDS
LAST = ([2],)  # of these what is trained last, as it takes least


@dataclass(frozen=True)
class Command:
    """A sweep, the folder it works in, and the database that is behind its store; `served`: a server's artifacts.

    `settings` is Python code that its processes run at their start.
    """

    words: tuple[str, ...]
    folder: Path
    database: str
    served: Path | None = None
    settings: str = LIVE

    @contextlib.contextmanager
    def started(self) -> Iterator[subprocess.Popen[str]]:
        """The command as a terminal starts it; what it prints goes to `said`, and nothing is left of it."""
        path = os.pathsep.join([str(prepared(self.folder, self.settings)), *sys.path])
        try:
            with (
                (self.folder / "said").open("wb") as said,
                started("pipeline", *self.words, cwd=self.folder, out=said, variables={"PYTHONPATH": path}) as process,
            ):
                yield process
        finally:
            print(self.said())  # for who reads why a test failed

    def said(self) -> str:
        """What it printed."""
        return (self.folder / "said").read_text()

    def held(self, *hidden: list[int]) -> "Command":
        """The same, whose stacks with these hidden layers are RUNNING until `let_go`."""
        return replace(self, settings=held(self.folder, hidden))

    def let_go(self) -> None:
        """Lets the stacks that are held train on."""
        (self.folder / "go").touch()

    def to_its_end(self) -> str:
        """Runs it and returns what it printed."""
        with self.started() as process:
            assert process.wait(600) == 0, self.said()
        return self.said()


def held(folder: Path, hidden: Sequence[list[int]], tells: bool = True) -> str:
    """Settings with which stacks of these hidden layers wait for a file `go` in the folder.

    They tell of their first points before, those of other stacks if they take long; or nobody tells anything.
    """
    seconds = 0.2 if tells else 1e9
    return HOLD.format(hidden=list(hidden), go=str(folder / "go"), tells=tells, seconds=seconds)


def prepared(folder: Path, settings: str) -> Path:
    """A folder whose settings hold in the driver and its workers, if it is on the path."""
    place = folder / "lively"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(settings)
    return place


def in_folder(folder: Path, *words: str, uri: str = "") -> Command:
    """The sweep in a folder that is made, into a SQLite file there or another store's address."""
    folder.mkdir(parents=True, exist_ok=True)
    told = (f"tracking.uri={uri}",) if uri else ()
    return Command((*WORDS, *words, *told), folder, uri or f"sqlite:///{folder}/mlflow.db")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The sweep that nobody disturbed, made once."""

    def make(folder: Path) -> None:
        in_folder(folder, "executor=serial").to_its_end()

    return in_folder(shared(tmp_path_factory, "undisturbed", make))


def store_of(command: Command) -> str:
    """The address that the command writes to."""
    told = [word.partition("=")[2] for word in command.words if word.startswith("tracking.uri=")]
    return told[0] if told else command.database


def left(command: Command) -> int:
    """How many results wait for the command's store."""
    return len(Outbox(store_of(command)).waiting())


def make_empty_store(command: Command, factory: pytest.TempPathFactory) -> None:
    """Gives the command a store that has its experiment, and no runs."""

    def make(folder: Path) -> None:
        prepare(f"sqlite:///{folder}/mlflow.db")
        close_connections()  # else what was written may lie beside the file

    pristine = shared(factory, "pristine", make)  # once, as it takes seconds
    shutil.copy(pristine / "mlflow.db", command.folder)
    words = ("train", "data=cat_shop", "training.epochs=1", "tracking.experiment=killed")
    assert in_process(words, command.folder) == 0
    close_connections()
    with contextlib.closing(sqlite3.connect(command.folder / "mlflow.db")) as connection:
        for table in ("input_tags", "inputs", "tags", "params", "metrics", "latest_metrics", "runs"):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608
        connection.commit()
    shutil.rmtree(command.folder / "mlflow-artifacts")


APPS = {"MLflow's app": (), "Seedbed's app": ("--app-name", "seedbed")}  # without its route, and with it


@contextlib.contextmanager
def serving(folder: Path, port: int, app: str = "MLflow's app") -> Iterator[subprocess.Popen[bytes]]:
    """A real MLflow server with one of `APPS` on a database in the folder, where files go too."""
    options = ("--artifacts-destination", str(folder / "served"), *APPS[app])
    with server(f"sqlite:///{folder}/server.db", port, options) as process:
        yield process


def over_http(folder: Path, port: int) -> Command:
    """The sweep into a server of that folder."""
    command = in_folder(folder, *TWO, uri=f"http://{HOST}:{port}")
    return replace(command, database=f"sqlite:///{folder}/server.db", served=folder / "served")


def frozen_with_lock(driver: "subprocess.Popen[str]", command: Command) -> sqlite3.Connection:
    """Freezes a driver between its writes to an SQLite file: frozen in one it would keep everybody from writing.

    Returns a connection that has the lock.
    """
    connection = sqlite3.connect(command.folder / "mlflow.db", timeout=0, isolation_level=None)
    while True:
        freeze(driver)
        try:
            connection.execute("BEGIN EXCLUSIVE")
            return connection
        except sqlite3.OperationalError:
            driver.send_signal(signal.SIGCONT)
            time.sleep(0.01)


def freeze(process: "subprocess.Popen[str]") -> None:
    """Stops a process, and returns when none of its threads runs any more."""
    process.send_signal(signal.SIGSTOP)
    eventually(lambda: is_frozen(process.pid))


def is_frozen(pid: int) -> bool:
    """True for a process that is stopped, or gone."""
    try:
        stats = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:  # it has ended, or a thread of it
        return not Path(f"/proc/{pid}").exists()
    return all(stat.rpartition(")")[2].split()[0] in "TZX" for stat in stats)
