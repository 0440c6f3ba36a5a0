"""A stack of networks that train together: its buffers, the forward pass, and one update of gradient descent.

Layout "runs last": every array ends with an axis of r runs, so each NumPy call is one long loop over runs.

    X (n, d)    inputs, shared by all runs             z_l = h_{l-1} W_l + b_l,  h_0 = X
    W_l (in, out, r), b_l (out, r) weights             h_l = sigmoid(z_l)
    h_l (n, units, r) activations                      o   = h_L, the prediction; e = o - y

Derivation of the update (per run, * elementwise, c from losses.slope):
    loss = sum e^2 / divisor  =>  d loss / d o = c e
    delta_L = c e * s'(z_L),  delta_{l-1} = (delta_l W_l^T) * s'(z_{l-1}),  with s'(z) = h (1 - h)   [exact]
    d loss / d W_l = h_{l-1}^T delta_l,  d loss / d b_l = column sums of delta_l
`of_activation` is the happiness text's slip: it takes the derivative at the activation, s(h) (1 - s(h)).

Contractions over a small axis are products that are added up in index order. Multiply, add, subtract and divide are
exact on every machine, so with the sigmoid of `portable` a run has the same bits everywhere; `fast` takes np.exp, and
BLAS for the inputs, which all runs share. In both, a run's bits do not depend on its neighbours or its place: nothing
sums over runs.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.program import Array, Program, buffer, execute, numeric_state
from pipeline.sigmoid import SIGMOIDS

LANES = 8  # float64s in a cache line, and in the widest vector registers
MOST_BLAS_TERMS = 64  # up to here BLAS adds up in an order that does not depend on the number of runs (tested)
SMALL = 2**15  # products of a contraction, 256 KiB: up to here fewer calls count for more than the cache


@dataclass(frozen=True)
class Rule:
    """How the error becomes an update: `slope` is c above; derivative is exact or of_activation."""

    slope: float
    derivative: str = "exact"
    numerics: str = "portable"


@dataclass(frozen=True)
class Weights:
    """Weights of r networks: matrices[l] is (in, out, r), biases[l] is (out, r); biases is empty for nets without."""

    matrices: tuple[Array, ...]
    biases: tuple[Array, ...] = ()

    @property
    def runs(self) -> int:
        """r, how many networks these are."""
        return int(self.matrices[0].shape[-1])

    def take(self, lanes: NDArray[np.intp] | slice) -> "Weights":
        """A copy of some of the networks, by their places."""
        return Weights(
            tuple(matrix[..., lanes].copy(order="C") for matrix in self.matrices),
            tuple(bias[..., lanes].copy(order="C") for bias in self.biases),
        )


def padded(weights: Weights) -> Weights:
    """A copy of the networks, with enough all-zero ones behind them to make a multiple of LANES."""
    lanes = weights.runs + -weights.runs % LANES

    def pad(array: Array) -> Array:
        copy = buffer(*array.shape[:-1], lanes)
        copy[..., : weights.runs] = array
        copy[..., weights.runs :] = 0.0
        return copy

    return Weights(tuple(map(pad, weights.matrices)), tuple(map(pad, weights.biases)))


class Stack:
    """Buffers of r networks and the two passes over them. The first `runs` lanes are networks, the rest is padding.

    After `forward()`, `error` (n, k, r) is prediction minus target and `activations[-1]` the prediction.
    """

    def __init__(self, X: Array, y: Array, weights: Weights, learning_rates: Array, rule: Rule) -> None:
        """X (n, d), y (n, k), weights of r runs, learning_rates (r,)."""
        self.runs = len(learning_rates)
        self.rule = rule
        self.weights = padded(weights)
        self.lanes = self.weights.runs
        self.rates = buffer(self.lanes)
        self.rates[: self.runs], self.rates[self.runs :] = learning_rates, 0.0
        self.inputs = np.ascontiguousarray(X)[:, :, None]
        self.target = np.ascontiguousarray(y)[:, :, None]
        self._uses_blas = rule.numerics == "fast" and max(X.shape) <= MOST_BLAS_TERMS
        self._make_buffers(len(X))
        self._forward, self._update = self._forward_program(), self._update_program()

    def _make_buffers(self, n: int) -> None:
        """Activations, and four spare memories as large as the largest layer's, which all layers share."""
        shapes = [(n, matrix.shape[1]) for matrix in self.weights.matrices]
        self.activations = [buffer(*shape, self.lanes) for shape in shapes]
        self.error, self._sums = buffer(*shapes[-1], self.lanes), buffer(self.lanes)
        largest = max(*map(math.prod, shapes), *(matrix[..., 0].size for matrix in self.weights.matrices))
        self._spare = [buffer(largest * self.lanes) for _ in range(4)]

    def layers(self) -> list[Array]:
        """All weights: each layer's matrix (in, out, r), followed by its biases (out, r) if there are any."""
        pairs = itertools.zip_longest(self.weights.matrices, self.weights.biases)
        return [array for pair in pairs for array in pair if array is not None]

    def forward(self) -> None:
        """Computes all activations and the error from the current weights."""
        execute(self._forward)

    def update(self) -> None:
        """One step of gradient descent from the state that `forward` left."""
        execute(self._update)

    def measure(self, raw: str, out: Array) -> None:
        """Writes the raw sum, `squares` or `absolutes`, of every network's error into out, (runs,)."""
        terms = view(self._spare[0], self.error.shape)
        if raw == "squares":
            np.multiply(self.error, self.error, terms)
        else:
            np.absolute(self.error, terms)
        # Of all lanes, also of those that pad: NumPy adds up a single column in another order.
        np.add.reduce(terms.reshape(-1, self.lanes), axis=0, out=self._sums)
        out[...] = self._sums[: self.runs]

    def _forward_program(self) -> Program:
        program: Program = []
        inputs = self.inputs
        for layer, matrix in enumerate(self.weights.matrices):
            h = self.activations[layer]
            if layer == 0 and self._uses_blas:
                program.append(matmul(inputs[:, :, 0], matrix, h))
            else:
                program += self._sum(np.moveaxis(inputs, 1, 0)[:, :, None], matrix[:, None], h)
            if self.weights.biases:
                program.append(partial(np.add, h, self.weights.biases[layer], h))
            program += self._squash(h, self._spare)
            inputs = h
        return [*program, partial(np.subtract, inputs, self.target, self.error)]

    def _squash(self, z: Array, scratch: Sequence[Array]) -> Program:
        """Z becomes sigmoid(z)."""
        flat = z.reshape(-1)
        return SIGMOIDS[self.rule.numerics](flat, [view(memory, flat.shape) for memory in scratch])

    def _update_program(self) -> Program:
        """From the last layer to the first: the deltas below it, then its own step. Two spares hold the deltas."""
        matrices, here, below = self.weights.matrices, self._spare[2], self._spare[3]
        delta = view(here, self.error.shape)
        program = [partial(np.multiply, self.error, np.array(self.rule.slope), delta)]
        program += self._times_slope(delta, self.activations[-1])
        for layer in range(len(matrices) - 1, 0, -1):
            h = self.activations[layer - 1]
            passed = view(below, h.shape)
            weights = np.moveaxis(matrices[layer], 1, 0)[:, None]
            program += self._sum(np.moveaxis(delta, 1, 0)[:, :, None], weights, passed)
            program += self._times_slope(passed, h)
            program += self._descend(layer, h, delta)
            delta, here, below = passed, below, here
        return program + self._descend(0, self.inputs, delta)

    def _times_slope(self, delta: Array, h: Array) -> Program:
        """Delta *= s'(z), which is a (1 - a), where a is the activation h, or its sigmoid under the slip."""
        a, slope = h, view(self._spare[0], h.shape)
        program: Program = []
        if self.rule.derivative == "of_activation":
            a = view(self._spare[1], h.shape)
            program.append(partial(np.copyto, a, h))
            program += self._squash(a, [np.empty(h.size) for _ in range(4)])
        return [
            *program,
            partial(np.subtract, np.array(1.0), a, slope),
            partial(np.multiply, a, slope, slope),
            partial(np.multiply, delta, slope, delta),
        ]

    def _descend(self, layer: int, inputs: Array, delta: Array) -> Program:
        """W -= rate * inputs^T delta and b -= rate * (sum of delta over rows), for one layer."""
        matrix = self.weights.matrices[layer]
        gradient = view(self._spare[1], matrix.shape)
        if layer == 0 and self._uses_blas:
            program = [matmul(inputs[:, :, 0].T.copy(), delta, gradient)]
        else:
            program = self._sum(inputs[:, :, None], delta[:, None], gradient)
        program += step(matrix, gradient, self.rates)
        if self.weights.biases:
            bias = self.weights.biases[layer]
            gradient = view(self._spare[1], bias.shape)
            program.append(partial(np.add.reduce, delta, 0, None, gradient))
            program += step(bias, gradient, self.rates)
        return program

    def _sum(self, left: Array, right: Array, out: Array) -> Program:
        """Out, (a, b, r) = the sum over s of left * right, which broadcast to (s, a, b, r): added up in the order of s.

        Small sums are one product and one reduction, large ones are added up product by product, which stays in
        the cache. Both give the same bits.
        """
        terms, *shape = np.broadcast_shapes(left.shape, right.shape)
        if terms * out.size <= SMALL:
            products = buffer(terms, *shape)
            return [partial(np.multiply, left, right, products), partial(np.add.reduce, products, 0, None, out)]
        product = view(self._spare[0], out.shape)
        program: Program = [partial(np.multiply, left[0], right[0], out)]
        for i in range(1, terms):
            program.append(partial(np.multiply, left[i], right[i], product))
            program.append(partial(np.add, out, product, out))
        return program


