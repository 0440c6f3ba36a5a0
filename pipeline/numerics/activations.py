"""Activations by name: what a layer does with z, elementwise, and the slope that training needs.

    sigmoid     s = 1 / (1 + exp(-z))       s' = s (1 - s)
    tanh        t                           t' = 1 - t^2
    relu        max(0, z)                   1 where z > 0, else 0
    leaky_relu  max(0.01 z, z)              1 where z > 0, else 0.01    (Maas, Hannun, Ng 2013)
    identity    z                           1
    softmax     exp(z_j) / sum of exp(z)    not elementwise: for outputs, with cross_entropy (network.py)

Every slope is a function of the activation itself, so z need not be kept.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from pipeline.numerics.elementary import TANHS
from pipeline.numerics.program import Array, Program
from pipeline.numerics.sigmoid import SIGMOIDS

LEAK = 0.01
HIDDEN = ("sigmoid", "tanh", "relu", "leaky_relu", "identity")
OUTPUT = (*HIDDEN, "softmax")
ONE = np.array(1.0)


def activate(name: str, numerics: str, z: Array, scratch: Sequence[Array]) -> Program:
    """Calls that replace z, flat, by its activation; scratch: four arrays of its size."""
    if name == "sigmoid":
        return SIGMOIDS[numerics](z, scratch)
    if name == "tanh":
        return TANHS[numerics](z, scratch)
    if name == "relu":
        return [partial(np.maximum, z, np.array(0.0), out=z)]
    if name == "leaky_relu":
        return [partial(np.multiply, z, np.array(LEAK), scratch[0]), partial(np.maximum, z, scratch[0], out=z)]
    return []


def sigmoid_slope(h: Array, out: Array) -> Program:
    """Out = h (1 - h)."""
    return [partial(np.subtract, ONE, h, out), partial(np.multiply, h, out, out)]


def tanh_slope(h: Array, out: Array) -> Program:
    """Out = 1 - h^2."""
    return [partial(np.multiply, h, h, out), partial(np.subtract, ONE, out, out)]


def relu_slope(h: Array, out: Array) -> Program:
    """Out = 1 where h > 0, else 0, as h is never negative."""
    return [partial(np.sign, h, out)]


def leaky_slope(h: Array, out: Array) -> Program:
    """Out = 1 where h > 0, else the leak."""
    return [partial(np.sign, h, out), partial(np.maximum, out, np.array(LEAK), out=out)]


SLOPES: dict[str, Callable[[Array, Array], Program]] = {
    "sigmoid": sigmoid_slope,
    "tanh": tanh_slope,
    "relu": relu_slope,
    "leaky_relu": leaky_slope,
}


def times_slope(name: str, delta: Array, h: Array, spare: Array) -> Program:
    """Calls that multiply delta by the activation's slope, from the activation h; spare: an array of their shape."""
    if name not in SLOPES:
        return []
    return [*SLOPES[name](h, spare), partial(np.multiply, delta, spare, delta)]
