"""A server with Seedbed's route, what tests send there, and its users."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pipeline.servers.ports import HOST
from pipeline.servers.ui import server
from pipeline.store.api import MlflowClient
from pipeline.store.block import BlockSink
from pipeline.store.parcel import MEDIA_TYPE, parcel, piece
from pipeline.store.sink import Change, Entry, Experiment, new_run_id
from pipeline.store.sinks import sink_of
from tests.ports import own_port
from tests.processes import session

ENTRY = Entry("a", "FINISHED", 1, 2, {"p": "1"}, [("m", 1.0, 1, 0)], {"t": "u"}, files={"x.json": b"{}"})
PASSWORD = "correct horse battery"  # noqa: S105  # of users of the test


@dataclass(frozen=True)
class Served:
    """A server with the route, on SQLite, and the folder of what it keeps."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self.port}"

    def sink(self) -> BlockSink:
        """What writes there."""
        sink = sink_of(self.address, print)
        assert isinstance(sink, BlockSink)
        return sink

    def new_experiment(self, location: str | None = None) -> Experiment:
        """An experiment of its own for a test."""
        client, name = MlflowClient(self.address), secrets.token_hex(4)
        made = client.get_experiment(client.create_experiment(name, location))
        return Experiment(made.experiment_id, name, made.artifact_location, is_active=True)

    def names(self, experiment: Experiment) -> list[str]:
        """The names of an experiment's runs."""
        return [
            row[0] for row in self.rows("SELECT name FROM runs WHERE experiment_id = :id ORDER BY name", experiment)
        ]

    def rows(self, query: str, experiment: Experiment) -> list[Any]:
        """Rows of the database."""
        engine = sa.create_engine(f"sqlite:///{self.folder}/server.db", connect_args={"timeout": 120})
        with engine.connect() as connection:
            found = connection.execute(sa.text(query), {"id": int(experiment.experiment_id)}).all()
        engine.dispose()
        return list(found)

    def files(self, experiment: Experiment) -> list[str]:
        """The files that the server keeps of an experiment's runs."""
        place = self.folder / "artifacts" / experiment.experiment_id
        return sorted(str(file.relative_to(place)) for file in place.rglob("*") if file.is_file())

    def signal(self, kind: signal.Signals) -> None:
        """Sends a signal to the server's processes, without the one that keeps it on its leash."""
        for pid in session(self.process.pid):
            if pid != self.process.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, kind)


@contextlib.contextmanager
def serve(folder: Path, app: str = "seedbed", variables: Mapping[str, str] | None = None) -> Iterator[Served]:
    options = ("--serve-artifacts", "--artifacts-destination", str(folder / "artifacts"), "--app-name", app)
    port = own_port()
    with server(f"sqlite:///{folder}/server.db", port, options, variables, folder / "log") as process:
        yield Served(folder, port, process)


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    text: str


def post(address: str, path: str, body: bytes, **headers: str) -> Answer:
    """Sends a body as it is."""
    given = {"Content-Type": MEDIA_TYPE, **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = urllib.request.Request(address + path, body, given)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
            return Answer(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode())


def body_of(*contents: Entry | Change) -> bytes:
    return parcel([piece(one) for one in contents])


def new(**values: Any) -> Entry:
    return replace(ENTRY, **{"run_id": new_run_id(), **values})


@contextlib.contextmanager
def logged_in(user: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", user)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        yield


def create_user(served: Served, user: str) -> None:
    as_admin(served, "/api/2.0/mlflow/users/create", username=user, password=PASSWORD)


def grant(served: Served, user: str, experiment: Experiment, permission: str) -> None:
    what = {"resource_type": "experiment", "resource_id": experiment.experiment_id}
    as_admin(served, "/api/3.0/mlflow/users/permissions/grant", username=user, permission=permission, **what)


def as_admin(served: Served, path: str, **words: str) -> None:
    """The administrator asks MLflow for something."""
    body = json.dumps(words).encode()
    assert post(served.address, path, body, Content_Type="application/json", **basic("admin")).status == 200


def basic(user: str, password: str = PASSWORD) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}
