"""What a sweep would do, before anything runs: counts, what cannot run, estimated time and disk."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.address import is_database
from pipeline.continuing import NO_STARTS, Starts
from pipeline.identity import Run
from pipeline.layout import LANES
from pipeline.pace import seconds_per_update
from pipeline.plan import Plan
from pipeline.stack import epochs_left, pace_of, trajectories_of, updates_of

POINT_BYTES = 210  # a curve's point in SQLite: 200 runs of 3-4-5-1 with 2, 100 and 300 points, MLflow 3.17
RUN_BYTES = 47_000  # what else a run takes: its rows (10 kB), and nine files and folders in a disk's blocks of 4 kB
WRITING_SECONDS = 0.008  # of a run that is written in bulk (`make bench ARGS="--only tracking"`)
SENDING_SECONDS = 0.3  # of a run, to an MLflow server on the same machine, by its client
MEASURED_LANES = 512


@dataclass(frozen=True)
class Preview:
    """What `seedbed plan` says of the runs that go to one MLflow experiment.

    `updates` are what all stacks take, `epochs` what the runs would take one by one.
    `workers` processes train (0: this one does), which takes `training` seconds; one process writes, in `writing`,
    over HTTP if `server`.
    """

    runs: int
    cells: int
    seeds: int
    duplicates: int
    found: int
    going_on: int
    stacks: int
    updates: int
    epochs: int
    workers: int
    training: float
    writing: float
    bytes: int
    server: bool


def preview(plan: Plan, uri: str | None, in_bulk: bool = True) -> Preview:
    """Looks at a plan whose runs go to the store at uri (None: to none), without training. Measures the machine."""
    todo = [run for stack in plan.stacks for run in stack]
    server = uri is not None and not is_database(uri)
    return Preview(
        runs=len(plan.runs),
        cells=len({run.cell_digest for run in plan.runs}),
        seeds=len({run.config.seed for run in plan.runs}),
        duplicates=plan.duplicates,
        found=len(plan.found),
        going_on=len(plan.starts),
        stacks=len(plan.stacks),
        updates=sum(updates_of(stack, plan.starts) for stack in plan.stacks),
        epochs=sum(run.config.training.epochs for run in todo),
        workers=plan.workers,
        training=makespan([seconds_of(stack, plan.starts) for stack in plan.stacks], max(1, plan.workers)),
        writing=(WRITING_SECONDS if in_bulk else SENDING_SECONDS) * len(todo) if uri else 0.0,
        bytes=sum(map(bytes_of, todo)) if uri else 0,
        server=server,
    )


def seconds_of(stack: Sequence[Run], starts: Starts = NO_STARTS) -> float:
    """How long training a stack will take on one core, from the measured pace of its network.

    An update takes a fixed time and a time for each lane; lanes leave the stack when their epochs are done.
    """
    first, pace = stack[0], pace_of(stack[0])
    lasts = sorted(epochs_left(runs, starts) * first.updates_an_epoch for runs in trajectories_of(stack))
    if first.layout == "runs_first":
        return sum(lasts) * seconds_per_update(pace, 1)
    few = seconds_per_update(pace, LANES)
    many = seconds_per_update(pace, MEASURED_LANES) if len(lasts) > LANES else few
    per_lane = max(0.0, (many - few) / (MEASURED_LANES - LANES))
    seconds, done = 0.0, 0
    for i, last in enumerate(lasts):
        seconds += (last - done) * (few + per_lane * max(0, len(lasts) - i - LANES))
        done = last
    return seconds


def makespan(seconds: Sequence[float], workers: int) -> float:
    """When the last of several workers is done, each taking the longest job that is left."""
    ends = [0.0] * workers
    for one in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)


def bytes_of(run: Run) -> int:
    """About how much disk a run takes: whole curves, weights before and after, and points in the database."""
    config = run.config
    curves, points = 1 + len(config.training.metrics), config.training.epochs + 1
    in_files = 8 * points * (curves + 1) + 16 * run.parameters
    return RUN_BYTES + in_files + POINT_BYTES * curves * min(points, config.tracking.curve_points)
