"""Starts the MLflow UI on a store, on loopback."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from urllib.parse import quote

from pipeline.errors import UserError
from pipeline.kept import Reader

HOST = "127.0.0.1"
FIRST_PORT = 5000
START_SECONDS = 120.0
BY_LOSS = "orderByKey=metrics.%60result%2Ffinal_loss%60&orderByAsc=true"


def free_port(port: int | None) -> int:
    """The port asked for, else the first free one from 5000 on. Raises UserError if the one asked for is taken."""
    for candidate in range(FIRST_PORT, FIRST_PORT + 100) if port is None else [port]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError, OverflowError):
                probe.bind((HOST, candidate))
                return candidate
    raise UserError(f"--port {port or FIRST_PORT} is taken: choose another.")


@contextlib.contextmanager
def server(uri: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """An MLflow server on the store, answering on loopback until the block ends."""
    words = ["--host", HOST, "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    quiet["MLFLOW_BACKEND_STORE_URI"] = uri  # not an option: others on the machine can read those
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *words],
        env={**os.environ, **quiet},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(process, port)
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the server and its workers, which are a process group of their own."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
            return


def wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    """Returns when the server answers. Raises UserError if it ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(f"The MLflow server ended at once (exit code {process.returncode}): check tracking.uri.")
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        time.sleep(0.2)
    raise UserError(f"The MLflow server did not answer within {START_SECONDS:.0f} s.")


def links(reader: Reader, address: str) -> dict[str, str]:
    """Where to look, by experiment: its runs with the lowest final loss first, on MLflow's model-training side."""
    return {
        name: f"{address}/#/experiments/{quote(experiment_id)}/runs?workflowType=machine_learning&{BY_LOSS}"
        for name, experiment_id in reader.experiments().items()
    }
