"""The logistic function, with the same bits on every machine.

np.exp differs in its last bit between CPUs, so the portable form uses multiply, add, subtract and divide only, which
IEEE 754 fixes exactly. With k = round(-z / ln 2) and u = z + k ln 2, so that exp(-z) = 2^k exp(-u) and |u| <= ln 2 / 2,
the [6/6] Pade approximant exp(-u) = (Q - P) / (Q + P) has whole-number coefficients (its error here, 2e-19, is far
below rounding):

    Q = 665280 + 75600 u^2 + 840 u^4 + u^6          P = u (332640 + 10080 u^2 + 42 u^4)

    sigmoid(z) = 1 / (1 + exp(-z)) = (Q + P) / ((Q + P) + 2^k (Q - P))

2^k is added to the exponent bits. Adding and subtracting 1.5 * 2^52 rounds to a whole number and leaves k in the low
bits of the sum. |z| > 690 counts as 690 (sigmoid(-690) is 2e-300), so nothing overflows; NaN stays NaN.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from pipeline.numerics.program import Array, Program, execute, numeric_state

LIMIT = 690.0
ROUND = 1.5 * 2.0**52
LOG2_E = 1.4426950408889634
LN2_HIGH = float.fromhex("0x1.62e42feep-1")  # ln 2 to 33 bits: k times it is exact
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")  # the rest


def quotient(z: Array, scratch: Sequence[Array]) -> Program:
    """Calls that leave P in the third and Q in the fourth scratch array, and k in the first one's bits.

    exp(-z) = 2^k (Q - P) / (Q + P), where k counts from the lowest bit of the exponent. z, flat, is overwritten;
    scratch: four arrays of its size.
    """
    add, subtract, multiply = np.add, np.subtract, np.multiply
    k, square, odd, even = scratch
    k_bits, even_bits = k.view(np.int64), even.view(np.int64)
    return [
        partial(np.minimum, z, np.array(LIMIT), out=z),
        partial(np.maximum, z, np.array(-LIMIT), out=z),
        partial(multiply, z, np.array(-LOG2_E), even),
        partial(add, even, np.array(ROUND), even),
        partial(subtract, even, np.array(ROUND), k),
        partial(multiply, k, np.array(LN2_HIGH), odd),
        partial(add, z, odd, z),
        partial(multiply, k, np.array(LN2_LOW), odd),
        partial(add, z, odd, z),  # now u
        partial(np.left_shift, even_bits, np.array(52), k_bits),
        partial(multiply, z, z, square),
        partial(multiply, square, np.array(42.0), odd),
        partial(add, odd, np.array(10080.0), odd),
        partial(multiply, odd, square, odd),
        partial(add, odd, np.array(332640.0), odd),
        partial(multiply, odd, z, odd),  # P
        partial(add, square, np.array(840.0), even),
        partial(multiply, even, square, even),
        partial(add, even, np.array(75600.0), even),
        partial(multiply, even, square, even),
        partial(add, even, np.array(665280.0), even),  # Q
    ]


def portable_sigmoid(z: Array, scratch: Sequence[Array]) -> Program:
    """Calls that replace z, flat, by sigmoid(z), and raise no warning for any z; scratch: four arrays of its size."""
    k, _, odd, even = scratch
    k_bits, even_bits = k.view(np.int64), even.view(np.int64)
    return [
        *quotient(z, scratch),
        partial(np.add, even, odd, z),
        partial(np.subtract, even, odd, even),
        partial(np.add, even_bits, k_bits, even_bits),
        partial(np.add, even, z, even),
        partial(np.divide, z, even, z),
    ]


def fast_sigmoid(z: Array, scratch: Sequence[Array] = ()) -> Program:
    """Calls that replace z, flat, by sigmoid(z) with np.exp: fewer, but the last bit depends on the CPU.

    exp may overflow to infinity, which gives 0. No scratch is needed.
    """
    one = np.array(1.0)
    return [
        partial(np.negative, z, z),
        partial(np.exp, z, z),
        partial(np.add, z, one, z),
        partial(np.divide, one, z, z),
    ]


SIGMOIDS = {"portable": portable_sigmoid, "fast": fast_sigmoid}


def sigmoid(z: Array, numerics: str = "portable") -> Array:
    """Sigmoid of a copy of z, any shape; `numerics` is portable or fast."""
    flat = np.array(z, dtype=np.float64).reshape(-1)
    scratch = [np.empty_like(flat) for _ in range(4)]
    with numeric_state():
        execute(SIGMOIDS[numerics](flat, scratch))
    return flat.reshape(np.shape(z))
