"""The tutorials' own way, re-implemented naively to compare with: one network, 2-D arrays, np.exp and np.dot.

Nothing of `pipeline` is used here. W[l] is (inputs, outputs), b[l] is (outputs,), X (n, d), y (n, k).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Trained:
    """States after 0, 1, ... E updates: losses (E + 1 numbers), predictions (each (n, k)), all weights and biases."""

    losses: list[float]
    predictions: list[Array]
    weights: list[list[Array]]
    biases: list[list[Array]]

    def first_not_finite(self) -> int | None:
        """The first number of updates after which the loss or a weight is not finite."""
        states = zip(self.losses, self.weights, self.biases, strict=True)
        for updates, (loss, weights, biases) in enumerate(states):
            if not np.isfinite(loss) or not all(np.isfinite(array).all() for array in weights + biases):
                return updates
        return None


def sigmoid(z: Array) -> Array:
    """The logistic function as every tutorial writes it."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-z)))


def legacy_weights(scheme: str, seed: int, sizes: Sequence[int], skip: int = 0) -> list[Array]:
    """numpy.random.seed, then randn or 2 random - 1 layer by layer, for `skip` networks that are dropped and one."""
    np.random.seed(seed)
    shapes = list(itertools.pairwise(sizes))
    for _ in range(skip + 1):
        drawn = [np.random.randn(*shape) if scheme == "normal" else 2 * np.random.random(shape) - 1 for shape in shapes]
    return drawn


def modern_weights(scheme: str, seed: int, sizes: Sequence[int]) -> list[Array]:
    """The same from numpy.random.default_rng."""
    draw = np.random.default_rng(seed)
    shapes = list(itertools.pairwise(sizes))
    return [draw.standard_normal(shape) if scheme == "normal" else 2 * draw.random(shape) - 1 for shape in shapes]


def loss_of(name: str, error: Array) -> float:
    """A loss or metric of the error, prediction minus target, (n, k)."""
    terms = np.abs(error) if name.endswith("abs") else error**2
    if name in ("mse", "mean_abs"):
        return float(np.mean(terms))
    return float(np.sum(terms)) / (2 if name.startswith("half_") else 1)


def train(
    X: Array,
    y: Array,
    weights: Sequence[Array],
    rate: float,
    epochs: int,
    *,
    loss: str = "half_sse",
    derivative: str = "exact",
    biases: Sequence[Array] = (),
) -> Trained:
    """Gradient descent over all rows, as a loop over updates and layers."""
    W, b = [matrix.copy() for matrix in weights], [bias.copy() for bias in biases]
    factor = {"sse": 2.0, "half_sse": 1.0, "mse": 2.0 / y.size}[loss]
    seen = Trained([], [], [], [])
    for _ in range(epochs + 1):
        activations = [X]
        for layer, matrix in enumerate(W):
            z = np.dot(activations[-1], matrix)
            activations.append(sigmoid(z + b[layer] if b else z))
        error = activations[-1] - y
        seen.losses.append(loss_of(loss, error))
        seen.predictions.append(activations[-1])
        seen.weights.append([matrix.copy() for matrix in W])
        seen.biases.append([bias.copy() for bias in b])
        passed = factor * error
        for layer in reversed(range(len(W))):
            delta = passed * derivative_at(activations[layer + 1], derivative)
            passed = np.dot(delta, W[layer].T)
            W[layer] = W[layer] - rate * np.dot(activations[layer].T, delta)
            if b:
                b[layer] = b[layer] - rate * delta.sum(axis=0)
    return seen


def derivative_at(a: Array, derivative: str) -> Array:
    """The sigmoid's derivative where it is a: a (1 - a); the happiness text takes s(a) (1 - s(a)) for it."""
    s = a if derivative == "exact" else sigmoid(a)
    return s * (1 - s)
