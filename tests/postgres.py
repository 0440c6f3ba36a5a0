"""A real PostgreSQL server for tests: one a session, shared by its worker processes; a new database a test.

    def test_it(postgres: Server) -> None:
        uri = postgres.new_database()  # postgresql+psycopg://user:password@127.0.0.1:port/name

The server belongs to a process that keeps it for as long as any test process holds the write end of a pipe with a name:
so it ends with the last of them, killed ones included.
"""

import contextlib
import fcntl
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.servers.ports import HOST
from pipeline.servers.postgres import USER, Cluster, account, check_driver, program
from tests.ports import own_port

ROOT = Path(__file__).resolve().parent.parent
NOT_DURABLE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL server."""

    port: int
    password: str

    def uri(self, database: str) -> str:
        """The address of a database, as SQLAlchemy and MLflow take it, password included."""
        return f"postgresql+psycopg://{USER}:{self.password}@{HOST}:{self.port}/{database}"

    def new_database(self, like: str = "template1") -> str:
        """Makes a database and returns its address; a copy of the database `like`, which nobody may be using."""
        import psycopg

        name = f"test_{secrets.token_hex(6)}"
        address = self.uri("postgres").replace("+psycopg", "")
        deadline = time.monotonic() + 120
        with psycopg.connect(address, autocommit=True) as connection:
            while True:
                try:
                    connection.execute(f"CREATE DATABASE {name} TEMPLATE {like}".encode())
                except psycopg.errors.ObjectInUse:  # whose user has left, which the server has not noticed in 5 s
                    assert time.monotonic() < deadline
                else:
                    return self.uri(name)


def skip_without_postgres() -> None:
    """Skips, with the reason, where PostgreSQL or psycopg is missing."""
    try:
        check_driver()
        program("postgres")
        account()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The session's server. Skips, with the reason, where PostgreSQL or psycopg is missing."""
    skip_without_postgres()
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "postgres"
    folder.mkdir(exist_ok=True)
    with holding(folder):
        yield Server(**json.loads((folder / "server.json").read_text()))


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Keeps the server of this session's folder running during the block; starts it if it does not run."""
    keeper = None
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            held = os.open(folder / "users", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # no such pipe, or no keeper reads it
            held, keeper = started(folder)
    try:
        yield
    finally:
        os.close(held)
        if keeper is not None:
            keeper.wait()


def started(folder: Path) -> tuple[int, subprocess.Popen[bytes]]:
    """Starts the process that keeps the server; returns the pipe that holds it too."""
    pipe, told = folder / "users", folder / "server.json"
    told.unlink(missing_ok=True)
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # else it would wait for one who writes
    held = os.open(pipe, os.O_WRONLY)
    os.set_blocking(reading, True)
    with (folder / "keeper.log").open("wb") as log:
        words = [sys.executable, "-m", "tests.postgres", str(told)]
        keeper = subprocess.Popen(words, stdin=reading, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)
    os.close(reading)
    while not told.exists():
        if keeper.poll() is not None:
            os.close(held)
            raise AssertionError((folder / "keeper.log").read_text())
        time.sleep(0.05)
    return held, keeper


def keep(told: Path) -> None:
    """Runs a server, says in the file `told` where it is, and ends it when nobody holds standard input any more."""
    with tempfile.TemporaryDirectory(prefix="seedbed-postgres-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # where tests run as root, PostgreSQL runs as another user
        cluster = Cluster(folder / "data", folder / "pgpass")
        cluster.make(durable=False)
        port = own_port()
        with cluster.running(port, folder / "log", NOT_DURABLE):
            fresh = told.with_suffix(".new")
            fresh.write_text(json.dumps({"port": port, "password": cluster.password}))
            fresh.rename(told)
            wait_for_the_last(told.with_name("lock"))


def wait_for_the_last(lock: Path) -> None:
    """Returns when nobody holds standard input, which is closed: who comes now finds no keeper, and starts another."""
    while True:
        sys.stdin.buffer.read()
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # nobody comes meanwhile
            os.set_blocking(0, False)
            try:
                is_held = os.read(0, 1) != b""
            except BlockingIOError:
                is_held = True
            if not is_held:
                os.close(0)
                return
            os.set_blocking(0, True)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
