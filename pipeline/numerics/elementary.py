"""tanh, exp and log with the same bits on every machine, from the sigmoid's quotient; and NumPy's, which are faster.

With P, Q and k of sigmoid.py for 2 z, and s = 2^k, so that exp(-2 z) = s (Q - P) / (Q + P):

    tanh(z) = (1 - exp(-2 z)) / (1 + exp(-2 z)) = ((1 - s) Q + (1 + s) P) / ((1 + s) Q + (1 - s) P)

where nothing cancels: for small z, s is 1. log takes x = 2^e m apart, which is exact, with m from sqrt(1/2) to sqrt(2);
then log m = 2 artanh(t), t = (m - 1) / (m + 1), |t| < 0.172, by its series up to t^23 (the rest is below 1e-19).
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from pipeline.numerics.program import Array, Program
from pipeline.numerics.sigmoid import LN2_HIGH, LN2_LOW, quotient

ONE_BITS = np.array(1023 << 52)  # those of 1.0
SQRT_HALF = 0.7071067811865476
LOG_TERMS = 12


def portable_tanh(z: Array, scratch: Sequence[Array]) -> Program:
    """Calls that replace z, flat, by tanh(z); scratch: four arrays of its size."""
    s, less, odd, even = scratch
    s_bits, one = s.view(np.int64), np.array(1.0)
    return [
        partial(np.add, z, z, z),
        *quotient(z, scratch),
        partial(np.add, s_bits, ONE_BITS, s_bits),
        partial(np.subtract, one, s, less),
        partial(np.add, one, s, s),
        partial(np.multiply, less, even, z),
        partial(np.multiply, less, odd, less),
        partial(np.multiply, s, even, even),
        partial(np.add, even, less, even),
        partial(np.multiply, s, odd, odd),
        partial(np.add, z, odd, z),
        partial(np.divide, z, even, z),
    ]


def portable_exp(z: Array, scratch: Sequence[Array]) -> Program:
    """Calls that replace z, flat, by exp(z), |z| > 690 counted as 690; scratch: four arrays of its size."""
    k, _, odd, even = scratch
    return [
        partial(np.negative, z, z),
        *quotient(z, scratch),
        partial(np.subtract, even, odd, z),
        partial(np.add, even, odd, even),
        partial(np.divide, z, even, z),
        partial(np.add, z.view(np.int64), k.view(np.int64), z.view(np.int64)),
    ]


def portable_log(x: Array) -> Array:
    """The natural logarithm of x >= 0, any shape; -infinity for 0."""
    m, e = np.frexp(x)
    low = m < SQRT_HALF
    m, e = np.where(low, m + m, m), e - low
    t = (m - 1.0) / (m + 1.0)
    square = t * t
    series = np.full_like(x, 1.0 / (2 * LOG_TERMS - 1))
    for term in range(LOG_TERMS - 2, 0, -1):
        series = series * square + 1.0 / (2 * term + 1)
    series = series * square
    found: Array = e * LN2_HIGH + (2.0 * t + (2.0 * t * series + e * LN2_LOW))
    return np.where(x == 0.0, -np.inf, np.where(np.isinf(x), x, found))


def fast_tanh(z: Array, scratch: Sequence[Array] = ()) -> Program:
    """As portable_tanh; the last bit depends on the CPU. No scratch is needed."""
    return [partial(np.tanh, z, z)]


def fast_exp(z: Array, scratch: Sequence[Array] = ()) -> Program:
    """As portable_exp; the last bit depends on the CPU. No scratch is needed."""
    return [partial(np.exp, z, z)]


TANHS = {"portable": portable_tanh, "fast": fast_tanh}
EXPS = {"portable": portable_exp, "fast": fast_exp}
LOGS: dict[str, Callable[[Array], Array]] = {"portable": portable_log, "fast": np.log}
