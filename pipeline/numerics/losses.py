"""Losses and metrics by name: each a raw sum over the rows, divided by what its convention says.

With prediction o, target y and error e = o - y, arrays (n, k), every name here is `sum / divisor`:

    sse            sum of e^2                  half_sse      sum of e^2 / 2
    mse            sum of e^2 / (n k)
    sum_abs        sum of |e|                  half_sum_abs  sum of |e| / 2
    mean_abs       sum of |e| / (n k)
    bce            -sum of (y log o + (1 - y) log(1 - o)) / (n k), a log counted as -100 at least, as PyTorch's BCELoss
    cross_entropy  -sum of (y log o) / n
    accuracy       rows whose class is right / n: the largest output, or for one output o >= 0.5 where y >= 0.5

The tutorials disagree on the convention (and call half a sum a mean), which is why each name spells its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.elementary import LOGS

Array = NDArray[np.float64]

RAW_SUMS = {
    "sse": "squares",
    "half_sse": "squares",
    "mse": "squares",
    "sum_abs": "absolutes",
    "half_sum_abs": "absolutes",
    "mean_abs": "absolutes",
    "bce": "bce",
    "cross_entropy": "cross_entropy",
    "accuracy": "hits",
}
OF_SHARES = ("bce", "cross_entropy", "hits")  # raw sums that are defined for targets from 0 to 1
LOSSES = tuple(name for name, raw in RAW_SUMS.items() if raw in ("squares", "bce", "cross_entropy"))
NEEDS = {"bce": "sigmoid", "cross_entropy": "softmax"}  # the outputs that these losses are for
LEAST_LOG = -100.0  # of bce
LOG_OF_NOTHING = -745.0  # about the log of the smallest float64


@dataclass(frozen=True)
class Outputs:
    """Of a pass: prediction, target and error, with rows and units (and lanes) in any layout; spare: of their shape."""

    prediction: Array
    target: Array
    error: Array
    spare: Array
    units_axis: int
    numerics: str

    @cached_property
    def classes(self) -> NDArray[np.intp]:
        """The class of each row, its units' axis kept. Targets do not change."""
        found: NDArray[np.intp] = self.target.argmax(axis=self.units_axis, keepdims=True)
        return found

    def log(self, x: Array, least: float) -> Array:
        """The logarithm, `least` at least; NaN stays NaN."""
        found: Array = np.maximum(LOGS[self.numerics](x), least)
        return found


def squares(of: Outputs) -> Array:
    """The terms of a sum of squares."""
    found: Array = np.multiply(of.error, of.error, of.spare)
    return found


def absolutes(of: Outputs) -> Array:
    """The terms of a sum of absolute values."""
    found: Array = np.absolute(of.error, of.spare)
    return found


def bce(of: Outputs) -> Array:
    """The terms of binary cross-entropy."""
    hit = of.target * of.log(of.prediction, LEAST_LOG)
    miss = (1.0 - of.target) * of.log(1.0 - of.prediction, LEAST_LOG)
    found: Array = -(hit + miss)
    return found


def cross_entropy(of: Outputs) -> Array:
    """The terms of cross-entropy."""
    found: Array = -(of.target * of.log(of.prediction, LOG_OF_NOTHING))
    return found


def hits(of: Outputs) -> Array:
    """1 for a row whose class is right, else 0."""
    if of.prediction.shape[of.units_axis] == 1:
        right = (of.prediction >= 0.5) == (of.target >= 0.5)
    else:
        axis = of.units_axis
        right = of.prediction.argmax(axis=axis, keepdims=True) == of.classes
    found: Array = right.astype(np.float64)
    return found


TERMS: dict[str, Callable[[Outputs], Array]] = {
    "squares": squares,
    "absolutes": absolutes,
    "bce": bce,
    "cross_entropy": cross_entropy,
    "hits": hits,
}


def divisor(name: str, n: int, k: int) -> float:
    """What the raw sum of `name` is divided by, for n rows of k predicted values."""
    if name.startswith("half_"):
        return 2.0
    if name in ("mse", "mean_abs", "bce"):
        return float(n * k)
    return float(n) if name in ("cross_entropy", "accuracy") else 1.0


def in_convention(name: str, raw: Array, n: int, k: int) -> Array:
    """The curve `name` from the curve of its raw sums, (points,)."""
    return raw / divisor(name, n, k)


def slope(name: str, n: int, k: int) -> float:
    """C of delta_L = c e (network.py): 2 / divisor for the losses made of squares, 1 / divisor for the others."""
    return (2.0 if RAW_SUMS[name] == "squares" else 1.0) / divisor(name, n, k)
