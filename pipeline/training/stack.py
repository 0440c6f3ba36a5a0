"""Stacks: groups runs that can train as one tensor program, trains them, and gives each run its own result."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.identity import Run
from pipeline.initial import initial_weights, stack_weights
from pipeline.numerics.layout import LANES
from pipeline.numerics.losses import RAW_SUMS
from pipeline.numerics.network import Rule
from pipeline.numerics.optimizer import OptimizerRule
from pipeline.numerics.pace import Pace, best_width
from pipeline.numerics.train import Problem, Progress, Rows, Snapshot, Trajectory, train
from pipeline.sample import Part, is_spoiled
from pipeline.training.continuing import NO_STARTS, Start, Starts, continued, start_of
from pipeline.training.points import Curve, Live, Watcher, curves_of

Array = NDArray[np.float64]

NARROW = 64  # lanes: a stack of fewer takes hardly less time
WIDE = 256  # lanes: cut in two, a stack of twice as many takes hardly more time
CURVE_BYTES = 128 * 2**20  # of a chunk
ALL_CURVE_BYTES = 4 * CURVE_BYTES  # of the chunks that train at a time


@dataclass(frozen=True)
class Result:
    """What a run's training gave.

    curves: `loss` and every metric asked for, of the training rows and of parts held out (`val_loss`), each a point
    every `every` updates from 0 on; initial: the untrained matrices; final: the network after `updates` updates;
    snapshots by number of epochs; diverged_at: the first update count at which the loss or a weight was not finite, or
    None; seconds: the run's share of its stack's training time;
    stopped_at: after how many updates patience ended the training, or None if it did not; the best network is kept;
    trained_on: what environment.json says of the machine, if it was another.
    """

    updates: int
    curves: dict[str, Array]
    initial: tuple[Array, ...]
    final: Snapshot
    snapshots: dict[int, Snapshot]
    diverged_at: int | None
    seconds: float
    every: int = 1
    stopped_at: int | None = None
    trained_on: dict[str, Any] = field(default_factory=dict)


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
    return len(first.dataset.X) * first.parameters * sum(epochs_left(runs, starts) + 1 for runs in group)


OF_A_LANE = ("training.learning_rate", "training.epochs", "training.metrics")  # what may differ within a stack


def stack_key(run: Run) -> object:
    """Equal for runs that can train in one stack."""
    network, training, sample = run.config.network, run.config.training, run.sample
    architecture = (tuple(network.hidden), network.activations, network.bias)
    parts = (len(sample.training.X), *((name, len(part.X)) for name, part in sample.held.items()))
    shared = [(key, run.identity[key]) for key in run.identity if key.startswith("training.") and key not in OF_A_LANE]
    end = training.epochs if training.schedule == "cosine" else None
    computed = run.numerics, run.layout, run.config.executor.kernel
    return run.dataset.key, parts, architecture, tuple(shared), end, raw_sums(run), computed


def trajectory_key(run: Run) -> object:
    """Equal for runs of a stack that differ in nothing but epochs, where a shorter one is the beginning of a longer."""
    init = tuple((key, value) for key, value in run.identity.items() if key.startswith("init."))
    end = run.config.training.epochs if run.config.training.patience is not None else None
    parts = {"training": run.sample.training, **run.sample.held} if run.sample.held else {}
    rows = tuple((name, part.places.tobytes()) for name, part in parts.items())
    spoiled = run.config.data.label_noise, run.config.data.outliers
    return init, run.config.seed, run.config.training.learning_rate, end, rows, spoiled


def raw_sums(run: Run) -> tuple[str, ...]:
    """The raw sums that the run's loss and metrics are made of."""
    return tuple(sorted({RAW_SUMS[curve.convention] for curve in curves_of(run)}))


def chunks(group: list[list[Run]], share: int, curve_bytes: int, starts: Starts) -> Iterator[list[Run]]:
    """Cuts a group, one list of runs a trajectory, into chunks of like work: `share` of them or a multiple.

    A chunk has at most as many lanes as this machine likes best (pace.py) and no more than `curve_bytes` of curves. One
    of fewer than NARROW lanes is not cut.
    """
    group = sorted(group, key=lambda runs: epochs_left(runs, starts), reverse=True)
    first = group[0][0]
    room = curve_bytes // (8 * (max(map(longest_of, group)) + 1) * len({curve.key for curve in curves_of(first)}))
    least, narrow = (LANES, NARROW) if first.layout == "runs_last" else (1, 1)
    count = math.ceil(len(group) / max(least, min(best_width(pace_of(first), len(group)), room)))
    share = min(share, math.ceil(len(group) / narrow))
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


