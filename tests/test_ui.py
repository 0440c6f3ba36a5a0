"""`seedbed ui`: the real MLflow server on the real store, on loopback."""

import contextlib
import json
import re
import signal
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline.endpoint.route import ASSISTANT
from pipeline.errors import UserError
from pipeline.servers.ports import HOST, PortTakenError, free_port, on_free_port
from pipeline.servers.ui import FIRST_PORT
from tests.conftest import in_process
from tests.modules import ROOT
from tests.ports import own_port
from tests.processes import eventually, until_ctrl_c


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_the_ui_answers_lists_the_runs_and_ends_with_its_server(store: Path, kind: signal.Signals) -> None:
    words = [sys.executable, "-m", "pipeline", "ui", "--port", str(own_port())]
    with until_ctrl_c(words, store) as (process, told):
        (address,) = re.findall(r"MLflow UI: (http://127\.0\.0\.1:\d+)/", told)
        assert f"small: {address}/#/experiments/1/runs?workflowType=machine_learning" in told
        with urllib.request.urlopen(f"{address}/", timeout=30) as page:  # noqa: S310
            assert b"<title>MLflow</title>" in page.read()
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{address}{ASSISTANT}/config", timeout=30)  # noqa: S310
        process.send_signal(kind)
        assert process.wait(120) == 0  # within a second on a quiet machine
    eventually(lambda: refuses(f"{address}/"))


def refuses(url: str) -> bool:
    """True if nobody listens there."""
    try:
        urllib.request.urlopen(url, timeout=60).close()  # noqa: S310
    except OSError as error:
        return "refused" in str(error)
    return False


@pytest.mark.slow
def test_two_that_start_at_once_are_two(store: Path, empty_store: Path) -> None:
    """Both find the same port free; one of them is told by the other's answer that it is not there yet."""
    assert in_process(["train", "data=cat_shop", "training.epochs=1", "tracking.experiment=mine"], empty_store) == 0
    all_up = threading.Barrier(2)

    def experiments_in_ui(folder: Path) -> tuple[str, list[str]]:
        with until_ctrl_c([sys.executable, "-m", "pipeline", "ui"], folder) as (process, told):
            (address,) = re.findall(r"MLflow UI: (http://127\.0\.0\.1:\d+)/", told)
            url = f"{address}/ajax-api/2.0/mlflow/experiments/search?max_results=100"
            with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310
                found = [one["name"] for one in json.load(answer)["experiments"]]
            all_up.wait(300)
            process.send_signal(signal.SIGINT)
            assert process.wait(120) == 0
        return address, found

    with ThreadPoolExecutor(2) as threads:
        (address, one), (other_address, other) = threads.map(experiments_in_ui, (store, empty_store))
    assert address != other_address
    assert ("small" in one, "mine" in one) == (True, False)
    assert ("small" in other, "mine" in other) == (False, True)


def test_the_next_port_is_taken_where_another_server_was_faster() -> None:
    with contextlib.ExitStack() as faster:

        @contextlib.contextmanager
        def start(port: int) -> Iterator[Any]:
            if not tried:
                faster.enter_context(socket.create_server((HOST, port)))
                tried.append(port)
                raise PortTakenError("too late")
            yield None

        tried: list[int] = []
        with on_free_port(start, None, own_port()) as (found, _):
            assert found > tried[0]
        tried, asked = [], own_port()
        with pytest.raises(PortTakenError), on_free_port(start, asked, FIRST_PORT):
            pass
        assert tried == [asked]
        with pytest.raises(UserError, match=f"^--port {asked} is taken: choose another.$"):
            free_port(asked, FIRST_PORT)


@pytest.mark.slow
def test_the_ui_is_ours_where_somebody_has_a_pipeline_too(store: Path, tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").touch()
    (tmp_path / "mlflow.py").write_text("raise SystemExit(3)")
    command = f"import sys; sys.path[0] = {str(ROOT)!r}; from pipeline.__main__ import main; main(sys.argv[1:])"
    words = [
        sys.executable,
        "-c",
        command,
        "ui",
        f"tracking.uri=sqlite:///{store}/mlflow.db",
        "--port",
        str(own_port()),
    ]
    with until_ctrl_c(words, tmp_path) as (_, told):
        (address,) = re.findall(r"MLflow UI: (http://127\.0\.0\.1:\d+)/", told)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{address}{ASSISTANT}/config", timeout=30)  # noqa: S310


def test_without_a_store_there_is_one_sentence_and_no_new_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(["ui"], tmp_path) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: There is no store at sqlite:///mlflow.db: train something first")
    assert not list(tmp_path.iterdir())
