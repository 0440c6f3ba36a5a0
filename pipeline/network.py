"""A stack of networks that train together: its buffers, the forward pass, and one update of gradient descent.

    X (n, d)    inputs                                 z_l = h_{l-1} W_l + b_l,  h_0 = X
    W_l (in, out), b_l (out,) weights                  h_l = s_l(z_l), the activation
    h_l (n, units) activations                         o   = h_L, the prediction; e = o - y

of each of r runs; layout.py says where the axis of runs is.

Derivation of the update (per run, * elementwise, c from losses.slope):
    loss = sum e^2 / divisor            =>  d loss / d o = c e,   delta_L = c e * s'(z_L)
    bce behind a sigmoid, cross_entropy behind softmax            delta_L = c e: the slopes cancel
    delta_{l-1} = (delta_l W_l^T) * s'(z_{l-1})                   s' from h (activations.py)   [exact]
    d loss / d W_l = h_{l-1}^T delta_l,  d loss / d b_l = column sums of delta_l
`of_activation` is the happiness text's slip: it takes the sigmoid's derivative at the activation, s(h) (1 - s(h)).

Multiply, add, subtract, divide and square root are exact on every machine, so with `portable` functions and runs last a
run has the same bits everywhere; `fast` takes np.exp, and BLAS where the layout has it.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.activations import activate, times_slope
from pipeline.elementary import EXPS
from pipeline.layout import UFUNC_BUFFERS, Layout, RunsFirst, RunsLast, view
from pipeline.losses import NEEDS, TERMS, Outputs, slope
from pipeline.optimizer import Optimizer, OptimizerRule
from pipeline.program import Array, Program, buffer, execute, numeric_state


@dataclass(frozen=True)
class Rule:
    """How the error becomes an update.

    `loss` is a name of losses.py; derivative is exact or of_activation; activations: one a layer, none for sigmoids;
    layout is runs_last or runs_first.
    """

    loss: str
    derivative: str = "exact"
    numerics: str = "portable"
    activations: tuple[str, ...] = ()
    optimizer: OptimizerRule = field(default_factory=OptimizerRule)
    layout: str = "runs_last"


@dataclass(frozen=True)
class Mode:
    """How a network computes its outputs: numerics, activations (one a layer, none for sigmoids) and layout."""

    numerics: str = "portable"
    activations: tuple[str, ...] = ()
    layout: str = "runs_last"


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


def padded(array: Array, lanes: int) -> Array:
    """A copy of an array (..., r), with zeros behind it to make `lanes`."""
    copy = buffer(*array.shape[:-1], lanes)
    copy[..., : array.shape[-1]] = array
    copy[..., array.shape[-1] :] = 0.0
    return copy


class Pass:
    """Some rows of a stack: their activations and error, how they are computed, and how the weights follow.

    inputs, target, activations[l] and error are in the stack's layout; the last activation is the prediction.
    """

    def __init__(self, stack: "Stack", inputs: Array, target: Array, n: int) -> None:
        """Inputs and target of n rows; a lane's own, or shared by all."""
        self.stack, self.inputs, self.target, self.n = stack, inputs, target, n
        rows = [stack.layout.rows(n, matrix.shape[stack.layout.units_axis], stack.lanes) for matrix in stack.matrices]
        self.activations = [buffer(*shape) for shape in rows]
        self.error = buffer(*rows[-1])
        stack.make_room(max(map(math.prod, rows)))
        self._forward: Program | None = None
        self._update: Program | None = None

    def forward(self) -> None:
        """Computes all activations and the error from the current weights."""
        self._forward = self._forward or self._forward_program()
        execute(self._forward)

    def update(self) -> None:
        """One step of gradient descent from the state that `forward` left."""
        self._update = self._update or self._update_program()
        self.stack.optimizer.tick()
        execute(self._update)

    def _forward_program(self) -> Program:
        stack, program, inputs = self.stack, Program(), self.inputs
        for layer, (matrix, h) in enumerate(zip(stack.matrices, self.activations, strict=True)):
            program += stack.layout.product(inputs, matrix, h, stack.spare[0])
            if stack.biases:
                program.append(partial(np.add, h, stack.biases[layer], h))
            program += self._activate(stack.activation(layer), h)
            inputs = h
        return [*program, partial(np.subtract, inputs, self.target, self.error)]

    def _activate(self, name: str, z: Array) -> Program:
        """Z becomes its activation."""
        stack, flat = self.stack, z.reshape(-1)
        scratch = [view(memory, flat.shape) for memory in stack.spare]
        if name != "softmax":
            return activate(name, stack.rule.numerics, flat, scratch)
        axis = stack.layout.units_axis
        row = np.empty(tuple(1 if place == axis else length for place, length in enumerate(z.shape)))
        return [
            partial(np.maximum.reduce, z, axis, None, row, True),
            partial(np.subtract, z, row, z),
            *EXPS[stack.rule.numerics](flat, scratch),
            partial(np.add.reduce, z, axis, None, row, True),
            partial(np.divide, z, row, z),
        ]

    def _update_program(self) -> Program:
        """From the last layer to the first: the deltas below it, then its own step. Two spares hold the deltas."""
        stack, here, below = self.stack, self.stack.spare[2], self.stack.spare[3]
        layout, last = stack.layout, len(stack.matrices) - 1
        delta = view(here, self.error.shape)
        c = np.array(slope(stack.rule.loss, self.n, self.error.shape[layout.units_axis]))
        program: Program = [partial(np.multiply, self.error, c, delta)]
        if stack.rule.loss not in NEEDS:
            program += self._times_slope(last, delta)
        for layer in range(last, 0, -1):
            h = self.activations[layer - 1]
            passed = view(below, h.shape)
            program += layout.product_back(delta, stack.matrices[layer], passed, stack.spare[0])
            program += self._times_slope(layer - 1, passed)
            program += stack.descend(layer, h, delta)
            delta, here, below = passed, below, here
        return program + stack.descend(0, self.inputs, delta)

    def _times_slope(self, layer: int, delta: Array) -> Program:
        """Delta *= s'(z), from the activation h, or from its sigmoid under the slip."""
        stack, h = self.stack, self.activations[layer]
        program: Program = []
        if stack.rule.derivative == "of_activation":
            a = view(stack.spare[1], h.shape)
            flat, scratch = a.reshape(-1), [np.empty(h.size) for _ in range(4)]
            program = [partial(np.copyto, a, h), *activate("sigmoid", stack.rule.numerics, flat, scratch)]
            h = a
        return program + times_slope(stack.activation(layer), delta, h, view(stack.spare[0], h.shape))


