"""Reads runs back from the store: their config, weights and results."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.address import DEFAULT_URI, absolute, check_uri
from pipeline.api import MlflowClient
from pipeline.api import Run as StoredRun
from pipeline.config import DataConfig
from pipeline.credentials import public_uri
from pipeline.data import Dataset, make_dataset
from pipeline.database import is_store
from pipeline.errors import UserError
from pipeline.moved import mend_moved
from pipeline.record import layers, read_npz
from pipeline.sinks import translated

Array = NDArray[np.float64]


def store_uri(given: str | None) -> str:
    """The store's address: as given, else MLFLOW_TRACKING_URI, else mlflow.db in the working directory."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


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

    def run(self, run_id: str) -> "KeptRun":
        """The trained run of this id. Raises UserError if there is none, or it is a sweep's parent or unfinished."""
        with translated(uri=self.uri, about=f"run={run_id}"):
            stored = self.client.get_run(run_id)
        if "fingerprint" not in stored.data.tags:
            raise UserError(f"run={run_id} is no trained run (a sweep's parent?): name one of its children.")
        if stored.info.status != "FINISHED":
            raise UserError(f"run={run_id} is {stored.info.status}, so it has no weights: name a FINISHED run.")
        return KeptRun(self, stored)

    def best(self, experiment: str) -> "KeptRun":
        """The run of an MLflow experiment with the lowest final loss, diverged ones left out."""
        for run in self.finished(experiment):
            if "diverged_at" not in run.stored.data.tags:
                return run
        raise UserError(
            f"experiment={experiment} has no finished run: `seedbed train experiment={experiment}` makes one."
        )

    def finished(self, experiment: str) -> Iterator["KeptRun"]:
        """The FINISHED runs of an MLflow experiment, the lowest final loss first."""
        query = "attributes.status = 'FINISHED' AND tags.fingerprint LIKE '%'"
        order = ["metrics.`result/final_loss` ASC"]
        token = None
        with translated(self.uri):
            experiment_id = self.experiment_id(experiment)
            while True:
                page = self.client.search_runs([experiment_id], query, 1, 100, order, token)
                yield from (KeptRun(self, stored) for stored in page)
                token = page.token
                if not token:
                    return

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


@dataclass(frozen=True)
class KeptRun:
    """A finished run in a store; its files are read when they are asked for."""

    reader: Reader
    stored: StoredRun

    @property
    def run_id(self) -> str:
        """Its id."""
        return str(self.stored.info.run_id)

    def file(self, name: str) -> bytes:
        """The content of an artifact. Raises UserError if it is not there."""
        with translated(self.reader.uri, about=f"file {name} of run {self.run_id}"):
            return Path(self.reader.client.download_artifacts(self.run_id, name)).read_bytes()

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config as plain values."""
        content: dict[str, Any] = yaml.safe_load(self.file("config.yaml"))
        return content

    @cached_property
    def dataset(self) -> Dataset:
        """The data it was trained on."""
        return make_dataset(DataConfig(**self.config["data"]))

    @cached_property
    def weights(self) -> tuple[list[Array], list[Array]]:
        """Final matrices (in, out) and biases (out,), layer by layer."""
        arrays = read_npz(self.file("weights.npz"), f"weights.npz of run {self.run_id}")
        return layers(arrays, "W"), layers(arrays, "b")

    @property
    def numerics(self) -> str:
        """The numerics it was trained with."""
        return str(self.stored.data.params["numerics"])
