"""The sink for databases: many runs a transaction, through the tables of MLflow and without importing it.

The tables are those of one revision of MLflow's schema; of another, `is_known` is False and client.py writes instead.
tests/test_sinks.py holds both sinks to the same rows.
"""

import math
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from pipeline import files
from pipeline.database import REVISION
from pipeline.insertion import Row, Rows, blocks, insert
from pipeline.interrupts import let_through
from pipeline.sink import Change, Described, Entry, Experiment, Kept, Point, artifact_uri, new_run_id

BLOCK = 100  # runs whose rows are made at a time
MANY = 500  # values in one condition
LARGEST = 1.7976931348623157e308  # what MLflow writes for infinity


def table(name: str, *columns: str) -> sa.TableClause:
    """A table of MLflow's with the columns that are used here."""
    return sa.table(name, *map(sa.column, columns))


EXPERIMENTS = table("experiments", "experiment_id", "name", "artifact_location", "lifecycle_stage", "workspace")
EXPERIMENT_TAGS = table("experiment_tags", "experiment_id", "key", "value")
RUNS = table(
    *("runs", "run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status"),
    *("start_time", "end_time", "source_version", "lifecycle_stage", "artifact_uri", "experiment_id"),
)
PARAMS = table("params", "run_uuid", "key", "value")
TAGS = table("tags", "run_uuid", "key", "value")
METRICS = table("metrics", "run_uuid", "key", "value", "timestamp", "step", "is_nan")
LATEST = table("latest_metrics", "run_uuid", "key", "value", "timestamp", "step", "is_nan")
DATASETS = table(
    *("datasets", "dataset_uuid", "experiment_id", "name", "digest"),
    *("dataset_source_type", "dataset_source", "dataset_schema", "dataset_profile"),
)
INPUTS = table("inputs", "input_uuid", "source_type", "source_id", "destination_type", "destination_id")
INPUT_TAGS = table("input_tags", "input_uuid", "name", "value")
CONTEXT = "mlflow.data.context"


def is_known(engine: sa.Engine) -> bool:
    """True if the database has the tables that are written here, to the column."""
    with engine.connect() as connection:
        found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all()
    return list(found) == [REVISION]


