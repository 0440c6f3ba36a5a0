"""The tutorials' loop: one network, a few plain NumPy lines an update. What everyone is compared with."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def sigmoid(z: Array) -> Array:
    """As the tutorials write it."""
    return 1 / (1 + np.exp(-z))


def losses(X: Array, y: Array, weights: list[Array], rate: float, updates: int) -> Iterator[float]:
    """Trains a network without biases in place, weights[l] (in, out); yields its half_sse after 0, 1, ... updates."""
    for update in range(updates + 1):
        layers = [X]
        for matrix in weights:
            layers.append(sigmoid(layers[-1] @ matrix))
        error = layers[-1] - y
        yield float(0.5 * np.sum(error**2))
        if update == updates:
            return
        delta = error * layers[-1] * (1 - layers[-1])
        for layer in range(len(weights) - 1, -1, -1):
            gradient = layers[layer].T @ delta
            if layer:
                delta = delta @ weights[layer].T * layers[layer] * (1 - layers[layer])
            weights[layer] -= rate * gradient
