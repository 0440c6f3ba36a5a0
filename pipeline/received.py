"""What requests bring to Seedbed's route (route.py): checked, and written in bulk, inside MLflow's server."""

import contextlib
import functools
import json
import os
import posixpath
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DataError

from pipeline import files
from pipeline.bulk import EXPERIMENTS, RUNS, BulkSink, among, insert_new, is_known
from pipeline.parcel import EXPERIMENT, LARGEST, MEDIA_TYPE, PROTOCOL, Content, is_served, is_text, is_whole, unpacked
from pipeline.sink import Change, Entry, Experiment, artifact_uri

LONGEST_NAME, LONGEST_USER = 250, 256
BAD, MISSING, NO_LENGTH, TOO_LARGE, OTHER_MEDIA = 400, 404, 411, 413, 415


class Refused(Exception):  # noqa: N818  # it is an answer
    """What is said to a request that nothing is written for: a status, and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def about() -> dict[str, object]:
    """Which protocol is spoken here."""
    store()
    return {"protocol": PROTOCOL}


def create() -> dict[str, object]:
    """Writes the new runs of a request, all or none. Those that are there already were sent before, and stay."""
    experiment, entries = asked_experiment(), asked(Entry)
    with TAKEN.alone([entry.run_id for entry in entries]):
        there = homes([entry.run_id for entry in entries])
        if any(home != experiment.experiment_id for home, _, _ in there.values()):
            raise Refused(BAD, "One of the runs is in another experiment.")
        new = {entry.run_id: entry for entry in entries if entry.run_id not in there}
        for run_id, entry in new.items():
            keep(artifact_uri(experiment, run_id), experiment, run_id, entry.files)
        with refusing_odd_values(), store().engine.connect() as connection:
            insert_new(connection, experiment, {run_id: replace(entry, files={}) for run_id, entry in new.items()})
            connection.commit()
    return {"runs": len(entries)}


def change() -> dict[str, object]:
    """Writes the changes of a request; one that was sent before changes nothing."""
    experiment, changes = asked_experiment(), asked(Change)
    with TAKEN.alone([one.run_id for one in changes]):
        there = homes([one.run_id for one in changes])
        for one in changes:
            home, stage, _ = there.get(one.run_id, ("", "", ""))
            if home != experiment.experiment_id or stage != "active":
                raise Refused(MISSING, f"There is no run {one.run_id} in the experiment {experiment.experiment_id}.")
        for one in changes:
            keep(there[one.run_id][2], experiment, one.run_id, one.files)
        with refusing_odd_values():
            store().change([replace(one, files={}) for one in changes])
    return {"runs": len(changes)}


def finished() -> dict[str, object]:
    """Of the FINISHED runs that a request asks for what a sweep wants to know, by the value of their tag."""
    experiment, wanted = asked_experiment(), asked_body()
    try:
        about = json.loads(wanted)
        tag, values, since = about["tag"], about["values"], about["since"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refused(BAD, "The request must be JSON with tag, values and since.") from error
    if not (is_text(tag) and isinstance(values, list) and all(map(is_text, values)) and is_whole(since)):
        raise Refused(BAD, "tag must be a text, values a list of texts, and since a time in ms.")
    found = store().finished(experiment, tag, values, since)
    return {value: [(one.run_id, one.metrics, one.diverged) for one in runs] for value, runs in found.items()}


def asked_experiment() -> Experiment:
    """The experiment that a request names. Raises Refused unless it is there and not deleted."""
    from flask import request

    named = request.args.get(EXPERIMENT, "")
    if not (named.isascii() and named.isdecimal() and len(named) < 10):
        raise Refused(BAD, f"{EXPERIMENT} must be an experiment's id.")
    query = sa.select(*EXPERIMENTS.c).where(EXPERIMENTS.c.experiment_id == int(named))
    with store().engine.connect() as connection:
        row = connection.execute(query).first()
    if row is None or row.lifecycle_stage != "active":
        raise Refused(MISSING, f"There is no experiment {named}.")
    return Experiment(str(row.experiment_id), row.name, row.artifact_location, is_active=True)


def asked(kind: type[Content]) -> list[Content]:
    """What a request brings. Raises Refused for a body that is too large, not of the protocol, or odd to MLflow."""
    try:
        return [as_kept(one) for one in unpacked(asked_body(), kind)]
    except ValueError as error:
        raise Refused(BAD, str(error)) from error


def asked_body() -> bytes:
    """The body of a request. Raises Refused if it is too large."""
    from flask import request

    if request.mimetype != MEDIA_TYPE:  # which no page of another origin can send without asking first
        raise Refused(OTHER_MEDIA, f"The body must be {MEDIA_TYPE}.")
    check_length(request.headers.get("Content-Length"), "Transfer-Encoding" in request.headers)
    return request.get_data(cache=False)


def check_length(told: str | None, is_chunked: bool) -> None:
    """Raises Refused for a request that does not say how long it is, or is too long."""
    if is_chunked or not (told and told.isascii() and told.isdecimal()):
        raise Refused(NO_LENGTH, "The request must say its length.")
    if len(told) > 9 or int(told) > LARGEST:
        raise Refused(TOO_LARGE, f"The request must have at most {LARGEST} bytes.")


def as_kept(content: Content) -> Content:
    """The content as MLflow itself would keep it: long texts cut. Raises Refused for what it would not take."""
    import mlflow.utils.validation
    from mlflow.exceptions import MlflowException

    rules: Any = mlflow.utils.validation
    try:
        for key in {point[0] for point in content.points}:
            rules._validate_metric_name(key)
            rules._validate_length_limit("Metric name", rules.MAX_ENTITY_KEY_LENGTH, key)
        tags = {key: rules._validate_tag(key, value).value for key, value in content.tags.items()}
        if isinstance(content, Change):
            return replace(content, tags=tags)
        rules._validate_length_limit("Run name", LONGEST_NAME, content.name)
        rules._validate_length_limit("User name", LONGEST_USER, tags.get("mlflow.user"))
        if content.dataset:
            rules._validate_dataset(content.dataset)
        params = {key: rules._validate_param(key, value).value for key, value in content.params.items()}
        return replace(content, tags=tags, params=params)
    except MlflowException as error:
        raise Refused(BAD, error.message) from error


# --- the store behind -------------------------------------------------------------------------------------------


@functools.cache
def store() -> BulkSink:
    """MLflow's own database, written in bulk. Raises Refused if that cannot be: then clients do without the route."""
    from mlflow.server.handlers import _get_tracking_store

    engine = getattr(_get_tracking_store(), "engine", None)
    if not isinstance(engine, sa.Engine) or not is_known(engine):
        raise Refused(MISSING, "The store of this server is not one that runs are written to in bulk.")
    return BulkSink(engine)


