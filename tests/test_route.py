"""Seedbed's route in a real MLflow server: what it lets in, what it refuses, and what is sent twice or too late."""

import http.client
import json
import re
import secrets
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import pytest

from pipeline.endpoint.received import Taken
from pipeline.servers.ports import HOST
from pipeline.store.api import MlflowClient, MlflowException
from pipeline.store.parcel import CHANGE, CREATE, FINISHED, LARGEST, MEDIA_TYPE
from pipeline.store.sink import Change, Entry, Kept, new_run_id
from tests.conftest import seedbed
from tests.routes import PASSWORD, Answer, Served, basic, body_of, create_user, grant, logged_in, new, post, serve

ROWS = "SELECT name FROM runs ORDER BY name"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("served")) as one:
        yield one


@pytest.mark.slow
@pytest.mark.parametrize("path", ["config", "providers", "sessions/x/stream", "../assistant/config"])
@pytest.mark.parametrize("place", ["served", "with_users"])
def test_mlflows_assistant_is_shut(request: pytest.FixtureRequest, place: str, path: str) -> None:
    """It would run commands on the server for whoever is on its machine, or comes through a proxy that is."""
    address = f"{request.getfixturevalue(place).address}/ajax-api/3.0/mlflow/assistant/{path}"
    with pytest.raises(urllib.error.HTTPError, match="403") as caught:
        urllib.request.urlopen(address, timeout=120)  # noqa: S310
    assert caught.value.read() == b"MLflow's assistant is shut on this server."


# --- sent again -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_sent_again_is_there_once(served: Served) -> None:
    """One after the other, and several at the same moment."""
    experiment, sink = served.new_experiment(), served.sink()
    entries = [new(name=f"{i:02}") for i in range(20)]
    threads = [threading.Thread(target=lambda: list(sink.create(experiment, entries))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(sink.create(experiment, entries)) == [(i, entry.run_id) for i, entry in enumerate(entries)]
    assert served.names(experiment) == [entry.name for entry in entries]
    assert served.files(experiment) == sorted(f"{entry.run_id}/artifacts/x.json" for entry in entries)
    (points,) = served.rows(
        "SELECT count(*) FROM metrics JOIN runs USING (run_uuid) WHERE experiment_id = :id", experiment
    )
    assert points[0] == len(entries)


@pytest.mark.slow
def test_part_of_a_block_may_be_there_already(served: Served) -> None:
    experiment, sink = served.new_experiment(), served.sink()
    entries = [new(name=str(i)) for i in range(3)]
    list(sink.create(experiment, entries[1:2]))
    list(sink.create(experiment, entries))
    assert served.names(experiment) == ["0", "1", "2"]


@pytest.mark.slow
def test_a_block_that_a_frozen_server_takes_later_is_not_there_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with serve(tmp_path) as served:
        experiment, sink = served.new_experiment(), served.sink()
        entries = [new(name=f"{i:02}") for i in range(20)]
        served.signal(signal.SIGSTOP)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        with pytest.raises(MlflowException, match=r"timed out|Max retries"):
            list(sink.create(experiment, entries))
        served.signal(signal.SIGCONT)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "300")
        assert len(list(sink.create(experiment, entries))) == len(entries)  # at the same time as the others
        time.sleep(1)
        assert served.names(experiment) == [entry.name for entry in entries]


@pytest.mark.slow
def test_files_that_a_killed_server_left_are_written_over(served: Served) -> None:
    experiment, entry = served.new_experiment(), new()
    place = served.folder / "artifacts" / experiment.experiment_id / entry.run_id / "artifacts"
    place.mkdir(parents=True)
    (place / "x.json").write_bytes(b"half")
    list(served.sink().create(experiment, [entry]))
    assert (place / "x.json").read_bytes() == b"{}"


def test_who_sends_the_same_run_waits_and_others_do_not() -> None:
    taken, order = Taken(), []

    def second() -> None:
        with taken.alone(["a", "b"]):
            order.append("second")

    with taken.alone(["a"]):
        thread = threading.Thread(target=second)
        thread.start()
        with taken.alone(["c"]):
            order.append("other")
        time.sleep(0.05)
        order.append("first")
    thread.join()
    assert order == ["other", "first", "second"]


# --- changes ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_that_grows_ends_with_one_request(served: Served) -> None:
    experiment, sink = served.new_experiment(), served.sink()
    entry = new(status="RUNNING", end=None, points=[])
    list(sink.create(experiment, [entry]))
    points = [("curve/loss", 1.0, i, i) for i in range(2000)]
    ending = Change(entry.run_id, points, {"t": "v"}, {"y": b"1"}, "FINISHED", 9)
    before = (served.folder / "log").read_text().count("POST")
    sink.change([ending])
    assert (served.folder / "log").read_text().count("POST") == before + 1
    body = body_of(ending)
    assert post(served.address, f"{CHANGE}?experiment_id={experiment.experiment_id}", body).status == 200  # again
    run = MlflowClient(served.address).get_run(entry.run_id)
    assert (run.info.status, run.info.end_time, run.data.tags["t"]) == ("FINISHED", 9, "v")
    assert len(MlflowClient(served.address).get_metric_history(entry.run_id, "curve/loss")) == 2000
    assert sink.read(entry.run_id, "y") == b"1"


@pytest.mark.slow
def test_what_is_finished_is_asked_in_one_request(served: Served) -> None:
    experiment, sink = served.new_experiment(), served.sink()
    entries = [new(end=i, tags={"fingerprint": str(i)}, points=[("result/loss", 0.5, 1, 0)]) for i in range(1, 60)]
    ids = dict(sink.create(experiment, entries))
    before = (served.folder / "log").read_text().count("POST")
    found = sink.finished(experiment, "fingerprint", map(str, range(99)), since=40)
    assert (served.folder / "log").read_text().count("POST") == before + 1
    assert found == {str(i): [Kept(ids[i - 1], {"result/loss": 0.5}, diverged=False)] for i in range(40, 60)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b"[" * 99_999, b'{"tag": 1, "values": [], "since": 0}', b'{"tag": "a", "values": ["b"]}'],
)
def test_a_question_that_is_none_is_a_sentence(body: bytes, served: Served) -> None:
    answer = post(served.address, f"{FINISHED}?experiment_id=0", body)
    assert (answer.status, answer.text[-1]) == (400, ".")


