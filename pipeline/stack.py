"""Stacks: groups runs that can train as one tensor program, trains them, and gives each run its own result."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.continuing import NO_STARTS, Start, Starts, continued, start_of
from pipeline.identity import Run
from pipeline.initial import initial_weights, stack_weights
from pipeline.layout import LANES
from pipeline.losses import RAW_SUMS, in_convention, slope
from pipeline.network import Rule
from pipeline.pace import best_width
from pipeline.points import Live, Watcher, conventions
from pipeline.train import Problem, Progress, Snapshot, Trajectory, train

Array = NDArray[np.float64]

NARROW = 64  # lanes: a stack of fewer takes hardly less time
WIDE = 256  # lanes: cut in two, a stack of twice as many takes hardly more time
CURVE_BYTES = 128 * 2**20  # of a chunk
ALL_CURVE_BYTES = 4 * CURVE_BYTES  # of the chunks that train at a time


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


def make_stacks(runs: Iterable[Run], workers: int = 1, starts: Starts = NO_STARTS) -> list[list[Run]]:
    """Groups runs with the same rows, layers, loss, derivative, metrics and numerics, in chunks of bounded memory.

    Runs that differ in epochs only stay together, as they train once; a run's bits do not depend on the grouping. A
    wide group is cut for all workers, another one for as many as its share of the work is worth. What `starts` spare is
    no work.
    """
    groups: dict[object, list[Run]] = {}
    for run in runs:
        groups.setdefault(stack_key(run), []).append(run)
    trajectories = [trajectories_of(group) for group in groups.values()]
    work = [work_of(group, starts) for group in trajectories]
    shares = [
        workers if len(group) >= WIDE * workers else math.ceil(workers * part / sum(work))
        for group, part in zip(trajectories, work, strict=True)
    ]
    room = min(CURVE_BYTES, ALL_CURVE_BYTES // workers)
    shared = zip(trajectories, shares, strict=True)
    return [stack for group, share in shared for stack in chunks(group, share, room, starts)]


def work_of(group: Sequence[Sequence[Run]], starts: Starts) -> int:
    """How much there is to train in a group, one list of runs a trajectory, in multiplications."""
    first = group[0][0]
    return len(first.dataset.X) * first.parameters * sum(updates_left(runs, starts) + 1 for runs in group)


def stack_key(run: Run) -> object:
    """Equal for runs that can train in one stack."""
    network, training = run.config.network, run.config.training
    architecture = (tuple(network.hidden), network.activation, network.output_activation, network.bias)
    computed = run.numerics, run.config.executor.kernel
    return run.dataset.key, architecture, training.loss, training.derivative, raw_sums(run), computed


def trajectory_key(run: Run) -> object:
    """Equal for runs of a stack that differ in nothing but epochs."""
    init = tuple((key, value) for key, value in run.identity.items() if key.startswith("init."))
    return init, run.config.seed, run.config.training.learning_rate


def raw_sums(run: Run) -> tuple[str, ...]:
    """The raw sums that the run's loss and metrics are made of."""
    return tuple(sorted({RAW_SUMS[name] for name in conventions(run).values()}))


def chunks(group: list[list[Run]], share: int, curve_bytes: int, starts: Starts) -> Iterator[list[Run]]:
    """Cuts a group, one list of runs a trajectory, into chunks of like work: `share` of them or a multiple.

    A chunk has at most as many lanes as this machine likes best (pace.py) and no more than `curve_bytes` of curves. One
    of fewer than NARROW lanes is not cut.
    """
    group = sorted(group, key=lambda runs: updates_left(runs, starts), reverse=True)
    first = group[0][0]
    room = curve_bytes // (8 * (max(map(longest_of, group)) + 1) * len(raw_sums(first)))
    width = best_width(first.sizes, len(first.dataset.X), first.config.network.bias, first.numerics, len(group))
    count = math.ceil(len(group) / max(LANES, min(width, room)))
    share = min(share, math.ceil(len(group) / NARROW))
    count = math.ceil(count / share) * share
    for start in range(count):
        yield [run for runs in group[start::count] for run in runs]


def trajectories_of(stack: Iterable[Run]) -> list[list[Run]]:
    """The runs of a stack that differ in nothing but epochs, which train together as one."""
    groups: dict[object, list[Run]] = {}
    for run in stack:
        groups.setdefault(trajectory_key(run), []).append(run)
    return list(groups.values())


