"""What a user is told of a store that does not open."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.conftest import in_process
from tests.ports import own_port
from tests.progress import complaints


@contextlib.contextmanager
def answering(status: int) -> Iterator[str]:
    """The address of a server on loopback that answers everything but /health with a status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else status)
            self.end_headers()
            self.wfile.write(b"no")

        do_POST = do_GET  # noqa: N815  # the name that http.server looks for

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "log in with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."),
        (403, "choose another tracking.experiment, or have its owner give you access."),
        (404, "check tracking.uri."),
    ],
)
def test_a_server_that_refuses_is_told_with_what_to_do(
    status: int, remedy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(status) as address:
        assert in_process(["train", "data=cat_shop", f"tracking.uri={address}"], tmp_path) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert told[0].startswith(f"error: The store {address} cannot be used (")
    assert told[0].endswith(f": {remedy}")


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg"])
def test_a_server_that_is_down_is_told(scheme: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"{scheme}://127.0.0.1:{own_port()}"
    assert in_process(["sweep", "data=cat_shop", "seed=0,1", f"tracking.uri={address}"], tmp_path) == 1
    assert f"No server answers at {address}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_tables_of_another_mlflow_are_written_by_its_client_with_one_warning(
    empty_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after an update of MLflow that changed its tables: the revision that we were tested with is another one."""
    for room in ("bulk", "database"):
        monkeypatch.setattr(f"pipeline.store.{room}.REVISION", "of another time")
    assert in_process(["sweep", "data=cat_shop", "seed=0,1", "training.epochs=3"], empty_store) == 0
    told = capsys.readouterr()
    assert told.err.count("not those of the MLflow") == 1
    assert "2 runs: 2 trained" in told.out
    monkeypatch.undo()
    assert in_process(["sweep", "data=cat_shop", "seed=0,1", "training.epochs=3"], empty_store) == 0
    told = capsys.readouterr()
    assert "2 found finished" in told.out
    assert complaints(told.err) == ""


def test_other_peoples_runs_are_neither_taken_nor_touched(
    empty_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = MlflowClient(f"sqlite:///{empty_store}/mlflow.db")
    experiment = client.create_experiment("cat_shop", (empty_store / "theirs").as_uri())
    theirs = [client.create_run(experiment, tags={"fingerprint": "mine", "trajectory": "too"}) for _ in range(3)]
    client.log_metric(theirs[0].info.run_id, "loss", float("nan"))
    client.set_terminated(theirs[0].info.run_id)
    client.delete_run(theirs[1].info.run_id)
    before = [client.get_run(run.info.run_id).to_dictionary() for run in theirs]
    assert in_process(["sweep", "data=cat_shop", "seed=0,1", "training.epochs=3,5"], empty_store) == 0
    assert "4 runs: 4 trained" in capsys.readouterr().out
    after = [client.get_run(run.info.run_id).to_dictionary() for run in theirs]
    assert str(after) == str(before)  # a NaN is not itself
    assert len(list((empty_store / "theirs").iterdir())) == 5, "their experiment says where files go"
