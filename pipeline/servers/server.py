"""An MLflow server on PostgreSQL, for users with several machines: all it keeps lies in one folder of this one."""

import contextlib
import fcntl
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import quote

from pipeline.errors import UserError
from pipeline.leash import identity
from pipeline.servers.ports import HOST, free_port, on_free_port
from pipeline.servers.postgres import USER, Cluster, account, check_driver, program, write_private
from pipeline.servers.ui import APP, FIRST_PORT, check_app, server

DATABASE_PORT = 54320  # the first one tried
AUTH_APP = "seedbed-auth"  # endpoint/route.py
ADMIN_PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"  # noqa: S105  # where MLflow reads it, not what it is
AUTH_CONFIG = """[mlflow]
default_permission = NO_PERMISSIONS
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
database_uri = {uri}
# Else every request hashes a password, and a run makes a dozen. Changes take effect at once, as there is one worker.
auth_cache_ttl_seconds = 60
"""


@dataclass(frozen=True)
class Home:
    """The folder in which a server keeps everything: PostgreSQL's data, artifacts, passwords, logs."""

    folder: Path

    @property
    def cluster(self) -> Cluster:
        """Its PostgreSQL."""
        return Cluster(self.folder / "postgres", self.folder / "pgpass")

    def uri(self, port: int, database: str) -> str:
        """The address of one of its databases. The password is not in it but in the file that it names."""
        passfile = quote(str(self.cluster.passfile))
        return f"postgresql+psycopg://{USER}@{HOST}:{port}/{database}?passfile={passfile}"

    def make(self) -> None:
        """Makes the folder unless it is there. Raises UserError if it cannot be, or not be used."""
        try:
            self.folder.mkdir(mode=0o711, exist_ok=True)
            (self.folder / "artifacts").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise UserError(f"--folder {self.folder} cannot be used ({error.strerror}): choose another.") from error
        if account() and subprocess.run(["test", "-x", self.folder], check=False, **identity(account())).returncode:
            raise UserError(
                f"PostgreSQL does not run as root, and the user {account()} cannot reach {self.folder}: "
                "choose another --folder, for example below /var/lib or /tmp."
            )

    @contextlib.contextmanager
    def alone(self) -> Iterator[IO[str]]:
        """Keeps others away from the folder during the block, which may write its address into the file given.

        Raises UserError if another server uses the folder.
        """
        with (self.folder / "lock").open("a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                lock.seek(0)
                raise UserError(
                    f"A server runs on {self.folder} already ({lock.read() or 'starting'}): use it, or choose another "
                    "--folder."
                ) from error
            lock.truncate(0)
            yield lock


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    address: str
    database_port: int
    mlflow: subprocess.Popen[bytes]
    postgres: subprocess.Popen[bytes]

    def check(self) -> None:
        """Raises UserError if a part of it has ended."""
        for name, process in (("MLflow", self.mlflow), ("PostgreSQL", self.postgres)):
            if process.poll() is not None:
                raise UserError(f"{name} ended by itself (exit code {process.returncode}).")


@contextlib.contextmanager
def running(folder: Path, port: int | None, auth: bool) -> Iterator[Running]:
    """An MLflow server that keeps everything in `folder`, with users and passwords if `auth`, until the block ends.

    Raises UserError if something is missing, the folder is in use, or a part does not start.
    """
    check_installed(auth)
    home = Home(folder)
    home.make()
    with home.alone() as lock:
        free_port(port, FIRST_PORT)  # one that is taken is told before anything is made
        home.cluster.make()
        postgres_log, mlflow_log = folder / "postgres.log", folder / "mlflow.log"
        start = partial(home.cluster.running, log=postgres_log)
        with on_free_port(start, None, DATABASE_PORT) as (database_port, postgres):
            home.cluster.make_database(database_port, "mlflow")
            options = ["--serve-artifacts", "--artifacts-destination", str(folder / "artifacts")]
            options += ["--app-name", AUTH_APP if auth else APP]
            variables = {}
            if auth:
                home.cluster.make_database(database_port, "auth")
                variables = auth_variables(home, database_port)
            uri = home.uri(database_port, "mlflow")
            start = partial(server, uri, options=options, variables=variables, log=mlflow_log)
            with on_free_port(start, port, FIRST_PORT) as (found, mlflow):
                address = f"http://{HOST}:{found}"
                print(address, end="", file=lock, flush=True)
                yield Running(address, database_port, mlflow, postgres)


def check_installed(auth: bool) -> None:
    """Raises UserError, with what to install, if something is missing."""
    program("postgres")
    check_driver()
    check_app()
    if auth and find_spec("flask_wtf") is None:
        raise UserError("--auth needs mlflow[auth]: run `make setup EXTRAS=auth` or `pip install 'mlflow[auth]'`.")


def auth_variables(home: Home, database_port: int) -> dict[str, str]:
    """The environment of MLflow's app for users and passwords. The administrator's password stays in a file."""
    config, password = home.folder / "auth.ini", home.folder / "admin-password"
    write_private(config, AUTH_CONFIG.format(uri=home.uri(database_port, "auth").replace("%", "%%")))
    if not password.exists():
        write_private(password, os.environ.get(ADMIN_PASSWORD) or secrets.token_urlsafe(16))
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        ADMIN_PASSWORD: password.read_text(encoding="utf-8"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
    }
