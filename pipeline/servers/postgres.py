"""A PostgreSQL server of one's own: made in a folder, and running on loopback for as long as it is wanted."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.leash import identity, let_go, on_leash
from pipeline.servers.ports import HOST, PortTakenError

USER = "seedbed"
DEBIAN = Path("/usr/lib/postgresql")  # has a folder a version; only some of its programs are on PATH
ACCOUNTS = ("postgres", "nobody")  # who runs it where we are root, as it refuses to run as root
START_SECONDS = 60.0
READY = "database system is ready to accept connections"
IN_USE = "Address already in use"


def program(name: str, version: str = "*") -> str:
    """The path of one of PostgreSQL's programs: of this version or else the newest where Debian has them, else on PATH.

    Raises UserError if there is none.
    """
    for wanted in (version, "*"):
        found = [file for file in DEBIAN.glob(f"{wanted}/bin/{name}") if file.parts[-3].isdecimal()]
        if found:
            return str(max(found, key=lambda file: int(file.parts[-3])))
    on_path = shutil.which(name)
    if on_path is None:
        raise UserError("PostgreSQL is not installed: install it (on Debian: apt-get install postgresql).")
    return on_path


def account() -> str:
    """The user that PostgreSQL runs as: empty for this one. Raises UserError if this is root and there is no other."""
    if os.geteuid() != 0:
        return ""
    for name in ACCOUNTS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise UserError(f"PostgreSQL does not run as root, and there is no user {' or '.join(ACCOUNTS)}: add one.")


def check_driver() -> None:
    """Raises UserError if psycopg is not installed."""
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise UserError(
            "PostgreSQL is reached through psycopg, which is not installed: run `make setup EXTRAS=postgres` or "
            "`pip install 'seedbed[postgres]'`."
        ) from error


@dataclass(frozen=True)
class Cluster:
    """PostgreSQL's data in `folder`, with the one user seedbed; `passfile` has the password, in libpq's format."""

    folder: Path
    passfile: Path

    @property
    def password(self) -> str:
        """The password of the user seedbed."""
        return self.passfile.read_text(encoding="ascii").strip().rpartition(":")[2]

    def make(self, durable: bool = True) -> None:
        """Makes the cluster unless there is one; whole or not at all. Raises UserError if that cannot be."""
        if self.folder.exists():
            return
        password = secrets.token_hex(24)
        write_private(self.passfile, f"{HOST}:*:*:{USER}:{password}\n")
        half = self.folder.with_name(f"{self.folder.name}.half")
        if half.exists():  # of a start that was killed
            shutil.rmtree(half)
        half.mkdir(0o700)
        with tempfile.NamedTemporaryFile("w", suffix=".seedbed") as secret:
            secret.write(password)
            secret.flush()
            for path in (half, secret.name):
                if account():
                    shutil.chown(path, account())
            initialise(half, secret.name, [] if durable else ["--no-sync"])
        half.rename(self.folder)

    @contextlib.contextmanager
    def running(self, port: int, log: Path, settings: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
        """The server, answering on loopback until the block or this process ends. `settings` are like fsync=off.

        Raises UserError if it does not start; PortTakenError if that is since another server has the port.
        """
        version = (self.folder / "PG_VERSION").read_text(encoding="ascii").strip()
        fixed = (f"port={port}", f"listen_addresses={HOST}", "unix_socket_directories=")
        options = [word for setting in (*fixed, *settings) for word in ("-c", setting)]
        self.forget_the_dead()
        with log.open("wb") as output:
            words = [program("postgres", version), "-D", str(self.folder), *options]
            process = on_leash(words, signal.SIGINT, output, user=account(), folder=self.folder)
        try:
            wait_for(process, log)
            yield process
        finally:
            let_go(process)

    def connected(self, port: int) -> contextlib.AbstractContextManager[Any]:
        """A connection to the running server, to its database `postgres`."""
        import psycopg

        where: dict[str, Any] = {"host": HOST, "port": port, "dbname": "postgres", "connect_timeout": 5}
        made: contextlib.AbstractContextManager[Any]
        made = psycopg.connect(user=USER, password=self.password, autocommit=True, **where)
        return made

    def make_database(self, port: int, name: str) -> None:
        """Makes a database on the running server unless there is one of this name."""
        with self.connected(port) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(f'CREATE DATABASE "{name}"'.encode())

    def forget_the_dead(self) -> None:
        """Removes what a killed server left, if the process it names is another by now (Linux).

        PostgreSQL would take any living process of that number for the one that runs on the folder.
        """
        file = self.folder / "postmaster.pid"
        if Path("/proc/self").exists() and file.exists():
            process = Path("/proc", file.read_text().partition("\n")[0])
            if not process.exists() or (process / "cwd").resolve() != self.folder.resolve():
                file.unlink()


def initialise(folder: Path, secret: str, options: Sequence[str]) -> None:
    """Runs initdb on an empty folder; the file `secret` has the password. Raises UserError if it fails."""
    words = [program("initdb"), "-D", str(folder), "-U", USER, f"--pwfile={secret}", "-A", "scram-sha-256"]
    words += ["--encoding=UTF8", "--no-locale", "--no-instructions", *options]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, **identity(account()))
    if done.returncode:
        raise UserError(f"PostgreSQL's data cannot be made in {folder} ({last_line(done.stderr)}).")


def wait_for(process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns when the server says in its log that it is ready. Raises as `Cluster.running` does."""
    deadline = time.monotonic() + START_SECONDS
    while READY not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text()
            kind = PortTakenError if IN_USE in said else UserError
            raise kind(f"PostgreSQL did not start ({last_line(said)}): see {log}.")
        time.sleep(0.1)


def write_private(file: Path, text: str) -> None:
    """Writes a file that only this user can read."""
    file.unlink(missing_ok=True)
    file.touch(0o600)
    file.write_text(text, encoding="utf-8")


def last_line(text: str) -> str:
    """The last line that says anything, without its full stop."""
    return next((line.strip().rstrip(".") for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
