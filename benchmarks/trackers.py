"""Ways to keep trained runs. Each writes the same runs whole, from the results that training left behind.

`python -m benchmarks.trackers NAME` is a process for one of them, JSON lines in and out:
{"place": {...}, "runs": 300, "updates": 1000}    -> {"seconds": 0.9}

Opening the store, making the experiment and a first run are not in the seconds; closing the store is.
"""

import contextlib
import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from benchmarks.places import Place
from benchmarks.worker import answering
from pipeline.address import absolute
from pipeline.config import TrackingConfig
from pipeline.environment import environment
from pipeline.experiment import compose_run
from pipeline.identity import Run, make_run
from pipeline.plan import TagsOf, tags_for
from pipeline.record import Record, make_record
from pipeline.sink import described
from pipeline.stack import Result, train_stack

if TYPE_CHECKING:
    from pipeline.api import Metric, MlflowClient

WARMING = 1  # runs before the clock starts: connections, the data set, MLflow's own caches


@dataclass(frozen=True)
class Batch:
    """Trained runs. Their records are made when they are written: that is a part of what is timed."""

    runs: Sequence[Run]
    results: Sequence[Result]
    tags_of: TagsOf

    def record(self, place: int) -> Record:
        """All that is kept of one, as a sweep keeps it."""
        run = self.runs[place]
        return make_record(run, self.results[place], environment(), self.tags_of(run))

    def records(self) -> Iterator[Record]:
        """The records, one by one."""
        return map(self.record, range(len(self.runs)))

    def part(self, first: int, last: int) -> "Batch":
        """Some of the runs."""
        return Batch(self.runs[first:last], self.results[first:last], self.tags_of)


Keep = Callable[[Batch], None]
Tracker = Callable[[Place], contextlib.AbstractContextManager[Keep]]


@functools.cache
def trained(runs: int, updates: int) -> Batch:
    """Runs of 3-4-5-1 that differ in their seeds."""
    first = compose_run(["data=first_column", "network.hidden=[4,5]", f"training.epochs={updates}"])
    made = [make_run(replace(first.config, seed=seed), first.overrides, first.dataset) for seed in range(runs)]
    return Batch(made, train_stack(made), tags_for(made, {"sweep": "bench"}))


@contextlib.contextmanager
def seedbed(place: Place) -> Iterator[Keep]:
    """Seedbed's store with the sink that it chooses for the address."""
    from pipeline.track import Store

    with Store(tracking(place), unexpected) as store:
        yield lambda batch: written(batch, store.write([run.fingerprint for run in batch.runs], batch.record))


@contextlib.contextmanager
def seedbed_client(place: Place) -> Iterator[Keep]:
    """Seedbed's store on a database that it does not know the tables of: the same, through MLflow's client."""
    from pipeline.client import ClientSink
    from pipeline.track import Store

    with Store(tracking(place), unexpected) as store:
        store.sink.close()
        store.sink = ClientSink(absolute(place.uri), 1)
        yield lambda batch: written(batch, store.write([run.fingerprint for run in batch.runs], batch.record))


def tracking(place: Place) -> TrackingConfig:
    """A place as a config has it."""
    return TrackingConfig(place.uri, place.experiment, place.artifacts)


def unexpected(note: str) -> NoReturn:
    """A store has something to say only where it is not what is to be timed."""
    raise RuntimeError(note)


def written(batch: Batch, run_ids: Mapping[int, str]) -> None:
    """Raises RuntimeError unless all runs are in the store."""
    if len(run_ids) != len(batch.runs):
        raise RuntimeError(f"{len(batch.runs) - len(run_ids)} runs could not be written")


def one_batch(client: "MlflowClient", run_id: str, points: "Sequence[Metric]") -> None:
    """A curve in one request."""
    client.log_batch(run_id, metrics=points)


def one_by_one(client: "MlflowClient", run_id: str, points: "Sequence[Metric]") -> None:
    """A request a point."""
    for point in points:
        client.log_metric(run_id, point.key, point.value, point.timestamp, point.step)


