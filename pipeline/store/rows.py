"""Reads runs from a store as long tables: by SQL where the tables are the tested ones, else by MLflow's client."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
import sqlalchemy as sa

from pipeline.store.bulk import EXPERIMENTS, LATEST, MANY, METRICS, PARAMS, RUNS, TAGS, BulkSink, among
from pipeline.store.insertion import blocks
from pipeline.store.sink import Sink

if TYPE_CHECKING:
    from pipeline.store.api import Run
    from pipeline.store.client import ClientSink

RUN_COLUMNS = ["run_id", "name", "status", "start_time", "end_time", "experiment_id"]
INFO = ["run_id", "run_name", "status", "start_time", "end_time", "experiment_id"]  # the same in MLflow's words
LONG_COLUMNS = ["run_id", "key", "value"]
POINT_COLUMNS = ["run_id", "step", "value"]
TAG_COLUMNS = ("fingerprint", "cell", "sweep", "diverged_at")
TRAINED = "tags.fingerprint LIKE '%'"  # in MLflow's search: no parent of a sweep


@dataclass(frozen=True)
class Rows:
    """What a store has of some runs: a row a run, and a row each for their params, tags and latest metrics."""

    runs: pd.DataFrame
    params: pd.DataFrame
    tags: pd.DataFrame
    metrics: pd.DataFrame


@dataclass(frozen=True)
class ParentRun:
    """A sweep's parent run. `start` is ms since 1970."""

    run_id: str
    name: str
    status: str
    start: int
    experiment_id: str
    experiment: str
    tags: Mapping[str, str] = field(default_factory=dict)


class Source(Protocol):
    """A way to read many runs."""

    def parents(self) -> list[ParentRun]:
        """The parent runs of all sweeps that are not deleted, the newest first."""

    def children(self, parent_id: str) -> list[str]:
        """The ids of the runs that a sweep trained."""

    def trained(self, experiment_id: str) -> list[str]:
        """The ids of the FINISHED runs of an experiment."""

    def rows(self, run_ids: Sequence[str]) -> Rows:
        """What the store has of these runs, without those that are not there."""

    def points(self, run_ids: Sequence[str], key: str) -> pd.DataFrame:
        """The points of a metric: run_id, step, value; in no order."""

    def reached(self, run_ids: Sequence[str], key: str, threshold: float) -> dict[str, int]:
        """The first step at which a metric is at or below a threshold, by run id; none for runs where it never is."""


def source_of(sink: Sink) -> Source:
    """How runs are read where this sink writes."""
    if isinstance(sink, BulkSink):
        return TableSource(sink.engine)
    return ClientSource(sink)  # type: ignore[arg-type]  # there are two


