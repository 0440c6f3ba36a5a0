"""Trains a kept run again, and looks at it while it learns.

The networks at chosen moments are snapshots of that training. They are then looked at as one stack, by the product's
own passes: `forward` gives their activations, `differentiate` their gradients.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.identity import Run
from pipeline.initial import stack_weights
from pipeline.numerics.layout import UFUNC_BUFFERS
from pipeline.numerics.network import Stack, Weights
from pipeline.numerics.program import numeric_state
from pipeline.numerics.train import Problem, Progress, Snapshot
from pipeline.results.kept import KeptRun
from pipeline.results.record import read_npz, weight_arrays
from pipeline.training.stack import Result, problem_of, train_stack

Array = NDArray[np.float64]

MOST_MOMENTS = 100
SNAPSHOT_BYTES = 2**27  # of the networks that are kept while it trains: large ones are looked at less often
LOOK_NUMBERS = 2**20  # float64s of the largest array while looking: networks are looked at in parts
LOW, HIGH = 0.01, 0.99  # a sigmoid unit outside is saturated


@dataclass(frozen=True)
class Replay:
    """A run's training, looked at after `moments` (t,) updates, rising from 0 to its last.

    run: the run, its epochs as many as it made; networks: t of them; predictions (t, n, k) in the network's scale;
    gradients (t, layers): the norm of a layer's gradient, weights and biases together, by the rule the run was trained
    with; saturated (t, hidden layers): the share of outputs of the layer's units, over rows and units, where the
    activation's slope is below 4 % of its largest (for sigmoids, below LOW or above HIGH); loss (epochs + 1,): the
    kept curve; diverged_at: as in its tag.
    `same_bits` is True if the networks at the ends have the bits of the kept ones.
    """

    run: Run
    moments: NDArray[np.int64]
    networks: tuple[Snapshot, ...]
    predictions: Array
    gradients: Array
    saturated: Array
    loss: Array
    diverged_at: int | None
    same_bits: bool

    @property
    def name(self) -> str:
        """Which run it is, for people, and whether it diverged."""
        diverged = f", diverged at {self.diverged_at:,}" if self.diverged_at is not None else ""
        return f"{self.run.dataset.name} {self.run.name}{diverged}"

    @property
    def updates(self) -> int:
        """How many updates the run made."""
        return int(self.moments[-1])


def updates_of(kept: KeptRun) -> int:
    """How many updates a kept run made, with a finite network at their end.

    Raises UserError if it was not finite from the start.
    """
    if kept.diverged_at == 0:
        raise UserError(f"run={kept.run_id} was not finite before its first update: there is nothing to show.")
    return kept.updates


def replay(kept: KeptRun, progress: Progress | None = None) -> Replay:
    """Trains a kept run again. `progress` is called with numbers of updates made.

    Raises UserError if it was not finite from the start, or its config is not one of this version's.
    """
    updates = updates_of(kept)
    run = kept.run(updates // kept.run().updates_an_epoch)
    moments = moments_of(run)
    whole = kept.run().config.training
    ends_alike = whole.schedule != "cosine"  # else the way to here depends on where it was to end
    trained = run if ends_alike else kept.run(whole.epochs)
    (result,) = train_stack([trained], progress, snapshots=moments)
    networks = tuple(result.snapshots[moment] for moment in moments)
    result = replace(result, final=networks[-1])
    looks = [look(problem_of([run]), part) for part in parts(run, networks)]
    gradients, saturated = (np.concatenate(arrays) for arrays in zip(*looks, strict=True))
    diverged_at = kept.diverged_at
    return Replay(
        run=run,
        moments=np.array(moments) * run.updates_an_epoch,
        networks=networks,
        predictions=np.array([network.prediction for network in networks]),
        gradients=gradients,
        saturated=saturated,
        loss=read_npz(kept.read("loss.npz"), f"loss.npz of run {kept.run_id}")["loss"],
        diverged_at=int(diverged_at) if diverged_at else None,
        same_bits=has_bits_of(result, read_npz(kept.read("weights.npz"), f"weights.npz of run {kept.run_id}")),
    )


def moments_of(run: Run) -> list[int]:
    """After how many epochs to look at a run: at most MOST_MOMENTS, evenly on a log scale, always 0 and the last."""
    updates = run.config.training.epochs
    room = max(SNAPSHOT_BYTES // (8 * (run.parameters + run.dataset.y.size)), 3)
    inner = np.geomspace(1, max(updates, 1), min(MOST_MOMENTS, room) - 1)
    return sorted({0, updates} | {round(moment) for moment in inner if moment < updates})


def parts(run: Run, networks: Sequence[Snapshot]) -> Iterator[Sequence[Snapshot]]:
    """Networks in parts that are small enough to be looked at together."""
    widest = max(run.sizes)
    size = max(LOOK_NUMBERS // (widest * max(widest, len(run.dataset.X))), 1)
    for start in range(0, len(networks), size):
        yield networks[start : start + size]


def look(problem: Problem, networks: Sequence[Snapshot]) -> tuple[Array, Array]:
    """Of r networks the gradients' norms (r, layers), and the shares of saturated units (r, hidden layers)."""
    weights = stack_weights([network.matrices for network in networks], bias=False)
    if networks[0].biases:
        biases = zip(*(network.biases for network in networks), strict=True)
        weights = Weights(weights.matrices, tuple(np.stack(layer, axis=-1) for layer in biases))
    stack = Stack(problem.X, problem.y, weights, np.ones(weights.runs), problem.rule, updates_all=False)
    rows, to_last = stack.over(problem.X, problem.y), stack.layout.to_last
    with numeric_state(UFUNC_BUFFERS[problem.rule.layout]):
        rows.forward()
        rows.differentiate()
        pairs = itertools.zip_longest(stack.gradient.matrices, stack.gradient.biases)
        layers = [[to_last(array) for array in pair if array is not None] for pair in pairs]
        norms = [norm(arrays)[: stack.runs] for arrays in layers]
        hidden = [to_last(h)[..., : stack.runs] for h in rows.activations[:-1]]
        shares = [saturated(stack.activation(layer), h).mean(axis=(0, 1)) for layer, h in enumerate(hidden)]
    return np.stack(norms, axis=1), np.array(shares).reshape(len(hidden), stack.runs).T


def saturated(activation: str, h: Array) -> NDArray[np.bool_]:
    """Where an activation's slope is below 4 % of its largest: a tanh beyond 0.98, a relu that is off."""
    if activation == "sigmoid":
        return (h < LOW) | (h > HIGH)
    if activation == "tanh":
        return 1.0 - h * h < 0.04
    return h <= 0 if activation in ("relu", "leaky_relu") else np.zeros(h.shape, dtype=np.bool_)


def norm(arrays: Sequence[Array]) -> Array:
    """The Euclidean norm of all numbers of arrays (..., r) together, (r,)."""
    largest = np.max([np.abs(array).reshape(-1, array.shape[-1]).max(axis=0) for array in arrays], axis=0)
    scale = np.where(largest > 0, largest, 1.0)  # squares of numbers below 1e-162 or above 1e154 are no numbers
    squares = sum((np.square(array / scale)).reshape(-1, len(scale)).sum(axis=0) for array in arrays)
    return np.asarray(scale * np.sqrt(squares))


def has_bits_of(result: Result, kept: Mapping[str, NDArray[Any]]) -> bool:
    """Whether a training ended with, and began from, the very bits of the weights that were kept."""
    arrays = weight_arrays(result)
    return arrays.keys() == kept.keys() and all(
        kept[name].tobytes() == array.tobytes() for name, array in arrays.items()
    )
