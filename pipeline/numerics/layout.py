"""Where a stack keeps its axis of runs, and the sums that depend on that. Everything else is elementwise.

                  runs last, for small networks          runs first, for large ones
    rows          (n, units, lanes)                      (lanes, n, units)
    matrices      (in, out, lanes)                       (lanes, in, out)
    biases        (1, out, lanes)                        (lanes, 1, out)
    all weights   (count, lanes)                         (lanes, count)
    shared rows   (n, units, 1)                          (1, n, units)

Runs last, a NumPy call is one loop over all runs, and contractions over a small axis are products that are added up in
index order, which has the same bits on every machine. Runs first, a contraction is one call of BLAS a run. In both a
run's bits do not depend on its neighbours or its place: nothing sums over runs.
"""

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from pipeline.numerics.program import Array, Program, buffer

BLOCK_ROWS = 128  # rows that go through a network together: few enough for the cache, enough for BLAS
LANES = 8  # float64s in a cache line, and in the widest vector registers
MOST_BLAS_TERMS = 64  # up to here BLAS adds up in an order that does not depend on the number of runs (tested)
SMALL = 2**15  # products of a contraction, 256 KiB: up to here fewer calls count for more than the cache


WIDE = 2**13  # multiplications a run in a forward pass, from which runs first are faster (docs/DECISIONS.md)
UFUNC_BUFFERS = {"runs_last": 16, "runs_first": 8192}  # elements: small ones make rows of few numbers slow


def layout_of(sizes: Sequence[int], n: int) -> str:
    """The layout for networks of layers `sizes` (d, h1, ..., k) and n rows an update."""
    work = n * sum(inputs * outputs for inputs, outputs in itertools.pairwise(sizes))
    return "runs_first" if work > WIDE else "runs_last"


class RunsLast:
    """Lanes are the last axis. `with_blas`: for the inputs, if all runs share them, which has no portable bits."""

    rows_axis, units_axis = 0, 1
    has_blocks = False  # whether sums over rows may be made block by block
    step = LANES  # the number of lanes is a multiple of this

    def __init__(self, with_blas: bool) -> None:
        self._with_blas = with_blas

    def rows(self, n: int, units: int, lanes: int) -> tuple[int, int, int]:
        """The shape of n rows of `units` numbers."""
        return n, units, lanes

    def from_last(self, array: Array) -> Array:
        """An array of runs in the last axis, as this layout has it."""
        return array

    def to_last(self, array: Array) -> Array:
        """An array of this layout, with its runs in the last axis."""
        return array

    def flat(self, count: int, lanes: int) -> tuple[int, int]:
        """The shape of `count` weights of each run."""
        return count, lanes

    def part(self, flat: Array, places: slice, shape: tuple[int, int]) -> Array:
        """Some of the flat weights as matrices (in, out) of all runs: a view."""
        return flat[places].reshape(*shape, flat.shape[1])

    def some_rows(self, array: Array, places: slice) -> Array:
        """Some of the rows: a view."""
        return array[places]

    def by_unit(self, rows: Array) -> Array:
        """Rows as (units, n, lanes): a view."""
        return rows.swapaxes(0, 1)

    def per_run(self, values: Array) -> Array:
        """Numbers of runs, (lanes,), in a shape that broadcasts to flat weights."""
        return values

    def product(self, inputs: Array, matrix: Array, out: Array, spare: Array) -> Program:
        """Out = inputs times the matrix, for every run; spare: flat, as large as out."""
        if self._takes_blas(inputs):
            return [matmul(inputs[:, :, 0], matrix, out)]
        return summed(np.moveaxis(inputs, 1, 0)[:, :, None], matrix[:, None], out, spare)

    def product_back(self, delta: Array, matrix: Array, out: Array, spare: Array) -> Program:
        """Out = delta times the matrix transposed."""
        return summed(np.moveaxis(delta, 1, 0)[:, :, None], np.moveaxis(matrix, 1, 0)[:, None], out, spare)

    def gradient(self, inputs: Array, delta: Array, out: Array, spare: Array) -> Program:
        """Out = inputs transposed times delta: the gradient of a matrix."""
        if self._takes_blas(inputs):
            return [matmul(inputs[:, :, 0].T.copy(), delta, out)]
        return summed(inputs[:, :, None], delta[:, None], out, spare)

    def row_sums(self, delta: Array, out: Array) -> Program:
        """Out = the sum of delta over rows: the gradient of biases."""
        return [partial(np.add.reduce, delta, 0, None, out, True)]

    def totals(self, terms: Array, out: Array) -> None:
        """Out, (lanes,) = the sum of terms over rows and units."""
        np.add.reduce(terms.reshape(-1, terms.shape[-1]), axis=0, out=out)

    def _takes_blas(self, inputs: Array) -> bool:
        return self._with_blas and inputs.shape[-1] == 1 and max(inputs.shape) <= MOST_BLAS_TERMS