def homes(run_ids: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Experiment id, lifecycle stage and address of the files of those of the runs that are there, by run id."""
    columns = ("experiment_id", "lifecycle_stage", "artifact_uri")
    with store().engine.connect() as connection:
        found = among(connection, RUNS, columns, sa.true(), run_ids)
        return {run_id: (str(home), stage, address) for run_id, home, stage, address in found}


def keep(address: str, experiment: Experiment, run_id: str, content: Mapping[str, bytes]) -> None:
    """Keeps files of a run where MLflow looks for them, in the server's own place for artifacts.

    Raises Refused where they would lie anywhere else: that is for clients to write, with their own rights.
    """
    from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR, SERVE_ARTIFACTS_ENV_VAR

    if not content:
        return
    serves = os.environ.get(SERVE_ARTIFACTS_ENV_VAR) == "true" and ARTIFACTS_DESTINATION_ENV_VAR in os.environ
    if not serves or not is_served(experiment) or address != artifact_uri(experiment, run_id):
        raise Refused(BAD, "Files of this experiment's runs are not kept by this server.")
    root = os.environ[ARTIFACTS_DESTINATION_ENV_VAR]
    files.add(posixpath.join(root, experiment.experiment_id, run_id, "artifacts"), content)


@contextlib.contextmanager
def refusing_odd_values() -> Iterator[None]:
    """Turns what a database says of values that it cannot keep into a refusal."""
    try:
        yield
    except (DataError, ValueError) as error:
        raise Refused(BAD, f"A value cannot be kept ({type(error).__name__}).") from error


class Taken:
    """The runs that requests write now: who sends one again, having had no answer, waits for the first."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def alone(self, run_ids: Sequence[str]) -> Iterator[None]:
        """Nobody else writes these runs in the block."""
        with self._changed:
            self._changed.wait_for(lambda: self._ids.isdisjoint(run_ids))
            self._ids.update(run_ids)
        try:
            yield
        finally:
            with self._changed:
                self._ids.difference_update(run_ids)
                self._changed.notify_all()


TAKEN = Taken()
