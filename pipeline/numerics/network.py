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

from pipeline.numerics.activations import activate, times_slope
from pipeline.numerics.elementary import EXPS
from pipeline.numerics.layout import BLOCK_ROWS, UFUNC_BUFFERS, Layout, Parameters, RunsFirst, RunsLast, blocks, view
from pipeline.numerics.losses import NEEDS, TERMS, Outputs, slope
from pipeline.numerics.optimizer import Optimizer, OptimizerRule
from pipeline.numerics.program import Array, Program, buffer, execute, numeric_state


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

    def __init__(self, stack: "Stack", inputs: Array, target: Array, of: int, memory: Sequence[Array] = ()) -> None:
        """Inputs and target of some of the `of` rows that the loss is of; a lane's own, or shared by all.

        Memory: flat, for the activations of layers.
        """
        self.stack, self.inputs, self.target, self.of = stack, inputs, target, of
        self.gradient = stack.gradient
        shapes = stack.shapes(target.shape[stack.layout.rows_axis])
        memory = memory or [buffer(math.prod(shape)) for shape in shapes]
        self.activations = [view(one, shape) for one, shape in zip(memory, shapes, strict=True)]
        self.error = buffer(*shapes[-1])
        stack.make_room(max(map(math.prod, shapes)))
        self.outputs: Outputs | None = None
        self._forward: Program | None = None
        self._gradient: Program | None = None

    @property
    def prediction(self) -> Array:
        """What the network says."""
        return self.activations[-1]

    def forward(self) -> None:
        """Computes all activations and the error from the current weights."""
        self._forward = self._forward or self._forward_program()
        execute(self._forward)

    def differentiate(self) -> None:
        """Computes the gradient from the state that `forward` left."""
        self._gradient = self._gradient or self._gradient_program()
        execute(self._gradient)

    def update(self) -> None:
        """One step of gradient descent from the state that `forward` left."""
        self.differentiate()
        self.stack.step()

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
        units = stack.layout.by_unit(z)
        row = np.empty(units.shape[1:])
        rows = row.reshape([1 if axis == stack.layout.units_axis else size for axis, size in enumerate(z.shape)])
        return [
            *folded(np.maximum, units, row),
            partial(np.subtract, z, rows, z),
            *EXPS[stack.rule.numerics](flat, scratch),
            *folded(np.add, units, row),
            partial(np.divide, z, rows, z),
        ]

    def _gradient_program(self) -> Program:
        """From the last layer to the first: its gradient, and the deltas below it. Two spares hold the deltas."""
        stack, here, below = self.stack, self.stack.spare[2], self.stack.spare[3]
        layout, last = stack.layout, len(stack.matrices) - 1
        delta = view(here, self.error.shape)
        c = np.array(slope(stack.rule.loss, self.of, self.error.shape[layout.units_axis]))
        program: Program = [partial(np.multiply, self.error, c, delta)]
        if stack.rule.loss not in NEEDS:
            program += self._times_slope(last, delta)
        for layer in range(last, -1, -1):
            h = self.activations[layer - 1] if layer else self.inputs
            program += layout.gradient(h, delta, self.gradient.matrices[layer], stack.spare[0])
            if stack.biases:
                program += layout.row_sums(delta, self.gradient.biases[layer])
            if layer:
                passed = view(below, h.shape)
                program += layout.product_back(delta, stack.matrices[layer], passed, stack.spare[0])
                program += self._times_slope(layer - 1, passed)
                delta, here, below = passed, below, here
        return program

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


def folded(operation: np.ufunc, units: Array, out: Array) -> Program:
    """Out, (...) = the operation between all of the units, (k, ...), in their order.

    Unit by unit, as NumPy's reduction over the few numbers of a row takes two to four times longer.
    """
    first: Program = [partial(np.copyto, out, units[0])]
    return first + [partial(operation, out, unit, out=out) for unit in units[1:]]


