"""What the store cannot take waits, and goes in later, once."""

import contextlib
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from pipeline.config import TrackingConfig
from pipeline.results.record import make_head
from pipeline.store.database import close_connections
from pipeline.store.outbox import Outbox, read
from pipeline.store.sink import Entry, Experiment
from tests.factory import run
from tests.stored import seen
from tests.tracking import (
    NAME,
    Trained,
    broken,
    curve,
    fingerprints,
    head_of,
    known,
    opened,
    record_of,
    some,
    stored,
    tracking,
)

__all__ = ["some", "tracking"]  # fixtures


def test_what_the_store_cannot_take_waits_and_goes_in_with_the_next_start(
    tracking: TrackingConfig, some: Trained, tmp_path: Path
) -> None:
    notes: list[str] = []
    with opened(tracking, notes) as store, broken(tracking):
        assert store.write(fingerprints(some), record_of(some)) == {}
        assert store.write_failure(make_head(run(seed=9), {"failure": "why"})) is None
    assert len(notes) == 1
    assert "out of order" in notes[0]
    assert str(tmp_path / "outbox") in notes[0]
    assert stored(tracking) == {}
    assert not list(tmp_path.glob("mlflow-artifacts/*")), "files of runs that did not get in are left"
    assert len(Outbox(str(tracking.uri)).waiting()) == 4
    with opened(tracking, notes) as store:
        assert set(store.finished(fingerprints(some))) == set(fingerprints(some))
    assert notes[1].startswith("4 results")
    assert Outbox(str(tracking.uri)).waiting() == []
    assert [one.info.status for one in stored(tracking).values()].count("FAILED") == 1
    kept = stored(tracking)[fingerprints(some)[1]]
    assert curve(tracking, kept.info.run_id) == list(enumerate(map(float, some[1][1].curves["loss"])))
    file = MlflowClient(tracking.uri).download_artifacts(kept.info.run_id, "weights.npz")
    with np.load(file, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["W0"], some[1][1].final.matrices[0])


def test_a_store_that_works_again_gets_all_before_the_sweep_ends(tracking: TrackingConfig, some: Trained) -> None:
    with opened(tracking) as store:
        with broken(tracking):
            store.write(fingerprints(some), record_of(some))
            assert store.send() == 3
        assert store.send() == 0
        assert {one.info.status for one in stored(tracking).values()} == {"FINISHED"}


def test_what_earlier_commands_left_does_not_fail_this_one(tracking: TrackingConfig, some: Trained) -> None:
    with opened(tracking) as store, broken(tracking):
        store.write(fingerprints(some)[:1], record_of(some))
    (left,) = Outbox(str(tracking.uri)).waiting()
    (left / "about.json").write_text("{")
    notes: list[str] = []
    with opened(tracking, notes) as store:
        assert len(store.write(fingerprints(some), record_of(some))) == 3
        assert store.send() == 0
    assert len(notes) == 1
    assert f"{left} cannot be read" in notes[0]


