"""The MLflow experiment that a config names, and where its files are."""

import os
from pathlib import Path

from pipeline.config import TrackingConfig
from pipeline.credentials import public_uri
from pipeline.errors import UserError
from pipeline.store.address import absolute, database_file
from pipeline.store.database import made_experiment
from pipeline.store.moved import database_tags
from pipeline.store.sink import Experiment, Sink


def existing_experiment(sink: Sink, tracking: TrackingConfig) -> Experiment | None:
    """The experiment that a config asks for, None if there is none yet. Raises UserError for an unfit one."""
    name = tracking.experiment or ""
    found = sink.experiment(name)
    if found is None:
        return None
    if not found.is_active:
        raise UserError(
            f"The MLflow experiment {name!r} in {public_uri(tracking.uri)} is deleted: restore it there, or "
            "choose another name with tracking.experiment."
        )
    if tracking.artifacts is not None:
        wanted = Path(tracking.artifacts).expanduser().absolute().as_uri()
        if wanted != found.location:
            raise UserError(
                f"tracking.artifacts is {tracking.artifacts}, but the MLflow experiment {name!r} keeps "
                f"its files in {found.location}: leave it out, or choose another tracking.experiment."
            )
    return found


def make_experiment(sink: Sink, uri: str, tracking: TrackingConfig) -> Experiment:
    """Makes the experiment that a config asks for, unless another process does at the same moment."""
    from pipeline.store.api import MlflowClient

    made_experiment(
        MlflowClient(absolute(uri)), tracking.experiment or "", artifact_folder(uri, tracking), database_tags(uri)
    )
    made = existing_experiment(sink, tracking)
    if made is None:
        raise FileNotFoundError(f"the experiment {tracking.experiment!r} was made and is not there")
    return made


def check_artifacts(folder: str | None) -> None:
    """Raises UserError if `folder` can never be one, before a database is made for nothing."""
    if folder is not None:
        path = Path(folder).expanduser().absolute()
        stands = next(place for place in (path, *path.parents) if place.exists())
        if not (stands.is_dir() and os.access(stands, os.W_OK)):
            raise UserError(f"tracking.artifacts is {folder}, but {stands} is no folder that can be written to.")


def artifact_folder(uri: str, tracking: TrackingConfig) -> str | None:
    """Where a new experiment keeps its files: `tracking.artifacts`, else `<name>-artifacts` beside the database file.

    A server (None) decides for itself. Raises UserError if the folder cannot be made.
    """
    scheme = uri.split(":", 1)[0]
    if tracking.artifacts is not None:
        folder = Path(tracking.artifacts).expanduser().absolute()
    elif scheme.startswith("sqlite"):
        file = database_file(uri)
        folder = file.with_name(f"{file.stem}-artifacts")
    elif scheme in ("http", "https"):
        return None
    else:
        folder = Path("mlflow-artifacts").absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be made ({error.strerror}): change tracking.artifacts.") from error
    return folder.as_uri()
