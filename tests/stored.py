"""All that a store holds, read without Seedbed and without MLflow: for tests that compare whole stores."""

import contextlib
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa

# Those in which two sweeps of the same runs differ, on a machine where somebody works on the code meanwhile:
OWN_TAGS = (
    "sweep",
    "mlflow.parentRunId",
    "seedbed.process",
    "command",
    "mlflow.source.git.commit",
    "git.dirty",
)
OWN_FILES = ("environment.json", "config.yaml")
HALF = ".artifact.uploading."  # what an MLflow server that is killed leaves of an upload; it is sent again
ASKED = (
    "run_uuid, key, value FROM tags",
    "run_uuid, key, value FROM params",
    "run_uuid, key, step, value, is_nan FROM metrics",
    "run_uuid, key, value FROM latest_metrics",
    "run_uuid, status, artifact_uri FROM runs",
)


@dataclass
class Seen:
    """A run as it is stored. metrics[key, step] are all values of that point, as text."""

    run_id: str
    status: str
    location: str
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    latest: dict[str, str] = field(default_factory=dict)

    @property
    def is_parent(self) -> bool:
        """True for a sweep's run."""
        return self.tags.get("kind") == "sweep"

    def files(self, served: Path | None = None) -> dict[str, bytes]:
        """Its artifacts by name; `served` is the folder of a server's."""
        parts = urlsplit(self.location)
        folder = served / parts.path.lstrip("/") if served else Path(unquote(parts.path))
        there = [file for file in folder.iterdir() if not file.name.startswith(HALF)] if folder.is_dir() else []
        return {file.name: file.read_bytes() for file in there}

    def result(self, served: Path | None = None) -> tuple[object, ...]:
        """All that the same training leaves wherever, whenever and by whomever it is made."""
        files = {name: content for name, content in self.files(served).items() if name not in OWN_FILES}
        tags = {key: value for key, value in self.tags.items() if key not in OWN_TAGS}
        return tags, self.params, self.metrics, self.latest, files


def seen(uri: str) -> list[Seen]:
    """All runs of a database."""
    wait = {"timeout": 120} if uri.startswith("sqlite") else {}  # seconds, for somebody's write
    engine = sa.create_engine(uri, connect_args=wait)
    try:
        with engine.connect() as connection:
            tables = [connection.execute(sa.text(f"SELECT {columns}")).all() for columns in ASKED]
    finally:
        engine.dispose()
    tags, params, metrics, latest, rows = tables
    tagged = {row[0] for row in tags}  # a run that came between the queries has none yet
    runs = {row[0]: Seen(row[0], row[1], row[2]) for row in rows if row[0] in tagged}
    for run_id, key, value in tags:
        runs[run_id].tags[key] = value
    for run_id, key, value in params:
        if run_id in runs:
            runs[run_id].params[key] = value
    for run_id, key, step, value, is_nan in metrics:
        if run_id in runs:
            runs[run_id].metrics.setdefault((key, step), []).append("nan" if is_nan else repr(value))
    for run_id, key, value in latest:
        if run_id in runs:
            runs[run_id].latest[key] = repr(value)
    return list(runs.values())


def finished(uri: str, served: Path | None = None) -> dict[str, tuple[object, ...]]:
    """What each FINISHED run left, by fingerprint; no two have the same."""
    runs = [one for one in seen(uri) if one.status == "FINISHED" and not one.is_parent]
    results = {one.tags["fingerprint"]: one.result(served) for one in runs}
    assert len(results) == len(runs), "a run is there twice"
    return results


def statuses(uri: str) -> list[str]:
    """Of all runs, sorted; `parent ...` those of sweeps."""
    return sorted(("parent " if one.is_parent else "") + one.status for one in seen(uri))


def check_integrity(file: Path) -> None:
    """Fails for a SQLite database that is damaged."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