class RunsFirst:
    """Lanes are the first axis: every contraction is a product of matrices a run, by BLAS."""

    rows_axis, units_axis = 1, 2
    has_blocks = True
    step = 1

    def rows(self, n: int, units: int, lanes: int) -> tuple[int, int, int]:
        """The shape of n rows of `units` numbers."""
        return lanes, n, units

    def from_last(self, array: Array) -> Array:
        """An array of runs in the last axis, as this layout has it."""
        return np.ascontiguousarray(np.moveaxis(array, -1, 0))

    def to_last(self, array: Array) -> Array:
        """An array of this layout, with its runs in the last axis."""
        return np.moveaxis(array, 0, -1)

    def flat(self, count: int, lanes: int) -> tuple[int, int]:
        """The shape of `count` weights of each run."""
        return lanes, count

    def part(self, flat: Array, places: slice, shape: tuple[int, int]) -> Array:
        """Some of the flat weights as matrices (in, out) of all runs: a view."""
        return flat[:, places].reshape(len(flat), *shape)

    def some_rows(self, array: Array, places: slice) -> Array:
        """Some of the rows: a view."""
        return array[:, places]

    def by_unit(self, rows: Array) -> Array:
        """Contiguous rows as (units, lanes * n): a view. NumPy is fast where a unit's numbers have a single axis."""
        return rows.reshape(-1, rows.shape[-1]).T

    def per_run(self, values: Array) -> Array:
        """Numbers of runs, (lanes,), in a shape that broadcasts to flat weights."""
        return values.reshape(-1, 1)

    def product(self, inputs: Array, matrix: Array, out: Array, _spare: Array) -> Program:
        """Out = inputs times the matrix, for every run."""
        return [partial(np.matmul, inputs, matrix, out)]

    def product_back(self, delta: Array, matrix: Array, out: Array, _spare: Array) -> Program:
        """Out = delta times the matrix transposed."""
        return [partial(np.matmul, delta, matrix.swapaxes(1, 2), out)]

    def gradient(self, inputs: Array, delta: Array, out: Array, _spare: Array) -> Program:
        """Out = inputs transposed times delta: the gradient of a matrix."""
        return [partial(np.matmul, inputs.swapaxes(1, 2), delta, out)]

    def row_sums(self, delta: Array, out: Array) -> Program:
        """Out = the sum of delta over rows: the gradient of biases."""
        return [partial(np.matmul, np.ones((1, delta.shape[1])), delta, out)]

    def totals(self, terms: Array, out: Array) -> None:
        """Out, (lanes,) = the sum of terms over rows and units."""
        np.add.reduce(terms.reshape(len(terms), -1), axis=1, out=out)


Layout = RunsLast | RunsFirst


class Parameters:
    """Numbers of layers `sizes` (d, h1, ..., k) in one memory, `flat`, so that one call changes those of all layers.

    matrices[l] and biases[l] are views of it in a layout; `decaying`, the matrices' part of flat, comes first.
    """

    def __init__(self, layout: Layout, sizes: Sequence[int], bias: bool, lanes: int) -> None:
        """All zeros. Without `bias` there are no biases."""
        matrices = list(itertools.pairwise(sizes))
        shapes = [*matrices, *((1, outputs) for outputs in sizes[1:] if bias)]
        ends = list(itertools.accumulate(map(math.prod, shapes)))
        self.flat = zeros(*layout.flat(ends[-1], lanes))
        places = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        parts = [layout.part(self.flat, place, shape) for place, shape in zip(places, shapes, strict=True)]
        self.matrices, self.biases = parts[: len(matrices)], parts[len(matrices) :]
        count = ends[len(matrices) - 1]
        self.decaying = self.flat[:, :count] if layout.units_axis == 2 else self.flat[:count]


def zeros(*shape: int) -> Array:
    """An array of zeros that starts on a cache line."""
    array = buffer(*shape)
    array[...] = 0.0
    return array


def blocks(n: int) -> list[slice]:
    """N rows in blocks of BLOCK_ROWS; a rest of up to half a block goes with the last one.

    So no block of many rows is small enough for BLAS runs last, which the many together are not.
    """
    starts = range(0, max(n - BLOCK_ROWS // 2, 1), BLOCK_ROWS)
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], n], strict=True)]


def view(memory: Array, shape: Sequence[int]) -> Array:
    """The beginning of a flat buffer as an array of this shape."""
    return memory[: math.prod(shape)].reshape(shape)


def matmul(left: Array, right: Array, out: Array) -> partial[Any]:
    """Out (a, b, r) = left (a, s) times right (s, b, r), by BLAS."""
    return partial(np.matmul, left, right.reshape(len(right), -1), out.reshape(len(out), -1))


def summed(left: Array, right: Array, out: Array, spare: Array) -> Program:
    """Out, (a, b, r) = the sum over s of left * right, which broadcast to (s, a, b, r): added up in the order of s.

    Small sums are one product and one reduction, large ones are added up product by product, which stays in the
    cache. Both give the same bits.
    """
    terms, *shape = np.broadcast_shapes(left.shape, right.shape)
    if terms * out.size <= SMALL:
        products = buffer(terms, *shape)
        return [partial(np.multiply, left, right, products), partial(np.add.reduce, products, 0, None, out)]
    product = view(spare, out.shape)
    program: Program = [partial(np.multiply, left[0], right[0], out)]
    for i in range(1, terms):
        program.append(partial(np.multiply, left[i], right[i], product))
        program.append(partial(np.add, out, product, out))
    return program
