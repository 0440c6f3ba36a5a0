"""The portable update as one compiled loop (numba, an optional extra): the same IEEE operations in the same order.

NumPy walks through memory once an operation. Here a block of WIDTH networks makes all its updates while its numbers
stay in the cache. Every result is rounded once, as NumPy's is: numba without `fastmath` neither reorders nor
fuses, so the bits are those of network.py and sigmoid.py, which stay the reference; a test holds them equal.

Flat memories, w lanes of a block last: h (n * d inputs, then n * units of each layer, w), delta as h, weights
(parameters, w) with each layer's matrix (in * out) followed by its biases (out) if there are any.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from pipeline.numerics.course import Course
from pipeline.numerics.losses import slope
from pipeline.numerics.network import Stack
from pipeline.numerics.program import Array, buffer
from pipeline.numerics.sigmoid import LIMIT, LN2_HIGH, LN2_LOW, LOG2_E, ROUND

RAW = ("squares", "absolutes")
WIDTH = 256  # lanes: the tutorials' networks fit the second cache, and a loop over fewer lanes costs more than it saves

# No check for division by zero: IEEE says what it gives. Compiled code is kept beside this file for the next start.
OPTIONS: dict[str, Any] = {"error_model": "numpy", "cache": True}
compiled = numba.njit(**OPTIONS)
inlined = numba.njit(**OPTIONS, inline="always")


@intrinsic
def bits_of(context: Any, x: Any) -> Any:
    """The bits of a float64 as an int64."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), code


@intrinsic
def float_of(context: Any, bits: Any) -> Any:
    """The float64 with these bits."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), code


@inlined
def sigmoid(z: float) -> float:
    """The operations of sigmoid.py, one by one."""
    u = LIMIT if z > LIMIT else z
    u = -LIMIT if u < -LIMIT else u
    shifted = u * -LOG2_E + ROUND
    k = shifted - ROUND
    u = u + k * LN2_HIGH
    u = u + k * LN2_LOW
    square = u * u
    odd = ((square * 42.0 + 10080.0) * square + 332640.0) * u
    even = ((square + 840.0) * square + 75600.0) * square + 665280.0
    above = even + odd
    below = float_of(bits_of(even - odd) + (bits_of(shifted) << 52))
    return above / (below + above)  # type: ignore[no-any-return]


@inlined
def squash(z: Array) -> None:
    """Z becomes sigmoid(z), (w,)."""
    for lane in range(len(z)):
        z[lane] = sigmoid(z[lane])


@inlined
def add(term: Array, out: Array) -> None:
    """Out += term, (w,)."""
    for lane in range(len(out)):
        out[lane] = out[lane] + term[lane]


@inlined
def multiply(left: Array, right: Array, out: Array) -> None:
    """Out = left * right, (w,)."""
    for lane in range(len(out)):
        out[lane] = left[lane] * right[lane]


@inlined
def add_product(left: Array, right: Array, out: Array) -> None:
    """Out += left * right, (w,), rounded after each."""
    for lane in range(len(out)):
        out[lane] = out[lane] + left[lane] * right[lane]


@inlined
def step(weights: Array, gradient: Array, rates: Array) -> None:
    """Weights -= rates * gradient, (w,)."""
    for lane in range(len(weights)):
        weights[lane] = weights[lane] - gradient[lane] * rates[lane]


@inlined
def times_slope(delta: Array, h: Array, slip: bool) -> None:
    """Delta *= s'(z), (w,): a (1 - a), where a is the activation h, or its sigmoid under the slip."""
    for lane in range(len(delta)):
        a = sigmoid(h[lane]) if slip else h[lane]
        delta[lane] = delta[lane] * (a * (1.0 - a))


class Block(NamedTuple):
    """Some lanes of a stack: units of each layer, rows, memories as above, targets (n * k,), the rule."""

    sizes: NDArray[np.int64]
    n: int
    bias: bool
    weights: Array
    h: Array
    delta: Array
    gradient: Array
    y: Array
    rates: Array
    slope: float
    slip: bool


@compiled
def forward(block: Block) -> None:
    """All activations."""
    n, h, weights = block.n, block.h, block.weights
    below, here, start = 0, n * block.sizes[0], 0
    for layer in range(len(block.sizes) - 1):
        inputs, units = block.sizes[layer], block.sizes[layer + 1]
        for row in range(n):
            for j in range(units):
                z = h[here + row * units + j]
                multiply(h[below + row * inputs], weights[start + j], z)
                for i in range(1, inputs):
                    add_product(h[below + row * inputs + i], weights[start + i * units + j], z)
                if block.bias:
                    add(weights[start + inputs * units + j], z)
                squash(z)
        start += (inputs + block.bias) * units
        below, here = here, here + n * units


