"""A finished run in a store: its config, weights and results, read when they are asked for."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, get_type_hints

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.config import DataConfig, RunConfig, TrackingConfig
from pipeline.data import Dataset, make_dataset
from pipeline.errors import UserError
from pipeline.executor_config import ExecutorConfig
from pipeline.identity import Run, make_run
from pipeline.numerics.network import Mode
from pipeline.results.datasets import file_name, unpacked
from pipeline.results.record import layers, read_npz
from pipeline.sample import Sample, sample_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class KeptRun:
    """A finished run. `read` gives the content of one of its files by name, or raises UserError if it is not there.

    `read_data` does the same for the data sets that runs share.

    `diverged_at` is the update after which a number was not finite any more, None for a run that did not diverge.
    """

    run_id: str
    fingerprint: str
    read: Callable[[str], bytes]
    read_data: Callable[[str], bytes]
    numerics: str
    updates: int
    diverged_at: int | None = None

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config as plain values."""
        content: dict[str, Any] = yaml.safe_load(self.read("config.yaml"))
        return content

    @cached_property
    def data(self) -> DataConfig:
        """The data's part of the config. Raises UserError if this version has no such config."""
        with self._understood():
            return DataConfig(**self.config["data"])

    @cached_property
    def dataset(self) -> Dataset:
        """All rows of the data it was trained on. Raises UserError if they are gone, or not what they were."""
        if not self.data.is_table:
            return make_dataset(self.data)
        return unpacked(self.read_data(file_name(str(self.data.digest))), self.data)

    @property
    def sample(self) -> Sample:
        """The rows that it was trained on, and those held out."""
        return sample_of(self.dataset, self.data, int(self.config["seed"]))

    @property
    def training_range(self) -> tuple[Array, Array]:
        """The least and the largest value of each feature, both (d,), in the rows that it was trained on."""
        known = self.dataset.raw_X[self.sample.training.places]
        return np.nanmin(known, axis=0), np.nanmax(known, axis=0)

    @cached_property
    def weights(self) -> tuple[list[Array], list[Array]]:
        """Final matrices (in, out) and biases (out,), layer by layer."""
        arrays = read_npz(self.read("weights.npz"), f"weights.npz of run {self.run_id}")
        return layers(arrays, "W"), layers(arrays, "b")

    @cached_property
    def mode(self) -> Mode:
        """How its network computes."""
        return self.run().mode

    def run(self, epochs: int | None = None) -> Run:
        """The run that the config describes; with these epochs, and no patience, if they are given.

        Where it is kept and who trains it make no difference, so these sections are left out. Raises UserError if this
        version has no such config.
        """
        kinds = get_type_hints(RunConfig)
        with self._understood():
            values: dict[str, Any] = dict(self.config)
            for key in ("network", "init", "training"):
                values[key] = kinds[key](**values[key])
            if epochs is not None:
                values["training"] = replace(values["training"], epochs=epochs, patience=None)
            values |= {"numerics": self.numerics, "tracking": TrackingConfig(), "executor": ExecutorConfig()}
            config = RunConfig(**(values | {"data": self.data}))
        return make_run(config, dataset=self.dataset)

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        """Raises UserError if the block does not understand the config."""
        try:
            yield
        except (TypeError, KeyError, ValueError, yaml.YAMLError) as error:
            raise UserError(
                f"config.yaml of run {self.run_id} is not as this version of Seedbed writes it: use the version that "
                "made the run."
            ) from error