def longest_of(runs: Iterable[Run]) -> int:
    """The largest number of epochs."""
    return max(run.config.training.epochs for run in runs)


def updates_left(runs: Sequence[Run], starts: Starts) -> int:
    """How many updates the runs of one trajectory take."""
    start = start_of(runs, starts)
    return longest_of(runs) - (start.updates if start else 0)


def updates_of(stack: Iterable[Run], starts: Starts = NO_STARTS) -> int:
    """How many updates training a stack takes, each trajectory's counted once."""
    return sum(updates_left(runs, starts) for runs in trajectories_of(stack))


def train_stack(
    runs: Sequence[Run],
    progress: Progress | None = None,
    snapshots: Sequence[int] = (),
    starts: Starts = NO_STARTS,
    live: Live | None = None,
) -> list[Result]:
    """Trains runs of one stack (see `make_stacks`) and returns a result for each, in their order.

    `snapshots` are further update counts at which every run that gets so far keeps its network. `progress` is called
    with numbers of updates made, each trajectory's counted once; `live`, if training takes long, with points of the
    curves that became known.

    A run with a start (continuing.py) goes on from there, if all runs of its trajectory train beyond it and it holds;
    its result is the same, but for snapshots before the start, and `seconds`, the time of what was trained.
    """
    started = time.perf_counter()
    groups = trajectories_of(runs)
    heads = [group[0] for group in groups]
    drawn = [initial_weights(head.config.init, head.config.seed, head.sizes) for head in heads]
    problem = problem_of(heads[0])
    weights, begun = continued(problem, stack_weights(drawn, heads[0].config.network.bias), groups, starts)
    rates = np.array([head.config.training.learning_rate for head in heads])
    stops = [stops_of(group, start, snapshots) for group, start in zip(groups, begun, strict=True)]
    watcher = Watcher(groups, [start.curves if start else {} for start in begun], live) if live else None
    trajectories = train(problem, weights, rates, stops, progress, watch=watcher)
    seconds = (time.perf_counter() - started) / len(runs)
    results = {
        id(run): result_of(run, trajectory, start, tuple(matrices), seconds)
        for group, trajectory, start, matrices in zip(groups, trajectories, begun, drawn, strict=True)
        for run in group
    }
    return [results[id(run)] for run in runs]


def stops_of(runs: Sequence[Run], start: Start | None, snapshots: Sequence[int]) -> list[int]:
    """At which update counts behind its start the runs of a trajectory need its network."""
    begin = start.updates if start else 0
    stops = {run.config.training.epochs for run in runs} | {stop for stop in snapshots if stop <= longest_of(runs)}
    return sorted(stop - begin for stop in stops if stop >= begin)


def problem_of(run: Run) -> Problem:
    """What the runs of a stack share, from any of them."""
    training, dataset = run.config.training, run.dataset
    rule = Rule(slope(training.loss, *dataset.y.shape), training.derivative, run.numerics)
    return Problem(dataset.X, dataset.y, rule, raw_sums(run), run.config.executor.kernel)


def result_of(
    run: Run, trajectory: Trajectory, start: Start | None, initial: tuple[Array, ...], seconds: float
) -> Result:
    """A run's part of its trajectory, behind its start: up to `epochs` updates, or up to the last finite state."""
    training = run.config.training
    begin = start.updates if start else 0
    last_finite = begin + trajectory.last_finite
    updates = min(training.epochs, last_finite)

    def curve(name: str, convention: str) -> Array:
        trained = trajectory.curves[RAW_SUMS[convention]][: updates - begin + 1]
        found = in_convention(convention, trained, *run.dataset.y.shape)
        return np.concatenate([start.curves[name][:-1], found]) if start else found

    snapshots = {begin + stop: state for stop, state in trajectory.snapshots.items()}
    return Result(
        updates=max(updates, 0),
        curves={name: curve(name, convention) for name, convention in conventions(run).items()},
        initial=initial,
        final=snapshots[max(updates, 0)],
        snapshots={stop: state for stop, state in snapshots.items() if stop <= max(updates, 0)},
        diverged_at=last_finite + 1 if training.epochs > last_finite else None,
        seconds=seconds,
    )
