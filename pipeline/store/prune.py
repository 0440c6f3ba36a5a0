"""Finds and deletes what a store does not need: runs that were deleted in MLflow, and what killed processes left."""

import contextlib
import itertools
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.process import is_gone
from pipeline.results.datasets import FOLDER as TABLES
from pipeline.results.datasets import file_name
from pipeline.store.address import absolute, database_file, is_database, scheme_of
from pipeline.store.api import Experiment, MlflowClient
from pipeline.store.api import Run as StoredRun
from pipeline.store.client import all_experiments, everywhere
from pipeline.store.database import close_connections
from pipeline.store.files import UNFINISHED, local_path
from pipeline.store.moved import DATABASE_TAG
from pipeline.store.sink import PROCESS

OURS = "tags.`mlflow.source.name` = 'seedbed'"
RUN_ID = re.compile("[0-9a-f]{32}")
OLD_SECONDS = 3600.0  # younger folders may be somebody's who is still writing: files come before rows
CHUNK = 500


@dataclass(frozen=True)
class Waste:
    """Something that can go: runs (rows) with their folders, or folders or files alone."""

    about: str
    run_ids: Sequence[str]
    folders: Sequence[Path]

    @property
    def bytes(self) -> int:
        """How much its folders hold."""
        within = (path for folder in self.folders for path in (folder, *folder.rglob("*")))
        return sum(path.lstat().st_size for path in within if path.is_file())


def find_waste(uri: str, client: MlflowClient, killed: bool) -> list[Waste]:
    """What can go, by kind; `killed` adds runs that were killed. Nothing of other tools, nothing that is in use.

    Raises UserError over HTTP, and while a process of ours is writing.
    """
    if not is_database(uri):
        raise UserError(
            "The store is a server, which deletes nothing for good: run `seedbed prune tracking.uri=DATABASE` where "
            "its database is."
        )
    for run in everywhere(client, f"attributes.status = 'RUNNING' AND tags.`{PROCESS}` LIKE '%'"):
        if not is_gone(run.data.tags[PROCESS]):
            raise UserError(
                f"Run {run.info.run_id} ({run.info.run_name}) is still RUNNING: prune when it has ended, as its files "
                "are there before its rows."
            )
    others = {one.experiment_id for page in all_experiments(client) for one in page if is_of_another(uri, one)}
    found = [runs_of("runs deleted in MLflow", everywhere(client, OURS, deleted=True), others)]
    if killed:
        query = f"{OURS} AND attributes.status = 'KILLED' AND tags.fingerprint LIKE '%'"
        found.append(runs_of("runs that were killed", everywhere(client, query), others))
    if scheme_of(uri) == "sqlite":
        file = database_file(uri)
        found.append(Waste("folders of runs that no row names", (), list(orphans(file))))
        found.append(Waste("folders of work that was cut off", (), list(unfinished(file))))
        gone = {run_id for waste in found for run_id in waste.run_ids}
        found.append(Waste("tables that no run was trained on", (), list(unused_tables(file, gone))))
    return [waste for waste in found if waste.run_ids or waste.folders]


def is_of_another(uri: str, experiment: Experiment) -> bool:
    """True for an experiment whose files belong to another database: this one is a copy, made without the files."""
    made_in = Path(experiment.tags.get(DATABASE_TAG, ""))
    return scheme_of(uri) == "sqlite" and made_in.is_file() and not made_in.samefile(database_file(uri))


def runs_of(about: str, runs: Iterator[StoredRun], others: Set[str]) -> Waste:
    """Runs with their folders, as far as these are on this machine and not of the experiments `others`."""
    found = [run for run in runs if "fingerprint" in run.data.tags or run.data.tags.get("kind") == "sweep"]
    folders = [folder_of(run) for run in found if run.info.experiment_id not in others]
    return Waste(about, [run.info.run_id for run in found], [folder for folder in folders if folder])


def folder_of(run: StoredRun) -> Path | None:
    """A run's own folder, None if it has none here."""
    files = local_path(run.info.artifact_uri)
    return files.parent if files and files.parent.name == run.info.run_id and files.parent.is_dir() else None


