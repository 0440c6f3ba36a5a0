"""Stores that fail at the start, in the middle, for a while: nothing is lost, and nothing is trained twice."""

import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from pipeline.config import TrackingConfig
from pipeline.errors import UserError
from pipeline.servers.ports import HOST
from pipeline.servers.postgres import Cluster
from pipeline.store.address import PROBE_SECONDS
from pipeline.store.outbox import Outbox
from pipeline.store.track import Store
from tests.conftest import seedbed
from tests.ports import own_port
from tests.postgres import Server
from tests.processes import TWO, eventually, session
from tests.stored import check_integrity, finished, seen, statuses
from tests.sweeps import (
    APPS,
    EVERY,
    LAST,
    RUNS,
    Command,
    freeze,
    frozen_with_lock,
    in_folder,
    left,
    make_empty_store,
    over_http,
    serving,
    store_of,
    undisturbed,
)

__all__ = ["undisturbed"]  # a fixture

pytestmark = pytest.mark.usefixtures("own_outbox")


def has_run(command: Command, status: str) -> Callable[[], bool]:
    """Whether a trained run has this status."""

    def look() -> bool:
        try:
            return any(one.status == status and not one.is_parent for one in seen(command.database))
        except DBAPIError:  # the tables are being made
            return False

    return look


def check_waits(command: Command, code: int) -> None:
    """What a sweep says whose store was lost: one note, one error."""
    said = command.said()
    assert code == 1, said
    assert "Traceback" not in said
    assert said.count("note: The store ") == 1, said
    last = said.strip().splitlines()[-1]
    assert re.fullmatch(rf"error: {left(command)} results wait for .*nothing needs to be trained again\.", last), said
    assert f"{RUNS} runs: {RUNS} trained" in said
    names = {file.suffix for folder in Outbox(store_of(command)).waiting() for file in folder.iterdir()}
    assert names <= {".npz", ".json", ".yaml", ".csv"}


def check_all_there(command: Command, undisturbed: Command) -> None:
    """All runs are there once, as if nothing had been, and a further start trains nothing."""
    said = command.to_its_end()
    assert f"{RUNS} runs, {RUNS} of them finished already; 0 stacks to train" in said
    assert "Nothing to train" in said
    assert left(command) == 0
    assert finished(command.database, command.served) == finished(undisturbed.database)
    kept = statuses(command.database)
    if command.served:  # a run that was being made when the server was lost
        kept = [status for status in kept if status != "KILLED"]
    assert kept == ["FINISHED"] * RUNS + ["parent FINISHED"] * 2


# --- nobody there -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server((HOST, 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg"])
@pytest.mark.parametrize("silent", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["nobody", "silent"])
def test_a_server_that_is_down_at_the_start_is_one_sentence_soon(scheme: str, silent: bool) -> None:
    with silent_port() if silent else contextlib.nullcontext(own_port()) as port:
        started = time.monotonic()
        why = f"no answer within {PROBE_SECONDS:.0f} s|.*timed out.*" if silent else "Connection refused"
        said = rf"^(No server answers at|The store) {re.escape(scheme)}://.* \(({why})\): .*\.$"
        with pytest.raises(UserError, match=said):
            Store(TrackingConfig(uri=f"{scheme}://{HOST}:{port}" + ("/db" if scheme != "http" else "")), print)
        assert time.monotonic() - started < 60  # busy machines take their time for the rest
    assert PROBE_SECONDS <= 10


def test_a_command_whose_server_is_down_says_so_and_trains_nothing(tmp_path: Path) -> None:
    address = f"http://{HOST}:{own_port()}"
    done = seedbed("sweep", "data=cat_shop", "seed=0,1", f"tracking.uri={address}", cwd=tmp_path)
    expected = f"error: No server answers at {address} (Connection refused): start it, or change tracking.uri.\n"
    assert (done.returncode, done.stderr) == (1, expected)
    assert done.stdout == ""


# --- servers that are lost in the middle ------------------------------------------------------------------------


def signal_server(process: subprocess.Popen[bytes], kind: signal.Signals) -> None:
    """Sends a signal to a server's processes, without the one that keeps it on its leash."""
    for pid in session(process.pid):
        if pid != process.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, kind)


