"""Passwords in a store's address: nowhere in what is printed, nowhere in what is written."""

import contextlib
import io
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pipeline import credentials
from pipeline.application.words import without_secret
from pipeline.config import DataConfig, RunConfig, TrackingConfig
from pipeline.credentials import Redacted, has_secret, hidden, public_text, public_uri, redacted
from pipeline.errors import UserError
from pipeline.servers.ui import server
from tests.conftest import in_process, seedbed
from tests.ports import own_port
from tests.processes import session

PASSWORD = "hunter2%40xyzzy"  # noqa: S105 - encoded: it is hunter2@xyzzy
PARTS = ("hunter2", "xyzzy")
ADDRESS = f"http://bob:{PASSWORD}@127.0.0.1:9"  # where nobody answers
HYDRA_FILES = "hydra.output_subdir=.hydra"
BASIC = ("hydra/launcher=basic", "hydra/sweeper=basic", HYDRA_FILES)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in credentials.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    yield
    for name in [name for name in os.environ if name.startswith(credentials.PREFIX)]:
        del os.environ[name]


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        ("http:/bob:secret@host", "host"),
        ("bob:secret@host/db", "host/db"),
        ("postgresql://bob:se/cr@et@host/db", "postgresql://host/db"),
        ("postgresql://bob:se?cr@host/db", "postgresql://..."),
        ("postgresql://host/db?password=secret", "postgresql://host/db"),
        ("sqlite:///a@b.db", "sqlite:///a@b.db"),
        ("sqlite:///a.db?key=secret", "sqlite:///a.db"),
        ("sqlite+pysqlcipher://:secret@/a.db", "sqlite+pysqlcipher:///a.db"),
        ("sqlite://bob:secret@host/a.db", "sqlite://host/a.db"),
    ],
)
def test_public_uri(uri: str, public: str) -> None:
    assert public_uri(uri) == public


def test_every_address_in_a_text_is_made_public() -> None:
    text = f"'{ADDRESS}' and postgresql://a:b@c/d, but not sqlite:///x@y.db"
    assert public_text(text) == "'http://127.0.0.1:9' and postgresql://c/d, but not sqlite:///x@y.db"


@pytest.mark.parametrize(
    ("word", "hides"),
    [
        ("tracking.uri={}", True),
        ("++tracking.uri={}", True),
        ('tracking.uri="{}?password=x"', True),
        ("tracking={{uri: {}, experiment: x}}", True),
        ("hydra.sweeper.storage={}", True),
        ("tracking.uri=bob:hunter2@host", True),
        ("data.name=a@b", False),
        ("tracking.experiment=a@b", False),
        ("tracking.uri=http://host:5000", False),
        ('tracking.uri="postgresql://bob:${{oc.env:PW}}@host/db"', False),
    ],
)
def test_a_word_looks_its_secret_up(word: str, hides: bool) -> None:
    given = word.format(ADDRESS)
    found = without_secret(given)
    assert (found != given) == hides
    assert not hides or not any(part in found for part in PARTS)


def test_each_value_of_a_sweep_is_looked_up_by_itself() -> None:
    found = without_secret(f"tracking.uri={ADDRESS},{ADDRESS}/b,sqlite:///x.db")
    assert found.replace("_2", "_1") == "tracking.uri=${oc.env:SEEDBED_URI_1},${oc.env:SEEDBED_URI_1},sqlite:///x.db"
    assert sorted(os.environ[f"SEEDBED_URI_{i}"] for i in (1, 2)) == [ADDRESS, f"{ADDRESS}/b"]


def test_a_password_beside_a_look_up_is_refused() -> None:
    with pytest.raises(UserError, match="has a password beside what it looks up") as error:
        has_secret(f"postgresql://bob:{PASSWORD}@${{oc.env:HOST}}/db")
    assert not any(part in str(error.value) for part in PARTS)


@pytest.mark.parametrize(
    "text",
    [
        f"cannot open {ADDRESS}/api",
        "password hunter2@xyzzy is wrong",
        "encoded hunter2%40xyzzy too",
        "Authorization: Basic Ym9iOmh1bnRlcjJAeHl6enk=",
        'failed for user "bob"',
        "http://someone:else@host",
    ],
)
def test_messages_lose_whole_addresses_and_their_parts(text: str) -> None:
    hidden(ADDRESS)
    found = redacted(text)
    assert found != text
    for part in (*PARTS, "bob", "Ym9i", "else"):
        assert part not in found


def test_a_database_may_be_called_as_the_password_is() -> None:
    hidden("postgresql://mlflow:mlflow@host/mlflow")
    assert redacted("postgresql://host/mlflow: mlflow is wrong") == "postgresql://host/mlflow: ... is wrong"


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD"])
def test_passwords_of_the_environment_are_known(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "hunter2@xyzzy")
    assert redacted("it said hunter2@xyzzy") == "it said ..."


def test_a_resolved_config_makes_its_address_known() -> None:
    RunConfig(data=DataConfig(X=[[0]], y=[[0]]), tracking=TrackingConfig(uri="http://u:correcthorse@host"))
    assert redacted("correcthorse") == "..."


def test_a_stream_writes_no_secret() -> None:
    hidden(ADDRESS)
    stream = io.StringIO()
    Redacted(stream).write(f"to {ADDRESS}\n")
    Redacted(stream).writelines(["and hunter2@xyzzy"])
    assert stream.getvalue() == "to http://127.0.0.1:9\nand ..."


