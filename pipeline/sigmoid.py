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

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LIMIT = 690.0
ROUND = 1.5 * 2.0**52
LOG2_E = 1.4426950408889634
LN2_HIGH = float.fromhex("0x1.62e42feep-1")  # ln 2 to 33 bits: k times it is exact
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")  # the rest


class PortableSigmoid:
    """z -> sigmoid(z) in place, for one array of any shape; its scratch arrays are made once."""

    def __init__(self, z: Array) -> None:
        self.z = z
        self.k, self.square, self.odd, self.even = (np.empty_like(z) for _ in range(4))
        self.k_bits, self.even_bits = self.k.view(np.int64), self.even.view(np.int64)

    def __call__(self) -> None:
        """Replaces z by sigmoid(z). Raises no warning for any z."""
        add, subtract, multiply = np.add, np.subtract, np.multiply
        u, k, square, odd, even = self.z, self.k, self.square, self.odd, self.even
        np.minimum(u, LIMIT, out=u)
        np.maximum(u, -LIMIT, out=u)
        multiply(u, -LOG2_E, out=even)
        add(even, ROUND, out=even)
        subtract(even, ROUND, out=k)
        multiply(k, LN2_HIGH, out=odd)
        add(u, odd, out=u)
        multiply(k, LN2_LOW, out=odd)
        add(u, odd, out=u)
        np.left_shift(self.even_bits, 52, out=self.k_bits)
        multiply(u, u, out=square)
        multiply(square, 42.0, out=odd)
        add(odd, 10080.0, out=odd)
        multiply(odd, square, out=odd)
        add(odd, 332640.0, out=odd)
        multiply(odd, u, out=odd)
        add(square, 840.0, out=even)
        multiply(even, square, out=even)
        add(even, 75600.0, out=even)
        multiply(even, square, out=even)
        add(even, 665280.0, out=even)
        add(even, odd, out=u)
        subtract(even, odd, out=even)
        add(self.even_bits, self.k_bits, out=self.even_bits)
        add(even, u, out=even)
        np.divide(u, even, out=u)


class FastSigmoid:
    """z -> sigmoid(z) in place with np.exp: faster, its last bit depends on the CPU."""

    def __init__(self, z: Array) -> None:
        self.z = z

    def __call__(self) -> None:
        """Replaces z by sigmoid(z); exp may overflow to infinity, which gives 0."""
        np.negative(self.z, out=self.z)
        np.exp(self.z, out=self.z)
        np.add(self.z, 1.0, out=self.z)
        np.divide(1.0, self.z, out=self.z)


def sigmoid(z: Array, numerics: str = "portable") -> Array:
    """Sigmoid of a copy of z, any shape; `numerics` is portable or fast."""
    copy = np.array(z, dtype=np.float64, ndmin=1)
    with np.errstate(all="ignore"):
        (PortableSigmoid if numerics == "portable" else FastSigmoid)(copy)()
    return copy.reshape(np.shape(z))