@compiled
def update(block: Block) -> None:
    """One step of gradient descent from the state that `forward` left."""
    n, h, delta, weights = block.n, block.h, block.delta, block.weights
    start, here = len(weights), len(h) - len(block.y)
    for row in range(len(block.y)):
        for lane in range(len(block.rates)):
            delta[here + row, lane] = (h[here + row, lane] - block.y[row]) * block.slope
        times_slope(delta[here + row], h[here + row], block.slip)
    for layer in range(len(block.sizes) - 2, -1, -1):
        start -= (block.sizes[layer] + block.bias) * block.sizes[layer + 1]
        below = here - n * block.sizes[layer]
        if layer > 0:
            pass_back(block, layer, start, below, here)
        descend(block, layer, start, below, here)
        here = below


@compiled
def pass_back(block: Block, layer: int, start: int, below: int, here: int) -> None:
    """The deltas of a layer's inputs, at `below`, from those of its units, at `here`; its weights are at `start`."""
    inputs, units, weights = block.sizes[layer], block.sizes[layer + 1], block.weights[start:]
    for row in range(block.n):
        for i in range(inputs):
            d = block.delta[below + row * inputs + i]
            multiply(block.delta[here + row * units], weights[i * units], d)
            for j in range(1, units):
                add_product(block.delta[here + row * units + j], weights[i * units + j], d)
            times_slope(d, block.h[below + row * inputs + i], block.slip)


@compiled
def descend(block: Block, layer: int, start: int, below: int, here: int) -> None:
    """W -= rate * h^T delta and b -= rate * (sum of delta over rows), for one layer; its weights are at `start`."""
    inputs, units, weights = block.sizes[layer], block.sizes[layer + 1], block.weights[start:]
    h, delta, gradient = block.h, block.delta, block.gradient
    for j in range(units):
        for i in range(inputs):
            multiply(h[below + i], delta[here + j], gradient)
            for row in range(1, block.n):
                add_product(h[below + row * inputs + i], delta[here + row * units + j], gradient)
            step(weights[i * units + j], gradient, block.rates)
        if block.bias:
            gradient[:] = delta[here + j]
            for row in range(1, block.n):
                add(delta[here + row * units + j], gradient)
            step(weights[inputs * units + j], gradient, block.rates)


@compiled
def measure(block: Block, absolute: bool, out: Array) -> None:
    """The raw sum of every network's error into out, (w,): of squares, or of absolute values."""
    here = len(block.h) - len(block.y)
    for row in range(len(block.y)):
        for lane in range(len(out)):
            e = block.h[here + row, lane] - block.y[row]
            term = abs(e) if absolute else e * e
            out[lane] = term if row == 0 else out[lane] + term


@compiled
def train_block(block: Block, squares: Array, absolutes: Array) -> None:
    """As many updates as the curves have rows, (updates, w); one that is not wanted is (updates, 0)."""
    forward(block)
    for epoch in range(len(squares)):
        update(block)
        forward(block)
        measure(block, False, squares[epoch])
        measure(block, True, absolutes[epoch])


def advance(course: Course, curves: dict[str, Array], first: int, last: int) -> None:
    """Takes a course from `first` updates to `last`; writes the points behind `first` of its curves, (points, runs).

    Like the stack's own `update`, `forward` and `measure`, bit for bit.
    """
    stack = course.stack
    for start in range(0, stack.runs, WIDTH):
        lanes = slice(start, min(start + WIDTH, stack.runs))
        points = advance_block(stack, lanes, last - first, tuple(curves))
        for raw, curve in curves.items():
            curve[first + 1 : last + 1, lanes] = points[raw]
    stack.forward()


def advance_block(stack: Stack, lanes: slice, updates: int, wanted: tuple[str, ...]) -> dict[str, Array]:
    """Some updates of some lanes of a stack; returns the points of their curves, (updates, lanes) where wanted."""
    n, d = stack.full.inputs.shape[:2]
    sizes = np.array([d, *(matrix.shape[1] for matrix in stack.weights.matrices)])
    layers = [layer.reshape(-1, stack.lanes)[:, lanes] for layer in stack.layers()]
    rates = stack.rates[lanes]
    block = Block(
        sizes=sizes,
        n=n,
        bias=bool(stack.weights.biases),
        weights=np.concatenate(layers),
        h=buffer(n * int(sizes.sum()), len(rates)),
        delta=buffer(n * int(sizes.sum()), len(rates)),
        gradient=np.empty_like(rates),
        y=stack.full.target.reshape(-1),
        rates=rates,
        slope=slope(stack.rule.loss, n, len(stack.full.target.reshape(-1)) // n),
        slip=stack.rule.derivative == "of_activation",
    )
    block.h[: n * d] = stack.full.inputs.reshape(-1, 1)
    points = {raw: np.empty((updates, len(rates) if raw in wanted else 0)) for raw in RAW}
    train_block(block, points["squares"], points["absolutes"])
    ends = np.cumsum([len(layer) for layer in layers])
    for layer, trained in zip(layers, np.split(block.weights, ends[:-1]), strict=True):
        layer[...] = trained
    return points
