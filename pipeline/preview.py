"""What a sweep would do, before anything runs: counts, what cannot run, estimated time and disk."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.continuing import NO_STARTS, Starts
from pipeline.identity import Run
from pipeline.network import LANES
from pipeline.pace import seconds_per_update
from pipeline.stack import trajectories_of, updates_left, updates_of
from pipeline.sweep import Plan

POINT_BYTES = 240  # a curve's point in SQLite: 1,000 updates, 40 runs, MLflow 3.17
RUN_BYTES = 16_000  # what else a run takes, in files and rows: params, tags, tables, config
WRITING_SECONDS = 0.13  # of a run, into SQLite by MLflow's client: 48 runs took 9.9 s, and 3.5 s without a store
MEASURED_LANES = 512


@dataclass(frozen=True)
class Preview:
    """What `seedbed plan` says of the runs that go to one MLflow experiment.

    `updates` are what all stacks take, `epochs` what the runs would take one by one; `going_on` runs have shorter ones
    in the store to go on from.
    `workers` processes train (0: this one does), which takes `training` seconds; one process writes, in `writing`.
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


def preview(plan: Plan, kept: bool) -> Preview:
    """Looks at a plan without training; `kept` tells whether its runs go to a store. Measures the machine for it."""
    todo = [run for stack in plan.stacks for run in stack]
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
        writing=WRITING_SECONDS * len(todo) if kept else 0.0,
        bytes=sum(map(bytes_of, todo)) if kept else 0,
    )


def seconds_of(stack: Sequence[Run], starts: Starts = NO_STARTS) -> float:
    """How long training a stack will take on one core, from the measured pace of its network.

    An update takes a fixed time and a time for each lane; lanes leave the stack when their epochs are done.
    """
    first = stack[0]
    network = first.sizes, len(first.dataset.X), first.config.network.bias, first.numerics
    lasts = sorted(updates_left(runs, starts) for runs in trajectories_of(stack))
    few = seconds_per_update(*network, lanes=LANES)
    many = seconds_per_update(*network, lanes=MEASURED_LANES) if len(lasts) > LANES else few
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
