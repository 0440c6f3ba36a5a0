"""The store: the only room that writes to MLflow. Uses MLflow's public client, so any tracking URI will do.

A run counts as done when it is FINISHED, and that is written last: files, then rows, then the status.
"""

import contextlib
import gc
import getpass
import json
import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_DISABLE_AGENT_HINT", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
logging.getLogger("alembic").setLevel(logging.WARNING)
gc.disable()  # MLflow's import makes a million objects that stay: looking through them costs a seventh of its seconds

import pandas as pd
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Dataset as DatasetEntity
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities import Run as StoredRun
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline.address import DEFAULT_URI, absolute, check_uri, database_file
from pipeline.config import TrackingConfig, public_uri
from pipeline.data import Dataset
from pipeline.database import make_database
from pipeline.errors import UserError
from pipeline.record import Record

gc.freeze()
gc.enable()

TABLES = ("cells.json", "runs.json", "failures.json")  # what the UI is told to draw of a sweep's files
PAGE = 1000
BATCH = 900
STORE_ERRORS = (MlflowException, SQLAlchemyError, OSError, ImportError)  # the last: a missing database driver


@dataclass(frozen=True)
class Kept:
    """A run found in the store: its id and its latest metrics."""

    run_id: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Holds Ctrl-C, SIGTERM and SIGHUP back until the block has ended, then raises KeyboardInterrupt.

    Raised inside of a write it would leave the database locked, or be swallowed there. Also a decorator.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {kind: signal.signal(kind, lambda number, frame: caught.append(number)) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler or signal.SIG_DFL)
    if caught:
        raise KeyboardInterrupt


