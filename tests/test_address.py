"""Addresses that no store can be at, and servers that are down, silent or refuse: one sentence each, within seconds."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.servers.postgres import USER
from pipeline.store import address
from pipeline.store.address import absolute, check_login, check_uri, database_file, first_cause, in_time, is_database
from tests.ports import own_port
from tests.postgres import Server

SOON = 60.0  # seconds within which a server's trouble must be told, on a busy machine too: MLflow's tries go on longer


@pytest.fixture
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """For servers that answer: they are asked for longer than a person is to wait, as this machine may be busy."""
    monkeypatch.setattr(address, "PROBE_SECONDS", SOON)
    monkeypatch.setattr(address, "in_time", lambda probe: in_time(probe, SOON))


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def answering(status: int) -> Iterator[int]:
    """The port of an HTTP server that answers with `status`, whatever it is asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # as the library calls it
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def refusal(call: Callable[[str], None], uri: str) -> str:
    """What a user is told, in time."""
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        call(uri)
    assert time.monotonic() - started < SOON
    return str(caught.value)


@pytest.mark.usefixtures("_patience")
@pytest.mark.parametrize("scheme", ["http", "https", "postgresql", "postgresql+psycopg", "mysql+pymysql", "mssql"])
def test_a_server_that_is_down_is_told_at_once(scheme: str) -> None:
    told = refusal(check_uri, f"{scheme}://me:secret@127.0.0.1:{own_port()}/runs?key=secret")
    assert told.startswith(f"No server answers at {scheme}://127.0.0.1:")
    assert told.endswith("(Connection refused): start it, or change tracking.uri.")
    assert "secret" not in told


def test_a_name_that_no_server_has_is_told() -> None:
    assert "No server answers at http://nobody.invalid (" in refusal(check_uri, "http://nobody.invalid")


@pytest.mark.slow
def test_a_server_that_takes_connections_but_never_answers_is_told() -> None:
    with silent() as port:
        told = refusal(check_uri, f"http://127.0.0.1:{port}")
    assert f"No server answers at http://127.0.0.1:{port} (" in told
    assert "timed out" in told or "no answer within 10 s" in told


@pytest.mark.usefixtures("_patience")
@pytest.mark.parametrize("status", [200, 401, 403, 404, 500])
def test_a_server_that_answers_is_alive_whatever_it_says(status: int) -> None:
    with answering(status) as port:
        check_uri(f"http://127.0.0.1:{port}/")


@pytest.mark.usefixtures("_patience")
@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_whose_server_is_down_is_told(status: int) -> None:
    with answering(status) as port:
        assert f"({status} " in refusal(check_uri, f"http://me:secret@127.0.0.1:{port}")


@pytest.mark.usefixtures("_patience")
def test_a_server_that_wants_tls_is_told_before_a_password_is_sent() -> None:
    with answering(400) as port:
        told = refusal(check_uri, f"http://me:secret@127.0.0.1:{port}")
    assert told.endswith(" wants TLS: write https:// in tracking.uri.")
    assert "secret" not in told


@pytest.mark.usefixtures("_patience")
def test_a_server_without_tls_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(200) as port:
        assert "does not speak TLS as we do (" in refusal(check_uri, f"https://127.0.0.1:{port}")
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "/nowhere/ca.pem")
        told = refusal(check_uri, f"https://127.0.0.1:{port}")
    assert told.startswith("MLFLOW_TRACKING_SERVER_CERT_PATH is /nowhere/ca.pem, which does not exist: ")


@pytest.mark.parametrize("uri", ["http://me:pass:word@host", "postgresql://me:pa/ss@host/runs", "http://", "http://[x"])
def test_an_address_that_cannot_be_read_tells_nothing_of_a_password(uri: str) -> None:
    told = refusal(check_uri, uri)
    assert told.startswith("tracking.uri is ") or told.startswith("No server answers at ")
    assert "pass" not in told.replace("password", "")
    assert "pa" not in told.partition(", but it must be ")[0].replace("...", "")


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["postgresql+psycopg", "mysql+pymysql"])
def test_a_database_server_that_never_answers_is_told(driver: str) -> None:
    pytest.importorskip(driver.partition("+")[2])
    with silent() as port:
        told = refusal(check_login, f"{driver}://me:secret@127.0.0.1:{port}/runs")
    store = f"{driver}://127.0.0.1:{port}/runs"
    assert told == f"The store {store} cannot be used (no answer within 10 s): check tracking.uri."


@pytest.mark.usefixtures("_patience")
def test_a_driver_that_is_not_there_is_told() -> None:
    told = refusal(check_login, "postgresql+nobody://me:secret@127.0.0.1/runs")
    assert told.startswith("The store postgresql+nobody://127.0.0.1/runs cannot be used (Can't load plugin")


@pytest.mark.usefixtures("_patience")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("who", "database", "reason"),
    [
        ("{user}:wrong", "postgres", "password authentication failed for user"),
        ("stranger:{password}", "postgres", "password authentication failed for user"),
        ("{user}:{password}", "elsewhere", 'database "elsewhere" does not exist'),
    ],
)
def test_a_database_that_does_not_let_one_in_says_why(postgres: Server, who: str, database: str, reason: str) -> None:
    address = f"127.0.0.1:{postgres.port}/{database}"
    who = who.format(user=USER, password=postgres.password)
    check_uri(f"postgresql+psycopg://{who}@{address}")
    told = refusal(check_login, f"postgresql+psycopg://{who}@{address}")
    assert told == f"The store postgresql+psycopg://{address} cannot be used ({reason}): check tracking.uri."


@pytest.mark.parametrize("uri", ["sqlite:///anything.db", "http://127.0.0.1:1"])
def test_only_database_servers_are_asked_for_a_login(uri: str) -> None:
    check_login(uri)


def test_addresses_of_databases_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_database("sqlite:///a.db")
    assert is_database("postgresql+psycopg://host/runs")
    assert not is_database("https://host")
    assert database_file("sqlite:///a.db") == tmp_path / "a.db"
    assert absolute("sqlite:///a.db") == f"sqlite:///{tmp_path}/a.db"
    assert absolute("http://host") == "http://host"


@pytest.mark.parametrize("name", ["what?", "100%41"])
def test_a_file_that_no_address_can_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    assert "in its path, which no address can have: move it" in refusal(check_uri, "sqlite:///a.db")


def test_the_first_cause_of_an_error_is_named() -> None:
    def fail() -> None:
        try:
            raise ConnectionRefusedError(111, "Connection refused")
        except OSError as error:
            raise RuntimeError("it did not work out") from error

    with pytest.raises(RuntimeError) as caught:
        fail()
    assert first_cause(caught.value) == "Connection refused"
    assert first_cause(KeyError()) == "KeyError"


def test_what_takes_too_long_is_given_up_and_what_fails_is_passed_on() -> None:
    is_given_up = threading.Event()

    def hang() -> None:
        is_given_up.wait(SOON)

    with pytest.raises(TimeoutError, match="no answer within 0 s"):
        in_time(hang, 0.05)
    is_given_up.set()
    with pytest.raises(ZeroDivisionError):
        in_time(lambda: print(1 // 0), SOON)