class Stack:
    """Weights of r networks, and passes over their rows. The first `runs` lanes are networks, the rest is padding.

    matrices[l] and biases[l] are in the layout of the rule. After `forward()`, which is over all rows, `error` is
    prediction minus target and `activations[-1]` the prediction.
    """

    def __init__(self, X: Array, y: Array, weights: Weights, learning_rates: Array, rule: Rule) -> None:
        """X (n, d), y (n, k), or each run's own, (n, d, r) and (n, k, r); weights of r runs, learning_rates (r,)."""
        self.rule, self.runs = rule, len(learning_rates)
        self.layout: Layout = RunsFirst() if rule.layout == "runs_first" else RunsLast(rule.numerics == "fast")
        self.lanes = self.runs + -self.runs % self.layout.step
        self.matrices = [self._placed(matrix) for matrix in weights.matrices]
        self.biases = [self._placed(bias[None]) for bias in weights.biases]
        self.rates = buffer(self.lanes)
        self.rates[: self.runs], self.rates[self.runs :] = learning_rates, 0.0
        arrays = [*self.matrices, *self.biases]
        self.optimizer = Optimizer(rule.optimizer, self.layout.per_run(self.rates), arrays)
        self.spare: list[Array] = []
        self._sums = buffer(self.lanes)
        self.full = self.over(X, y)
        self.make_room(max(matrix.size for matrix in self.matrices))

    def _placed(self, array: Array) -> Array:
        """An array (..., r) in the stack's layout, padded."""
        return self.layout.from_last(padded(array, self.lanes))

    def over(self, X: Array, y: Array) -> Pass:
        """A pass over other rows, (n, d) and (n, k), or (n, d, r) and (n, k, r) for rows of each run."""
        return Pass(self, self._rows(X), self._rows(y), len(X))

    def _rows(self, rows: Array) -> Array:
        """Rows (n, units), which all runs share, or (n, units, r) in the stack's layout."""
        if rows.ndim == 2:
            return self.layout.from_last(np.ascontiguousarray(rows)[:, :, None])
        return self._placed(rows)

    def make_room(self, numbers: int) -> None:
        """Makes the four spare memories, which all passes share, as large as this at least. Before any program."""
        if not self.spare or self.spare[0].size < numbers:
            self.spare = [buffer(numbers) for _ in range(4)]

    def activation(self, layer: int) -> str:
        """The name of a layer's activation."""
        return self.rule.activations[layer] if self.rule.activations else "sigmoid"

    @property
    def weights(self) -> Weights:
        """The weights with runs last, padding included; views where the layout has them so."""
        matrices, biases = (tuple(map(self.layout.to_last, arrays)) for arrays in (self.matrices, self.biases))
        return Weights(matrices, tuple(bias[0] for bias in biases))

    @property
    def inputs(self) -> Array:
        """All rows, in the stack's layout."""
        return self.full.inputs

    @property
    def target(self) -> Array:
        """The targets of all rows."""
        return self.full.target

    @property
    def activations(self) -> list[Array]:
        """Of all rows, a layer."""
        return self.full.activations

    @property
    def error(self) -> Array:
        """Of all rows."""
        return self.full.error

    def layers(self) -> list[Array]:
        """All weights, runs last: each layer's matrix (in, out, r), and behind it its biases (out, r), if any."""
        weights = self.weights
        pairs = itertools.zip_longest(weights.matrices, weights.biases)
        return [array for pair in pairs for array in pair if array is not None]

    def forward(self) -> None:
        """Computes all activations and the error from the current weights."""
        self.full.forward()

    def update(self) -> None:
        """One step of gradient descent over all rows from the state that `forward` left."""
        self.full.update()

    def descend(self, layer: int, inputs: Array, delta: Array) -> Program:
        """One layer's step, from the activations below it and its deltas."""
        matrix = self.matrices[layer]
        gradient = view(self.spare[1], matrix.shape)
        program = self.layout.gradient(inputs, delta, gradient, self.spare[0])
        program += self.optimizer.step(matrix, gradient, self.spare[0], decays=True)
        if self.biases:
            bias = self.biases[layer]
            gradient = view(self.spare[1], bias.shape)
            program += self.layout.row_sums(delta, gradient)
            program += self.optimizer.step(bias, gradient, self.spare[0], decays=False)
        return program

    def measure(
        self, raw: str, out: Array, places: slice | NDArray[np.intp] = slice(None), over: Pass | None = None
    ) -> None:
        """Writes a raw sum (losses.TERMS) of every network, over the rows of a pass or over all, to its place."""
        rows = over or self.full
        spare = view(self.spare[0], rows.error.shape)
        outputs = Outputs(
            rows.activations[-1], rows.target, rows.error, spare, self.layout.units_axis, self.rule.numerics
        )
        # Of all lanes, also of those that pad: NumPy adds up a single column in another order.
        self.layout.totals(TERMS[raw](outputs), self._sums)
        out[places] = self._sums[: self.runs]


def predict(X: Array, matrices: Sequence[Array], biases: Sequence[Array] = (), mode: Mode | None = None) -> Array:
    """Outputs (n, k) of one network, matrices[l] (in, out) and biases[l] (out,), for rows X (n, d)."""
    weights = Weights(tuple(matrix[..., None] for matrix in matrices), tuple(bias[..., None] for bias in biases))
    nothing = np.zeros((len(X), matrices[-1].shape[1]))
    mode = mode or Mode()
    rule = Rule("half_sse", numerics=mode.numerics, activations=mode.activations, layout=mode.layout)
    stack = Stack(X, nothing, weights, np.zeros(1), rule)
    with numeric_state(UFUNC_BUFFERS[mode.layout]):
        stack.forward()
    return stack.layout.to_last(stack.activations[-1])[..., 0].copy()
