"""Going on with a run that is finished to more epochs, where that gives the bits of a training from the beginning.

Where the learning rate is constant, the batch full, and the optimizer without memory, an update depends on the weights
before it and on nothing else. So a network that was kept with its curves can go on from there.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.identity import Run, code_digest, digest
from pipeline.numerics.network import Weights
from pipeline.numerics.train import Problem, Trajectory, train
from pipeline.training.points import Curve, curves_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Start:
    """A network that was kept after `updates` updates: matrices[l] (in, out), biases[l] (out,).

    curves: `loss` and every metric, each (updates + 1,) from the untrained network on.
    """

    updates: int
    matrices: tuple[Array, ...]
    biases: tuple[Array, ...]
    curves: dict[str, Array]


Starts = Mapping[str, Start]  # by the fingerprint of the run that may go on from there

NO_STARTS: Starts = {}


def trajectory_digest(run: Run) -> str:
    """32 hex digits, alike for runs that differ in nothing but epochs: the shorter is the beginning of the longer."""
    identity = {key: value for key, value in run.identity.items() if key != "training.epochs"}
    return digest({"trajectory": identity, "code": code_digest()})


def forgets(run: Run) -> bool:
    """Whether an update depends on the weights before it and on nothing else."""
    training = run.config.training
    plain = training.optimizer == "sgd" and training.schedule == "constant"
    return plain and training.batch_size is None and training.patience is None


def start_of(runs: Sequence[Run], starts: Starts) -> Start | None:
    """Where the runs of one trajectory, which train together, may go on: at the latest start before the first's end."""
    shortest = min(run.config.training.epochs for run in runs)
    if not forgets(runs[0]):
        return None
    given = [starts[run.fingerprint] for run in runs if run.fingerprint in starts]
    fitting = [start for start in given if start.updates < shortest and fits(start, runs)]
    return max(fitting, key=lambda start: start.updates, default=None)


def fits(start: Start, runs: Sequence[Run]) -> bool:
    """Whether a start has the arrays that the runs need, in their shapes."""
    sizes = runs[0].sizes
    matrices = list(itertools.pairwise(sizes))
    biases = [(units,) for units in sizes[1:]] if runs[0].config.network.bias else []
    arrays = (*start.matrices, *start.biases, *start.curves.values())
    return (
        all(array.dtype == np.float64 for array in arrays)
        and [matrix.shape for matrix in start.matrices] == matrices
        and [bias.shape for bias in start.biases] == biases
        and all(curve.shape == (start.updates + 1,) for curve in start.curves.values())
        and all(curve.name in start.curves for run in runs for curve in curves_of(run))
    )


def continued(
    problem: Problem, untrained: Weights, trajectories: Sequence[Sequence[Run]], starts: Starts
) -> tuple[Weights, list[Start | None]]:
    """The weights that each trajectory trains from, and its start if it has one that holds.

    It does if all its numbers are finite, its curves begin with the losses of the untrained network and end with those
    of the network that was kept, to the last bit. That finds what belongs to another run; the last bits of a weight
    may change and leave the losses alone, so files need a checksum. `untrained` is what each would train from without.
    """
    found = [start_of(runs, starts) for runs in trajectories]
    if not any(found):
        return untrained, found
    firsts, lasts = losses_of(problem, untrained), losses_of(problem, placed(untrained, found))
    for lane, (runs, start) in enumerate(zip(trajectories, found, strict=True)):
        if start and not holds(start, runs, firsts[lane], lasts[lane]):
            found[lane] = None
    return placed(untrained, found), found


def placed(untrained: Weights, starts: Sequence[Start | None]) -> Weights:
    """A copy of r untrained networks with those that have a start in their places."""
    weights = untrained.take(slice(None))
    for lane, start in enumerate(starts):
        if start:
            kept = (*start.matrices, *start.biases)
            for array, one in zip((*weights.matrices, *weights.biases), kept, strict=True):
                array[..., lane] = one
    return weights


def losses_of(problem: Problem, weights: Weights) -> list[Trajectory]:
    """The one point of the curves of each of r networks that are not trained at all; none if it is not finite."""
    return train(problem, weights, np.zeros(weights.runs), [[0]] * weights.runs)


def holds(start: Start, runs: Sequence[Run], first: Trajectory, last: Trajectory) -> bool:
    """Whether the curves of a start are finite, begin with the losses `first` and end with `last`."""

    def same(point: Array, trajectory: Trajectory, curve: Curve) -> bool:
        return curve.of(trajectory.curves[curve.key]).tobytes() == point.tobytes()

    return all(
        bool(np.isfinite(start.curves[curve.name]).all())
        and same(start.curves[curve.name][:1], first, curve)
        and same(start.curves[curve.name][-1:], last, curve)
        for run in runs
        for curve in curves_of(run)
    )
