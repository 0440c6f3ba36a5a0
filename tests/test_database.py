"""A store's database: made once whoever starts, whole whoever dies, never another's that is changed."""

import contextlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sqlalchemy import create_engine, text

from pipeline.errors import UserError
from pipeline.store.database import (
    REVISION,
    check_revision,
    close_connections,
    is_network,
    is_store,
    locked,
    made_experiment,
    make_database,
    prepare,
    settle,
    tune_connections,
    use_wal,
)
from tests.conftest import copy_store, seedbed
from tests.postgres import Server


def ask(file: Path, query: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        return connection.execute(query).fetchall()


def names(folder: Path) -> set[str]:
    """What is in a folder, without what SQLite keeps beside a database that is open."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm"))}


def test_the_revision_is_that_of_the_mlflow_that_is_installed(empty_store: Path) -> None:
    assert ask(empty_store / "mlflow.db", "SELECT version_num FROM alembic_version") == [(REVISION,)]


def test_a_new_database_is_whole_and_alone_and_has_a_write_ahead_log(tmp_path: Path) -> None:
    file = tmp_path / "my runs ü.db"
    prepare(f"sqlite:///{file}")
    assert names(tmp_path) == {file.name}
    assert ask(file, "PRAGMA journal_mode") == [("wal",)]
    assert ask(file, "SELECT name FROM experiments") == [("Default",)]
    before = file.stat()
    prepare(f"sqlite:///{file}")
    assert file.stat().st_mtime_ns == before.st_mtime_ns, "there is nothing to do a second time"


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    file.touch()
    assert not is_store(f"sqlite:///{file}")
    make_database(file)
    assert is_store(f"sqlite:///{file}")
    assert names(tmp_path) == {file.name}


def test_what_a_killed_process_left_is_cleared_away(empty_store: Path) -> None:
    file, left = empty_store / "mlflow.db", empty_store / ".seedbed-mlflow.db"
    left.mkdir()
    (left / "mlflow.db-journal").touch()
    (empty_store / ".mlflow.db.lock").touch()
    (empty_store / ".seedbed-other.db").mkdir()
    make_database(file)
    assert names(empty_store) == {"mlflow.db", ".seedbed-other.db"}


@pytest.mark.parametrize("call", [prepare, is_store])
def test_another_database_is_named_and_left_as_it_is(tmp_path: Path, call: object) -> None:
    file = tmp_path / "addresses.db"
    ask(file, "CREATE TABLE people (name TEXT)")
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"^sqlite:////.*addresses\.db is a database of something else: name another"):
        call(f"sqlite:///{file}")  # type: ignore[operator]
    assert file.read_bytes() == before


@pytest.mark.parametrize("call", [prepare, is_store])
def test_a_file_that_is_no_database_is_named_and_left_as_it_is(tmp_path: Path, call: object) -> None:
    file = tmp_path / "text.txt"
    file.write_text("These are my notes, and they are longer than a header.\n" * 50)
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"cannot be used \(file is not a database\): check tracking\.uri\.$"):
        call(f"sqlite:///{file}")  # type: ignore[operator]
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("revision", "sentence"),
    [
        ("bd07f7e963c5", "is of an older MLflow (it has schema bd07f7e963c5, MLflow 3"),
        ("0123456789ab", "is of a newer MLflow than 3"),
    ],
)
def test_the_store_of_another_mlflow_is_not_changed(empty_store: Path, revision: str, sentence: str) -> None:
    file = empty_store / "mlflow.db"
    ask(file, f"UPDATE alembic_version SET version_num = '{revision}'")  # noqa: S608
    ask(file, "DROP TABLE online_scoring_configs")  # a table that came late: MLflow would run its migrations at once
    with pytest.raises(UserError) as caught:
        prepare(f"sqlite:///{file}")
    assert str(caught.value).startswith(f"The store sqlite:///{file} {sentence}")
    assert "online_scoring_configs" not in str(ask(file, "SELECT name FROM sqlite_master"))


def test_the_newest_revision_that_mlflow_knows_is_good() -> None:
    check_revision("sqlite:///any.db", REVISION)


def test_one_at_a_time_holds_a_lock_though_its_file_is_removed_each_time(tmp_path: Path) -> None:
    inside: list[int] = []

    def enter(_: int) -> int:
        with locked(tmp_path / "lock"):
            inside.append(1)
            together = len(inside)
            time.sleep(0.001)
            inside.pop()
        return together

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(enter, range(200))) == {1}
    assert not names(tmp_path)


def test_connections_to_our_files_are_tuned_and_to_others_not(empty_store: Path, tmp_path: Path) -> None:
    ours, other, plain = empty_store / "mlflow.db", tmp_path / "other.db", tmp_path / "plain.db"
    use_wal(ours)
    use_wal(other)
    for file in (ours, plain):
        tune_connections(file)
        tune_connections(file)
    for file, synchronous, waits in ((ours, 1, True), (other, 2, False), (plain, 2, True)):  # NORMAL, FULL, FULL
        engine = create_engine(f"sqlite:///{file}")
        with engine.connect() as connection:
            assert connection.execute(text("PRAGMA synchronous")).scalar() == synchronous, file
            assert (connection.execute(text("PRAGMA busy_timeout")).scalar() == 20_000) == waits, file
        engine.dispose()


def test_after_a_sweep_a_plain_copy_is_whole_and_the_planner_knows_the_tables(empty_store: Path) -> None:
    file, copy = empty_store / "mlflow.db", empty_store / "copy.db"
    use_wal(file)
    client = MlflowClient(f"sqlite:///{file}")
    client.create_run("0", run_name="kept")
    shutil.copy(file, copy)
    assert ("kept",) not in ask(copy, "SELECT name FROM runs"), "else nothing is shown here"
    settle(f"sqlite:///{file}")
    shutil.copy(file, copy)
    assert ("kept",) in ask(copy, "SELECT name FROM runs")
    assert ask(copy, "SELECT count(*) FROM sqlite_stat1 WHERE tbl = 'runs'") != [(0,)]


@pytest.mark.slow
def test_no_log_stays_beside_the_database_when_a_process_has_ended(store: Path, tmp_path: Path) -> None:
    file = copy_store(store, tmp_path)
    code = f"from pipeline.store.database import *; prepare('sqlite:///{file}')\n"
    code += f"from mlflow import MlflowClient; MlflowClient('sqlite:///{file}').create_run('0')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=900)
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db"}
    assert ask(file, "SELECT count(*) FROM runs WHERE experiment_id = 0") == [(1,)]


def test_a_locked_database_is_not_settled_and_nobody_is_told(
    empty_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.store.database.SETTLE_SECONDS", 0.1)
    with contextlib.closing(sqlite3.connect(empty_store / "mlflow.db", isolation_level=None)) as connection:
        connection.execute("DROP TABLE IF EXISTS sqlite_stat4")
        connection.execute("DELETE FROM sqlite_stat1")
        connection.execute("BEGIN EXCLUSIVE")
        settle(f"sqlite:///{empty_store}/mlflow.db")
        connection.execute("COMMIT")
        assert connection.execute("SELECT count(*) FROM sqlite_stat1").fetchone() == (0,)
    assert capsys.readouterr() == ("", "")


def test_an_experiment_that_many_make_at_once_is_one(empty_store: Path) -> None:
    uri = f"sqlite:///{empty_store}/mlflow.db"
    prepare(uri)  # else each of eight commits waits for the disk, and who waits for all gives up after 20 s
    close_connections()
    client = MlflowClient(uri)
    start = threading.Barrier(8)

    def make(_: int) -> str:
        start.wait()
        return made_experiment(client, "new", str(empty_store / "files"), {"seedbed.database": "here"})

    with ThreadPoolExecutor(8) as pool:
        (one,) = set(pool.map(make, range(8)))
    found = client.get_experiment(one)
    assert (found.name, found.tags["seedbed.database"]) == ("new", "here")


MOUNTS = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:26 / /net rw,relatime shared:2 - nfs4 host:/export rw
31 30 254:1 / /net/my\040local rw,relatime - xfs /dev/sdb rw
32 22 0:30 / /ünder rw,relatime - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("file", "network"),
    [
        ("/home/me/mlflow.db", False),
        ("/net/mlflow.db", True),
        ("/net/my local/mlflow.db", False),
        ("/network/mlflow.db", False),
        ("/ünder/a/mlflow.db", True),
    ],
)
def test_a_network_file_system_is_known_by_its_mount(tmp_path: Path, file: str, network: bool) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS, encoding="utf-8")
    assert is_network(Path(file), str(mounts)) == network
    assert not is_network(Path(file), str(tmp_path / "nothing"))


# --- many processes, and killed ones ----------------------------------------------------------------------------


@pytest.mark.slow
def test_twelve_processes_that_start_at_once_on_a_new_store_all_succeed(tmp_path: Path) -> None:
    with ThreadPoolExecutor(12) as pool:
        words = ["train", "data=cat_shop", "training.epochs=5", "executor=serial"]
        done = list(pool.map(lambda seed: seedbed(*words, f"seed={seed}", cwd=tmp_path), range(12)))
    assert [one.stderr for one in done if one.returncode] == []
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = [one for one in client.search_experiments() if one.name != "Default"]
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 12
    assert {run.data.params["seed"] for run in runs} == {str(seed) for seed in range(12)}
    assert names(tmp_path) == {"mlflow.db", "mlflow-artifacts"}


BUILD = "import sys; from pathlib import Path; from pipeline.store.database import *; make_database(Path(sys.argv[1]))"


@pytest.mark.slow
def test_killed_builders_leave_nothing_that_the_next_start_cannot_clear_away(tmp_path: Path) -> None:
    draw = random.Random(0)
    for i in range(6):
        file = tmp_path / str(i) / "mlflow.db"
        file.parent.mkdir()
        builders = [subprocess.Popen([sys.executable, "-c", BUILD, str(file)]) for _ in range(2)]
        deadline = time.monotonic() + 300
        while not (left := names(file.parent)):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 2.5))
        for builder in builders:
            builder.send_signal(signal.SIGKILL)
            builder.wait()
        left = names(file.parent)
        make_database(file)
        assert names(file.parent) == {"mlflow.db"}, left
        assert is_store(f"sqlite:///{file}")
        assert ask(file, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.slow
def test_several_processes_that_start_at_once_on_a_new_postgresql_database_make_one_store(postgres: Server) -> None:
    uri = postgres.new_database()
    assert not is_store(uri)
    code = f"from pipeline.store.database import *; prepare('{uri}')"
    words = [sys.executable, "-c", code]
    starting = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    told = [process.communicate(timeout=900)[1] for process in starting]
    assert [process.returncode for process in starting] == [0] * 4, told
    assert is_store(uri)
    client = MlflowClient(uri)
    client.create_run("0")
    settle(uri)
    engine = create_engine(uri)
    with engine.connect() as connection:
        query = "SELECT reltuples FROM pg_class WHERE relname = 'runs'"
        assert connection.execute(text(query)).scalar() == 1, "analyzed"
    engine.dispose()
