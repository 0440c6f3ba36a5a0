"""Mends a SQLite store that was moved or copied: MLflow keeps the places of files as absolute paths."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.store.address import absolute, database_file, scheme_of
from pipeline.store.files import local_path

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

DATABASE_TAG = "seedbed.database"  # of an experiment: the path of its store's file when it was made, or last mended


@dataclass(frozen=True)
class Moved:
    """An experiment of ours whose store is not where it was when its places were written down."""

    experiment_id: int
    location: str
    old: Path
    new: Path

    @property
    def counterpart(self) -> str:
        """Where its files lie now, written as the place was, if they moved with the database; else the old place."""
        path = local_path(self.location)
        if path is None or not path.is_relative_to(self.old.parent):
            return self.location
        new = self.new.parent / path.relative_to(self.old.parent)
        return new.as_uri() if self.location.startswith("file:") else str(new)


def database_tags(uri: str) -> dict[str, str]:
    """The tags of a new experiment, from which `mend_moved` can tell later that its store has been moved."""
    return {DATABASE_TAG: str(database_file(uri))} if scheme_of(uri) == "sqlite" else {}


def mend_moved(uri: str) -> str | None:
    """Writes down where files are now, if a SQLite store (that is there) was moved or copied together with them.

    Returns a note for the user, or None if there was nothing to tell. Where the files did not move with it, nothing
    is changed: they are found where they were.
    """
    if scheme_of(uri) != "sqlite":
        return None
    from sqlalchemy import create_engine

    engine = create_engine(absolute(uri))
    try:
        with engine.begin() as connection:
            found = [one for one in moved(connection, database_file(uri)) if mend(connection, one)]
    finally:
        engine.dispose()
    if not found:
        return None
    places = ", ".join(dict.fromkeys(str(local_path(one.counterpart)) for one in found))
    return f"This store was moved or copied from {found[0].old.parent}: its runs' files are looked up in {places} now."


def moved(connection: "Connection", file: Path) -> list[Moved]:
    """The experiments of ours that were made, or last mended, when the database was another file."""
    from sqlalchemy import text

    query = text(
        "SELECT experiment_id, artifact_location, value FROM experiments JOIN experiment_tags USING (experiment_id) "
        "WHERE key = :key AND value != :file"
    )
    rows = connection.execute(query, {"key": DATABASE_TAG, "file": str(file)})
    found = [Moved(number, location, Path(old), file) for number, location, old in rows]
    return [one for one in found if not (one.old.exists() and one.old.samefile(file))]  # else by another path


def mend(connection: "Connection", one: Moved) -> bool:
    """Writes an experiment's new places down if its files are there; True if that changed any."""
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
    from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlExperimentTag, SqlLoggedModel, SqlRun
    from sqlalchemy import select, true, update

    new = one.counterpart
    experiment: Any = SqlExperiment.experiment_id == one.experiment_id
    tag: Any = (SqlExperimentTag.experiment_id == one.experiment_id) & (SqlExperimentTag.key == DATABASE_TAG)
    of_run: Any = SqlRun.experiment_id == one.experiment_id
    of_model: Any = SqlLoggedModel.experiment_id == one.experiment_id
    if new != one.location:
        run_ids: Any = select(SqlRun.run_uuid).where(of_run)
        if not has_files(local_path(new), set(connection.execute(run_ids).scalars())):
            return False
        replace_prefix(connection, SqlRun.artifact_uri, of_run, one)
        replace_prefix(connection, SqlLoggedModel.artifact_location, of_model, one)
        replace_prefix(connection, SqlModelVersion.source, true(), one)
        replace_prefix(connection, SqlModelVersion.storage_location, true(), one)
        connection.execute(update(SqlExperiment).where(experiment).values(artifact_location=new))
    connection.execute(update(SqlExperimentTag).where(tag).values(value=str(one.new)))
    return new != one.location


def has_files(folder: Path | None, run_ids: set[str]) -> bool:
    """True for a folder that holds the files of one of the runs at least, or of none where there are no runs.

    That a folder of its name exists is not enough: a new experiment in a database that moved alone makes one.
    """
    if folder is None or not folder.is_dir():
        return False
    return not run_ids or any(entry.name in run_ids for entry in folder.iterdir())


def replace_prefix(connection: "Connection", column: Any, where: "ColumnElement[bool]", one: Moved) -> None:
    """In a column of places, has those below the experiment's old place lie below its new one."""
    from sqlalchemy import func, update

    old, new = (place.rstrip("/") + "/" for place in (one.location, one.counterpart))
    below = func.substr(column, 1, len(old)) == old  # not LIKE, which has wild cards and does not mind case
    changed = update(column.class_).where(where, below).values({column: new + func.substr(column, len(old) + 1)})
    connection.execute(changed.execution_options(synchronize_session=False))