class Blocks:
    """Many rows of a stack as passes over blocks of them, which the cache has room for.

    inputs, target, prediction and error are in the stack's layout.
    """

    def __init__(self, stack: "Stack", inputs: Array, target: Array, *, learns: bool) -> None:
        """As of a pass. Rows that nothing is learnt from are only looked at, in the memory of one block."""
        self.stack, self.inputs, self.target, self._learns = stack, inputs, target, learns
        n, some = target.shape[stack.layout.rows_axis], stack.layout.some_rows
        self.prediction, self.error = buffer(*stack.shapes(n)[-1]), buffer(*stack.shapes(n)[-1])
        self.outputs: Outputs | None = None
        stack.make_room(self.error.size)  # for its terms
        self._places = blocks(n)
        most = max(rows.stop - rows.start for rows in self._places)
        memory = [] if learns else [buffer(math.prod(shape)) for shape in stack.shapes(most)]
        self._passes = [Pass(stack, some(inputs, rows), some(target, rows), n, memory) for rows in self._places]
        for block in self._passes[1:] if learns else ():
            block.gradient = stack.partial_gradient

    @property
    def activations(self) -> list[Array]:
        """Of all rows, layer by layer: copies."""
        layers = zip(*(block.activations for block in self._passes), strict=True)
        return [np.concatenate(layer, axis=self.stack.layout.rows_axis) for layer in layers]

    def forward(self) -> None:
        """Computes predictions and errors from the current weights."""
        for rows, block in zip(self._places, self._passes, strict=True):
            block.forward()
            self.stack.layout.some_rows(self.prediction, rows)[...] = block.prediction
        np.subtract(self.prediction, self.target, self.error)

    def differentiate(self) -> None:
        """Computes the gradient, block after block, from the state that `forward` left.

        Raises TypeError for rows that nothing is learnt from.
        """
        if not self._learns:
            raise TypeError("These rows are only looked at.")
        total = self.stack.gradient.flat
        for block in self._passes:
            block.differentiate()
            if block.gradient.flat is not total:
                np.add(total, block.gradient.flat, total)

    def update(self) -> None:
        """One step of gradient descent from the state that `forward` left."""
        self.differentiate()
        self.stack.step()


Passes = Pass | Blocks