def artifact_root(file: Path) -> Path:
    """The folder that belongs to this database alone. One that `tracking.artifacts` named may serve others as well."""
    return file.with_name(f"{file.stem}-artifacts")


def orphans(file: Path) -> Iterator[Path]:
    """The run folders in a database's own artifact folder that are old and that none of its rows names."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        run_ids = {run_id for (run_id,) in connection.execute("SELECT run_uuid FROM runs")}
    if owns_root(file):
        folders = folders_in(artifact_root(file))
        yield from (
            path for path in folders if RUN_ID.fullmatch(path.name) and path.name not in run_ids and is_old(path)
        )


def owns_root(file: Path) -> bool:
    """True if the artifact folder beside a database is that of one of its experiments."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        query = "SELECT artifact_location FROM experiments JOIN experiment_tags USING (experiment_id)"
        of_this = connection.execute(f"{query} WHERE key = ? AND value = ?", (DATABASE_TAG, str(file)))
        return artifact_root(file) in [local_path(place) for (place,) in of_this]


def unused_tables(file: Path, gone: Set[str]) -> Iterator[Path]:
    """The old files of tables in a database's own artifact folder that no run names but those that are to go."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        named = connection.execute("SELECT run_uuid, value FROM params WHERE key = 'data.digest'")
        used = {file_name(digest) for run_id, digest in named if run_id not in gone}
    folder = artifact_root(file) / TABLES
    if owns_root(file) and folder.is_dir():
        files = (path for path in sorted(folder.iterdir()) if path.is_file() and path.name not in used)
        yield from filter(is_old, files)


def unfinished(file: Path) -> Iterator[Path]:
    """Old folders, beside a database and in its artifact folder, in which something was being made."""
    for folder in (file.parent, artifact_root(file), artifact_root(file) / TABLES):
        yield from (path for path in folders_in(folder) if path.name.startswith(UNFINISHED) and is_old(path))


def folders_in(folder: Path) -> list[Path]:
    """The real folders in a folder, none if it is not there."""
    return (
        sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()) if folder.is_dir() else []
    )


def is_old(folder: Path) -> bool:
    """True if a file, or all in a folder, has not changed for `OLD_SECONDS`."""
    newest = max(path.lstat().st_mtime for path in itertools.chain([folder], folder.rglob("*")))
    return time.time() - newest > OLD_SECONDS


def delete(uri: str, found: Sequence[Waste]) -> None:
    """Deletes rows, in one transaction for each `CHUNK` runs, then folders: what is cut off here is found again."""
    from sqlalchemy import create_engine

    engine = create_engine(absolute(uri))
    try:
        run_ids = [run_id for waste in found for run_id in waste.run_ids]
        for first in range(0, len(run_ids), CHUNK):
            delete_rows(engine, run_ids[first : first + CHUNK])
    finally:
        engine.dispose()
    for path in (path for waste in found for path in waste.folders):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if run_ids and scheme_of(uri) == "sqlite":
        close_connections()
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(database_file(uri))) as connection:
            connection.execute("VACUUM")  # else the file keeps its size


def delete_rows(engine: Any, run_ids: Sequence[str]) -> None:
    """Deletes runs with all that hangs on them. MLflow's own `gc` takes everybody's deleted experiments along."""
    from mlflow.store.tracking.dbmodels import models
    from sqlalchemy import delete, or_, select

    inputs, input_tags = models.SqlInput, models.SqlInputTag
    with engine.begin() as connection:
        mine: Any = or_(inputs.source_id.in_(run_ids), inputs.destination_id.in_(run_ids))
        tagged: Any = input_tags.input_uuid.in_(select(inputs.input_uuid).where(mine))
        connection.execute(delete(input_tags).where(tagged))
        connection.execute(delete(inputs).where(mine))
        for table in (
            models.SqlLoggedModelMetric,
            models.SqlLatestMetric,
            models.SqlMetric,
            models.SqlParam,
            models.SqlTag,
        ):
            column = table.run_id if table is models.SqlLoggedModelMetric else table.run_uuid
            connection.execute(delete(table).where(column.in_(run_ids)))
        connection.execute(delete(models.SqlRun).where(models.SqlRun.run_uuid.in_(run_ids)))