TRACEBACK = f"""
import logging, sys, warnings
from pipeline.__main__ import main
from pipeline.verbs import listing
def fail():
    logging.getLogger("x").warning("logged {ADDRESS}")
    warnings.warn("warned hunter2@xyzzy")
    try:
        raise ValueError("{ADDRESS}")
    except ValueError as error:
        raise RuntimeError("again hunter2@xyzzy") from error
listing.list_everything = fail
main(["list"])
"""


def test_logs_warnings_and_tracebacks_are_without_secrets(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        TRACEBACK.replace(ADDRESS, '" + __import__("os").environ["MLFLOW_TRACKING_URI"] + "').replace(
            "hunter2@xyzzy", '" + "hunter2" + "@xyzzy" + "'
        )
    )
    path = f"{Path(__file__).parents[1]}"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": ADDRESS, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if '"' not in line]  # a traceback quotes the source
    assert "RuntimeError: again ..." in said
    assert "ValueError: http://127.0.0.1:9" in said
    assert "logged http://127.0.0.1:9" in said
    assert not any(part in line for part in PARTS for line in said)


def leaks(folder: Path, printed: str, given: Mapping[str, str] = {}) -> list[str]:
    """Where a part of the password is: standard output or error, a file, or the name of one."""
    texts = {"printed": printed, "names": "\n".join(map(str, folder.rglob("*")))}
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in given:
            with contextlib.suppress(FileNotFoundError):  # a server's, of a moment
                texts[str(path)] = path.read_bytes().decode("latin-1")
    return [name for name, text in texts.items() if any(part in text for part in PARTS)]


FILE = {"mine/tracking/prod.yaml": f"uri: {ADDRESS}\nexperiment: x\nartifacts: null\ncurve_points: 9\n"}
COMMANDS = [
    ("train", f"tracking.uri={ADDRESS}", HYDRA_FILES),
    ("train", f"tracking.uri=bob:{PASSWORD}@host", HYDRA_FILES),
    ("train", f"tracking={{uri: {ADDRESS}, experiment: x}}", HYDRA_FILES),
    ("sweep", f"tracking.uri={ADDRESS},{ADDRESS}/b", *BASIC),
    ("sweep", f"tracking.uri={ADDRESS}", "hydra.sweep.subdir=${hydra.job.override_dirname}", "seed=1,2", *BASIC),
    ("sweep", f"hydra.sweeper.params={{tracking.uri: '{ADDRESS},{ADDRESS}/b'}}", HYDRA_FILES),
    ("train", "--config-dir", "mine", "tracking=prod", HYDRA_FILES),
    ("sweep", "--config-dir", "mine", "tracking=prod", "seed=1,2", *BASIC),
    ("train", "--cfg", "job", "--config-dir", "mine", "tracking=prod"),
    ("train", "--cfg", "all", "--resolve", "--config-dir", "mine", "tracking=prod"),
    ("train", "--cfg", "job", "--resolve", f"tracking.uri={ADDRESS}"),
    ("train", f"--tracking.uri={ADDRESS}"),
    ("train", ADDRESS),
    ("train", f"tracking.uri='{ADDRESS}"),
    ("train", f"tracking.uri={ADDRESS}="),
    ("train", f"tracking.uri=ftp{ADDRESS}"),
    ("train", f"tracking.artifacts={ADDRESS}"),
    ("plan", f"tracking.uri={ADDRESS}", "seed=1,-1"),
    ("ui", f"tracking.uri={ADDRESS}"),
    ("ui", ADDRESS),
    ("predict", "run=1", "rows=[[1]]", f"tracking.uri={ADDRESS}"),
    (ADDRESS,),
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words)[:60].replace(ADDRESS, "URI"))
def test_no_command_prints_or_writes_a_password(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in FILE.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    in_process(words, tmp_path)
    told = capsys.readouterr()
    assert told.out + told.err
    assert leaks(tmp_path, told.out + told.err, FILE) == []


@pytest.mark.parametrize("words", [("train", HYDRA_FILES), ("train", "--cfg", "job", "--resolve"), ("train", "--info")])
def test_nor_with_the_address_in_the_environment(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", ADDRESS)
    done = seedbed(*words, cwd=tmp_path)
    assert leaks(tmp_path, done.stdout + done.stderr) == []


@pytest.mark.slow
def test_with_a_server_that_answers_the_password_is_stored_nowhere(tmp_path: Path) -> None:
    store, work = tmp_path / "store", tmp_path / "work"
    store.mkdir()
    work.mkdir()
    assert in_process(["train", "training.epochs=2"], store) == 0
    port = own_port()
    with server(f"sqlite:///{store}/mlflow.db", port):
        uri = ADDRESS.replace(":9", f":{port}")
        for words in (("train",), ("sweep", "seed=1,2"), ("sweep", "seed=3,4", *BASIC)):
            done = seedbed(*words, "training.epochs=2", f"tracking.uri={uri}", cwd=work)
            assert done.returncode == 0, done.stderr
            assert leaks(tmp_path, done.stdout + done.stderr) == []
    assert (work / "multirun.yaml").is_file(), "Hydra's own sweeper wrote it"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc here")
def test_a_server_that_is_started_has_its_address_on_no_command_line(store: Path) -> None:
    marker = str(10**6 + secrets.randbelow(10**6))  # which no other process has, as a port or a pid
    with server(f"sqlite+pysqlite:///{store}/mlflow.db?timeout={marker}", own_port()) as process:
        time.sleep(1)
        family, lines = set(session(process.pid)), {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                lines[int(entry.name)] = (entry / "cmdline").read_bytes()
    assert any(b"mlflow" in line for pid, line in lines.items() if pid in family)
    assert not any(marker.encode() in line for line in lines.values())