def pace_of(run: Run) -> Pace:
    """What decides how long an update of the run takes."""
    rows = run.config.training.batch_size or len(run.sample.training.X)
    return Pace(run.sizes, min(rows, len(run.sample.training.X)), run.config.network.bias, run.numerics, run.layout)


def epochs_left(runs: Sequence[Run], starts: Starts) -> int:
    """How many epochs the runs of one trajectory take."""
    start = start_of(runs, starts)
    return longest_of(runs) - (start.updates if start else 0)


def updates_of(stack: Iterable[Run], starts: Starts = NO_STARTS) -> int:
    """How many updates training a stack takes, each trajectory's counted once."""
    return sum(epochs_left(runs, starts) * runs[0].updates_an_epoch for runs in trajectories_of(stack))


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
    problem = problem_of(heads)
    weights, begun = continued(problem, stack_weights(drawn, heads[0].config.network.bias), groups, starts)
    rates = np.array([head.config.training.learning_rate for head in heads])
    stops = [stops_of(group, start, snapshots) for group, start in zip(groups, begun, strict=True)]
    watcher = Watcher(groups, [start.curves if start else {} for start in begun], live) if live else None
    seeds = [head.config.seed for head in heads]
    trajectories = train(problem, weights, rates, stops, progress, watch=watcher, seeds=seeds)
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


def problem_of(runs: Sequence[Run]) -> Problem:
    """What some runs of a stack train on, one network each."""
    run, training = runs[0], runs[0].config.training
    samples = [run.sample for run in runs]
    # A question of the config, not of what else is in the stack: shared rows may have other bits in `fast`.
    shared = not samples[0].held and not is_spoiled(run.config.data)
    rows = together([sample.training for sample in samples], shared)
    return Problem(
        rows.X,
        rows.y,
        rule_of(run),
        raw_sums(run),
        run.config.executor.kernel,
        held={name: together([sample.held[name] for sample in samples], shared) for name in samples[0].held},
        batch_size=training.batch_size,
        patience=training.patience,
        watched=f"val/{RAW_SUMS[training.loss]}" if "val" in samples[0].held else RAW_SUMS[training.loss],
    )


def together(parts: Sequence[Part], shared: bool) -> Rows:
    """The rows of several networks: one's, if they are shared."""
    if shared:
        return Rows(parts[0].X, parts[0].y)
    return Rows(np.stack([part.X for part in parts], axis=-1), np.stack([part.y for part in parts], axis=-1))


def rule_of(run: Run) -> Rule:
    """How the run's error becomes an update."""
    training = run.config.training
    optimizer = OptimizerRule(
        name=training.optimizer,
        momentum=training.momentum,
        l2=training.l2,
        schedule=training.schedule,
        decay=training.decay,
        every=training.decay_every,
        epochs=training.epochs,
    )
    return Rule(
        training.loss,
        training.derivative,
        run.numerics,
        run.config.network.activations,
        optimizer=optimizer,
        layout=run.layout,
    )


def result_of(
    run: Run, trajectory: Trajectory, start: Start | None, initial: tuple[Array, ...], seconds: float
) -> Result:
    """A run's part of its trajectory, behind its start: up to `epochs` epochs, or up to the last finite state."""
    training, every = run.config.training, run.updates_an_epoch
    begin = start.updates if start else 0
    last_finite = begin + trajectory.last_finite
    epochs = min(training.epochs, last_finite)
    first = None if trajectory.diverged_at is None else begin + trajectory.diverged_at
    first = last_finite + 1 if training.patience is None and training.epochs > last_finite else first

    def values(curve: Curve) -> Array:
        found = curve.of(trajectory.curves[curve.key][: epochs - begin + 1])
        return np.concatenate([start.curves[curve.name][:-1], found]) if start else found

    snapshots = {begin + stop: state for stop, state in trajectory.snapshots.items()}
    return Result(
        updates=max(epochs, 0) * every,
        curves={curve.name: values(curve) for curve in curves_of(run)},
        initial=initial,
        final=snapshots[max(epochs, 0)],
        snapshots={stop: state for stop, state in snapshots.items() if stop <= max(epochs, 0)},
        diverged_at=None if first is None else first * every,
        seconds=seconds,
        every=every,
        stopped_at=None if trajectory.stopped_at is None else trajectory.stopped_at * every,
    )
