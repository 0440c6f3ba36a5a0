"""Stacks: groups runs that can train as one tensor program, trains them, and gives each run its own result."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.identity import Run
from pipeline.initial import initial_weights, stack_weights
from pipeline.losses import RAW_SUMS, in_convention, slope
from pipeline.network import LANES, Rule
from pipeline.train import Problem, Progress, Snapshot, Trajectory, train

Array = NDArray[np.float64]

MAX_LANES = 1024
FEW_LANES = 64  # narrower stacks take almost as long
CURVE_BYTES = 256 * 2**20
ALL_CURVE_BYTES = 2 * CURVE_BYTES


@dataclass(frozen=True)
class Result:
    """What a run's training gave.

    curves: `loss` and every metric asked for, each (updates + 1,); initial: the untrained matrices; final: the network
    after `updates` updates; snapshots by number of updates; diverged_at: the first update count at which the loss or a
    weight was not finite, or None (then updates = epochs); seconds: the run's share of its stack's training time.
    """

    updates: int
    curves: dict[str, Array]
    initial: tuple[Array, ...]
    final: Snapshot
    snapshots: dict[int, Snapshot]
    diverged_at: int | None
    seconds: float


def make_stacks(runs: Iterable[Run], workers: int = 1) -> list[list[Run]]:
    """Groups runs with the same rows, layers, loss, derivative, metrics and numerics, in chunks of bounded memory.

    Runs that differ in epochs only stay together, as they train once; a run's bits do not depend on the grouping.
    A group is cut into chunks of like work, a multiple of `workers` unless they got too small.
    """
    groups: dict[object, dict[object, list[Run]]] = {}
    for run in runs:
        groups.setdefault(stack_key(run), {}).setdefault(trajectory_key(run), []).append(run)
    return [stack for group in groups.values() for stack in chunks(list(group.values()), workers)]


def stack_key(run: Run) -> object:
    """Equal for runs that can train in one stack."""
    network, training = run.config.network, run.config.training
    architecture = (tuple(network.hidden), network.activation, network.output_activation, network.bias)
    return run.dataset.key, architecture, training.loss, training.derivative, raw_sums(run), run.numerics


def trajectory_key(run: Run) -> object:
    """Equal for runs of a stack that differ in nothing but epochs."""
    init = tuple((key, value) for key, value in run.identity.items() if key.startswith("init."))
    return init, run.config.seed, run.config.training.learning_rate


def raw_sums(run: Run) -> tuple[str, ...]:
    """The raw sums that the run's loss and metrics are made of."""
    training = run.config.training
    return tuple(sorted({RAW_SUMS[name] for name in (training.loss, *training.metrics)}))


def chunks(trajectories: list[list[Run]], workers: int) -> Iterator[list[Run]]:
    """Cuts a group, one list of runs a trajectory, so that chunks that train at a time have bounded curves."""
    lanes = lanes_for(trajectories, workers)
    if workers == 1:
        for start in range(0, len(trajectories), lanes):
            yield [run for runs in trajectories[start : start + lanes] for run in runs]
        return
    count = -(-len(trajectories) // lanes)
    even = -(-count // workers) * workers  # one more stack than workers would leave all but one of them idle
    if len(trajectories) >= even * FEW_LANES:
        count = even
    ranked = sorted(trajectories, key=longest_of, reverse=True)
    for first in range(count):
        yield [run for runs in ranked[first::count] for run in runs]


def lanes_for(trajectories: list[list[Run]], workers: int) -> int:
    """How many trajectories of a group a chunk may have: a worker's share, bounded by memory, but not too few."""
    longest = max(map(longest_of, trajectories))
    bytes_each = 8 * (longest + 1) * len(raw_sums(trajectories[0][0]))
    room = min(CURVE_BYTES, ALL_CURVE_BYTES // workers) // bytes_each
    share = max(FEW_LANES, -(-len(trajectories) // workers)) if workers > 1 else MAX_LANES
    return max(LANES, min(MAX_LANES, room - room % LANES, share))


def longest_of(runs: Iterable[Run]) -> int:
    """The largest number of epochs."""
    return max(run.config.training.epochs for run in runs)


def updates_of(stack: Iterable[Run]) -> int:
    """How many updates training a stack takes: runs that differ in epochs only share theirs."""
    longest: dict[object, int] = {}
    for run in stack:
        key = trajectory_key(run)
        longest[key] = max(longest.get(key, 0), run.config.training.epochs)
    return sum(longest.values())


def train_stack(runs: Sequence[Run], progress: Progress | None = None, snapshots: Sequence[int] = ()) -> list[Result]:
    """Trains runs of one stack (see `make_stacks`) and returns a result for each, in their order.

    `snapshots` are further update counts at which every run that gets so far keeps its network. `progress` is called
    with numbers of updates made, each trajectory's counted once.
    """
    started = time.perf_counter()
    lanes: dict[object, list[Run]] = {}
    for run in runs:
        lanes.setdefault(trajectory_key(run), []).append(run)
    groups = list(lanes.values())
    heads = [group[0] for group in groups]
    drawn = [initial_weights(head.config.init, head.config.seed, head.sizes) for head in heads]
    stops = [
        sorted({run.config.training.epochs for run in group} | {s for s in snapshots if s <= longest_of(group)})
        for group in groups
    ]
    rates = np.array([head.config.training.learning_rate for head in heads])
    trajectories = train(
        problem_of(heads[0]), stack_weights(drawn, heads[0].config.network.bias), rates, stops, progress
    )
    seconds = (time.perf_counter() - started) / len(runs)
    results = {
        id(run): result_of(run, trajectory, tuple(matrices), seconds)
        for group, trajectory, matrices in zip(groups, trajectories, drawn, strict=True)
        for run in group
    }
    return [results[id(run)] for run in runs]


def problem_of(run: Run) -> Problem:
    """What the runs of a stack share, from any of them."""
    training, dataset = run.config.training, run.dataset
    rule = Rule(slope(training.loss, dataset.y.size), training.derivative, run.numerics)
    return Problem(dataset.X, dataset.y, rule, raw_sums(run))


def result_of(run: Run, trajectory: Trajectory, initial: tuple[Array, ...], seconds: float) -> Result:
    """A run's part of its trajectory: the first `epochs` updates, or up to the last finite state."""
    training = run.config.training
    entries = run.dataset.y.size
    updates = min(training.epochs, trajectory.last_finite)

    def curve(name: str) -> Array:
        return in_convention(name, trajectory.curves[RAW_SUMS[name]][: updates + 1], entries)

    return Result(
        updates=max(updates, 0),
        curves={"loss": curve(training.loss)} | {name: curve(name) for name in training.metrics},
        initial=initial,
        final=trajectory.snapshots[max(updates, 0)],
        snapshots={stop: state for stop, state in trajectory.snapshots.items() if stop <= max(updates, 0)},
        diverged_at=trajectory.last_finite + 1 if training.epochs > trajectory.last_finite else None,
        seconds=seconds,
    )
