"""`seedbed ui`: the real MLflow server on the real store, on loopback."""

import re
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from pipeline.endpoint.route import ASSISTANT
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
