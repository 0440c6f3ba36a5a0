"""`seedbed server`: a real MLflow server on a real PostgreSQL, trained into, killed, started again."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.leash import identity, let_go, on_leash
from pipeline.servers import postgres as postgres_room
from pipeline.servers.postgres import Cluster, account
from tests.conftest import in_process, seedbed
from tests.documents import PAGES, blocks, commands
from tests.ports import own_port
from tests.postgres import skip_without_postgres
from tests.processes import descendants, left_after, until_ctrl_c

SWEEP = ("sweep", "data=cat_shop", "training.epochs=20", "tracking=server", "tracking.experiment=shared")


@pytest.fixture
def needs_postgres() -> None:
    """Skips, with the reason, where PostgreSQL or psycopg is missing."""
    skip_without_postgres()


@dataclass(frozen=True)
class Started:
    """A `seedbed server` that has said where it is."""

    process: subprocess.Popen[str]
    told: str
    address: str

    def family(self) -> set[int]:
        """The processes that it consists of: MLflow's and PostgreSQL's too."""
        return {self.process.pid, *descendants(self.process.pid)}


@contextlib.contextmanager
def started(folder: Path, *words: str) -> Iterator[Started]:
    """`seedbed server` in a folder; SIGKILLed at the end if it is still there."""
    port = [] if "--port" in words else ["--port", str(own_port())]
    command = [sys.executable, "-m", "pipeline", "server", *words, *port]
    with until_ctrl_c(command, folder) as (process, told):
        (address,) = re.findall(r"MLflow UI: (http://127\.0\.0\.1:\d+)/", told)
        yield Started(process, told, address)


def summary(done: subprocess.CompletedProcess[str]) -> str:
    """What a sweep that went well says of its runs."""
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("needs_postgres")
def test_it_keeps_runs_over_every_kind_of_end(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, SIGKILL and SIGTERM end all of it; each time the data is there again."""
    work = open_folder / "work"
    work.mkdir()
    pid_file = open_folder / "seedbed-server" / "postgres" / "postmaster.pid"
    with started(open_folder) as server:
        assert pid_file.exists()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        assert "3 runs: 3 trained" in summary(seedbed(*SWEEP, "seed=0,1,2", cwd=work))
        second = seedbed("server", cwd=open_folder)
        assert second.returncode == 1
        (sentence,) = second.stderr.splitlines()
        assert sentence == (
            f"error: A server runs on {open_folder / 'seedbed-server'} already ({server.address}): use it, or choose "
            "another --folder."
        )
        family = server.family()
        assert len(family) > 8  # PostgreSQL alone is six
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(120) == 0
        assert not pid_file.exists(), "the database has ended before"
        assert not left_after(60, family)
    with started(open_folder) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        assert "3 runs, 3 of them finished already" in summary(seedbed(*SWEEP, "seed=0,1,2", cwd=work))
        family = server.family()
        server.process.kill()
        assert not left_after(120, family)
    with started(open_folder) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        assert "4 runs, 3 of them finished already" in summary(seedbed(*SWEEP, "seed=0,1,2,3", cwd=work))
        family = server.family()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(120) == 0
        assert not pid_file.exists(), "the database has ended before"
        assert not left_after(60, family)
    assert not list(work.iterdir())
    files = list((open_folder / "seedbed-server" / "artifacts").rglob("weights.npz"))
    assert len(files) == 4


@pytest.mark.slow
@pytest.mark.usefixtures("needs_postgres")
def test_only_its_user_can_read_what_it_keeps(open_folder: Path) -> None:
    with started(open_folder, "--folder", "kept") as server:
        home = open_folder / "kept"
        password = (home / "pgpass").read_text().strip().rpartition(":")[2]
        modes = {name: (home / name).stat().st_mode & 0o777 for name in ("pgpass", "postgres", "artifacts")}
        assert modes == {"pgpass": 0o600, "postgres": 0o700, "artifacts": 0o700}
        said = [server.told, (home / "mlflow.log").read_text(), (home / "postgres.log").read_text()]
        words = ["ps", "-o", "args=", "-p", ",".join(map(str, server.family()))]
        said += [subprocess.run(words, capture_output=True, text=True, check=True).stdout]
        assert "mlflow server" in said[-1]
        assert len(password) > 20
        assert not any(password in text for text in said)