class TableSource:
    """Reads MLflow's tables."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    def parents(self) -> list[ParentRun]:
        """The parent runs of all sweeps that are not deleted, the newest first."""
        columns = (RUNS.c.run_uuid, RUNS.c.name, RUNS.c.status, RUNS.c.start_time, RUNS.c.experiment_id)
        query = (
            sa.select(*columns, EXPERIMENTS.c.name)
            .join_from(TAGS, RUNS, RUNS.c.run_uuid == TAGS.c.run_uuid)
            .join(EXPERIMENTS, EXPERIMENTS.c.experiment_id == RUNS.c.experiment_id)
            .where(TAGS.c.key == "kind", TAGS.c.value == "sweep", RUNS.c.lifecycle_stage == "active")
            .order_by(RUNS.c.start_time.desc(), RUNS.c.run_uuid.desc())
        )
        with self.engine.connect() as connection:
            found = connection.execute(query).all()
            tags: dict[str, dict[str, str]] = {row[0]: {} for row in found}
            for run_id, key, value in among(connection, TAGS, ("key", "value"), sa.true(), tags):
                tags[run_id][key] = value
        return [ParentRun(*row[:4], str(row[4]), row[5], tags[row[0]]) for row in found]

    def children(self, parent_id: str) -> list[str]:
        """The ids of the runs that a sweep trained."""
        return self._with_tag(TAGS.c.key == "mlflow.parentRunId", TAGS.c.value == parent_id)

    def trained(self, experiment_id: str) -> list[str]:
        """The ids of the FINISHED runs of an experiment."""
        of_it = RUNS.c.experiment_id == int(experiment_id)
        return self._with_tag(TAGS.c.key == "fingerprint", RUNS.c.status == "FINISHED", of_it)

    def _with_tag(self, *conditions: sa.ColumnElement[bool]) -> list[str]:
        joined = sa.select(RUNS.c.run_uuid).join_from(TAGS, RUNS, RUNS.c.run_uuid == TAGS.c.run_uuid)
        query = joined.where(RUNS.c.lifecycle_stage == "active", *conditions).order_by(RUNS.c.run_uuid)
        with self.engine.connect() as connection:
            return [str(row[0]) for row in connection.execute(query)]

    def rows(self, run_ids: Sequence[str]) -> Rows:
        """What the store has of these runs, without those that are not there."""
        columns = ("name", "status", "start_time", "end_time", "experiment_id")
        active = RUNS.c.lifecycle_stage == "active"
        with self.engine.connect() as connection:
            runs = pd.DataFrame(map(tuple, among(connection, RUNS, columns, active, run_ids)), columns=RUN_COLUMNS)
            params, tags, metrics = (
                long_table(among(connection, table, ("key", "value"), condition, runs["run_id"]))
                for table, condition in (
                    (PARAMS, sa.true()),
                    (TAGS, TAGS.c.key.in_(TAG_COLUMNS)),
                    (LATEST, LATEST.c.key.like("result/%")),
                )
            )
        return Rows(runs, params, tags, metrics)

    def points(self, run_ids: Sequence[str], key: str) -> pd.DataFrame:
        """The points of a metric: run_id, step, value; in no order."""
        finite = sa.and_(METRICS.c.key == key, sa.not_(METRICS.c.is_nan))
        ids = {run_id: run_id for run_id in run_ids}  # one text a run, not one a point: of these there are millions
        frames: list[pd.DataFrame] = []
        with self.engine.connect() as connection:
            for block in blocks(run_ids, MANY):
                rows = among(connection, METRICS, ("step", "value"), finite, block)
                frames.append(pd.DataFrame([(ids[run_id], *point) for run_id, *point in rows], columns=POINT_COLUMNS))
        frames = [frame for frame in frames if len(frame)]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=POINT_COLUMNS)

    def reached(self, run_ids: Sequence[str], key: str, threshold: float) -> dict[str, int]:
        """The first step at which a metric is at or below a threshold, by run id; none for runs where it never is."""
        low = sa.and_(METRICS.c.key == key, sa.not_(METRICS.c.is_nan), METRICS.c.value <= threshold)
        first: dict[str, int] = {}
        with self.engine.connect() as connection:
            for run_id, step in among(connection, METRICS, ("step",), low, run_ids):
                first[run_id] = min(step, first.get(run_id, step))
        return first


class ClientSource:
    """Reads through MLflow's client."""

    def __init__(self, sink: "ClientSink") -> None:
        self.client = sink.client

    def parents(self) -> list[ParentRun]:
        """The parent runs of all sweeps that are not deleted, the newest first."""
        from pipeline.store.client import all_experiments, everywhere

        names = {one.experiment_id: one.name for page in all_experiments(self.client) for one in page}
        found = [parent_of(run, names) for run in everywhere(self.client, "tags.kind = 'sweep'")]
        return sorted(found, key=lambda parent: (parent.start, parent.run_id), reverse=True)

    def children(self, parent_id: str) -> list[str]:
        """The ids of the runs that a sweep trained."""
        return self.found(f"tags.`mlflow.parentRunId` = '{parent_id}'")

    def trained(self, experiment_id: str) -> list[str]:
        """The ids of the FINISHED runs of an experiment."""
        return self.found("attributes.status = 'FINISHED'", [experiment_id])

    def found(self, query: str, experiments: Sequence[str] = ()) -> list[str]:
        """The ids of the runs that a filter of MLflow's finds, in these experiments or all; no parent of a sweep."""
        return sorted(run.info.run_id for run in self._search(f"{query} AND {TRAINED}", experiments))

    def rows(self, run_ids: Sequence[str]) -> Rows:
        """What the store has of these runs, without those that are not there."""
        runs: list[Run] = []
        for block in blocks(run_ids, MANY):
            named = ", ".join(f"'{run_id}'" for run_id in block)
            runs += self._search(f"attributes.run_id IN ({named})")
        heads = [[getattr(run.info, name) for name in INFO] for run in runs]
        return Rows(
            pd.DataFrame(heads, columns=RUN_COLUMNS),
            long_table((run.info.run_id, *pair) for run in runs for pair in run.data.params.items()),
            long_table((run.info.run_id, *pair) for run in runs for pair in run.data.tags.items()),
            long_table((run.info.run_id, *pair) for run in runs for pair in run.data.metrics.items()),
        )

    def _search(self, query: str, experiments: Sequence[str] = ()) -> Iterator["Run"]:
        from pipeline.store.client import everywhere, search

        return search(self.client, list(experiments), query) if experiments else everywhere(self.client, query)

    def points(self, run_ids: Sequence[str], key: str) -> pd.DataFrame:
        """The points of a metric: run_id, step, value; in no order. A request a run, a few at a time."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(4, "curves") as pool:
            histories = pool.map(lambda run_id: self.client.get_metric_history(run_id, key), run_ids)
            found = [
                (run_id, point.step, point.value)
                for run_id, history in zip(run_ids, histories, strict=True)
                for point in history
            ]
        return pd.DataFrame(found, columns=POINT_COLUMNS)

    def reached(self, run_ids: Sequence[str], key: str, threshold: float) -> dict[str, int]:
        """The first step at which a metric is at or below a threshold, by run id; none for runs where it never is."""
        points = self.points(run_ids, key)
        first = points[points["value"] <= threshold].groupby("run_id")["step"].min()
        return {str(run_id): int(step) for run_id, step in first.items()}


def parent_of(run: "Run", names: Mapping[str, str]) -> ParentRun:
    """A sweep's parent as MLflow's client has it; `names` are those of experiments by id."""
    info = run.info
    experiment = info.experiment_id
    return ParentRun(
        info.run_id, info.run_name, info.status, info.start_time, experiment, names[experiment], run.data.tags
    )


def long_table(found: Iterable[Sequence[Any]]) -> pd.DataFrame:
    """A long table of run ids, keys and values."""
    return pd.DataFrame(list(map(tuple, found)), columns=LONG_COLUMNS)
