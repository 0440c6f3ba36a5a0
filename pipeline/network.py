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

Two numerics do the same algebra. `portable` unrolls each contraction over its small axis into multiply and add, in
index order, so that a run has the same bits on every machine. `fast` uses einsum and np.exp. In both, a run's bits do
not depend on its neighbours or its place: lanes are filled up to a multiple of LANES, and nothing sums over runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.sigmoid import FastSigmoid, PortableSigmoid

Array = NDArray[np.float64]

LANES = 8


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
    """The same networks and enough all-zero ones behind them to make a multiple of LANES."""
    extra = -weights.runs % LANES

    def pad(array: Array) -> Array:
        return np.concatenate([array, np.zeros((*array.shape[:-1], extra))], axis=-1)

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
        self.rates = np.zeros(self.lanes)
        self.rates[: self.runs] = learning_rates
        self.inputs = np.ascontiguousarray(X)[:, :, None]
        self.target = np.ascontiguousarray(y)[:, :, None]
        self._make_buffers(len(X))
        self._choose_operations()

    def _make_buffers(self, n: int) -> None:
        units = [matrix.shape[1] for matrix in self.weights.matrices]
        ends = np.cumsum([n * count for count in units])

        def views(buffer: Array) -> list[Array]:
            parts = np.split(buffer, ends[:-1])
            return [part.reshape(n, count, self.lanes) for part, count in zip(parts, units, strict=True)]

        self._h, self._slope, self._delta, self._scratch = (np.empty((int(ends[-1]), self.lanes)) for _ in range(4))
        self.activations, self.slopes, self.deltas, self.scratch = map(
            views, (self._h, self._slope, self._delta, self._scratch)
        )
        self.error = np.empty((n, units[-1], self.lanes))
        self.gradients = [np.empty_like(matrix) for matrix in self.weights.matrices]
        self.products = [np.empty_like(matrix) for matrix in self.weights.matrices]
        self.bias_gradients = [np.empty_like(bias) for bias in self.weights.biases]

    def _choose_operations(self) -> None:
        portable = self.rule.numerics == "portable"
        squash = PortableSigmoid if portable else FastSigmoid
        self._squash = [squash(h) for h in self.activations]
        self._squash_slope = squash(self._slope) if self.rule.derivative == "of_activation" else None
        self._contract = UNROLLED if portable else EINSUM

    def forward(self) -> None:
        """Computes all activations and the error from the current weights."""
        inputs = self.inputs
        for layer, matrix in enumerate(self.weights.matrices):
            h = self.activations[layer]
            self._contract.forward(inputs, matrix, h, self.scratch[layer])
            if self.weights.biases:
                np.add(h, self.weights.biases[layer], out=h)
            self._squash[layer]()
            inputs = h
        np.subtract(inputs, self.target, out=self.error)

    def measure(self, raw: str, out: Array) -> None:
        """Writes the raw sum, `squares` or `absolutes`, of every lane's error into out, (lanes,)."""
        terms = self.scratch[-1]
        if raw == "squares":
            np.multiply(self.error, self.error, out=terms)
        else:
            np.absolute(self.error, out=terms)
        np.add.reduce(terms.reshape(-1, self.lanes), axis=0, out=out)

    def update(self) -> None:
        """One step of gradient descent from the state that `forward` left."""
        self._derive()
        deltas, slopes, matrices = self.deltas, self.slopes, self.weights.matrices
        np.multiply(self.error, self.rule.slope, out=deltas[-1])
        np.multiply(deltas[-1], slopes[-1], out=deltas[-1])
        for layer in range(len(matrices) - 1, 0, -1):
            below = deltas[layer - 1]
            self._contract.backward(deltas[layer], matrices[layer], below, self.scratch[layer - 1])
            np.multiply(below, slopes[layer - 1], out=below)
            self._descend(layer, self.activations[layer - 1])
        self._descend(0, self.inputs)

    def _derive(self) -> None:
        """Slopes = s'(z) of all layers: a (1 - a), where a is the activation, or its sigmoid under the slip."""
        a = self._h
        if self._squash_slope is not None:
            np.copyto(self._slope, self._h)
            self._squash_slope()
            a = self._slope
        np.subtract(1.0, a, out=self._scratch)
        np.multiply(a, self._scratch, out=self._slope)

    def _descend(self, layer: int, inputs: Array) -> None:
        """W -= rate * inputs^T delta and b -= rate * (sum of delta over rows), for one layer."""
        delta, matrix, gradient = self.deltas[layer], self.weights.matrices[layer], self.gradients[layer]
        self._contract.gradient(inputs, delta, gradient, self.products[layer])
        np.multiply(gradient, self.rates, out=gradient)
        np.subtract(matrix, gradient, out=matrix)
        if self.weights.biases:
            bias, gradient = self.weights.biases[layer], self.bias_gradients[layer]
            np.add.reduce(delta, axis=0, out=gradient)
            np.multiply(gradient, self.rates, out=gradient)
            np.subtract(bias, gradient, out=bias)


