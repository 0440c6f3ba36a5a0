"""A stack on its course: epochs of updates over all rows or over mini-batches, and the parts measured beside them.

An epoch uses every training row once. In mini-batches a run's rows come in an order of its own, drawn from its seed
anew for each epoch, so that a run sees the same rows alone and in a stack.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from pipeline.numerics.layout import RunsFirst
from pipeline.numerics.network import Passes, Rule, Stack, Weights
from pipeline.numerics.program import Array, buffer

Lanes = NDArray[np.intp]
SHUFFLE = 1  # the stream of a seed that orders rows; the weights have the seed's own


@dataclass(frozen=True)
class Rows:
    """Rows X (n, d), y (n, k) that all networks share, or (n, d, r), (n, k, r) with each network's own."""

    X: Array
    y: Array

    def take(self, lanes: Lanes | slice) -> "Rows":
        """Those of some networks."""
        return self if self.X.ndim == 2 else Rows(self.X[..., lanes], self.y[..., lanes])


@dataclass(frozen=True)
class Problem:
    """What the networks of a stack train on: rows X, y (see Rows), the rule, the raw sums to record.

    held: further parts that are measured after every epoch, by name; batch_size: rows an update, or None for all;
    patience: that many epochs without a lower raw sum `watched` end a training, None for none. `kernel`, numpy or
    numba, is what computes; it never changes a bit.
    """

    X: Array
    y: Array
    rule: Rule
    raw_sums: tuple[str, ...] = ("squares",)
    kernel: str = "numpy"
    held: Mapping[str, Rows] = field(default_factory=dict)
    batch_size: int | None = None
    patience: int | None = None
    watched: str = "squares"

    @property
    def updates_an_epoch(self) -> int:
        """How many updates use every row once."""
        return 1 if self.batch_size is None else -(-len(self.X) // self.batch_size)

    @property
    def curves(self) -> tuple[str, ...]:
        """The keys of all raw sums: `squares` of the rows, `val/squares` of a part, ..."""
        held = [f"{part}/{raw}" for part in self.held for raw in self.raw_sums]
        return (*self.raw_sums, *held)

    def take(self, lanes: Lanes | slice) -> "Problem":
        """The problem of some of the networks."""
        rows = Rows(self.X, self.y).take(lanes)
        held = {name: part.take(lanes) for name, part in self.held.items()}
        return replace(self, X=rows.X, y=rows.y, held=held)


class Batches:
    """Mini-batches of a stack: passes of the sizes there are, filled with each network's next rows."""

    def __init__(self, stack: Stack, rows: Rows, size: int, orders: Sequence[Generator]) -> None:
        """orders: a generator a network."""
        self._stack, self._n, self._size, self.orders = stack, len(rows.X), min(size, len(rows.X)), orders
        self._sources = [by_row(rows.X), by_row(rows.y)]
        self._own = rows.X.ndim == 3
        sizes = {min(self._size, self._n - start) for start in range(0, self._n, self._size)}
        self._passes = {size: self._pass(size) for size in sizes}

    def _pass(self, size: int) -> Passes:
        """A pass over `size` rows, to be filled."""
        stack = self._stack
        inputs, target = (buffer(*stack.layout.rows(size, source.shape[1], stack.lanes)) for source in self._sources)
        return stack.rows(inputs, target)

    def __iter__(self) -> Iterator[Passes]:
        """The passes of an epoch, each filled when it comes."""
        places = np.zeros((self._stack.lanes, self._n), dtype=np.intp)
        for lane, order in enumerate(self.orders):
            places[lane] = shuffled(order, self._n)
            if self._own:
                places[lane] += lane * self._n
        for start in range(0, self._n, self._size):
            batch = places[:, start : start + self._size]
            rows = self._passes[batch.shape[1]]
            self._fill(batch, rows)
            yield rows

    def _fill(self, batch: Lanes, rows: Passes) -> None:
        for source, out in zip(self._sources, (rows.inputs, rows.target), strict=True):
            if isinstance(self._stack.layout, RunsFirst):
                np.take(source, batch, axis=0, out=out, mode="clip")
            else:
                out[...] = source[batch.T].swapaxes(1, 2)


def shuffled(order: Generator, n: int) -> NDArray[np.int64]:
    """The numbers from 0 to n - 1, (n,), in the order of as many random numbers; of equal ones the lower is first.

    Sorts whole numbers, 53 random bits above the place (fewer for more than 2,048 places, to have room): NumPy does
    that several times faster than it finds the order of floats, and a sorted set of numbers is the same everywhere.
    """
    bits = max(n - 1, 1).bit_length()
    random = (order.random(n) * 2.0**53).astype(np.uint64)
    keys = ((random >> np.uint64(max(bits - 11, 0))) << np.uint64(bits)) | np.arange(n, dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64((1 << bits) - 1)).astype(np.int64)


def by_row(rows: Array) -> Array:
    """Rows (n, units) or, a network's behind another's, (n, units, r) as (rows, units)."""
    return rows if rows.ndim == 2 else np.ascontiguousarray(np.moveaxis(rows, -1, 0)).reshape(-1, rows.shape[1])


def shuffles(seeds: Sequence[int]) -> list[Generator]:
    """What draws the order of rows, a network."""
    return [Generator(PCG64(SeedSequence([seed, SHUFFLE]))) for seed in seeds]


class Course:
    """A stack that trains on a problem. `places` says which networks its lanes are; those that are done have left."""

    def __init__(
        self,
        problem: Problem,
        weights: Weights,
        rates: Array,
        orders: Sequence[Generator] = (),
        places: Lanes | slice | None = None,
    ) -> None:
        """Rates (r,); orders: a generator a network, needed for mini-batches only."""
        self.problem, self.rates, self.orders = problem, rates, orders
        self.places: Lanes | slice = slice(len(rates)) if places is None else places
        full = problem.batch_size is None
        self.stack = Stack(problem.X, problem.y, weights, rates, problem.rule, updates_all=full)
        self.held = {name: self.stack.over(part.X, part.y, learns=False) for name, part in problem.held.items()}
        self._batches = None
        if problem.batch_size is not None:
            self._batches = Batches(self.stack, Rows(problem.X, problem.y), problem.batch_size, orders)

    @property
    def networks(self) -> Lanes:
        """Which network is in each lane, (runs,)."""
        return np.arange(self.places.stop) if isinstance(self.places, slice) else self.places

    def look(self) -> None:
        """Computes the predictions of all rows, and of the parts that are held out."""
        self.stack.forward()
        for rows in self.held.values():
            rows.forward()

    def epoch(self, number: int) -> None:
        """The updates of an epoch, counted from 0, and a look at what came of them."""
        self.stack.optimizer.start_epoch(number)
        if self._batches is None:
            self.stack.update()
        else:
            for rows in self._batches:
                rows.forward()
                rows.update()
        self.look()

    def measure(self, curves: Mapping[str, Array], point: int) -> None:
        """Records the raw sums of the current networks: `squares` of all rows, `val/squares` of a part, ..."""
        for key, curve in curves.items():
            part, _, raw = key.rpartition("/")
            self.stack.measure(raw, curve[point], self.places, self.held[part] if part else None)

    def keeping(self, lanes: Lanes) -> "Course":
        """The same course with some of its lanes only, in rising order; the networks go on as they would have."""
        old = self.stack
        first = isinstance(self.places, slice) and lanes[-1] < len(lanes)
        places = slice(len(lanes)) if first else self.networks[lanes]
        orders = [self.orders[lane] for lane in lanes] if self.orders else ()
        weights = old.weights.take(lanes)
        course = Course(self.problem.take(lanes), weights, self.rates[lanes], orders, places)
        new = course.stack
        for memory, kept in zip(new.optimizer.memory, old.optimizer.memory, strict=True):
            new.layout.to_last(memory)[..., : new.runs] = old.layout.to_last(kept)[..., lanes]
        new.optimizer.progress = old.optimizer.progress
        course.look()
        return course
