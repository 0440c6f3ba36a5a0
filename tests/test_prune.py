"""`seedbed prune` on real stores: what it lists, what it deletes, what it leaves."""

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.store.tracking.dbmodels import models

from pipeline.process import this_process
from pipeline.store.database import close_connections, prepare
from pipeline.store.prune import find_waste
from pipeline.store.sink import PROCESS
from tests.conftest import in_process

TABLES = ("runs", "tags", "params", "metrics", "latest_metrics", "inputs", "input_tags")


@pytest.fixture
def made(empty_store: Path) -> Iterator[Path]:
    """A store with two trained runs, in a folder of its own."""
    folder = empty_store / "a b"
    folder.mkdir()
    shutil.copy(empty_store / "mlflow.db", folder)
    prepare(f"sqlite:///{folder}/mlflow.db")
    words = ["data=exam", "training.epochs=3", "tracking.experiment=one", "seed=0,1"]
    assert in_process(["sweep", *words], folder) == 0
    yield folder
    close_connections()


def client_of(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder}/mlflow.db")


def trained(folder: Path) -> dict[str, str]:
    """Ids of the trained runs of the experiment, by seed."""
    client = client_of(folder)
    found = client.get_experiment_by_name("one")
    assert found is not None
    runs = client.search_runs([found.experiment_id], "tags.fingerprint LIKE '%'")
    return {run.data.params["seed"]: run.info.run_id for run in runs}


def rows(folder: Path) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}  # noqa: S608


def aged(folder: Path, seconds: float = 7200) -> Path:
    """A folder with a file, as if made some time ago."""
    folder.mkdir(parents=True)
    (folder / "weights.npz").write_bytes(b"1234567890")
    for path in (folder / "weights.npz", folder):
        os.utime(path, (time.time() - seconds,) * 2)
    return folder


