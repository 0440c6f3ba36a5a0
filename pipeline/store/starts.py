"""Finds, among the finished runs of a store, those that longer runs can go on from."""

from collections.abc import Sequence

from pipeline.errors import UserError
from pipeline.identity import Run
from pipeline.results.record import layers, read_npz
from pipeline.store.sink import Experiment, Kept, Sink
from pipeline.store.sinks import is_trouble
from pipeline.training.continuing import Start, Starts, trajectory_digest

MOST_BYTES = 512 * 2**20  # of curves and weights that are read: what would need more trains from the beginning


def kept_starts(sink: Sink, experiment: Experiment, runs: Sequence[Run]) -> Starts:
    """What runs can go on from, by fingerprint: of the finished runs with fewer epochs the longest.

    Portable runs only: the bits of others depend on the machine that made them. Files that cannot be read are passed
    over.
    """
    digests = {run.fingerprint: trajectory_digest(run) for run in runs if run.numerics == "portable"}
    found = sink.finished(experiment, "trajectory", digests.values()) if digests else {}
    starts: dict[str, Start] = {}
    read: dict[str, Start | None] = {}
    room = MOST_BYTES
    for run in runs:
        kept = longest(found.get(digests.get(run.fingerprint, ""), ()), run)
        if kept and kept.run_id not in read and room > 0:
            read[kept.run_id] = start = read_start(sink, kept.run_id)
            room -= bytes_of(start) if start else 0
        if kept and (known := read.get(kept.run_id)):
            starts[run.fingerprint] = known
    return starts


def longest(finished: Sequence[Kept], run: Run) -> Kept | None:
    """Of some finished runs of a trajectory the longest that is shorter than `run` and did not diverge."""
    shorter = [
        kept
        for kept in finished
        if not kept.diverged and 0 < kept.metrics.get("result/updates", 0) < run.config.training.epochs
    ]
    return max(shorter, key=lambda kept: kept.metrics["result/updates"], default=None)


def read_start(sink: Sink, run_id: str) -> Start | None:
    """A finished run's network and curves, None if its files are not what they should be."""
    try:
        weights = read_npz(sink.read(run_id, "weights.npz"), f"weights.npz of run {run_id}")
        curves = read_npz(sink.read(run_id, "loss.npz"), f"loss.npz of run {run_id}")
        updates = int(curves.pop("updates")[-1])
    except (UserError, LookupError, ValueError):
        return None
    except Exception as error:
        if not is_trouble(error):
            raise
        return None
    return Start(updates, tuple(layers(weights, "W")), tuple(layers(weights, "b")), curves)


def bytes_of(start: Start) -> int:
    """How much memory a start takes."""
    return sum(array.nbytes for array in (*start.matrices, *start.biases, *start.curves.values()))
