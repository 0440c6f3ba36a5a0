"""A finished run in a store: its config, weights and results, read when they are asked for."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, get_type_hints

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.config import DataConfig, ExecutorConfig, RunConfig, TrackingConfig
from pipeline.data import Dataset, make_dataset
from pipeline.errors import UserError
from pipeline.identity import Run, make_run
from pipeline.network import Mode
from pipeline.record import layers, read_npz

Array = NDArray[np.float64]


@dataclass(frozen=True)
class KeptRun:
    """A finished run. `read` gives the content of one of its files by name, or raises UserError if it is not there.

    `diverged_at` is the update after which a number was not finite any more, None for a run that did not diverge.
    """

    run_id: str
    fingerprint: str
    read: Callable[[str], bytes]
    numerics: str
    updates: int
    diverged_at: int | None = None

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config as plain values."""
        content: dict[str, Any] = yaml.safe_load(self.read("config.yaml"))
        return content

    @cached_property
    def dataset(self) -> Dataset:
        """The data it was trained on."""
        return make_dataset(DataConfig(**self.config["data"]))

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
        try:
            values: dict[str, Any] = dict(self.config)
            for key in ("data", "network", "init", "training"):
                values[key] = kinds[key](**values[key])
            if epochs is not None:
                values["training"] = replace(values["training"], epochs=epochs, patience=None)
            values |= {"numerics": self.numerics, "tracking": TrackingConfig(), "executor": ExecutorConfig()}
            return make_run(RunConfig(**values))
        except (TypeError, KeyError, ValueError, yaml.YAMLError) as error:
            raise UserError(
                f"config.yaml of run {self.run_id} is not as this version of Seedbed writes it: use the version that "
                "made the run."
            ) from error