@pytest.mark.slow
@pytest.mark.usefixtures("needs_postgres")
def test_the_backups_of_the_document_can_be_restored(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands as they are written, but for ports and the place of the copy."""
    found = commands(PAGES["docs/SERVER.md"])
    copy, dump, pack, restore, unpack = (
        one for one in found if re.match(r"cp -a|tar|PGPASSFILE=.* pg_(dump|restore)", one)
    )
    with started(open_folder) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        assert "3 runs: 3 trained" in summary(seedbed(*SWEEP, "seed=0,1,2", cwd=open_folder))
        for command in (dump, pack):
            shell(command.replace("54320", database_port(server)), open_folder)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(120) == 0
    (open_folder / "backup").mkdir(mode=0o711)
    shell(copy.replace("/backup/", "backup/"), open_folder)
    for name in ("restored", "backup/seedbed-server"):
        with started(open_folder, "--folder", name) as server:
            if name == "restored":
                shell(restore.replace("54321", database_port(server)), open_folder)
                shell(unpack, open_folder)
            monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
            assert "3 of them finished already" in summary(seedbed(*SWEEP, "seed=0,1,2", cwd=open_folder))
            shown = seedbed("predict", "experiment=shared", "rows=[[1, 0, 1]]", cwd=open_folder)
            assert shown.returncode == 0, shown.stderr  # which reads files


def database_port(server: Started) -> str:
    """PostgreSQL's port, as the command has printed it."""
    (port,) = re.findall(r"PostgreSQL: port (\d+)", server.told)
    return str(port)


def shell(command: str, folder: Path) -> None:
    """Runs a command as it is typed."""
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(find_spec("flask_wtf") is None, reason="make setup EXTRAS=auth")
@pytest.mark.usefixtures("needs_postgres")
def test_with_auth_nobody_gets_in_without_a_password(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with started(open_folder, "--auth") as server:
        password = (open_folder / "seedbed-server" / "admin-password").read_text()
        assert [status(server.address, *login) for login in ((), ("admin", "wrong"), ("admin", password))] == [
            401,
            401,
            200,
        ]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        refused = seedbed("train", "data=cat_shop", "training.epochs=20", "tracking=server", cwd=open_folder)
        assert refused.returncode == 1
        assert refused.stderr.startswith("error: ")
        assert len(refused.stderr.splitlines()) == 1
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        assert "3 runs: 3 trained" in summary(seedbed(*SWEEP, "seed=0,1,2", cwd=open_folder))
        (snippet,) = [block.body for block in blocks(PAGES["docs/SERVER.md"]) if block.language == "python"]
        create, grant = snippet.replace("http://127.0.0.1:5000", server.address).split("users.grant")
        run_snippet(create)
        assert searched(server.address, "ada", "correct horse") == []  # what others keep is not hers to see
        run_snippet(create.replace("users.create_user", "print") + "users.grant" + grant)
        assert searched(server.address, "ada", "correct horse") == ["shared"]
        assert searched(server.address, "admin", password) == ["Default", "shared"]


def status(address: str, *login: str) -> int:
    """The HTTP status of the UI's page."""
    try:
        return int(call(f"{address}/", login).status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def call(url: str, login: Sequence[str], **content: object) -> "urllib.request._UrlopenRet":
    """Asks a server for something."""
    request = urllib.request.Request(url, json.dumps(content).encode() if content else None)  # noqa: S310
    request.add_header("Content-Type", "application/json")
    if login:
        request.add_header("Authorization", "Basic " + b64encode(":".join(login).encode()).decode())
    return urllib.request.urlopen(request, timeout=300)  # noqa: S310


def run_snippet(code: str) -> None:
    """Runs Python as docs/SERVER.md has it; who asks for a password gets one."""
    code = code.replace("getpass()", '"correct horse"')
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def searched(address: str, user: str, password: str) -> list[str]:
    """The names of the experiments that a user sees."""
    with call(f"{address}/api/2.0/mlflow/experiments/search", (user, password), max_results=10) as answer:
        return sorted(found["name"] for found in json.loads(answer.read()).get("experiments", []))


@pytest.mark.slow
@pytest.mark.usefixtures("needs_postgres")
def test_what_a_killed_postgres_leaves_does_not_stop_the_next(open_folder: Path) -> None:
    """Not even if its process id belongs to another process of the same user by now."""
    cluster = Cluster(open_folder / "postgres", open_folder / "pgpass")
    cluster.make()
    port, log = own_port(), open_folder / "log"
    named = cluster.folder / "postmaster.pid"
    with cluster.running(port, log) as process:
        lines = named.read_text().splitlines()
        family = descendants(process.pid)
        os.kill(int(lines[0]), signal.SIGKILL)
        assert process.wait(120) == 128 + signal.SIGKILL
    assert not left_after(60, family)  # PostgreSQL does not start beside what is left of it
    other = subprocess.Popen(["sleep", "600"], **identity(account()))
    try:
        named.write_text("\n".join([str(other.pid), *lines[1:], ""]))
        with cluster.running(port, log):
            cluster.make_database(port, "again")
            with pytest.raises(UserError, match=r"^PostgreSQL did not start \(.*\): see .*second\.$"):
                cluster.running(port, open_folder / "second").__enter__()
    finally:
        other.kill()
        other.wait()


def test_a_command_on_a_leash_ends_with_its_input_and_tells_its_exit_code(tmp_path: Path) -> None:
    said = tmp_path / "said"
    with said.open("wb") as log:
        process = on_leash(
            ["sh", "-c", "trap 'echo ended; exit 3' TERM; sleep 600 & echo on; wait"], signal.SIGTERM, log
        )
        while "on" not in said.read_text():
            time.sleep(0.05)
        family = {process.pid, *descendants(process.pid)}
        assert len(family) == 3
        let_go(process)
    assert process.returncode == 3
    assert said.read_text() == "on\nended\n"
    assert not left_after(60, family)


def test_a_command_on_a_leash_that_ends_by_itself_ends_the_leash() -> None:
    process = on_leash(["sh", "-c", "exit 7"], signal.SIGTERM, subprocess.DEVNULL)
    assert process.wait(120) == 7
    let_go(process)


def refused(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence with which a command is refused."""
    assert in_process(words, folder) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    return sentence


def test_without_a_server_training_says_so_within_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = own_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    words = ["train", "data=cat_shop", "training.epochs=20", "tracking=server"]
    refused(words, tmp_path, capsys)  # imports what the command needs, which takes seconds of its own
    began = time.monotonic()
    said = refused(words, tmp_path, capsys)
    assert time.monotonic() - began < 60  # a fraction of a second on a quiet machine; MLflow's own tries take minutes
    assert re.fullmatch(
        rf"error: No server answers at http://127\.0\.0\.1:{port} \(.*\): start it, or change tracking\.uri\.", said
    )


def test_without_postgresql_it_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_room, "DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    said = refused(["server"], tmp_path, capsys)
    assert said == "error: PostgreSQL is not installed: install it (on Debian: apt-get install postgresql)."
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("needs_postgres")
@pytest.mark.parametrize(("module", "extra"), [("psycopg", "postgres"), ("flask_wtf", "auth")])
def test_without_a_package_it_says_which_extra_has_it(
    module: str, extra: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    said = refused(["server", "--auth"], tmp_path, capsys)
    assert f"run `make setup EXTRAS={extra}` or `pip install '" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("needs_postgres")
def test_a_folder_that_cannot_be_one_and_a_port_that_is_taken_are_refused(
    open_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (open_folder / "file").touch()
    said = refused(["server", "--folder", "file"], open_folder, capsys)
    assert said == f"error: --folder {open_folder / 'file'} cannot be used (File exists): choose another."
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        said = refused(["server", "--port", str(port)], open_folder, capsys)
    assert said == f"error: --port {port} is taken: choose another."


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
@pytest.mark.usefixtures("needs_postgres")
def test_as_root_a_folder_that_its_user_cannot_reach_is_refused(
    open_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_folder.chmod(0o700)
    said = refused(["server"], open_folder, capsys)
    assert said.startswith(f"error: PostgreSQL does not run as root, and the user {account()} cannot reach")