# --- sizes ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_that_is_too_large_for_a_request_goes_through_mlflows_client(served: Served) -> None:
    experiment, sink = served.new_experiment(), served.sink()
    large = new(name="b", files={"x": bytes(LARGEST)})
    ids = dict(sink.create(experiment, [new(), large, new(name="c", status="RUNNING", end=None)]))
    assert served.names(experiment) == ["a", "b", "c"]
    assert sink.read(ids[1], "x") == bytes(LARGEST)
    sink.change([Change(ids[2], files={"y": bytes(LARGEST)}, status="FINISHED", end=5)])
    assert sink.read(ids[2], "y") == bytes(LARGEST)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Length": str(LARGEST + 1)}, 413),
        ({"Content-Length": "9" * 5000}, 413),
        ({"Transfer-Encoding": "chunked"}, 411),
        ({}, 411),
    ],
    ids=["too large", "absurd", "chunked", "no length"],
)
def test_a_body_that_is_too_large_is_refused_before_it_comes(
    headers: dict[str, str], status: int, served: Served
) -> None:
    connection = http.client.HTTPConnection(HOST, served.port, timeout=120)
    connection.putrequest("POST", f"{CREATE}?experiment_id=0")
    for name, value in {"Content-Type": MEDIA_TYPE, **headers}.items():
        connection.putheader(name, value)
    connection.endheaders()  # and no body
    try:
        assert connection.getresponse().status in (status, 400)  # 400: uvicorn's own, for a number it cannot hold
    finally:
        connection.close()


@pytest.mark.slow
def test_long_texts_are_cut_as_mlflow_cuts_them(served: Served) -> None:
    experiment, entry = served.new_experiment(), new(params={"a": "x" * 6001}, tags={"b": "y" * 8001})
    list(served.sink().create(experiment, [entry]))
    data = MlflowClient(served.address).get_run(entry.run_id).data
    assert (data.params["a"], data.tags["b"]) == ("x" * 6000, "y" * 8000)


