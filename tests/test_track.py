"""The store: what grows, what fails, and what processes that are gone have left."""

import contextlib
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
from mlflow import MlflowClient

from pipeline.config import TrackingConfig
from pipeline.errors import UserError
from pipeline.results.record import Record, make_head
from pipeline.store import track
from pipeline.store.client import ClientSink
from pipeline.store.sink import PROCESS, Change, Sink
from tests.tracking import Trained, curve, fingerprints, head_of, known, opened, record_of, some, stored, tracking

__all__ = ["some", "tracking"]  # fixtures


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