def test_files_stay_if_the_commit_fails_as_rows_may_be_there(
    tracking: TrackingConfig, some: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a write-ahead log, one who reads keeps the commit, and nothing before it, from being done."""
    monkeypatch.setattr("pipeline.store.database.BUSY_MS", 100)
    with opened(tracking) as store, contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as reader:
        close_connections()  # MLflow's, too
        reader.execute("PRAGMA journal_mode=DELETE")
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM runs").fetchall()
        assert store.write(fingerprints(some), record_of(some)) == {}
        assert len(list(tmp_path.glob("mlflow-artifacts/*/artifacts/weights.npz"))) == 3
        assert store.waiting == 3
        reader.rollback()
        assert store.send() == 0
    assert {one.info.status for one in stored(tracking).values()} == {"FINISHED"}


def test_a_store_that_failed_is_left_alone_for_a_while(tracking: TrackingConfig, some: Trained) -> None:
    with opened(tracking) as store:
        with broken(tracking):
            store.write(fingerprints(some)[:1], record_of(some))
        assert store.write(fingerprints(some)[1:], lambda place: record_of(some)(place + 1)) == {}
        assert store.send() == 0
    assert len(stored(tracking)) == 3


def test_a_growing_run_that_cannot_be_ended_is_ended_by_the_next_start(tracking: TrackingConfig, some: Trained) -> None:
    with opened(tracking) as store:
        store.grow(known(some, 10), head_of(some))
        before = stored(tracking)
        with broken(tracking):
            assert store.write(fingerprints(some), record_of(some)) == {}
    with opened(tracking):
        pass
    after = stored(tracking)
    assert {one.info.status for one in after.values()} == {"FINISHED"}
    for fingerprint, one in after.items():
        assert one.info.run_id == before[fingerprint].info.run_id
        assert len(curve(tracking, one.info.run_id)) == 41


def test_what_waits_has_the_run_ids_that_were_sent(
    tracking: TrackingConfig, some: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have arrived, and be taken late: a server knows it again by its id."""
    sent: list[str] = []

    def unanswered(experiment: Experiment, entries: Iterable[Entry]) -> Iterator[tuple[int, str]]:
        sent.extend(entry.run_id for entry in entries)
        raise OSError("timed out")
        yield

    with opened(tracking) as store:
        monkeypatch.setattr(store.sink, "create", unanswered)
        store.write(fingerprints(some), record_of(some))
        contents = [read(folder).content for folder in Outbox(str(tracking.uri)).waiting()]
    assert [content.run_id for content in contents] == sent
    assert len(set(sent)) == 3


def test_a_run_that_waits_is_not_written_beside_the_same_one(tracking: TrackingConfig, some: Trained) -> None:
    with opened(tracking) as store, broken(tracking):
        store.write(fingerprints(some), record_of(some))
    waiting = Outbox(str(tracking.uri)).folder
    elsewhere = waiting.with_name("elsewhere")
    waiting.rename(elsewhere)
    with opened(tracking) as store:
        store.write(fingerprints(some), record_of(some))
    ids = {one.info.run_id for one in stored(tracking).values()}
    elsewhere.rename(waiting)
    with opened(tracking):
        pass
    assert {one.info.run_id for one in stored(tracking).values()} == ids
    assert Outbox(str(tracking.uri)).waiting() == []


def test_a_growing_run_whose_end_waits_is_not_ended_beside_the_same_one(
    tracking: TrackingConfig, some: Trained
) -> None:
    """Another sweep has trained it meanwhile."""
    with opened(tracking) as store:
        store.grow(known(some, 10), head_of(some))
        with broken(tracking):
            store.write(fingerprints(some), record_of(some))
    waiting = Outbox(str(tracking.uri)).folder
    elsewhere = waiting.with_name("elsewhere")
    waiting.rename(elsewhere)
    with opened(tracking) as store:
        store.write(fingerprints(some)[:2], record_of(some))
    elsewhere.rename(waiting)
    with opened(tracking):
        pass
    of_some = [one for one in seen(str(tracking.uri)) if one.tags.get("fingerprint") in fingerprints(some)]
    assert sorted((one.status, fingerprints(some).index(one.tags["fingerprint"])) for one in of_some) == [
        *[("FINISHED", place) for place in range(3)],
        *[("KILLED", place) for place in range(2)],
    ]
    assert Outbox(str(tracking.uri)).waiting() == []


def test_a_forced_run_that_waits_is_written_all_the_same(tracking: TrackingConfig, some: Trained) -> None:
    with opened(tracking) as store:
        store.write(fingerprints(some), record_of(some))
    with opened(tracking, forced=True) as store, broken(tracking):
        store.write(fingerprints(some), record_of(some))
    with opened(tracking) as store:
        (location,) = [MlflowClient(tracking.uri).get_experiment_by_name(NAME)]
        assert location is not None
        found = MlflowClient(tracking.uri).search_runs([location.experiment_id])
        assert len(found) == 6
        last = {
            one.data.tags["fingerprint"]: one.info.run_id for one in sorted(found, key=lambda one: one.info.end_time)
        }
        kept = store.finished(fingerprints(some))
        assert {fingerprint: one.run_id for fingerprint, one in kept.items()} == last


def test_a_change_that_was_made_already_is_not_made_again(
    tracking: TrackingConfig,
    some: Trained,
    tmp_path: Path,
) -> None:
    """As after a kill between the database's commit and the outbox's."""
    with opened(tracking) as store:
        store.grow(known(some, 10), head_of(some))
        with broken(tracking):
            store.write(fingerprints(some), record_of(some))
    box = Outbox(str(tracking.uri)).folder
    shutil.copytree(box, tmp_path / "copy")
    with opened(tracking):
        pass
    before = [(one.status, one.metrics) for one in seen(str(tracking.uri))]
    shutil.copytree(tmp_path / "copy", box, dirs_exist_ok=True)
    notes: list[str] = []
    with opened(tracking, notes):
        pass
    assert notes[0].startswith("3 results")
    assert Outbox(str(tracking.uri)).waiting() == []
    assert [(one.status, one.metrics) for one in seen(str(tracking.uri))] == before


def test_a_change_of_a_run_that_is_not_there_any_more_is_dropped(tracking: TrackingConfig, some: Trained) -> None:
    with opened(tracking) as store:
        store.grow(known(some, 10), head_of(some))
        with broken(tracking):
            store.write(fingerprints(some), record_of(some))
    first, second, _ = (one.info.run_id for one in stored(tracking).values())
    MlflowClient(tracking.uri).delete_run(first)
    with contextlib.closing(sqlite3.connect(str(tracking.uri).removeprefix("sqlite:///"))) as connection:
        for table in ("tags", "params", "metrics", "latest_metrics", "runs"):
            connection.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (second,))  # noqa: S608
        connection.commit()
    with opened(tracking) as store:
        assert len(store.finished(fingerprints(some))) == 1
    assert Outbox(str(tracking.uri)).waiting() == []


def test_results_for_an_experiment_that_was_deleted_do_not_keep_others_from_work(
    tracking: TrackingConfig,
    some: Trained,
) -> None:
    with opened(tracking) as store, broken(tracking):
        store.write(fingerprints(some), record_of(some))
    client = MlflowClient(tracking.uri)
    experiment = client.get_experiment_by_name(str(tracking.experiment))
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    notes: list[str] = []
    with opened(replace(tracking, experiment="another"), notes) as store:
        assert len(store.write(fingerprints(some), record_of(some))) == 3
    assert re.fullmatch(f"Not all that waits .*{tracking.experiment}.* in sqlite.* is deleted: restore it.*", notes[0])
    client.restore_experiment(experiment.experiment_id)
    with opened(tracking) as store:
        assert len(store.finished(fingerprints(some))) == 3