class BulkSink:
    """Writes to a database whose tables are as tested."""

    in_bulk = True

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    def experiment(self, name: str) -> Experiment | None:
        """The experiment of this name, deleted or not."""
        usual = EXPERIMENTS.c.workspace == "default"  # where MLflow's client looks, too
        query = sa.select(*EXPERIMENTS.c).where(EXPERIMENTS.c.name == name, usual)
        with self.engine.connect() as connection:
            row = connection.execute(query).first()
        return Experiment(str(row[0]), row[1], row[2], row[3] == "active") if row else None

    def create(self, experiment: Experiment, entries: Iterable[Entry]) -> Iterator[tuple[int, str]]:
        """Writes all of the runs in one transaction, behind their files; yields their places and run ids."""
        heads: dict[str, Entry] = {}
        with self.engine.connect() as connection:
            try:
                for entry in entries:
                    let_through()
                    run_id = new_run_id()
                    heads[run_id] = replace(entry, files={})
                    if entry.files:
                        files.put(artifact_uri(experiment, run_id), entry.files)
                insert_new(connection, experiment, heads)
            except BaseException:
                for run_id in heads:
                    files.remove(artifact_uri(experiment, run_id))
                raise
            connection.commit()  # if the server is lost in it, nobody knows whether rows are there: their files stay
        yield from enumerate(heads)

    def change(self, changes: Sequence[Change]) -> None:
        """Writes all of the changes in one transaction, behind their files."""
        for change in changes:
            if change.files:
                files.add(self.artifact_uri(change.run_id), change.files)
        with self.engine.begin() as connection:
            for block in blocks(changes, BLOCK):
                let_through()
                for change in block:
                    end_and_tag(connection, change)
                add_points(connection, {change.run_id: change.points for change in block if change.points})

    def tag_experiment(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Sets tags of an experiment in one transaction."""
        of_it = EXPERIMENT_TAGS.c.experiment_id == int(experiment_id)
        rows: Rows = {EXPERIMENT_TAGS: [(int(experiment_id), key, value) for key, value in tags.items()]}
        with self.engine.begin() as connection:
            connection.execute(sa.delete(EXPERIMENT_TAGS).where(of_it, EXPERIMENT_TAGS.c.key.in_(tags)))
            insert(connection, rows)

    def finished(
        self, experiment: Experiment, tag: str, values: Iterable[str], since: int = 0
    ) -> dict[str, list[Kept]]:
        """The FINISHED runs with one of these values of a tag that ended at `since` or later, in that order."""
        with self.engine.connect() as connection:
            value_of = finished_runs(connection, experiment, tag, set(values), since)
            metrics: dict[str, dict[str, float]] = {run_id: {} for run_id in value_of}
            results = LATEST.c.key.like("result/%")
            for run_id, key, value in among(connection, LATEST, ("key", "value"), results, metrics):
                metrics[run_id][key] = value
            ended_early = TAGS.c.key == "diverged_at"
            diverged = {run_id for run_id, _ in among(connection, TAGS, ("key",), ended_early, metrics)}
        found: dict[str, list[Kept]] = {}
        for run_id, value in value_of.items():
            found.setdefault(value, []).append(Kept(run_id, metrics[run_id], run_id in diverged))
        return found

    def running(self, tag: str) -> dict[str, str]:
        """The values of a tag by run id, of all RUNNING runs of the store that have it."""
        query = (
            sa.select(TAGS.c.run_uuid, TAGS.c.value)
            .join_from(RUNS, TAGS, RUNS.c.run_uuid == TAGS.c.run_uuid)
            .where(RUNS.c.status == "RUNNING", RUNS.c.lifecycle_stage == "active", TAGS.c.key == tag)
        )
        with self.engine.connect() as connection:
            return dict(connection.execute(query).all())

    def ends(self, run_ids: Iterable[str]) -> dict[str, tuple[str, int | None]]:
        """Status and end, by run id, of those of the runs that are there and not deleted."""
        there = RUNS.c.lifecycle_stage == "active"
        with self.engine.connect() as connection:
            found = among(connection, RUNS, ("status", "end_time"), there, run_ids)
            return {run_id: (status, end) for run_id, status, end in found}

    def read(self, run_id: str, name: str) -> bytes:
        """The content of a run's file."""
        return files.get(self.artifact_uri(run_id), name)

    def keep_shared(self, experiment: Experiment, folder: str, name: str, content: bytes) -> None:
        """Keeps a file in a folder beside those of an experiment's runs, unless it is there."""
        files.keep(files.beside(experiment.location, folder), name, content)

    def read_shared(self, run_id: str, folder: str, name: str) -> bytes:
        """The content of such a file, found from a run of the experiment."""
        return files.get(files.beside_run(self.artifact_uri(run_id), folder), name)

    def close(self) -> None:
        """Lets go of the database."""
        self.engine.dispose()

    def artifact_uri(self, run_id: str) -> str:
        """The address of the folder of a run's files. Raises FileNotFoundError if there is no such run."""
        query = sa.select(RUNS.c.artifact_uri).where(RUNS.c.run_uuid == run_id)
        with self.engine.connect() as connection:
            found = connection.execute(query).scalar()
        if found is None:
            raise FileNotFoundError(f"there is no run {run_id}")
        return str(found)


def insert_new(connection: sa.Connection, experiment: Experiment, heads: Mapping[str, Entry]) -> None:
    """Writes the rows of new runs, by run id, whose files are there. Runs that are there already stay as they are."""
    try:
        insert_runs(connection, experiment, heads)
    except IntegrityError:  # another process has just made the same data set, or one of the runs: it is there now
        connection.rollback()
        there = {run_id for run_id, *_ in among(connection, RUNS, (), sa.true(), heads)}
        insert_runs(connection, experiment, {run_id: head for run_id, head in heads.items() if run_id not in there})


def insert_runs(connection: sa.Connection, experiment: Experiment, heads: Mapping[str, Entry]) -> None:
    """Writes the rows of runs, by run id, none of which is there."""
    for block in blocks(list(heads.items()), BLOCK):
        let_through()
        insert(connection, new_rows(connection, experiment, dict(block)))


def finished_runs(
    connection: sa.Connection, experiment: Experiment, tag: str, values: set[str], since: int
) -> dict[str, str]:
    """Values of a tag by run id, of the FINISHED runs with one of `values`, in the order in which they ended."""
    query = (
        sa.select(RUNS.c.run_uuid, TAGS.c.value)
        .join_from(TAGS, RUNS, RUNS.c.run_uuid == TAGS.c.run_uuid)
        .where(TAGS.c.key == tag, RUNS.c.experiment_id == int(experiment.experiment_id))
        .where(RUNS.c.status == "FINISHED", RUNS.c.lifecycle_stage == "active", RUNS.c.end_time >= since)
        .order_by(RUNS.c.end_time)
    )
    if len(values) <= MANY:
        query = query.where(TAGS.c.value.in_(values))
    return {run_id: value for run_id, value in connection.execute(query) if value in values}


def among(
    connection: sa.Connection,
    of: sa.TableClause,
    columns: Sequence[str],
    condition: sa.ColumnElement[bool],
    run_ids: Iterable[str],
) -> Iterator[Row]:
    """Run id and columns of the rows of a table that meet a condition and belong to the runs."""
    for block in blocks(list(run_ids), MANY):
        query = sa.select(of.c.run_uuid, *(of.c[name] for name in columns))
        yield from connection.execute(query.where(condition, of.c.run_uuid.in_(block)))


def new_rows(connection: sa.Connection, experiment: Experiment, entries: Mapping[str, Entry]) -> Rows:
    """The rows of new runs, by run id, in the order in which tables need them."""
    datasets, inputs, input_tags = dataset_rows(connection, experiment, entries)
    rows: Rows = {DATASETS: datasets, RUNS: [], TAGS: [], PARAMS: [], METRICS: [], LATEST: []}
    for run_id, entry in entries.items():
        rows[RUNS].append(run_row(experiment, run_id, entry))
        tags = {**entry.tags, "mlflow.runName": entry.name}
        rows[TAGS] += [(run_id, key, value) for key, value in tags.items()]
        rows[PARAMS] += [(run_id, key, value) for key, value in entry.params.items()]
        points = point_rows(run_id, entry.points)
        rows[METRICS] += points
        rows[LATEST] += latest(points).values()
    return rows | {INPUTS: inputs, INPUT_TAGS: input_tags}


def run_row(experiment: Experiment, run_id: str, entry: Entry) -> Row:
    """A run's row; what is empty here MLflow keeps for its projects."""
    values = {
        "run_uuid": run_id,
        "name": entry.name,
        "source_type": "UNKNOWN",
        "source_name": "",
        "entry_point_name": "",
        "user_id": entry.tags.get("mlflow.user", "unknown"),
        "status": entry.status,
        "start_time": entry.start,
        "end_time": entry.end,
        "source_version": "",
        "lifecycle_stage": "active",
        "artifact_uri": artifact_uri(experiment, run_id),
        "experiment_id": int(experiment.experiment_id),
    }
    return in_order(RUNS, values)


def in_order(of: sa.TableClause, values: Mapping[str, Any]) -> Row:
    """A row's values in the order of its table's columns."""
    return tuple(values[column.name] for column in of.c)


def point_rows(run_id: str, points: Iterable[Point]) -> list[Row]:
    """A row a point, as METRICS has its columns. A point given twice is one."""
    finite = math.isfinite
    return [
        (run_id, key, value, timestamp, step, False) if finite(value) else (run_id, *odd_point(point))
        for point in dict.fromkeys(points)
        for key, value, timestamp, step in (point,)
    ]


def odd_point(point: Point) -> Row:
    """NaN and infinity as MLflow writes them, without the run."""
    key, value, timestamp, step = point
    is_nan = math.isnan(value)
    return key, 0.0 if is_nan else math.copysign(LARGEST, value), timestamp, step, is_nan


def latest(points: Iterable[Row]) -> dict[str, Row]:
    """Of each key the point that MLflow shows as its value: the last step's."""
    last: dict[str, Row] = {}
    for point in points:
        before = last.get(point[1])
        if before is None or age(point) > age(before):
            last[point[1]] = point
    return last


def age(point: Row) -> Row:
    """Orders the points of a key: step, time, value."""
    return point[4], point[3], point[2]


def dataset_rows(
    connection: sa.Connection, experiment: Experiment, entries: Mapping[str, Entry]
) -> tuple[list[Row], list[Row], list[Row]]:
    """The rows of data sets that are new, of each run's use of one, and of what the use is called."""
    ids: dict[Described, str] = {}
    new: list[Row] = []
    for one in {entry.dataset for entry in entries.values() if entry.dataset}:
        found = dataset_id(connection, experiment, one)
        ids[one] = found or uuid.uuid4().hex
        if found is None:
            new.append(dataset_row(experiment, one, ids[one]))
    used = {uuid.uuid4().hex: (ids[entry.dataset], run_id) for run_id, entry in entries.items() if entry.dataset}
    inputs = [(input_id, "DATASET", dataset, "RUN", run_id) for input_id, (dataset, run_id) in used.items()]
    return new, inputs, [(input_id, CONTEXT, "training") for input_id in used]


def dataset_id(connection: sa.Connection, experiment: Experiment, dataset: Described) -> str | None:
    """The id of a data set that the experiment knows."""
    query = sa.select(DATASETS.c.dataset_uuid).where(
        DATASETS.c.experiment_id == int(experiment.experiment_id),
        DATASETS.c.name == dataset.name,
        DATASETS.c.digest == dataset.digest,
    )
    found = connection.execute(query).scalar()
    return None if found is None else str(found)


def dataset_row(experiment: Experiment, dataset: Described, dataset_uuid: str) -> Row:
    """A data set's row."""
    values = {
        "dataset_uuid": dataset_uuid,
        "experiment_id": int(experiment.experiment_id),
        "name": dataset.name,
        "digest": dataset.digest,
        "dataset_source_type": dataset.source_type,
        "dataset_source": dataset.source,
        "dataset_schema": dataset.schema,
        "dataset_profile": dataset.profile,
    }
    return in_order(DATASETS, values)


def end_and_tag(connection: sa.Connection, change: Change) -> None:
    """Writes how a run ended and its new tags."""
    if change.status:
        ended = sa.update(RUNS).where(RUNS.c.run_uuid == change.run_id)
        connection.execute(ended.values(status=change.status, end_time=change.end))
    if change.tags:
        of_run = TAGS.c.run_uuid == change.run_id
        connection.execute(sa.delete(TAGS).where(of_run, TAGS.c.key.in_(change.tags)))
        insert(connection, {TAGS: [(change.run_id, key, value) for key, value in change.tags.items()]})


def add_points(connection: sa.Connection, points: Mapping[str, Sequence[Point]]) -> None:
    """Adds points to runs, by run id, and sets each key's latest one anew."""
    rows = {run_id: point_rows(run_id, given) for run_id, given in points.items()}
    last = {run_id: latest(given) for run_id, given in rows.items()}
    columns = ("key", "value", "timestamp", "step", "is_nan")
    for old in map(tuple, among(connection, LATEST, columns, sa.true(), last)):
        new = last[old[0]].get(old[1])
        if new and age(old) > age(new):
            last[old[0]][old[1]] = old
    for run_id, keys in last.items():
        connection.execute(sa.delete(LATEST).where(LATEST.c.run_uuid == run_id, LATEST.c.key.in_(keys)))
    points_of_runs = {METRICS: [row for given in rows.values() for row in given]}
    insert(connection, points_of_runs, " ON CONFLICT DO NOTHING")  # what was written and not answered is sent again
    insert(connection, {LATEST: [row for keys in last.values() for row in keys.values()]})