@pytest.mark.slow
@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize(("lost_at", "sent_by"), [("RUNNING", "sync"), ("FINISHED", "the next start")])
def test_a_server_killed_in_the_middle_gets_all_when_it_is_back(
    app: str,
    lost_at: str,
    sent_by: str,
    undisturbed: Command,
    tmp_path: Path,
) -> None:
    port = own_port()
    command = over_http(tmp_path / "here", port).held(*(EVERY if lost_at == "RUNNING" else LAST))
    with serving(command.folder, port, app) as process, command.started() as sweep:
        eventually(has_run(command, lost_at), 300)
        signal_server(process, signal.SIGKILL)
        command.let_go()
        code = sweep.wait(300)
    check_waits(command, code)
    with serving(command.folder, port, app):
        if sent_by == "sync":
            done = seedbed("sync", f"tracking.uri={store_of(command)}", cwd=command.folder)
            assert done.returncode == 0, done.stderr
            assert "are in it now." in done.stdout
            assert not has_run(command, "RUNNING")()
        check_all_there(command, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("app", APPS)
def test_a_frozen_server_is_given_up_within_minutes(app: str, undisturbed: Command, tmp_path: Path) -> None:
    port = own_port()
    command = over_http(tmp_path / "here", port).held(*LAST)
    with serving(command.folder, port, app) as process:
        with command.started() as sweep:
            eventually(has_run(command, "FINISHED"), 300)
            signal_server(process, signal.SIGSTOP)
            command.let_go()
            code = sweep.wait(150)  # about 45 s on a quiet machine, most of it patience; it was 185 s once
        check_waits(command, code)
        signal_server(process, signal.SIGCONT)
        check_all_there(command, undisturbed)


@pytest.fixture
def cluster(postgres: Server) -> Iterator[Cluster]:
    """A PostgreSQL server that a test may stop, with an empty database `db`."""
    with tempfile.TemporaryDirectory(prefix="seedbed test ") as name:
        folder = Path(name)
        folder.chmod(0o711)  # where tests run as root, PostgreSQL runs as another user
        made = Cluster(folder / "data", folder / "pgpass")
        made.make()  # durable, as it is killed
        yield made


@pytest.mark.slow
def test_postgresql_stopped_in_the_middle_gets_all_when_it_is_back(
    cluster: Cluster,
    undisturbed: Command,
    tmp_path: Path,
) -> None:
    port = own_port()
    log = cluster.folder.parent / "log"
    own = Server(port, cluster.password)
    with cluster.running(port, log):
        command = in_folder(tmp_path / "here", *TWO, uri=own.new_database()).held(*LAST)
        with command.started() as sweep:
            eventually(has_run(command, "FINISHED"), 300)
            cluster_off(cluster)
            command.let_go()
            code = sweep.wait(300)
    check_waits(command, code)
    with cluster.running(port, log):
        done = seedbed("sync", f"tracking.uri={store_of(command)}", cwd=command.folder)
        assert done.returncode == 0, done.stderr
        check_all_there(command, undisturbed)


def cluster_off(cluster: Cluster) -> None:
    """Stops a PostgreSQL server at once, as a crash of its machine would."""
    leader = int((cluster.folder / "postmaster.pid").read_text().splitlines()[0])
    os.kill(leader, signal.SIGQUIT)
    eventually(lambda: not (cluster.folder / "postmaster.pid").exists(), 120)


# --- SQLite -----------------------------------------------------------------------------------------------------


@pytest.fixture
def with_store(undisturbed: Command, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The sweep in a folder that has a store, without any of its runs."""
    command = in_folder(tmp_path / "here", *TWO)
    make_empty_store(command, tmp_path_factory)
    return command


@contextlib.contextmanager
def locked(command: Command, driver: "subprocess.Popen[str]") -> Iterator[None]:
    """Nobody else can write to the database in the block, also not the sweep, which is let go in it."""
    with contextlib.closing(frozen_with_lock(driver, command)) as connection:
        driver.send_signal(signal.SIGCONT)
        command.let_go()
        yield
        connection.execute("ROLLBACK")


@pytest.mark.slow
def test_a_database_that_is_locked_for_a_moment_is_waited_for(with_store: Command, undisturbed: Command) -> None:
    command = with_store.held(*EVERY)
    with command.started() as sweep:
        eventually(has_run(command, "RUNNING"), 300)
        with locked(command, sweep):
            time.sleep(4)
        assert sweep.wait(300) == 0
    assert "note" not in command.said()
    check_all_there(command, undisturbed)


@pytest.mark.slow
def test_a_database_that_stays_locked_gets_all_later(with_store: Command, undisturbed: Command) -> None:
    command = with_store.held(*EVERY)
    with command.started() as sweep:
        eventually(has_run(command, "RUNNING"), 300)
        with locked(command, sweep):
            code = sweep.wait(600)
    check_waits(command, code)
    assert "database is locked" in command.said()
    check_all_there(command, undisturbed)


@pytest.mark.slow
def test_a_place_for_files_that_is_gone_in_the_middle_is_waited_for(with_store: Command, undisturbed: Command) -> None:
    """A file stands where the folder was: nothing can be put there, not even by root."""
    command = with_store.held(*LAST)
    place = command.folder / "mlflow-artifacts"
    with command.started() as sweep:
        eventually(has_run(command, "FINISHED"), 300)
        freeze(sweep)  # else it may make the folder again in between
        moved = place.rename(place.with_name("moved"))
        place.touch()
        sweep.send_signal(signal.SIGCONT)
        command.let_go()
        code = sweep.wait(300)
    check_waits(command, code)
    place.unlink()
    moved.rename(place)
    check_all_there(command, undisturbed)


@pytest.mark.slow
def test_a_folder_of_files_that_is_deleted_in_the_middle_is_made_again(with_store: Command) -> None:
    command = with_store.held(*LAST)
    with command.started() as sweep:
        eventually(
            lambda: has_run(command, "RUNNING")() and statuses(command.database).count("FINISHED") == RUNS - 16, 300
        )
        # Nothing is written now: what is being put there at this moment would have to wait.
        shutil.rmtree(command.folder / "mlflow-artifacts")
        command.let_go()
        assert sweep.wait(300) == 0, command.said()
    assert f"{RUNS} runs: {RUNS} trained" in command.said()
    assert sum(bool(one.files()) for one in seen(command.database) if not one.is_parent) == 16


# --- no room, no right ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_file_longer(bytes_: int) -> Iterator[None]:
    """What is started in the block can write no file further than this, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_a_database_that_cannot_grow_gets_all_when_it_can(with_store: Command, undisturbed: Command) -> None:
    size = (with_store.folder / "mlflow.db").stat().st_size
    with no_file_longer(size + 50_000), with_store.started() as sweep:
        code = sweep.wait(300)
    check_waits(with_store, code)
    check_integrity(with_store.folder / "mlflow.db")
    check_all_there(with_store, undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own; `resize` it by mounting it again. Skips where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = mount("-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder))
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def mount(*words: str) -> subprocess.CompletedProcess[str]:
    """Mounts."""
    return subprocess.run(["mount", *words], capture_output=True, text=True, check=False)


def moved_to(command: Command, folder: Path) -> Command:
    """The command, with its store, in another folder."""
    shutil.copy(command.folder / "mlflow.db", folder)
    return replace(command, folder=folder, database=f"sqlite:///{folder}/mlflow.db")


@pytest.mark.slow
@pytest.mark.parametrize("outbox", ["elsewhere", "on it"])
def test_a_full_disk(
    outbox: str,
    with_store: Command,
    undisturbed: Command,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = moved_to(with_store, small_disk)
    if outbox == "on it":
        monkeypatch.setenv("SEEDBED_OUTBOX", str(small_disk / "outbox"))
    with command.started() as sweep:
        code = sweep.wait(300)
    said = command.said()
    assert code == 1, said
    assert "Traceback" not in said
    if outbox == "on it":
        assert re.search(r"error: Neither the store .* can be written to: make room, or name another folder", said)
    else:
        check_waits(command, code)
    mount("-o", "remount,size=100m", str(small_disk))
    check_integrity(small_disk / "mlflow.db")
    if outbox == "elsewhere":
        check_all_there(command, undisturbed)
    else:
        command.to_its_end()
        assert finished(command.database) == finished(undisturbed.database)
        assert left(command) == 0
        assert "RUNNING" not in " ".join(statuses(command.database))


@pytest.mark.slow
@pytest.mark.parametrize("has_store", [True, False])
def test_a_folder_that_can_only_be_read_is_one_sentence(has_store: bool, with_store: Command, small_disk: Path) -> None:
    if has_store:
        moved_to(with_store, small_disk)
    mount("-o", "remount,ro", str(small_disk))
    done = seedbed(
        "sweep", "data=cat_shop", "seed=0,1", f"tracking.uri=sqlite:///{small_disk}/mlflow.db", cwd=small_disk
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert re.match(r"error: .*(read-only|readonly|unable to open|Read-only)", done.stderr)
