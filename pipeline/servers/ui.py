"""Starts MLflow's server, with its UI, on a store: on loopback, for as long as it is wanted."""

import contextlib
import http.client
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from pipeline.errors import UserError
from pipeline.leash import let_go, on_leash
from pipeline.paths import PACKAGE
from pipeline.servers.ports import HOST, PortTakenError, is_free

if TYPE_CHECKING:
    from pipeline.store.reader import Reader  # with MLflow: 170 MB, which `seedbed server` need not hold for days

FIRST_PORT = 5000
START_SECONDS = 120.0
APP = "seedbed"  # endpoint/route.py
# What a server is called, which its answers say (endpoint/route.py): another one may have taken the port before it.
NAME, HEADER = "SEEDBED_SERVER_NAME", "x-seedbed-server"
BY_LOSS = "orderByKey=metrics.%60result%2Ffinal_loss%60&orderByAsc=true"


def check_app() -> None:
    """Raises UserError if MLflow would not find Seedbed's app, as in a checkout that was not installed since."""
    if not entry_points(group="mlflow.app", name=APP):
        raise UserError("The server's app is not installed: run `make setup`, or install Seedbed again.")


@contextlib.contextmanager
def server(
    uri: str,
    port: int,
    options: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """An MLflow server on the store, answering on loopback until the block or this process ends.

    `options` and environment `variables` are further ones of `mlflow server`; what it prints goes to `log`.
    Raises UserError if it does not start; PortTakenError if that is since another server has the port.
    """
    words = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1", *options]
    words += ["--uvicorn-opts", f"--app-dir {shlex.quote(str(PACKAGE.parent))}"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    quiet["PYTHONSAFEPATH"] = "1"  # with --app-dir: else a `pipeline` in the working directory is taken for ours
    quiet["MLFLOW_BACKEND_STORE_URI"] = uri  # not an option: others on the machine can read those
    quiet[NAME] = secrets.token_hex(8)
    with (log or Path(os.devnull)).open("wb") as output:
        process = on_leash(words, signal.SIGTERM, output, variables=quiet | dict(variables or {}))
    try:
        name = quiet[NAME] if "--app-name" in options else None  # MLflow's own app knows of no name
        wait_for(process, port, name, "check tracking.uri" if log is None else f"see {log}")
        yield process
    finally:
        let_go(process)


def wait_for(process: subprocess.Popen[bytes], port: int, name: str | None, advice: str) -> None:
    """Returns when the server of this name answers. Raises UserError, with the advice, if it ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if answers(port, name):
            return
        if process.poll() is not None:
            if not is_free(port):
                raise PortTakenError(f"Another server has taken port {port} meanwhile: choose another with --port.")
            raise UserError(f"The MLflow server ended at once (exit code {process.returncode}): {advice}.")
        time.sleep(0.2)
    raise UserError(f"The MLflow server did not answer within {START_SECONDS:.0f} s: {advice}.")


def answers(port: int, name: str | None) -> bool:
    """True if a server answers there: one of this name, if one is given."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/health")
        return connection.getresponse().getheader(HEADER) == name or name is None
    return False


def links(reader: "Reader", address: str) -> dict[str, str]:
    """Where to look, by experiment: its runs with the lowest final loss first, on MLflow's model-training side."""
    return {
        name: f"{address}/#/experiments/{quote(experiment_id)}/runs?workflowType=machine_learning&{BY_LOSS}"
        for name, experiment_id in reader.experiments().items()
    }
