"""What goes into a store, as plain values, and what a sink is: the ways in are client.py, bulk.py and block.py."""

import json
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.data import Dataset

PROCESS = "seedbed.process"  # the tag that says which process writes a run (process.py)
Point = tuple[str, float, int, int]  # a metric's key and value, its time in ms since 1970, its step


@dataclass(frozen=True)
class Described:
    """A data set in MLflow's words; `schema`, `source` and `profile` are JSON."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str
    profile: str


@dataclass(frozen=True)
class Entry:
    """A new run. `start` and `end` are ms since 1970; without an end its status is RUNNING. files: bytes by name.

    Who may have to send it again chooses `run_id`, where the store lets one: else it could be there twice.
    """

    name: str
    status: str
    start: int
    end: int | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    points: Sequence[Point] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    dataset: Described | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    run_id: str = ""


@dataclass(frozen=True)
class Change:
    """What is new about a run: further points and files, tags (which replace), and how it ended, if it did."""

    run_id: str
    points: Sequence[Point] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    status: str | None = None
    end: int | None = None


@dataclass(frozen=True)
class Experiment:
    """An MLflow experiment; `location` is the address of the folder of its files."""

    experiment_id: str
    name: str
    location: str
    is_active: bool


@dataclass(frozen=True)
class Kept:
    """A FINISHED run found in the store: its `result/...` metrics, and whether it diverged."""

    run_id: str
    metrics: Mapping[str, float]
    diverged: bool


class Sink(Protocol):
    """A way into a store and, for what a sweep asks of it, out of it. `in_bulk`: many runs at a time, so quickly."""

    in_bulk: bool

    def experiment(self, name: str) -> Experiment | None:
        """The experiment of this name, deleted or not."""

    def create(self, experiment: Experiment, entries: Iterable[Entry]) -> Iterator[tuple[int, str]]:
        """Writes new runs: files, then rows, the status last. Yields the place and run id of each that is in for good.

        Raises what the store raised, after those.
        """

    def change(self, changes: Sequence[Change]) -> None:
        """Writes what is new of runs: files, then rows, the status last."""

    def tag_experiment(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Sets tags of an experiment, in place of those it has of these names."""

    def finished(
        self, experiment: Experiment, tag: str, values: Iterable[str], since: int = 0
    ) -> dict[str, list[Kept]]:
        """The FINISHED runs with one of these values of a tag, by value, in the order in which they ended.

        Only those that ended at `since`, in ms since 1970, or later.
        """

    def running(self, tag: str) -> dict[str, str]:
        """The values of a tag by run id, of all RUNNING runs of the store that have it."""

    def ends(self, run_ids: Iterable[str]) -> dict[str, tuple[str, int | None]]:
        """Status and end, by run id, of those of the runs that are there and not deleted."""

    def read(self, run_id: str, name: str) -> bytes:
        """The content of a run's file."""

    def keep_shared(self, experiment: Experiment, folder: str, name: str, content: bytes) -> None:
        """Keeps a file in a folder beside those of an experiment's runs, unless it is there."""

    def read_shared(self, run_id: str, folder: str, name: str) -> bytes:
        """The content of such a file, found from a run of the experiment."""

    def close(self) -> None:
        """Lets go of the store."""


def new_run_id() -> str:
    """32 hex digits: 12 of the time in ms, the others random, as in MLflow's own ids all are.

    Ids in order are a quarter cheaper to insert: the pages of the indexes are filled one after the other.
    """
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def artifact_uri(experiment: Experiment, run_id: str) -> str:
    """The address of the folder of a new run's files, as MLflow chooses it."""
    return f"{experiment.location.rstrip('/')}/{run_id}/artifacts"


def described(dataset: Dataset) -> Described:
    """A data set as MLflow itself describes a table of numbers (a test compares)."""
    names = list(dataset.features)
    names += [target if target not in names else f"target {target}" for target in dataset.targets]
    rows, columns = len(dataset.raw_X), len(names)
    schema = [{"type": "double", "name": name, "required": True} for name in names]
    return Described(
        name=dataset.name[:500],
        digest=dataset.digest,
        source_type="code",
        source=json.dumps({"tags": {"mlflow.source.name": "seedbed"}}),
        schema=json.dumps({"mlflow_colspec": schema}),
        profile=json.dumps({"num_rows": rows, "num_elements": rows * columns}),
    )
