"""Puts a run into MLflow's model registry, with the alias `champion`. The run's own rows and files are not touched.

MLflow's `log_model` works on a global store and an active run, and writes the model's config to the run's params. The
calls of its client that it is made of do neither.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.model.choose import Choice
from pipeline.model.folder import write_model
from pipeline.store.api import LoggedModelOutput, MlflowClient, MlflowException, global_store

CHAMPION = "champion"
LOGGED_AS = "network"  # in the list of an experiment's models


@dataclass(frozen=True)
class Registered:
    """A version of a registered model; `is_new`: it was made now, not found."""

    name: str
    version: str
    is_new: bool


def register(client: MlflowClient, choice: Choice, name: str) -> Registered:
    """Makes a version of the model `name` of a run, unless there is one of this run, and gives it the alias."""
    run_id = choice.kept.run_id
    found = [one for one in client.search_model_versions(f"run_id = '{run_id}'") if one.name == name]
    version = str(found[0].version if found else new_version(client, choice, name))
    client.set_registered_model_alias(name, CHAMPION, version)
    return Registered(name, version, not found)


def new_version(client: MlflowClient, choice: Choice, name: str) -> str:
    """Logs the model of a run and makes it the newest version of `name`."""
    kept = choice.kept
    model_id = log_model(client, choice)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {"fingerprint": kept.fingerprint, "cell": choice.cell}
    about = f"Run {choice.name} of cell {choice.cell}: {choice.why}."
    with as_global_store(client):
        made = client.create_model_version(
            name, f"models:/{model_id}", kept.run_id, tags=tags, description=about, model_id=model_id
        )
    of = json.dumps([{"name": name, "version": made.version}])
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": of})  # the UI's link from one to the other
    return str(made.version)


@contextlib.contextmanager
def as_global_store(client: MlflowClient) -> Iterator[None]:
    """In the block MLflow's global store is this client's: there a registry in a database looks a model up.

    Not by `set_tracking_uri`, which changes the environment too.
    """
    before, global_store._tracking_uri = global_store._tracking_uri, client.tracking_uri
    try:
        yield
    finally:
        global_store._tracking_uri = before


def log_model(client: MlflowClient, choice: Choice) -> str:
    """Writes the model of a run to its store, as an output of the run; returns its id."""
    kept = choice.kept
    experiment_id = client.get_run(kept.run_id).info.experiment_id
    tags = {"fingerprint": kept.fingerprint, "cell": choice.cell}
    model = client.create_logged_model(experiment_id, LOGGED_AS, kept.run_id, tags)
    with ready_or_failed(client, model.model_id), tempfile.TemporaryDirectory(prefix="seedbed-") as folder:
        place, parts = Path(folder, "model"), Path(folder, "parts")
        parts.mkdir()
        write_model(place, parts, kept, choice.cell, model)
        client.log_model_artifacts(model.model_id, str(place))
        client.log_outputs(kept.run_id, [LoggedModelOutput(model.model_id, step=0)])
    return str(model.model_id)


@contextlib.contextmanager
def ready_or_failed(client: MlflowClient, model_id: str) -> Iterator[None]:
    """Says in the store how the writing of a model ended."""
    try:
        yield
    except BaseException:
        client.finalize_logged_model(model_id, "FAILED")
        raise
    client.finalize_logged_model(model_id, "READY")
