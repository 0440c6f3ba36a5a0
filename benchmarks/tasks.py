"""What every contender trains: the tutorials' four nets on their own rows, and a larger one on the 8x8 digits.

All from the same weights, in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Net:
    """A network: sizes from inputs to outputs, inputs X (n, d) and targets y (n, k) in its own scale."""

    sizes: tuple[int, ...]
    X: Array
    y: Array


def net(sizes: tuple[int, ...], X: list[list[float]], y: list[float]) -> Net:
    """A net from plain lists."""
    return Net(sizes, np.array(X, dtype=np.float64), np.array(y, dtype=np.float64)[:, None])


# The rows of conf/data, scaled (a test compares): a worker must not need Hydra to know them.
NETS = {
    "4-1-1": net((4, 1, 1), [[0.4, 0.8, 0.4, 0.3], [1.0, 0.2, 0.4, 0.3], [0.3, 0.4, 0.5, 0.4]], [1.0, 0.85, 0.4]),
    "2-3-1": net((2, 3, 1), [[2 / 3, 1.0], [1 / 3, 5 / 9], [1.0, 6 / 9]], [0.92, 0.86, 0.89]),
    "3-4-1": net((3, 4, 1), [[1, 0, 1], [0, 1, 1], [0, 0, 1], [1, 1, 1]], [1, 1, 0, 0]),
    "3-4-5-1": net((3, 4, 5, 1), [[0, 0, 1], [1, 1, 1], [1, 0, 1], [0, 1, 1]], [0, 1, 1, 0]),
}


WIDE, WIDE_ROWS = "64-32-10", 1797


def digits() -> Net:
    """Scikit-learn's 1,797 digits of 8x8 pixels, a class an output. Its name is WIDE."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return Net((64, 32, 10), loaded.data / 16, np.eye(10)[loaded.target])


@dataclass(frozen=True)
class Task:
    """A training: gradient descent by each run's own rate (r,), from its own matrices[l] (r, in, out).

    The net is all sigmoids without biases, the loss half the sum of squared errors, the batch all rows.
    """

    X: Array
    y: Array
    matrices: tuple[Array, ...]
    rates: Array
    updates: int

    @property
    def runs(self) -> int:
        """r, how many networks train."""
        return len(self.rates)


def task(name: str, runs: int, updates: int) -> Task:
    """A task of `runs` networks; the first ones are the same whatever `runs` is."""
    chosen = digits() if name == WIDE else NETS[name]
    pairs = enumerate(zip(chosen.sizes, chosen.sizes[1:], strict=False))
    matrices = tuple(np.random.default_rng(layer).standard_normal((runs, *pair)) for layer, pair in pairs)
    rates = np.random.default_rng(99).uniform(0.1, 1.0, runs) / (1 if name in NETS else len(chosen.X))
    return Task(chosen.X, chosen.y, matrices, rates, updates)


@dataclass(frozen=True)
class Training:
    """A task made ready. `run` is what is timed; it must keep the loss of every update, as a user would.

    `losses` gives the final losses (r,) from what `run` returned, for the check that all train the same.
    """

    run: Callable[[], Any]
    losses: Callable[[Any], Array]


def last_point(curve: Array) -> Array:
    """Final losses (r,) of a curve (updates + 1, r)."""
    return np.asarray(curve[-1], dtype=np.float64)