# --- refused ----------------------------------------------------------------------------------------------------


def refusals() -> dict[str, tuple[bytes, int, str]]:
    """Bodies for a new run that are refused, with the status and how the sentence begins."""
    whole = body_of(new())
    return {
        "empty": (b"", 400, "The head of the request is no JSON"),
        "cut off": (whole[:-1], 400, "The request is shorter"),
        "JSON": (b"{}", 400, "The head of the request is no JSON"),
        "run id": (whole.replace(b'"run_id": "0', b'"run_id": "/'), 400, "run_id must be 32 hex digits"),
        "file name": (whole.replace(b"x.json", b"../../"), 400, "A run has no file"),
        "metric": (body_of(new(points=[("a//b", 1.0, 1, 0)])), 400, "Invalid value"),
        "param": (body_of(new(params={"a|b": "x"})), 400, "Invalid value"),
        "long tag": (body_of(new(tags={"a" * 251: "x"})), 400, "'key' exceeds"),
        "long name": (body_of(new(name="a" * 251)), 400, "'Run name' exceeds"),
        "one of two": (body_of(new(), new(name="a" * 251)), 400, "'Run name' exceeds"),
        "long user": (body_of(new(tags={"mlflow.user": "a" * 257})), 400, "'User name' exceeds"),
        "odd text": (body_of(new(params={"a": "\ud800"})), 400, "params must be texts"),
        "zero": (body_of(new(tags={"a": "\0"})), 400, "tags must be texts"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("what", refusals())
def test_a_bad_body_is_a_sentence_and_nothing_is_written(what: str, served: Served) -> None:
    experiment = served.new_experiment()
    body, status, sentence = refusals()[what]
    answer = post(served.address, f"{CREATE}?experiment_id={experiment.experiment_id}", body)
    assert (answer.status, answer.text.startswith(sentence)) == (status, True), answer
    assert served.names(experiment) == []
    assert served.files(experiment) == []


@pytest.mark.slow
def test_other_experiments_runs_and_pages_are_refused(served: Served) -> None:
    mine, others, elsewhere = served.new_experiment(), served.new_experiment(), served.new_experiment("file:///nowhere")
    deleted = served.new_experiment()
    MlflowClient(served.address).delete_experiment(deleted.experiment_id)
    theirs, ours = new(), new()
    list(served.sink().create(others, [theirs]))
    list(served.sink().create(mine, [ours]))

    def create(place: str, entry: Entry, **headers: str) -> Answer:
        return post(served.address, f"{CREATE}?experiment_id={place}", body_of(entry), **headers)

    here = mine.experiment_id
    evil = replace(theirs, files={"x.json": b"evil"})
    assert create(here, evil) == Answer(400, "One of the runs is in another experiment.")
    assert create("99", new()) == Answer(404, "There is no experiment 99.")
    assert create(deleted.experiment_id, new()).status == 404
    for odd in ("", "1 OR 1", "-1", "9" * 40, quote("١")):
        assert create(quote(odd), new()).status == 400
    assert create(here, new(), Content_Type="text/plain").status == 415
    assert create(here, new(), Host="evil.example.org").status == 403
    assert create(here, new(), Origin="https://evil.example.org").status == 403
    answer = create(elsewhere.experiment_id, new())
    assert answer == Answer(400, "Files of this experiment's runs are not kept by this server.")
    for change in (Change(theirs.run_id, files={"x.json": b"evil"}), Change(new_run_id(), status="KILLED", end=1)):
        answer = post(served.address, f"{CHANGE}?experiment_id={here}", body_of(change))
        assert answer == Answer(404, f"There is no run {change.run_id} in the experiment {here}.")
    MlflowClient(served.address).delete_run(ours.run_id)
    change = Change(ours.run_id, status="KILLED", end=1)
    assert post(served.address, f"{CHANGE}?experiment_id={here}", body_of(change)).status == 404
    assert served.sink().read(theirs.run_id, "x.json") == b"{}"
    assert (served.names(mine), served.names(elsewhere)) == (["a"], [])


# --- users ------------------------------------------------------------------------------------------------------

AUTH = """[mlflow]
default_permission = NO_PERMISSIONS
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
database_uri = sqlite:///{folder}/auth.db
auth_cache_ttl_seconds = 60
"""


@pytest.fixture(scope="module")
def with_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with an administrator, and ada who may edit, bob who may read, and eve."""
    if find_spec("flask_wtf") is None:
        pytest.skip("make setup EXTRAS=auth")
    folder = tmp_path_factory.mktemp("with users")
    (folder / "auth.ini").write_text(AUTH.format(folder=folder))
    variables = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(),
    }
    with serve(folder, "seedbed-auth", variables) as one:
        yield one


@pytest.mark.slow
def test_only_those_with_the_right_to_edit_write(with_users: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served = with_users
    with logged_in("admin", monkeypatch):
        experiment = served.new_experiment()
    for user in ("ada", "bob", "eve"):
        create_user(served, user)
    grant(served, "ada", experiment, "EDIT")
    grant(served, "bob", experiment, "READ")
    running = new(name="by ada", status="RUNNING", end=None)

    def asked(login: dict[str, str], place: str = experiment.experiment_id) -> Sequence[int]:
        both = ((CREATE, new(name="other")), (CHANGE, Change(running.run_id, status="KILLED", end=1)))
        return [
            post(served.address, f"{path}?experiment_id={place}", body_of(one), **login).status for path, one in both
        ]

    def looked(login: dict[str, str]) -> int:
        body = json.dumps({"tag": "t", "values": ["u"], "since": 0}).encode()
        return post(served.address, f"{FINISHED}?experiment_id={experiment.experiment_id}", body, **login).status

    with logged_in("ada", monkeypatch):
        sink = served.sink()
        list(sink.create(experiment, [running]))
    assert [looked(login) for login in ({}, basic("eve"), basic("bob"), basic("ada"))] == [401, 403, 200, 200]
    assert asked({}) == [401, 401]
    assert asked(basic("ada", "wrong")) == [401, 401]
    assert asked(basic("bob")) == [403, 403]
    assert asked(basic("eve")) == [403, 403]
    assert asked(basic("ada"), "99") == [403, 403]
    assert asked(basic("ada"), "0") == [403, 403]
    assert asked(basic("ada"), "x") == [403, 403]
    assert served.names(experiment) == ["by ada"]
    assert served.rows("SELECT status FROM runs WHERE experiment_id = :id", experiment) == [("RUNNING",)]
    with logged_in("ada", monkeypatch):
        sink.change([Change(running.run_id, files={"y": b"1"}, status="FINISHED", end=5)])
        assert sink.read(running.run_id, "y") == b"1"
    assert served.rows("SELECT status FROM runs WHERE experiment_id = :id", experiment) == [("FINISHED",)]


@pytest.mark.slow
def test_a_user_sweeps_into_an_experiment_of_her_own(
    with_users: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_user(with_users, "flo")
    words = ("sweep", "data=cat_shop", "training.epochs=20", "seed=0,1,2", f"tracking.uri={with_users.address}")
    assert seedbed(*words, cwd=tmp_path).returncode == 1
    with logged_in("flo", monkeypatch):
        done = seedbed(*words, cwd=tmp_path)
        assert "3 runs: 3 trained" in done.stdout, done.stderr
    log = (with_users.folder / "log").read_text()
    assert re.search(rf"POST {CREATE}\?experiment_id=\d+ HTTP/1.1\" 200", log)
    assert "runs/create" not in log


@pytest.mark.slow
def test_the_route_says_what_it_speaks_to_those_who_may_log_in(with_users: Served, served: Served) -> None:
    with urllib.request.urlopen(f"{served.address}/api/seedbed", timeout=120) as answer:  # noqa: S310
        assert json.loads(answer.read()) == {"protocol": 1}
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        urllib.request.urlopen(f"{with_users.address}/api/seedbed", timeout=120)  # noqa: S310
    refused.value.close()