def mlflow_client(log_points: Callable[..., None]) -> Tracker:
    """MLflow's client as its documentation shows it."""

    @contextlib.contextmanager
    def opened(place: Place) -> Iterator[Keep]:
        from pipeline.api import Metric, MlflowClient, Param
        from pipeline.client import dataset_input

        client = MlflowClient(place.uri)
        experiment = client.create_experiment(place.experiment, folder_uri(place))

        def keep(batch: Batch) -> None:
            for record in batch.records():
                run_id = client.create_run(experiment, tags=record.tags, run_name=record.name).info.run_id
                client.log_batch(run_id, params=[Param(*param) for param in record.params.items()])
                client.log_inputs(run_id, [dataset_input(described(record.dataset))])
                now = time.time_ns() // 1_000_000
                log_points(client, run_id, [Metric(key, value, now, step) for key, value, step in record.metrics])
                with in_folder(record) as folder:
                    client.log_artifacts(run_id, folder)
                client.set_terminated(run_id)

        yield keep

    return opened


@contextlib.contextmanager
def mlflow_fluent(place: Place) -> Iterator[Keep]:
    """MLflow as its tutorials show it: a run at a time, log_metric for every point."""
    import mlflow

    from pipeline.api import MlflowClient
    from pipeline.client import dataset_input

    mlflow.set_tracking_uri(place.uri)
    mlflow.create_experiment(place.experiment, folder_uri(place))
    mlflow.set_experiment(place.experiment)

    def keep(batch: Batch) -> None:
        for record in batch.records():
            with mlflow.start_run(run_name=record.name, tags=record.tags) as run, in_folder(record) as folder:
                mlflow.log_params(record.params)
                MlflowClient().log_inputs(run.info.run_id, [dataset_input(described(record.dataset))])
                for key, value, step in record.metrics:
                    mlflow.log_metric(key, value, step)
                mlflow.log_artifacts(folder)

    yield keep


@contextlib.contextmanager
def trackio(place: Place) -> Iterator[Keep]:
    """Trackio, on this machine only. It has no artifacts without a Space: files stay in a folder."""
    os.environ.setdefault("TRACKIO_DIR", place.folder)  # read when it is imported: later places are further projects
    import trackio as library

    def keep(batch: Batch) -> None:
        for record in batch.records():
            fingerprint = record.tags["fingerprint"]
            library.init(place.experiment, name=fingerprint, config={**record.params, **record.tags}, embed=False)
            for key, value, step in record.metrics:
                library.log({key: value}, step)
            write(record, Path(place.folder, place.experiment, fingerprint))
            library.finish()

    yield keep


def folder_uri(place: Place) -> str | None:
    """Where a new experiment keeps files; None lets the server decide."""
    return Path(place.artifacts).as_uri() if place.artifacts else None


@contextlib.contextmanager
def in_folder(record: Record) -> Iterator[str]:
    """A folder with a run's files, as log_artifacts wants one."""
    with tempfile.TemporaryDirectory() as folder:
        write(record, Path(folder))
        yield folder


def write(record: Record, folder: Path) -> None:
    """Writes a run's files to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in record.files.items():
        (folder / name).write_bytes(content)


SEEDBED, CLIENT, BATCH, EACH, FLUENT, TRACKIO = (
    *("seedbed", "seedbed-client", "mlflow-batch", "mlflow-each", "mlflow-fluent", "trackio"),
)
TRACKERS: dict[str, Tracker] = {
    SEEDBED: seedbed,
    CLIENT: seedbed_client,
    BATCH: mlflow_client(one_batch),
    EACH: mlflow_client(one_by_one),
    FLUENT: mlflow_fluent,
    TRACKIO: trackio,
}


def timed(tracker: Tracker, place: Place, batch: Batch) -> float:
    """Seconds that it takes to keep all but the first run."""
    with tracker(place) as keep:
        keep(batch.part(0, WARMING))
        started = time.perf_counter()
        keep(batch.part(WARMING, len(batch.runs)))
    return time.perf_counter() - started


def answer(asked: Mapping[str, Any]) -> dict[str, float]:
    """The answer to a line of requests."""
    batch = trained(asked["runs"] + WARMING, asked["updates"])
    return {"seconds": timed(TRACKERS[sys.argv[1]], Place(**asked["place"]), batch)}


if __name__ == "__main__":
    answering(answer)
