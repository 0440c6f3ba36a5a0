"""Stores to write to: in SQLite, in PostgreSQL, and behind an MLflow server on either, all on this machine.

Opening one yields a function that gives a place of its own to whoever asks: a new store, or on a server, which has only
one, a new experiment.
"""

import contextlib
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.processes import any_port, run
from pipeline.servers.ports import HOST
from pipeline.servers.postgres import USER, Cluster, check_driver
from pipeline.servers.ui import server

MAKE_STORE = "import mlflow; mlflow.search_experiments()"  # as whoever uses MLflow gets it
PREPARE = "import os; from pipeline.store.database import prepare; prepare(os.environ['MLFLOW_TRACKING_URI'])"


@dataclass(frozen=True)
class Place:
    """Where runs are to be kept: in a new experiment of this name; `artifacts` None lets a server decide.

    `folder` is one of its own for whoever keeps something else than MLflow.
    """

    uri: str
    experiment: str
    artifacts: str | None
    folder: str


Maker = Callable[[bool], Place]  # told whether the store is to be one that Seedbed made


def new_place(base: Path, uri: str | None = None, on_server: bool = False) -> Place:
    """A place with a folder of its own below base: at the address, else for a file mlflow.db in that folder."""
    folder = base / uuid.uuid4().hex[:8]
    folder.mkdir()
    artifacts = None if on_server else str(folder / "artifacts")
    return Place(uri or f"sqlite:///{folder / 'mlflow.db'}", folder.name, artifacts, str(folder))


def made(base: Path, program: str) -> Path:
    """An empty SQLite store, made by a program."""
    place = new_place(base)
    run([sys.executable, "-c", program], base, MLFLOW_TRACKING_URI=place.uri)
    return Path(place.folder, "mlflow.db")


@contextlib.contextmanager
def sqlite(base: Path) -> Iterator[Maker]:
    """SQLite: copies of an empty store. MLflow's own has no write-ahead log, Seedbed's has."""
    stores = {True: made(base, PREPARE), False: made(base, MAKE_STORE)}

    def make(own: bool) -> Place:
        place = new_place(base)
        shutil.copy(stores[own], place.folder)
        return place

    yield make


@contextlib.contextmanager
def postgres(base: Path) -> Iterator[Maker]:
    """A PostgreSQL server with its usual settings; copies of a database with an empty store. Raises UserError."""
    check_driver()
    cluster, port = Cluster(base / "postgres", base / "pgpass"), any_port()
    cluster.make()
    with cluster.running(port, base / "postgres.log"):
        address = f"postgresql+psycopg://{USER}:{cluster.password}@{HOST}:{port}/"
        cluster.make_database(port, "empty")
        run([sys.executable, "-c", PREPARE], base, MLFLOW_TRACKING_URI=f"{address}empty")

        def make(_own: bool) -> Place:
            name = f"bench_{uuid.uuid4().hex}"
            with cluster.connected(port) as connection:
                connection.execute(f"CREATE DATABASE {name} TEMPLATE empty")
            return new_place(base, address + name)

        yield make


def over_http(database: Callable[[Path], contextlib.AbstractContextManager[Maker]], *words: str) -> "Opener":
    """An MLflow server with one worker on such a store, which keeps the files too; `words` are further options."""

    @contextlib.contextmanager
    def opened(base: Path) -> Iterator[Maker]:
        with database(base) as make:
            behind, port = make(True), any_port()
            options = ("--serve-artifacts", "--artifacts-destination", behind.artifacts or "", *words)
            with server(behind.uri, port, options, log=base / "server.log"):
                yield lambda _own: new_place(base, f"http://{HOST}:{port}", on_server=True)

    return opened


Opener = Callable[[Path], contextlib.AbstractContextManager[Maker]]
SQLITE, POSTGRES, HTTP, HTTP_POSTGRES = "SQLite", "PostgreSQL", "HTTP, SQLite", "HTTP, PostgreSQL"
APP, APP_POSTGRES = "HTTP, Seedbed's app, SQLite", "HTTP, Seedbed's app, PostgreSQL"
APP_WORDS = ("--app-name", "seedbed")  # as `seedbed server` has it
PLACES: dict[str, Opener] = {
    SQLITE: sqlite,
    POSTGRES: postgres,
    HTTP: over_http(sqlite),
    HTTP_POSTGRES: over_http(postgres),
    APP: over_http(sqlite, *APP_WORDS),
    APP_POSTGRES: over_http(postgres, *APP_WORDS),
}


@contextlib.contextmanager
def open_place(name: str) -> Iterator[Maker]:
    """Opens the stores of a kind in a temporary folder. Raises UserError where what they need is missing."""
    with TemporaryDirectory(prefix="seedbed-bench-") as folder:
        base = Path(folder)
        base.chmod(0o711)  # PostgreSQL may run as another user
        with PLACES[name](base) as make:
            yield make
