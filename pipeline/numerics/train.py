"""Gradient descent over a stack: loss curves, and snapshots of networks after chosen numbers of epochs.

`curve[e]` belongs to the network after e epochs, so E epochs give E + 1 points and point 0 is the untrained net. An
epoch is one update over all rows, or as many as there are mini-batches. A longer training begins with the very bits of
a shorter one, unless the learning rate's schedule or patience looks at the end.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.course import Course, Problem, Rows, shuffles
from pipeline.numerics.layout import UFUNC_BUFFERS
from pipeline.numerics.network import Stack, Weights
from pipeline.numerics.program import Array, numeric_state

__all__ = ["Moment", "Problem", "Progress", "Rows", "Snapshot", "Trajectory", "train"]

Progress = Callable[[int], None]
Advance = Callable[[Course, dict[str, Array], int, int], None]

REPORT_EVERY = 500  # epochs, but fewer where they take long:
REPORT_WORK = 2**28  # multiplications, 0.3 to 1 s


@dataclass(frozen=True)
class Snapshot:
    """One network after some epochs: matrices[l] (in, out), biases[l] (out,), its prediction (n, k).

    `is_finite` is True if all weights are.
    """

    matrices: tuple[Array, ...]
    biases: tuple[Array, ...]
    prediction: Array
    is_finite: bool


@dataclass(frozen=True)
class Trajectory:
    """One network's training. curves[key] is (E + 1,); snapshots by number of epochs.

    `last_finite` is the number of epochs up to which the curve and the weights are finite (-1: not even the first).
    Curves and snapshots behind it are kept out. With patience `last_finite` is the epoch of the network kept, the best
    one; `stopped_at` the epoch after which patience ended the training, None if it did not; `diverged_at` the first
    epoch whose curve is not finite, None if all are.
    """

    curves: dict[str, Array]
    snapshots: dict[int, Snapshot]
    last_finite: int
    stopped_at: int | None = None
    diverged_at: int | None = None


@dataclass(frozen=True)
class Moment:
    """A training under way, for who watches it: the stack, and of each network, in the order of lanes, what is known.

    curves[raw] is (longest + 1, r), written up to ends (r,) in each column; snapshots by number of updates. Networks
    that are done have left the stack.
    """

    stack: Stack
    curves: dict[str, Array]
    ends: NDArray[np.intp]
    snapshots: Sequence[dict[int, Snapshot]]

    def finite(self) -> NDArray[np.bool_]:
        """For each network, whether its loss and weights are finite at its end, and with them all its points, (r,).

        Weights that are not finite stay so; a sum may come back.
        """
        runs, lanes = self.stack.runs, np.arange(len(self.ends))
        finite = np.ones(len(lanes), dtype=np.bool_)
        for curve in self.curves.values():
            for end in set(self.ends.tolist()):
                finite &= np.isfinite(curve[: end + 1]).all(axis=0) | (self.ends != end)
        finite[:runs] &= finite_lanes(self.stack)[:runs]
        for lane in lanes[runs:]:
            finite[lane] &= self.snapshots[lane][int(self.ends[lane])].is_finite
        return finite


Watch = Callable[[NDArray[np.intp], Moment], None]


def train(
    problem: Problem,
    initial: Weights,
    learning_rates: Array,
    stops: Sequence[Sequence[int]],
    progress: Progress | None = None,
    *,
    watch: Watch | None = None,
    seeds: Sequence[int] = (),
) -> list[Trajectory]:
    """Trains r networks from `initial`, network i to max(stops[i]) epochs, with a snapshot at each of stops[i].

    learning_rates is (r,); seeds, one a network, order the rows of mini-batches. `progress` is called now and then with
    the number of updates made since its last call, all networks together; `watch` with the order of networks in lanes
    and the moment, about once a second or more often. Networks that become non-finite do not disturb the others and
    give no warning. With patience, each network has one stop, and its snapshot is of its best epoch.
    """
    order = np.argsort([-max(own) for own in stops], kind="stable")
    wanted = [stops[i] for i in order]
    own_seeds = [seeds[i] for i in order] if seeds else []
    untrained = Untrained(problem.take(order), initial.take(order), learning_rates[order], own_seeds)
    with numeric_state(UFUNC_BUFFERS[problem.rule.layout]):
        if problem.patience is not None:
            found = patient(untrained, [max(own) for own in wanted], progress)
        else:
            look = partial(watch, order) if watch else None
            found = impatient(untrained, wanted, progress, look)
    place = np.argsort(order)
    return [found[lane] for lane in place]


@dataclass(frozen=True)
class Untrained:
    """Networks before their training, in order of falling epochs: rates (r,), seeds (r,)."""

    problem: Problem
    weights: Weights
    rates: Array
    seeds: Sequence[int]

    def course(self) -> Course:
        """A course from here."""
        return Course(self.problem, self.weights, self.rates, shuffles(self.seeds))

    def alone(self, lane: int) -> "Untrained":
        """One network."""
        one = np.array([lane])
        return Untrained(self.problem.take(one), self.weights.take(one), self.rates[one], self.seeds[lane : lane + 1])


def impatient(
    untrained: Untrained,
    stops: Sequence[Sequence[int]],
    progress: Progress | None,
    look: Callable[[Moment], None] | None,
) -> list[Trajectory]:
    """Trains every network to its last stop."""
    curves, snapshots = descend(untrained, stops, progress, look)
    by_lane = {key: np.ascontiguousarray(curve.T) for key, curve in curves.items()}
    trajectories = []
    for lane, last in enumerate(last_finite_points(curves)):
        end = min(max(stops[lane]), int(last))
        kept = Trajectory({key: rows[lane, : end + 1] for key, rows in by_lane.items()}, snapshots[lane], end)
        if end < max(stops[lane]) or not snapshots[lane][end].is_finite:
            kept = finite_part(untrained.alone(lane), kept)
        trajectories.append(kept)
    return trajectories


def last_finite_points(curves: dict[str, Array]) -> NDArray[np.intp]:
    """For each column of the curves, the last point up to which all of them are finite, (r,); -1 for none."""
    finite = np.logical_and.reduce([np.isfinite(curve) for curve in curves.values()])
    return np.where(finite.all(axis=0), len(finite), finite.argmin(axis=0)) - 1


def descend(
    untrained: Untrained,
    stops: Sequence[Sequence[int]],
    progress: Progress | None = None,
    look: Callable[[Moment], None] | None = None,
) -> tuple[dict[str, Array], list[dict[int, Snapshot]]]:
    """The loop. Networks come in order of falling max(stops); those that are done leave the stack.

    Returns curves by key, (longest + 1, r), and for each network its snapshots by number of epochs.
    """
    lasts = np.array([max(wanted) for wanted in stops])
    course, problem = untrained.course(), untrained.problem
    curves = {key: np.empty((int(lasts[0]) + 1, len(lasts))) for key in problem.curves}
    snapshots: list[dict[int, Snapshot]] = [{} for _ in stops]
    course.look()
    course.measure(curves, 0)
    advance = advances(problem.kernel)
    epoch = 0
    for stop in sorted({stop for wanted in stops for stop in wanted}):
        while epoch < stop:
            upto = min(epoch + report_every(course), stop)
            advance(course, curves, epoch, upto)
            if progress:
                progress((upto - epoch) * course.stack.runs * problem.updates_an_epoch)
            if look:
                look(Moment(course.stack, curves, np.minimum(upto, lasts), snapshots))
            epoch = upto
        for lane, network in enumerate(networks(course.stack)):
            if stop in stops[lane]:
                snapshots[lane][stop] = network
        left = int((lasts > stop).sum())
        if 0 < left < course.stack.runs:
            course = course.keeping(np.arange(left))
    return curves, snapshots


def patient(untrained: Untrained, epochs: Sequence[int], progress: Progress | None) -> list[Trajectory]:
    """Trains every network until its watched sum has not been lower for `patience` epochs, or to the end of its epochs.

    Of each the network with the lowest sum is kept, the first of several.
    """
    problem, lasts = untrained.problem, np.array(epochs)
    course = untrained.course()
    curves = {key: np.empty((int(lasts[0]) + 1, len(lasts))) for key in problem.curves}
    course.look()
    course.measure(curves, 0)
    watched = curves[problem.watched]
    lowest, best, ends = watched[0].copy(), np.zeros(len(lasts), dtype=np.intp), lasts.copy()
    kept = untrained.weights.take(slice(None))
    for epoch in range(1, int(lasts[0]) + 1):
        course.epoch(epoch - 1)
        course.measure(curves, epoch)
        lanes = course.networks
        better = watched[epoch, lanes] < lowest[lanes]
        lowest[lanes[better]], best[lanes[better]] = watched[epoch, lanes[better]], epoch
        keep(course.stack, better, kept, lanes)
        impatient = epoch - best[lanes] >= (problem.patience or 0)
        ends[lanes[impatient]] = epoch
        if progress:
            progress(len(lanes) * problem.updates_an_epoch)
        going = np.flatnonzero(~impatient & (lasts[lanes] > epoch))
        if not len(going):
            break
        if len(going) < len(lanes):
            course = course.keeping(going)
    snapshots = list(networks(replaced(untrained, kept)))
    return [
        Trajectory(
            {key: curve[: best[lane] + 1, lane].copy() for key, curve in curves.items()},
            {int(best[lane]): snapshots[lane]},
            int(best[lane]) if np.isfinite(lowest[lane]) else -1,
            int(ends[lane]) if ends[lane] < lasts[lane] else None,
            first_not_finite({key: curve[: ends[lane] + 1, lane] for key, curve in curves.items()}),
        )
        for lane in range(len(lasts))
    ]


def first_not_finite(curves: dict[str, Array]) -> int | None:
    """The first point at which one of a network's curves (points,) is not finite, or None."""
    finite = np.logical_and.reduce([np.isfinite(curve) for curve in curves.values()])
    return None if finite.all() else int(finite.argmin())