Contraction = Callable[[Array, Array, Array, Array], None]


@dataclass(frozen=True)
class Contractions:
    """The three products of a layer, each writing its third argument; the fourth is scratch of the same shape.

    forward   (h (n, in, r), W (in, out, r))       -> z (n, out, r), sum over in
    backward  (delta (n, out, r), W (in, out, r))  -> (n, in, r), sum over out
    gradient  (h (n, in, r), delta (n, out, r))    -> (in, out, r), sum over n
    """

    forward: Contraction
    backward: Contraction
    gradient: Contraction


def _forward_unrolled(h: Array, matrix: Array, out: Array, scratch: Array) -> None:
    np.multiply(h[:, 0, None], matrix[0], out=out)
    for i in range(1, len(matrix)):
        np.multiply(h[:, i, None], matrix[i], out=scratch)
        np.add(out, scratch, out=out)


def _backward_unrolled(delta: Array, matrix: Array, out: Array, scratch: Array) -> None:
    np.multiply(delta[:, 0, None], matrix[:, 0], out=out)
    for j in range(1, matrix.shape[1]):
        np.multiply(delta[:, j, None], matrix[:, j], out=scratch)
        np.add(out, scratch, out=out)


def _gradient_unrolled(h: Array, delta: Array, out: Array, scratch: Array) -> None:
    np.multiply(h[0, :, None], delta[0], out=out)
    for i in range(1, len(delta)):
        np.multiply(h[i, :, None], delta[i], out=scratch)
        np.add(out, scratch, out=out)


def _forward_einsum(h: Array, matrix: Array, out: Array, scratch: Array) -> None:
    np.einsum("nir,ijr->njr", h, matrix, out=out)


def _backward_einsum(delta: Array, matrix: Array, out: Array, scratch: Array) -> None:
    np.einsum("njr,ijr->nir", delta, matrix, out=out)


def _gradient_einsum(h: Array, delta: Array, out: Array, scratch: Array) -> None:
    np.einsum("nir,njr->ijr", h, delta, out=out)


UNROLLED = Contractions(_forward_unrolled, _backward_unrolled, _gradient_unrolled)
EINSUM = Contractions(_forward_einsum, _backward_einsum, _gradient_einsum)


def predict(X: Array, matrices: Sequence[Array], biases: Sequence[Array] = (), numerics: str = "portable") -> Array:
    """Outputs (n, k) of one network, matrices[l] (in, out) and biases[l] (out,), for rows X (n, d)."""
    weights = Weights(tuple(matrix[..., None] for matrix in matrices), tuple(bias[..., None] for bias in biases))
    nothing = np.zeros((len(X), matrices[-1].shape[1]))
    stack = Stack(X, nothing, weights, np.zeros(1), Rule(0.0, numerics=numerics))
    with np.errstate(all="ignore"):
        stack.forward()
    return stack.activations[-1][..., 0].copy()