def test_a_store_without_waste_says_so(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert in_process(["prune", "--delete", "--killed"], made) == 0
    assert capsys.readouterr().out == "Nothing to prune in sqlite:///mlflow.db.\n"


def test_deleted_runs_go_with_rows_and_files_once_that_is_asked_for(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_ids = trained(made)
    before = rows(made)
    client_of(made).delete_run(run_ids["0"])
    capsys.readouterr()
    assert in_process(["prune"], made) == 0
    told = capsys.readouterr().out
    assert "runs deleted in MLflow" in told
    assert "Nothing was deleted: `seedbed prune --delete` does it, for good." in told
    assert rows(made) == before
    assert in_process(["prune", "--delete"], made) == 0
    assert capsys.readouterr().out.endswith("Deleted.\n")
    after = rows(made)
    assert before["runs"] - after["runs"] == before["inputs"] - after["inputs"] == 1
    assert all(after[table] < before[table] for table in TABLES)
    assert not (made / "mlflow-artifacts" / run_ids["0"]).exists()
    assert in_process(["predict", f"run={run_ids['1']}", "rows=[[2,9]]"], made) == 0
    assert in_process(["prune"], made) == 0
    assert "Nothing to prune" in capsys.readouterr().out


def test_every_table_that_hangs_on_runs_is_emptied() -> None:
    """A later MLflow may have more of them."""
    hanging = {
        table.name
        for table in models.SqlRun.metadata.tables.values()
        for key in table.foreign_keys
        if key.column.table.name == "runs" and key.ondelete != "SET NULL"
    }
    assert hanging == {"tags", "params", "metrics", "latest_metrics", "logged_model_metrics"}


def test_what_killed_processes_left_goes_after_an_hour_and_other_folders_stay(made: Path) -> None:
    root, run_id = made / "mlflow-artifacts", "0123456789abcdef" * 2
    gone = [aged(root / run_id), aged(root / ".seedbed-x"), aged(made / ".seedbed-mlflow.db")]
    left = [
        aged(root / run_id.replace("0", "1"), 60),
        aged(root / "models"),
        aged(root / "0123"),
        aged(made / run_id),
        aged(made / "other-artifacts" / run_id),
        aged(made / ".seedbed-young", 60),
    ]
    kept = list(trained(made).values())
    found = find_waste(f"sqlite:///{made}/mlflow.db", client_of(made), killed=True)
    assert sorted(folder for waste in found for folder in waste.folders) == sorted(gone)
    assert sum(waste.bytes for waste in found) == 30
    assert in_process(["prune", "--delete"], made) == 0
    assert not any(folder.exists() for folder in gone)
    assert all(folder.exists() for folder in left)
    assert all((root / run_id / "artifacts" / "weights.npz").is_file() for run_id in kept)


def test_runs_that_were_killed_go_if_that_is_asked_for(made: Path) -> None:
    client, run_id = client_of(made), trained(made)["0"]
    client.set_terminated(run_id, "KILLED")
    assert in_process(["prune", "--delete"], made) == 0
    assert run_id in trained(made).values()
    assert in_process(["prune", "--delete", "--killed"], made) == 0
    assert list(trained(made)) == ["1"]


def test_other_peoples_deleted_runs_and_experiments_stay(made: Path) -> None:
    client = client_of(made)
    found = client.get_experiment_by_name("one")
    assert found is not None
    theirs = client.create_run(found.experiment_id, tags={"fingerprint": "of a finger"}).info.run_id
    client.log_dict(theirs, {}, "their.json")
    client.delete_run(theirs)
    other = client.create_experiment("theirs")
    client.delete_experiment(other)
    client.delete_run(trained(made)["0"])
    assert in_process(["prune", "--delete"], made) == 0
    assert client.get_run(theirs).info.lifecycle_stage == "deleted"
    assert client.get_experiment(other).lifecycle_stage == "deleted"
    assert (made / "mlflow-artifacts" / theirs / "artifacts" / "their.json").is_file()


def test_a_copied_database_does_not_own_the_folder_of_its_original(made: Path) -> None:
    copy = made / "copy"
    copy.mkdir()
    close_connections()
    shutil.copy(made / "mlflow.db", copy)
    aged(made / "mlflow-artifacts" / ("ab" * 16))
    assert find_waste(f"sqlite:///{copy}/mlflow.db", client_of(copy), killed=True) == []
    run_id = trained(made)["0"]
    client_of(copy).delete_run(run_id)
    assert in_process(["prune", "--delete"], copy) == 0
    assert list(trained(copy)) == ["1"]
    assert (made / "mlflow-artifacts" / run_id / "artifacts" / "weights.npz").is_file()


def test_nothing_is_pruned_while_a_process_writes(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = client_of(made)
    sweep = client.create_run("0", tags={PROCESS: this_process()}, run_name="a sweep").info.run_id
    aged(made / "mlflow-artifacts" / ("ab" * 16))
    capsys.readouterr()
    assert in_process(["prune", "--delete"], made) == 1
    assert capsys.readouterr().err.startswith(f"error: Run {sweep} (a sweep) is still RUNNING: prune when it has ended")
    client.set_terminated(sweep, "KILLED")
    assert in_process(["prune", "--delete"], made) == 0
    assert not (made / "mlflow-artifacts" / ("ab" * 16)).exists()


def test_a_server_is_not_pruned_from_here() -> None:
    from pipeline.errors import UserError

    with pytest.raises(UserError, match=r"^The store is a server, which deletes nothing for good: run `seedbed"):
        find_waste("http://127.0.0.1:1", MlflowClient("http://127.0.0.1:1"), killed=False)


def test_tables_go_with_their_last_run(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "my.csv").write_text("hours,score\n1,10\n2,12\n3,17\n", encoding="utf-8")
    words = ["data=csv", "data.path=my.csv", "data.target=[score]", "training.epochs=3", "tracking.experiment=one"]
    for seed in ("7", "8"):
        assert in_process(["train", *words, f"seed={seed}"], made) == 0
    (table,) = made.glob("mlflow-artifacts/datasets/*.npz")
    os.utime(table, (time.time() - 7200,) * 2)
    assert in_process(["prune", "--delete"], made) == 0
    run_ids = trained(made)
    client_of(made).delete_run(run_ids["7"])
    assert in_process(["prune", "--delete"], made) == 0
    assert table.exists()
    client_of(made).delete_run(run_ids["8"])
    capsys.readouterr()
    assert in_process(["prune", "--delete"], made) == 0
    assert "tables that no run was trained on" in capsys.readouterr().out
    assert not table.exists()