def keep(stack: Stack, which: NDArray[np.bool_], kept: Weights, places: NDArray[np.intp]) -> None:
    """Copies the networks in some lanes to their places in `kept`."""
    if which.any():
        now, lanes = stack.weights, np.flatnonzero(which)
        for array, source in zip((*kept.matrices, *kept.biases), (*now.matrices, *now.biases), strict=True):
            array[..., places[lanes]] = source[..., lanes]


def replaced(untrained: Untrained, weights: Weights) -> Stack:
    """A stack with other weights, after `forward`."""
    problem = untrained.problem
    stack = Stack(problem.X, problem.y, weights, untrained.rates, problem.rule)
    stack.forward()
    return stack


def report_every(course: Course) -> int:
    """After how many epochs to say so: REPORT_EVERY, but fewer of a stack so large that it would take long."""
    work = len(course.problem.X) * sum(layer.size for layer in course.stack.layers())
    return max(1, min(REPORT_EVERY, REPORT_WORK // work))


def advances(kernel: str) -> Advance:
    """What takes a course from one epoch to another, and writes the points of its curves behind the first.

    numpy: the reference; numba: the same bits from compiled code (compiled.py), if it is installed.
    """
    if kernel == "numba":
        from pipeline.numerics.compiled import advance as compiled

        return compiled
    return advance


def advance(course: Course, curves: dict[str, Array], first: int, last: int) -> None:
    """Goes on with a course that has made `first` epochs until it has made `last`."""
    for epoch in range(first, last):
        course.epoch(epoch)
        course.measure(curves, epoch + 1)


def finite_lanes(stack: Stack) -> NDArray[np.bool_]:
    """For each lane, whether all of its weights are finite."""
    finite = np.ones(stack.lanes, dtype=np.bool_)
    for layer in stack.layers():
        finite &= np.isfinite(layer).reshape(-1, stack.lanes).all(axis=0)
    return finite


def networks(stack: Stack) -> Iterator[Snapshot]:
    """The network in each lane after `forward`."""

    def by_lane(arrays: Iterable[Array]) -> list[Array]:
        return [np.moveaxis(array, -1, 0)[: stack.runs].copy() for array in arrays]

    weights = stack.weights
    matrices, biases = by_lane(weights.matrices), by_lane(weights.biases)
    (predictions,) = by_lane([stack.layout.to_last(stack.prediction)])
    for lane, finite in enumerate(finite_lanes(stack)[: stack.runs]):
        layers = tuple(matrix[lane] for matrix in matrices), tuple(bias[lane] for bias in biases)
        yield Snapshot(*layers, predictions[lane], bool(finite))


def finite_part(untrained: Untrained, trajectory: Trajectory) -> Trajectory:
    """Cuts one network's trajectory, whose curves are finite, where a weight stops being so; a snapshot is at its end.

    Weights that are not finite stay so, hence the last finite state behind a finite loss is found by bisection; a
    shorter training has the same bits, so it can be made again.
    """
    snapshots, last = trajectory.snapshots, trajectory.last_finite

    def state(epochs: int) -> Snapshot:
        if epochs not in snapshots:
            snapshots[epochs] = descend(untrained, [[epochs]])[1][0][epochs]
        return snapshots[epochs]

    if last >= 0 and not state(last).is_finite:
        good, bad = -1, last
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if state(middle).is_finite else (good, middle)
        last = good
    kept = {epochs: state for epochs, state in snapshots.items() if epochs <= max(last, 0)}
    if last < 0:
        kept[0] = state(0)
    return Trajectory({key: curve[: last + 1] for key, curve in trajectory.curves.items()}, kept, last)
