"""Finds finished runs in a store, through MLflow's client."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.credentials import public_uri
from pipeline.errors import UserError
from pipeline.results.datasets import FOLDER
from pipeline.results.kept import KeptRun
from pipeline.store.address import absolute, check_uri, store_uri
from pipeline.store.api import MlflowClient
from pipeline.store.api import Run as StoredRun
from pipeline.store.database import is_store
from pipeline.store.files import beside_run, get
from pipeline.store.moved import mend_moved
from pipeline.store.sinks import translated
from pipeline.terminal import warn


def open_reader(address: str | None) -> "Reader":
    """The store at an address of the user's, or the default one. Raises UserError if there is none."""
    reader = Reader(store_uri(address))
    if reader.moved:
        warn(reader.moved)
    return reader


class Reader:
    """A store that exists already."""

    def __init__(self, uri: str) -> None:
        """Raises UserError if there is no store at `uri`, so that looking at one never makes one.

        `moved` is a note for the user, if the store was found to have been moved.
        """
        check_uri(uri)
        self.uri, self.shown_uri = uri, public_uri(uri) or ""
        if not is_store(uri):
            raise UserError(
                f"There is no store at {self.shown_uri}: train something first (`seedbed sweep`), "
                "or name another with tracking.uri=."
            )
        with translated(uri):
            self.moved = mend_moved(uri)
            self.client = MlflowClient(tracking_uri=absolute(uri))

    def run(self, run_id: str) -> KeptRun:
        """The trained run of this id. Raises UserError if there is none, or it is a sweep's parent or unfinished."""
        with translated(uri=self.uri, about=f"run={run_id}"):
            stored = self.client.get_run(run_id)
        if "fingerprint" not in stored.data.tags:
            raise UserError(f"run={run_id} is no trained run (a sweep's parent?): name one of its children.")
        if stored.info.status != "FINISHED":
            raise UserError(f"run={run_id} is {stored.info.status}, so it has no weights: name a FINISHED run.")
        return self.kept(stored)

    def best(self, experiment: str) -> KeptRun:
        """The run of an MLflow experiment with the lowest final loss, diverged ones left out."""
        for run in self.finished(experiment):
            if run.diverged_at is None:
                return run
        raise UserError(
            f"experiment={experiment} has no finished run: `seedbed train experiment={experiment}` makes one."
        )

    def finished(self, experiment: str) -> Iterator[KeptRun]:
        """The FINISHED runs of an MLflow experiment, the lowest final loss first."""
        query = "attributes.status = 'FINISHED' AND tags.fingerprint LIKE '%'"
        order = ["metrics.`result/final_loss` ASC"]
        token = None
        with translated(self.uri):
            experiment_id = self.experiment_id(experiment)
            while True:
                page = self.client.search_runs([experiment_id], query, 1, 100, order, token)
                yield from map(self.kept, page)
                token = page.token
                if not token:
                    return

    def kept(self, stored: StoredRun) -> KeptRun:
        """A run that the client has found."""
        data, run_id = stored.data, stored.info.run_id
        diverged_at = int(data.tags["diverged_at"]) if "diverged_at" in data.tags else None

        def read(name: str) -> bytes:
            with translated(self.uri, about=f"file {name} of run {run_id}"):
                return Path(self.client.download_artifacts(run_id, name)).read_bytes()

        def read_data(name: str) -> bytes:
            with translated(self.uri, about=f"{FOLDER}/{name}, which run {run_id} was trained on,"):
                return get(beside_run(stored.info.artifact_uri, FOLDER), name, absolute(self.uri))

        return KeptRun(
            run_id,
            data.tags["fingerprint"],
            read,
            read_data,
            data.params["numerics"],
            int(data.metrics["result/updates"]),
            diverged_at,
        )

    def experiment_id(self, name: str) -> str:
        """The id of an MLflow experiment. Raises UserError, with the names there are, if there is none."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            names = ", ".join(self.experiments()) or "none"
            raise UserError(
                f"There is no experiment {name} in {self.shown_uri} (there are: {names}): "
                f"`seedbed train experiment={name}` may make it."
            )
        return str(found.experiment_id)

    def experiments(self) -> dict[str, str]:
        """Ids of the experiments by name, the newest first, without MLflow's empty default."""
        return {one.name: one.experiment_id for one in self.client.search_experiments() if one.experiment_id != "0"}
