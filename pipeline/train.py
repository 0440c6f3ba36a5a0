"""Full-batch gradient descent over a stack: loss curves, and snapshots of networks after chosen numbers of updates.

`curve[e]` belongs to the network after e updates, so E updates give E + 1 points and point 0 is the untrained net.
A longer training begins with the very bits of a shorter one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.network import Rule, Stack, Weights
from pipeline.program import Array, numeric_state

Progress = Callable[[int], None]
Advance = Callable[[Stack, dict[str, Array], int, int], None]

REPORT_EVERY = 500  # updates, but fewer where they take long:
REPORT_WORK = 2**28  # multiplications, 0.3 to 1 s


@dataclass(frozen=True)
class Snapshot:
    """One network after some updates: matrices[l] (in, out), biases[l] (out,), its prediction (n, k).

    `is_finite` is True if all weights are.
    """

    matrices: tuple[Array, ...]
    biases: tuple[Array, ...]
    prediction: Array
    is_finite: bool


@dataclass(frozen=True)
class Problem:
    """What all networks of a stack share: rows X (n, d), y (n, k), the rule, the raw sums to record.

    `kernel`, numpy or numba, is what computes; it never changes a bit.
    """

    X: Array
    y: Array
    rule: Rule
    raw_sums: tuple[str, ...] = ("squares",)
    kernel: str = "numpy"


@dataclass(frozen=True)
class Trajectory:
    """One network's training. curves[raw] is (E + 1,); snapshots by number of updates.

    `last_finite` is the number of updates up to which the curve and the weights are finite (-1: not even the first).
    Curves and snapshots behind it are kept out.
    """

    curves: dict[str, Array]
    snapshots: dict[int, Snapshot]
    last_finite: int


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

        Weights that are not finite stay so. While they are finite, predictions are from 0 to 1 (or not a number, and
        then so are the next weights): beside a target so large that its square overflows they change nothing, so a
        sum that is not finite once is not at any update.
        """
        runs, lanes = self.stack.runs, np.arange(len(self.ends))
        finite = np.ones(len(lanes), dtype=np.bool_)
        for curve in self.curves.values():
            finite &= np.isfinite(curve[self.ends, lanes])
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
) -> list[Trajectory]:
    """Trains r networks from `initial`, network i to max(stops[i]) updates, with a snapshot at each of stops[i].

    learning_rates is (r,). `progress` is called now and then with the number of updates made since its last call,
    all networks together; `watch` with the order of networks in lanes and the moment, about once a second or more
    often. Networks that become non-finite do not disturb the others and give no warning.
    """
    order = np.argsort([-max(wanted) for wanted in stops], kind="stable")
    with numeric_state():
        look = partial(watch, order) if watch else None
        curves, snapshots = descend(
            problem, initial.take(order), learning_rates[order], [stops[i] for i in order], progress, look=look
        )
        by_lane = {raw: np.ascontiguousarray(curve.T) for raw, curve in curves.items()}
        trajectories: dict[int, Trajectory] = {}
        for lane, (i, last) in enumerate(zip(order, last_finite_points(curves), strict=True)):
            end = min(max(stops[i]), int(last))
            kept = Trajectory({raw: rows[lane, : end + 1] for raw, rows in by_lane.items()}, snapshots[lane], end)
            if end < max(stops[i]) or not snapshots[lane][end].is_finite:
                kept = finite_part(problem, initial.take(slice(i, i + 1)), learning_rates[i : i + 1], kept)
            trajectories[int(i)] = kept
    return [trajectories[i] for i in range(len(order))]


def last_finite_points(curves: dict[str, Array]) -> NDArray[np.intp]:
    """For each column of the curves, the last point up to which all of them are finite, (r,); -1 for none."""
    finite = np.logical_and.reduce([np.isfinite(curve) for curve in curves.values()])
    return np.where(finite.all(axis=0), len(finite), finite.argmin(axis=0)) - 1


