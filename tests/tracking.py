"""An experiment in a store, three trained runs for it, and a database that refuses."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as StoredRun

from pipeline.config import TrackingConfig
from pipeline.identity import Run
from pipeline.results.record import Record, make_head, make_record
from pipeline.store.track import Metrics, Store
from pipeline.training.stack import Result
from tests.factory import CAT_SHOP, run, trained
from tests.records import ENVIRONMENT

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
