"""The sink for servers, and for databases of another MLflow than the tested one: MLflow's public client."""

import contextlib
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path

from pipeline.address import check_uri
from pipeline.api import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    MlflowClient,
    MlflowException,
    Param,
    Run,
    RunTag,
    get_artifact_repository,
)
from pipeline.api import Experiment as StoredExperiment
from pipeline.errors import UserError
from pipeline.files import beside, beside_run, get, keep, write
from pipeline.interrupts import let_through
from pipeline.sink import Change, Described, Entry, Experiment, Kept, Point

ACTIVE, DELETED, EITHER = 1, 2, 3  # MLflow's ViewType
PAGE = 1000
AT_ONCE = 900  # points and params in a request; MLflow takes 1,000, of which 100 may be params


class ClientSink:
    """Writes through MLflow's client, `threads` runs at a time."""

    in_bulk = False

    def __init__(self, uri: str, threads: int) -> None:
        self.uri, self.threads = uri, threads
        self.client = MlflowClient(tracking_uri=uri)

    def experiment(self, name: str) -> Experiment | None:
        """The experiment of this name, deleted or not."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            return None
        return Experiment(found.experiment_id, name, found.artifact_location, found.lifecycle_stage == "active")

    def create(self, experiment: Experiment, entries: Iterable[Entry]) -> Iterator[tuple[int, str]]:
        """Writes the runs, `threads` at a time; yields the place and run id of each that has its status.

        One that could not be written whole is marked KILLED if that can be.
        """
        numbered = enumerate(entries)
        pending: dict[Future[str], int] = {}
        error: BaseException | None = None
        with ThreadPoolExecutor(self.threads, "client") as pool:
            while True:
                for place, entry in itertools.islice(numbered, 0 if error else self.threads - len(pending)):
                    let_through()
                    pending[pool.submit(self._create, experiment, entry)] = place
                if not pending:
                    break
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    place = pending.pop(future)
                    error = error or future.exception()
                    if not future.exception():
                        yield place, future.result()
        if error:
            raise error

    def _create(self, experiment: Experiment, entry: Entry) -> str:
        run = self.client.create_run(experiment.experiment_id, entry.start, dict(entry.tags), entry.name)
        run_id = str(run.info.run_id)
        try:
            self._files(run.info.artifact_uri, entry.files)
            params = [Param(key, value) for key, value in entry.params.items()]
            room = AT_ONCE - len(params)
            metrics = [Metric(*point) for point in entry.points[:room]]
            self.client.log_batch(run_id, metrics, params=params)
            self._points(run_id, entry.points[room:])
            if entry.dataset:
                self._dataset(run_id, dataset_input(entry.dataset))
            if entry.end is not None:
                self.client.set_terminated(run_id, entry.status, entry.end)
        except BaseException:
            self._give_up(run_id)
            raise
        return run_id

    def _give_up(self, run_id: str) -> None:
        with contextlib.suppress(MlflowException, OSError, UserError):
            check_uri(self.uri)  # else MLflow would wait once more for a server that does not answer
            self.client.set_terminated(run_id, "KILLED")

    def _files(self, location: str, files: Mapping[str, bytes]) -> None:
        """Writes files into a run's folder; MLflow's client would ask for its address, which is known here."""
        with tempfile.TemporaryDirectory(prefix="seedbed-") as folder:
            for name, content in files.items():
                write(Path(folder, name), content)
            if files:
                get_artifact_repository(location, self.uri).log_artifacts(folder)  # type: ignore[no-untyped-call]

    def _dataset(self, run_id: str, dataset: DatasetInput) -> None:
        """Writes which data set a run used: of those who name a new one at the same moment MLflow fails all but one."""
        try:
            self.client.log_inputs(run_id, [dataset])
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST":
                raise
            self.client.log_inputs(run_id, [dataset])  # it is known now

    def _points(self, run_id: str, points: Sequence[Point]) -> None:
        metrics = [Metric(*point) for point in points]
        for first in range(0, len(metrics), AT_ONCE):
            self.client.log_batch(run_id, metrics=metrics[first : first + AT_ONCE])

    def change(self, changes: Sequence[Change]) -> None:
        """Writes the changes one by one."""
        for change in changes:
            let_through()
            if change.files:
                self._files(self.client.get_run(change.run_id).info.artifact_uri, change.files)
            self._points(change.run_id, change.points)
            if change.tags:
                self.client.log_batch(change.run_id, tags=[RunTag(*tag) for tag in change.tags.items()])
            if change.status == "RUNNING":
                self.client.update_run(change.run_id, change.status)
            elif change.status:
                self.client.set_terminated(change.run_id, change.status, change.end)

    def tag_experiment(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Sets tags of an experiment, one by one."""
        for key, value in tags.items():
            self.client.set_experiment_tag(experiment_id, key, value)

    def finished(
        self, experiment: Experiment, tag: str, values: Iterable[str], since: int = 0
    ) -> dict[str, list[Kept]]:
        """The FINISHED runs with one of these values of a tag that ended at `since` or later, in that order."""
        wanted = set(values)
        which = f"= '{min(wanted)}'" if len(wanted) == 1 else "LIKE '%'"  # one long search beats many short ones
        query = f"attributes.status = 'FINISHED' AND tags.`{tag}` {which} AND attributes.end_time >= {since}"
        found: dict[str, list[Kept]] = {}
        for run in search(self.client, [experiment.experiment_id], query, ["attributes.end_time ASC"]):
            if run.data.tags[tag] in wanted:
                found.setdefault(run.data.tags[tag], []).append(kept(run))
        return found

    def running(self, tag: str) -> dict[str, str]:
        """The values of a tag by run id, of all RUNNING runs of the store that have it."""
        query = f"attributes.status = 'RUNNING' AND tags.`{tag}` LIKE '%'"
        return {run.info.run_id: run.data.tags[tag] for run in everywhere(self.client, query)}

    def ends(self, run_ids: Iterable[str]) -> dict[str, tuple[str, int | None]]:
        """Status and end, by run id, of those of the runs that are there and not deleted."""
        found = {}
        for run_id in run_ids:
            try:
                run = self.client.get_run(run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
            else:
                if run.info.lifecycle_stage == "active":
                    found[run_id] = run.info.status, run.info.end_time
        return found

    def read(self, run_id: str, name: str) -> bytes:
        """The content of a run's file."""
        return Path(self.client.download_artifacts(run_id, name)).read_bytes()

    def keep_shared(self, experiment: Experiment, folder: str, name: str, content: bytes) -> None:
        """Keeps a file in a folder beside those of an experiment's runs, unless it is there."""
        keep(beside(experiment.location, folder), name, content, self.uri)

    def read_shared(self, run_id: str, folder: str, name: str) -> bytes:
        """The content of such a file, found from a run of the experiment."""
        return get(beside_run(self.client.get_run(run_id).info.artifact_uri, folder), name, self.uri)

    def close(self) -> None:
        """Nothing is to be let go of: MLflow keeps its connections for the next client."""


def search(
    client: MlflowClient, experiments: list[str], query: str, order: Sequence[str] = (), view: int = ACTIVE
) -> Iterator[Run]:
    """The runs of experiments that a query finds, page after page."""
    token = None
    while True:
        page = client.search_runs(experiments, query, view, PAGE, list(order), token)
        yield from page
        token = page.token
        if not token:
            return


def everywhere(client: MlflowClient, query: str, deleted: bool = False) -> Iterator[Run]:
    """The runs of all experiments that a query finds: those not deleted, or those deleted."""
    for page in all_experiments(client):
        yield from search(client, [one.experiment_id for one in page], query, view=DELETED if deleted else ACTIVE)


def all_experiments(client: MlflowClient) -> Iterator[list[StoredExperiment]]:
    """All experiments, deleted ones too, some at a time."""
    token = None
    while True:
        page = client.search_experiments(EITHER, PAGE, page_token=token)
        yield list(page)
        token = page.token
        if not token:
            return


def kept(run: Run) -> Kept:
    """What is asked of a run found in the store."""
    results = {key: value for key, value in run.data.metrics.items() if key.startswith("result/")}
    return Kept(run.info.run_id, results, "diverged_at" in run.data.tags)


def dataset_input(dataset: Described) -> DatasetInput:
    """A data set as MLflow's client takes it."""
    entity = Dataset(**asdict(dataset))
    return DatasetInput(entity, [InputTag("mlflow.data.context", "training")])