def descend(
    problem: Problem,
    weights: Weights,
    learning_rates: Array,
    stops: Sequence[Sequence[int]],
    progress: Progress | None = None,
    *,
    look: Callable[[Moment], None] | None = None,
) -> tuple[dict[str, Array], list[dict[int, Snapshot]]]:
    """The loop. Networks come in order of falling max(stops); those that are done leave the stack.

    Returns curves by raw sum, (longest + 1, r), and for each network its snapshots by number of updates.
    """
    lasts = np.array([max(wanted) for wanted in stops])
    stack = Stack(problem.X, problem.y, weights, learning_rates, problem.rule)
    curves = {raw: np.empty((int(lasts[0]) + 1, stack.runs)) for raw in problem.raw_sums}
    snapshots: list[dict[int, Snapshot]] = [{} for _ in stops]
    stack.forward()
    measure(stack, curves, 0)
    advance = advances(problem.kernel)
    start = 0
    for stop in sorted({stop for wanted in stops for stop in wanted}):
        while start < stop:
            upto = min(start + report_every(stack), stop)
            advance(stack, curves, start, upto)
            if progress:
                progress((upto - start) * stack.runs)
            if look:
                look(Moment(stack, curves, np.minimum(upto, lasts), snapshots))
            start = upto
        for lane, network in enumerate(networks(stack)):
            if stop in stops[lane]:
                snapshots[lane][stop] = network
        left = int((lasts > stop).sum())
        if 0 < left < stack.runs:
            weights = stack.weights.take(slice(left))
            stack = Stack(problem.X, problem.y, weights, learning_rates[:left], problem.rule)
            stack.forward()
    return curves, snapshots


def report_every(stack: Stack) -> int:
    """After how many updates to say so: REPORT_EVERY, but fewer of a stack so large that it would take long."""
    work = len(stack.target) * sum(layer.size for layer in stack.layers())
    return max(1, min(REPORT_EVERY, REPORT_WORK // work))


def advances(kernel: str) -> Advance:
    """What takes a stack from one number of updates to another, and writes the points of its curves behind the first.

    numpy: the reference; numba: the same bits from compiled code (compiled.py), if it is installed.
    """
    if kernel == "numba":
        from pipeline.compiled import advance as compiled

        return compiled
    return advance


def advance(stack: Stack, curves: dict[str, Array], first: int, last: int) -> None:
    """Updates a stack that has made `first` updates until it has made `last`."""
    for epoch in range(first, last):
        stack.update()
        stack.forward()
        measure(stack, curves, epoch + 1)


def measure(stack: Stack, curves: dict[str, Array], epoch: int) -> None:
    """Records the raw sums of the current networks as point `epoch`."""
    for raw, curve in curves.items():
        stack.measure(raw, curve[epoch, : stack.runs])


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

    matrices, biases = by_lane(stack.weights.matrices), by_lane(stack.weights.biases)
    (predictions,) = by_lane(stack.activations[-1:])
    for lane, finite in enumerate(finite_lanes(stack)[: stack.runs]):
        layers = tuple(matrix[lane] for matrix in matrices), tuple(bias[lane] for bias in biases)
        yield Snapshot(*layers, predictions[lane], bool(finite))


def finite_part(problem: Problem, network: Weights, rate: Array, trajectory: Trajectory) -> Trajectory:
    """Cuts a trajectory, whose curves are finite, where a weight stops being so; puts a snapshot at its last state.

    Weights that are not finite stay so, hence the last finite state behind a finite loss is found by bisection; a
    shorter training has the same bits, so it can be made again.
    """
    snapshots, last = trajectory.snapshots, trajectory.last_finite

    def state(updates: int) -> Snapshot:
        if updates not in snapshots:
            snapshots[updates] = descend(problem, network, rate, [[updates]])[1][0][updates]
        return snapshots[updates]

    if last >= 0 and not state(last).is_finite:
        good, bad = -1, last
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if state(middle).is_finite else (good, middle)
        last = good
    kept = {updates: state for updates, state in snapshots.items() if updates <= max(last, 0)}
    if last < 0:
        kept[0] = state(0)
    return Trajectory({raw: curve[: last + 1] for raw, curve in trajectory.curves.items()}, kept, last)