class Store:
    """One MLflow experiment in one store."""

    def __init__(self, tracking: TrackingConfig) -> None:
        """Opens the store and the experiment, making what is missing. Raises UserError if that cannot be."""
        self.uri = tracking.uri or DEFAULT_URI
        self.shown_uri = public_uri(self.uri) or ""
        self.experiment = tracking.experiment
        check_uri(self.uri)
        check_artifacts(tracking.artifacts)
        with self.translated():
            if self.uri.startswith("sqlite"):
                make_database(database_file(self.uri))
            self.client = MlflowClient(tracking_uri=absolute(self.uri))
            self.experiment_id = self._experiment_id(tracking)
        self._datasets: dict[tuple[str, str], DatasetInput] = {}

    def _experiment_id(self, tracking: TrackingConfig) -> str:
        found = existing_experiment(self.client, tracking)
        if found is None:
            location = artifact_folder(self.uri, tracking)
            return str(self.client.create_experiment(self.experiment, artifact_location=location))
        return found

    def translated(self) -> contextlib.AbstractContextManager[None]:
        """Turns what MLflow, the database or the file system raise into one sentence."""
        return translated(self.uri)

    def finished(self, fingerprints: Sequence[str]) -> dict[str, Kept]:
        """The FINISHED runs of this experiment that have one of the fingerprints, by fingerprint."""
        with self.translated():
            return finished_runs(self.client, self.experiment_id, fingerprints)

    @undisturbed()
    def write(self, record: Record, dataset: Dataset, ended: float, seconds: float, tags: Mapping[str, str]) -> str:
        """Writes a trained run and returns its run id. `ended` is a Unix time, `seconds` how long it trained."""
        start = int((ended - seconds) * 1000)
        with self.translated():
            run_id = self._create(record.name, start, {**record.tags, **tags})
            with self.closing(run_id):
                self._write_files(run_id, record.files)
                per_step = seconds * 1000 / max(1, *(step for *_, step in record.metrics))
                metrics = [
                    Metric(key, value, start + int(step * per_step), step) for key, value, step in record.metrics
                ]
                params = [Param(key, value) for key, value in record.params.items()]
                self.client.log_batch(run_id, params=params)
                for first in range(0, len(metrics), BATCH):
                    self.client.log_batch(run_id, metrics=metrics[first : first + BATCH])
                self.client.log_inputs(run_id, [self._dataset_input(dataset)])
                self.client.set_terminated(run_id, "FINISHED", int(ended * 1000))
        return run_id

    @undisturbed()
    def write_failure(self, name: str, params: Mapping[str, str], tags: Mapping[str, str]) -> str:
        """Writes a run that could not be trained, with status FAILED."""
        with self.translated():
            run_id = self._create(name, int(time.time() * 1000), tags)
            self.client.log_batch(run_id, params=[Param(key, value) for key, value in params.items()])
            self.client.set_terminated(run_id, "FAILED")
        return run_id

    @undisturbed()
    def open_sweep(self, name: str, params: Mapping[str, str], tags: Mapping[str, str]) -> str:
        """Makes the parent run of a sweep (RUNNING) and returns its run id."""
        with self.translated():
            run_id = self._create(name, int(time.time() * 1000), tags)
            self.client.log_batch(run_id, params=[Param(key, value) for key, value in params.items()])
        return run_id

    @undisturbed()
    def close_sweep(
        self, run_id: str, status: str, metrics: Mapping[str, float], files: Mapping[str, bytes], note: str
    ) -> None:
        """Writes a sweep's outcome to its parent run and ends it with `status` (FINISHED, FAILED, KILLED)."""
        now = int(time.time() * 1000)
        with self.translated():
            self._write_files(run_id, files)
            tags = [RunTag("mlflow.note.content", note)]
            tables = [{"path": name, "type": "table"} for name in TABLES if name in files]
            tags += [RunTag("mlflow.loggedArtifacts", json.dumps(tables))]
            self.client.log_batch(run_id, [Metric(key, value, now, 0) for key, value in metrics.items()], tags=tags)
            self.client.set_terminated(run_id, status, now)

    def table(self, run_id: str, name: str) -> tuple[list[str], list[list[Any]]]:
        """Columns and rows of a run's table; both empty if the file is gone."""
        try:
            content = json.loads(Path(self.client.download_artifacts(run_id, name)).read_bytes())
        except STORE_ERRORS:
            return [], []
        return content["columns"], content["data"]

    def _create(self, name: str, start: int, tags: Mapping[str, str]) -> str:
        about = {"mlflow.user": user(), "mlflow.source.name": "seedbed", "mlflow.source.type": "LOCAL"}
        run = self.client.create_run(self.experiment_id, start, {**about, **tags}, name)
        return str(run.info.run_id)

    @contextlib.contextmanager
    def closing(self, run_id: str) -> Iterator[None]:
        """Marks the run FAILED if the block does not come to its end."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(*STORE_ERRORS):
                self.client.set_terminated(run_id, "FAILED")
            raise

    def _write_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        with tempfile.TemporaryDirectory(prefix="seedbed-") as folder:
            for name, content in files.items():
                Path(folder, name).write_bytes(content)
            self.client.log_artifacts(run_id, folder)

    def _dataset_input(self, dataset: Dataset) -> DatasetInput:
        key = dataset.name, dataset.digest
        if key not in self._datasets:
            frame = pd.DataFrame(dataset.raw_X, columns=list(dataset.features))
            for j, target in enumerate(dataset.targets):
                frame[target if target not in frame else f"target {target}"] = dataset.raw_y[:, j]
            target = str(frame.columns[-1])
            described = from_pandas(frame, targets=target, name=dataset.name[:500], digest=dataset.digest).to_dict()
            described |= {"source_type": "code", "source": json.dumps({"tags": {"mlflow.source.name": "seedbed"}})}
            entity = DatasetEntity(**described)
            self._datasets[key] = DatasetInput(entity, [InputTag("mlflow.data.context", "training")])
        return self._datasets[key]


def existing_experiment(client: MlflowClient, tracking: TrackingConfig) -> str | None:
    """The id of the experiment that a config asks for, None if there is none yet. Raises UserError for an unfit one."""
    name = tracking.experiment
    found = client.get_experiment_by_name(name)
    if found is None:
        return None
    if found.lifecycle_stage != "active":
        raise UserError(
            f"The MLflow experiment {name!r} in {public_uri(tracking.uri)} is deleted: restore it there, or "
            "choose another name with tracking.experiment."
        )
    if tracking.artifacts is not None:
        wanted = Path(tracking.artifacts).expanduser().absolute().as_uri()
        if wanted != found.artifact_location:
            raise UserError(
                f"tracking.artifacts is {tracking.artifacts}, but the MLflow experiment {name!r} keeps "
                f"its files in {found.artifact_location}: leave it out, or choose another tracking.experiment."
            )
    return str(found.experiment_id)


def finished_runs(client: MlflowClient, experiment_id: str, fingerprints: Sequence[str]) -> dict[str, Kept]:
    """The FINISHED runs of an experiment that have one of the fingerprints, by fingerprint."""
    wanted = set(fingerprints)
    query = f"attributes.status = 'FINISHED' AND tags.fingerprint {in_or_any(fingerprints)}"
    kept = map(as_kept, search(client, experiment_id, query))
    return {one.tags["fingerprint"]: one for one in kept if one.tags["fingerprint"] in wanted}


def search(client: MlflowClient, experiment_id: str, query: str) -> Iterator[StoredRun]:
    """The runs of an experiment that a query finds, page after page."""
    token = None
    while True:
        page = client.search_runs([experiment_id], query, 1, PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def as_kept(run: StoredRun) -> Kept:
    """What is asked of a run found in the store."""
    return Kept(run.info.run_id, dict(run.data.metrics), dict(run.data.tags))


@contextlib.contextmanager
def translated(uri: str, about: str = "") -> Iterator[None]:
    """Turns what MLflow, the database or the file system raise into a UserError; `about` is what was asked for."""
    try:
        yield
    except STORE_ERRORS as error:
        shown = public_uri(uri) or ""
        reason = first_sentence(str(error).replace(uri, shown)) or type(error).__name__
        if about:
            raise UserError(f"{about} cannot be read from {shown} ({reason}).") from error
        raise UserError(f"The store {shown} cannot be used ({reason}): check tracking.uri.") from error


def in_or_any(fingerprints: Sequence[str]) -> str:
    """The search condition for few fingerprints by name, for many any: one long search beats many short ones."""
    few = len(fingerprints) == 1
    return f"= '{fingerprints[0]}'" if few else "LIKE '%'"


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


def first_sentence(text: str) -> str:
    """The first line of a library's message, without its full stop, at most 200 characters."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line[:200].rstrip(".: ")


def user() -> str:
    """The login name, or `unknown` where there is none (some containers)."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
