"""The store: what grows, what fails, what is left by processes that are gone."""

import contextlib
import itertools
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as StoredRun

from pipeline.config import TrackingConfig
from pipeline.errors import UserError
from pipeline.identity import Run
from pipeline.results.record import Record, make_head, make_record
from pipeline.store import track
from pipeline.store.client import ClientSink
from pipeline.store.database import close_connections
from pipeline.store.outbox import Outbox, read
from pipeline.store.sink import PROCESS, Change, Entry, Experiment, Sink
from pipeline.store.track import Metrics, Store
from pipeline.training.stack import Result
from tests.factory import CAT_SHOP, run, trained
from tests.stored import seen
from tests.test_record import ENVIRONMENT

NAME = "of the store"
Trained = tuple[list[Run], list[Result]]


@pytest.fixture
def tracking(empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> TrackingConfig:
    """An experiment of its own in a store without runs, and an empty outbox."""
    monkeypatch.setenv("SEEDBED_OUTBOX", str(empty_store / "outbox"))
    return TrackingConfig(uri=f"sqlite:///{empty_store}/mlflow.db", experiment=NAME)


@pytest.fixture(scope="module")
def some() -> Trained:
    """Three runs of one stack, trained for 40 updates."""
    given = [run(**{**CAT_SHOP, "epochs": 40, "metrics": ["mse"], "seed": seed}) for seed in range(3)]
    return given, trained(given)


def record_of(some: Trained) -> Callable[[int], Record]:
    given, results = some
    return lambda place: make_record(given[place], results[place], ENVIRONMENT, {"mlflow.runColor": "#0072b2"})


def head_of(some: Trained) -> Callable[[str], Record]:
    heads = {one.fingerprint: make_head(one, {"sweep": "s"}) for one in some[0]}
    return lambda fingerprint: heads[fingerprint]


def fingerprints(some: Trained) -> list[str]:
    return [one.fingerprint for one in some[0]]


def known(some: Trained, upto: int) -> dict[str, Metrics]:
    """The points of the runs' records up to an update."""
    records = map(record_of(some), range(len(some[0])))
    return {
        record.tags["fingerprint"]: [
            point for point in record.metrics if point[0].startswith("curve/") and point[2] <= upto
        ]
        for record in records
    }


def opened(tracking: TrackingConfig, notes: list[str] | None = None, forced: bool = False) -> Store:
    """The store; what it tells the user goes to `notes`."""
    return Store(tracking, ([] if notes is None else notes).append, forced)


def stored(tracking: TrackingConfig) -> dict[str, StoredRun]:
    """All runs of the experiment by fingerprint; no two have the same."""
    client = MlflowClient(tracking.uri)
    found = client.get_experiment_by_name(NAME)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    by = {one.data.tags["fingerprint"]: one for one in runs}
    assert len(by) == len(runs)
    return by


def curve(tracking: TrackingConfig, run_id: str, key: str = "curve/loss") -> list[tuple[int, float]]:
    history = MlflowClient(tracking.uri).get_metric_history(run_id, key)
    return [(point.step, point.value) for point in sorted(history, key=lambda point: point.step)]


@contextlib.contextmanager
def broken(tracking: TrackingConfig) -> Iterator[None]:
    """The database refuses all that is written to curves in the block."""
    file = str(tracking.uri).removeprefix("sqlite:///")
    trigger = "CREATE TRIGGER broken BEFORE INSERT ON metrics BEGIN SELECT RAISE(FAIL, 'out of order'); END"
    for statement in (trigger, None):
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute(statement or "DROP TRIGGER broken")
            connection.commit()
        if statement:
            yield


def test_a_growing_run_is_running_with_its_curve_so_far_and_then_whole(tracking: TrackingConfig, some: Trained) -> None:
    with opened(tracking) as store:
        store.grow(known(some, 10), head_of(some))
        for one in stored(tracking).values():
            assert one.info.status == "RUNNING"
            assert one.data.params["network.hidden"] == "[4]"
            assert one.data.tags["sweep"] == "s"
            assert [step for step, _ in curve(tracking, one.info.run_id)] == list(range(11))
        store.grow(known(some, 25), head_of(some))
        before = stored(tracking)
        assert len(curve(tracking, before[fingerprints(some)[0]].info.run_id, "curve/mse")) == 26
        written = store.write(fingerprints(some), record_of(some))
    after = stored(tracking)
    assert [written[place] for place in range(3)] == [before[one].info.run_id for one in fingerprints(some)]
    for place, fingerprint in enumerate(fingerprints(some)):
        assert after[fingerprint].info.status == "FINISHED"
        expected = list(enumerate(map(float, some[1][place].curves["loss"])))
        assert curve(tracking, written[place]) == expected
        assert after[fingerprint].data.metrics["result/final_loss"] == expected[-1][1]
        assert after[fingerprint].data.metrics["curve/loss"] == expected[-1][1]


def test_a_run_that_is_growing_when_the_store_is_left_is_killed(tracking: TrackingConfig, some: Trained) -> None:
    with contextlib.suppress(KeyboardInterrupt), opened(tracking) as store:
        store.grow(known(some, 10), head_of(some))
        raise KeyboardInterrupt
    assert {one.info.status for one in stored(tracking).values()} == {"KILLED"}


def test_a_growing_run_that_cannot_be_trained_is_failed_with_its_reason(
    tracking: TrackingConfig, some: Trained
) -> None:
    with opened(tracking) as store:
        store.grow(known(some, 10), head_of(some))
        run_id = store.write_failure(make_head(some[0][0], {"failure": "why"}))
    failed = stored(tracking)[fingerprints(some)[0]]
    assert (failed.info.run_id, failed.info.status, failed.data.tags["failure"]) == (run_id, "FAILED", "why")


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


class Late:
    """A sink that does what it is asked, and whose answers to some changes come too late: as of a frozen server."""

    def __init__(self, sink: Sink, late: int) -> None:
        self._sink, self._late = sink, late

    def __getattr__(self, name: str) -> object:
        return getattr(self._sink, name)

    def change(self, changes: Sequence[Change]) -> None:
        """Makes changes, and says that it timed out."""
        self._sink.change(changes)
        self._late -= 1
        if self._late >= 0:
            raise OSError("timed out")


@pytest.mark.parametrize("sink", ["database", "client"])
@pytest.mark.parametrize("late_at", ["growth", "end"])
def test_what_was_written_and_not_answered_is_not_there_twice(
    late_at: str, sink: str, tracking: TrackingConfig, some: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent again, at another time."""
    monkeypatch.setattr(track, "now", itertools.count(1_700_000_000_000, 1000).__next__)
    monkeypatch.setattr(track, "REST_SECONDS", 0.0)
    with opened(tracking) as store:
        inner = store.sink if sink == "database" else ClientSink(str(tracking.uri), 1)
        store.sink = inner
        store.grow(known(some, 10), head_of(some))
        store.sink = cast("Sink", Late(inner, 1))
        if late_at == "growth":
            store.grow(known(some, 25), head_of(some))
        store.write(fingerprints(some), record_of(some))
    with opened(tracking):
        pass
    for fingerprint, one in stored(tracking).items():
        place = fingerprints(some).index(fingerprint)
        assert one.info.status == "FINISHED"
        assert curve(tracking, one.info.run_id) == list(enumerate(map(float, some[1][place].curves["loss"])))


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


def test_runs_of_a_process_that_is_gone_are_killed_at_the_next_start(tracking: TrackingConfig, some: Trained) -> None:
    script = "import json; from pipeline.process import this_process; print(this_process())"
    gone = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    with opened(tracking) as store:
        mine = store.open_sweep("mine", {}, {"fingerprint": "mine"})
    client = MlflowClient(tracking.uri)
    experiment = client.get_run(mine).info.experiment_id
    dead = client.create_run(experiment, tags={PROCESS: gone, "fingerprint": "dead"}).info.run_id
    others = client.create_run(experiment, tags={"fingerprint": "others"}).info.run_id
    elsewhere = client.create_experiment("another")
    there = client.create_run(elsewhere, tags={PROCESS: gone}).info.run_id
    with opened(tracking):
        pass
    statuses = [client.get_run(one).info.status for one in (mine, dead, there, others)]
    assert statuses == ["RUNNING", "KILLED", "KILLED", "RUNNING"]


def test_ctrl_c_during_a_large_write_takes_it_back(tracking: TrackingConfig, some: Trained) -> None:
    """The signal comes while the records of many runs are made: nothing of them is left."""
    made: list[int] = []

    def slowly(place: int) -> Record:
        made.append(place)
        if len(made) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return record_of(some)(0)

    with opened(tracking) as store, pytest.raises(KeyboardInterrupt):
        store.write([str(place) for place in range(1000)], slowly)
    assert len(made) <= 6
    assert stored(tracking) == {}
    assert not list(Path(str(tracking.uri).removeprefix("sqlite:///")).parent.glob("mlflow-artifacts/*"))


def test_an_error_of_our_own_is_not_taken_for_the_stores(tracking: TrackingConfig, some: Trained) -> None:
    def wrong(place: int) -> Record:
        raise LookupError(place)

    with opened(tracking) as store, pytest.raises(LookupError):
        store.write(fingerprints(some), wrong)


def test_a_store_that_cannot_open_a_sweep_says_so(tracking: TrackingConfig) -> None:
    with opened(tracking) as store:
        file = str(tracking.uri).removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute("ALTER TABLE tags RENAME TO gone")
            connection.commit()
        with pytest.raises(UserError, match="no such table: tags"):
            store.open_sweep("s", {}, {"kind": "sweep"})


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


def test_ctrl_c_behind_a_written_end_does_not_undo_it(tracking: TrackingConfig, some: Trained) -> None:
    """Two runs were RUNNING and are FINISHED now; the signal comes while the third, a new one, is being written."""

    def interrupted(place: int) -> Record:
        if place == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return record_of(some)(place)

    two = dict(list(known(some, 10).items())[:2])
    with opened(tracking) as store:
        store.grow(two, head_of(some))
        with pytest.raises(KeyboardInterrupt):
            store.write(fingerprints(some), interrupted)
    assert [one.info.status for one in stored(tracking).values()] == ["FINISHED"] * 2