class Stack:
    """Weights of r networks, and passes over their rows. The first `runs` lanes are networks, the rest is padding.

    matrices[l] and biases[l] are in the layout of the rule. After `forward()`, which is over all rows, `error` is
    prediction minus target.
    """

    def __init__(
        self, X: Array, y: Array, weights: Weights, learning_rates: Array, rule: Rule, *, updates_all: bool = True
    ) -> None:
        """X (n, d), y (n, k), or each run's own, (n, d, r) and (n, k, r); weights of r runs, learning_rates (r,).

        Without `updates_all` these rows are only looked at, in little memory.
        """
        self.rule, self.runs = rule, len(learning_rates)
        self.layout: Layout = RunsFirst() if rule.layout == "runs_first" else RunsLast(rule.numerics == "fast")
        self.lanes = self.runs + -self.runs % self.layout.step
        sizes = (len(weights.matrices[0]), *(matrix.shape[1] for matrix in weights.matrices))
        self.parameters, self.gradient, self.partial_gradient = (
            Parameters(self.layout, sizes, bool(weights.biases), self.lanes) for _ in range(3)
        )
        self._place(weights)
        self.rates = buffer(self.lanes)
        self.rates[: self.runs], self.rates[self.runs :] = learning_rates, 0.0
        self.optimizer = Optimizer(rule.optimizer, self.layout.per_run(self.rates), self.parameters.flat)
        self._step: Program | None = None
        self.spare: list[Array] = []
        self.make_room(self.parameters.flat.size)
        self._sums = buffer(self.lanes)
        self.full = self.over(X, y, learns=updates_all)

    def _place(self, weights: Weights) -> None:
        """Sets the weights of all runs; the padding has zeros."""
        for matrix, given in zip(self.matrices, weights.matrices, strict=True):
            self.layout.to_last(matrix)[..., : self.runs] = given
        for bias, given in zip(self.biases, weights.biases, strict=True):
            self.layout.to_last(bias)[0, :, : self.runs] = given

    @property
    def matrices(self) -> list[Array]:
        """A layer's weights, in the stack's layout."""
        return self.parameters.matrices

    @property
    def biases(self) -> list[Array]:
        """A layer's biases, in the stack's layout; none for networks without."""
        return self.parameters.biases

    def _placed(self, array: Array) -> Array:
        """An array (..., r) in the stack's layout, padded."""
        return self.layout.from_last(padded(array, self.lanes))

    def over(self, X: Array, y: Array, *, learns: bool = True) -> Passes:
        """Other rows, (n, d) and (n, k), or (n, d, r) and (n, k, r) for rows of each run, to learn from or look at."""
        return self.rows(self._rows(X), self._rows(y), learns=learns)

    def rows(self, inputs: Array, target: Array, *, learns: bool = True) -> Passes:
        """Rows in the stack's layout. Runs last, sums over rows are in one piece, for the same bits everywhere."""
        n = target.shape[self.layout.rows_axis]
        if n > BLOCK_ROWS and (self.layout.has_blocks or not learns):
            return Blocks(self, inputs, target, learns=learns)
        return Pass(self, inputs, target, n)

    def _rows(self, rows: Array) -> Array:
        """Rows (n, units), which all runs share, or (n, units, r) in the stack's layout."""
        if rows.ndim == 2:
            return self.layout.from_last(np.ascontiguousarray(rows)[:, :, None])
        return self._placed(rows)

    def shapes(self, n: int) -> list[tuple[int, ...]]:
        """Of the activations of n rows, a layer."""
        return [self.layout.rows(n, matrix.shape[self.layout.units_axis], self.lanes) for matrix in self.matrices]

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
    def prediction(self) -> Array:
        """Of all rows."""
        return self.full.prediction

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

    def step(self) -> None:
        """Changes the weights along `gradient`, which is overwritten."""
        self._step = self._step or self.optimizer.step(self.parameters, self.gradient, self.spare[0])
        self.optimizer.tick()
        execute(self._step)

    def _outputs(self, rows: Passes) -> Outputs:
        """What is measured of some rows."""
        spare = view(self.spare[0], rows.error.shape)
        return Outputs(rows.prediction, rows.target, rows.error, spare, self.layout.units_axis, self.rule.numerics)

    def measure(
        self, raw: str, out: Array, places: slice | NDArray[np.intp] = slice(None), over: Passes | None = None
    ) -> None:
        """Writes a raw sum (losses.TERMS) of every network, over the rows of a pass or over all, to its place."""
        rows = over or self.full
        rows.outputs = rows.outputs or self._outputs(rows)
        # Of all lanes, also of those that pad: NumPy adds up a single column in another order.
        self.layout.totals(TERMS[raw](rows.outputs), self._sums)
        out[places] = self._sums[: self.runs]


def predict(X: Array, matrices: Sequence[Array], biases: Sequence[Array] = (), mode: Mode | None = None) -> Array:
    """Outputs (n, k) of one network, matrices[l] (in, out) and biases[l] (out,), for rows X (n, d)."""
    weights = Weights(tuple(matrix[..., None] for matrix in matrices), tuple(bias[..., None] for bias in biases))
    nothing = np.zeros((len(X), matrices[-1].shape[1]))
    mode = mode or Mode()
    rule = Rule("half_sse", numerics=mode.numerics, activations=mode.activations, layout=mode.layout)
    stack = Stack(X, nothing, weights, np.zeros(1), rule, updates_all=False)
    with numeric_state(UFUNC_BUFFERS[mode.layout]):
        stack.forward()
    return stack.layout.to_last(stack.prediction)[..., 0].copy()
