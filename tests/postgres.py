"""A real PostgreSQL server on loopback, where there is one, for tests that need it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.address import check_login
from pipeline.errors import UserError


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def postgres_server() -> Iterator[int]:
    """The port of a new server with the user `owner`, password `secret`; the test is skipped where there is none."""
    pytest.importorskip("psycopg")
    if not (shutil.which("initdb") and shutil.which("postgres")):
        pytest.skip("there is no PostgreSQL here")
    as_user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        data, password = Path(folder, "data"), Path(folder, "password")
        password.write_text("secret\n")
        if as_user:
            shutil.chown(folder, as_user)
        words = ["-D", str(data), "-U", "owner", "-A", "scram-sha-256", "--pwfile", str(password), "--no-sync"]
        subprocess.run(["initdb", *words], user=as_user, cwd=folder, check=True, capture_output=True, timeout=120)
        words = ["-D", str(data), "-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1"]
        none = subprocess.DEVNULL
        with subprocess.Popen(["postgres", *words], user=as_user, cwd=folder, stdout=none, stderr=none) as server:
            try:
                wait_for_login(f"postgresql+psycopg://owner:secret@127.0.0.1:{port}/postgres")
                yield port
            finally:
                server.send_signal(signal.SIGINT)  # does not wait for connections to be closed


def wait_for_login(uri: str) -> None:
    """Returns when a database lets one in."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return check_login(uri)
        except UserError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