def view(memory: Array, shape: Sequence[int]) -> Array:
    """The beginning of a flat buffer as an array of this shape."""
    return memory[: math.prod(shape)].reshape(shape)


def matmul(left: Array, right: Array, out: Array) -> partial[Any]:
    """Out (a, b, r) = left (a, s) times right (s, b, r), by BLAS."""
    return partial(np.matmul, left, right.reshape(len(right), -1), out.reshape(len(out), -1))


def step(weights: Array, gradient: Array, rates: Array) -> Program:
    """Weights -= rates * gradient; the gradient is overwritten."""
    return [partial(np.multiply, gradient, rates, gradient), partial(np.subtract, weights, gradient, weights)]


def predict(X: Array, matrices: Sequence[Array], biases: Sequence[Array] = (), numerics: str = "portable") -> Array:
    """Outputs (n, k) of one network, matrices[l] (in, out) and biases[l] (out,), for rows X (n, d)."""
    weights = Weights(tuple(matrix[..., None] for matrix in matrices), tuple(bias[..., None] for bias in biases))
    nothing = np.zeros((len(X), matrices[-1].shape[1]))
    stack = Stack(X, nothing, weights, np.zeros(1), Rule(0.0, numerics=numerics))
    with numeric_state():
        stack.forward()
    return stack.activations[-1][..., 0].copy()
