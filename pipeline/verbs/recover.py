"""Finds the initial weights of a network from what was printed of its training: least squares, from random starts.

Every printed figure is an equation for the w initial weights, as training is a smooth function of them, and a text that
prints more figures than there are weights has all but printed these. With the figures F(x) (m,) of a training from
weights x (w,), the printed ones p (m,), and e (m,), by how much rounding may have moved each:

    search    min |F(x) - p|^2 over the first printed iterations, from many starts: early figures are smoother in x
    refine    min |f|^2 with f = (F(x) - p) / e, over all of them, from the best end of the search
    what rounding leaves open    all x + dx with |f + J dx| <= 1 in every figure, J = df / dx: of each weight the lowest
              and the highest such value, by linear programming

Derivatives are central differences, and all networks that are shifted for them train in one stack; so do the random
networks among which the starts are chosen. Hidden units have no order: a network with two of them swapped gives the
same figures. There is no other symmetry without biases: sigmoid(-z) = 1 - sigmoid(z) would need one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray
from scipy.optimize import least_squares, linear_sum_assignment, linprog

from pipeline.errors import UserError
from pipeline.numerics.network import Stack, Weights
from pipeline.numerics.program import numeric_state
from pipeline.numerics.train import Problem

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Matrices = tuple[Array, Array]

FIRST = 10  # updates up to which the search looks at figures
DRAWN = 100  # random networks a start, which is the best of so many
STEP = 1e-5  # of the differences: rounding and curvature spoil as much, 1e-10, here
MOST_STEPS = 300  # of a search; those of exam that get there need 12 to 260


@dataclass(frozen=True)
class Printed:
    """m printed figures of one training. Figure i is from after updates[i] updates.

    It is the prediction of row places[i], or if that is n, the number of rows, the mean of squared errors: values (m,);
    errors (m,) are by how much rounding may have moved them at most.
    """

    updates: Indices
    places: Indices
    values: Array
    errors: Array

    def first(self) -> "Printed":
        """The figures of the first iterations."""
        among = self.updates <= FIRST
        return Printed(self.updates[among], self.places[among], self.values[among], self.errors[among])


@dataclass(frozen=True)
class Lost:
    """A training whose initial weights are lost, of a network without biases: d inputs, h hidden units, 1 output."""

    problem: Problem
    rate: float
    hidden: int
    printed: Printed

    def matrices(self, flat: Array) -> Matrices:
        """W0 (d, h, ...) and W1 (h, 1, ...) of flat weights (w, ...)."""
        inputs = self.problem.X.shape[1]
        cut = inputs * self.hidden
        return flat[:cut].reshape(inputs, self.hidden, *flat.shape[1:]), flat[cut:].reshape(-1, 1, *flat.shape[1:])

    @property
    def size(self) -> int:
        """w, how many weights the network has."""
        return int((self.problem.X.shape[1] + 1) * self.hidden)


@dataclass(frozen=True)
class Recovery:
    """Weights found, W0 (d, h) and W1 (h, 1), and how many of the searches ended at the figures.

    margins: by how much rounding lets each weight be lower or higher, the larger of the two; nan if no weights
    near these give all figures to the last digit. apart: the largest difference between a weight at the best end of
    these searches and at another.
    """

    weights: Matrices
    margins: Matrices
    starts: int
    converged: int
    apart: float


def recover(lost: Lost, seed: int, starts: int, progress: Callable[[int], None]) -> Recovery:
    """Searches from `starts` random networks and refines the best end; `progress` is told of starts done.

    Raises UserError if none ends at weights that give the figures of the first printed iterations.
    """
    first = lost.printed.first()
    ends: list[tuple[float, Array]] = []
    for start in nearest(lost, first, seed, starts):
        end = fit(lost, first, start, np.ones(len(first.values)))
        ends.append((rms(end.fun), end.x))
        progress(len(ends))
    good = [
        flat for miss, flat in ends if miss <= rms(first.errors)
    ]  # the lost weights miss by less, the best by least
    miss, best = min(ends, key=lambda end: end[0])
    if not good:
        raise UserError(
            f"None of {starts} searches found weights that give the printed figures: the best misses them by "
            f"{miss:.2g} (root mean square). Give more starts=, or another seed=."
        )
    refined = fit(lost, lost.printed, best, lost.printed.errors)
    return Recovery(
        weights=lost.matrices(refined.x),
        margins=lost.matrices(open_to_rounding(refined.jac, refined.fun)),
        starts=starts,
        converged=len(good),
        apart=max(largest_difference(lost.matrices(best), lost.matrices(flat)) for flat in good),
    )


def rms(values: Array) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(values**2)))


def nearest(lost: Lost, printed: Printed, seed: int, starts: int) -> Iterator[Array]:
    """Of DRAWN random networks a start the nearest to the figures, each (w,), best first: standard normals."""
    drawn = Generator(PCG64(seed)).standard_normal((lost.size, DRAWN * starts))
    misses = figures(lost, printed, drawn) - printed.values[:, None]
    yield from drawn[:, np.argsort((misses**2).sum(axis=0), kind="stable")[:starts]].T


def fit(lost: Lost, printed: Printed, start: Array, unit: Array) -> Any:
    """Least squares on the figures in units (m,), from weights (w,), by Levenberg and Marquardt: scipy's result."""

    def miss(flat: Array) -> Array:
        return (figures(lost, printed, flat[:, None])[:, 0] - printed.values) / unit

    def slope(flat: Array) -> Array:
        return jacobian(lost, printed, flat) / unit[:, None]

    tolerance = 1e-13
    return least_squares(
        miss, start, slope, method="lm", ftol=tolerance, xtol=tolerance, gtol=tolerance, max_nfev=MOST_STEPS
    )


def jacobian(lost: Lost, printed: Printed, flat: Array) -> Array:
    """How the figures change with each of the initial weights (w,), (m, w)."""
    shifts = STEP * np.eye(len(flat))
    shifted = flat[:, None] + np.hstack([shifts, -shifts])
    up, down = np.hsplit(figures(lost, printed, shifted), 2)
    return np.asarray((up - down) / (2 * STEP))


def figures(lost: Lost, printed: Printed, flat: Array) -> Array:
    """What the trainings of r networks with initial weights (w, r) give for the printed figures, (m, r)."""
    runs = flat.shape[1]
    problem = lost.problem
    stack = Stack(problem.X, problem.y, Weights(lost.matrices(flat)), np.full(runs, lost.rate), problem.rule)
    found = np.empty((len(printed.values), runs))
    with numeric_state():
        for update in range(int(printed.updates.max()) + 1):
            if update:
                stack.update()
            stack.forward()
            here = printed.updates == update
            if here.any():
                found[here] = outputs(stack)[printed.places[here]]
    return found


def outputs(stack: Stack) -> Array:
    """Predictions of the n rows and, last, the mean of their squared errors, (n + 1, r), after `forward`."""
    squares = np.empty(stack.runs)
    stack.measure("squares", squares)
    return np.vstack([stack.prediction[:, 0, : stack.runs], squares / len(stack.full.target)])


def open_to_rounding(J: Array, f: Array) -> Array:
    """By how much each weight can change (w,) with |f + J dx| <= 1 in all figures; nan if no dx will do.

    J is (m, w), f is (m,), both in units of the figures' errors. With J = Q R the unknowns are R dx, of one size.
    """
    Q, R = np.linalg.qr(J)
    walls, rooms = np.vstack([Q, -Q]), np.concatenate([1 - f, 1 + f])
    margins = []
    for row in np.linalg.inv(R):  # dx of one weight
        length = float(np.linalg.norm(row))
        ends = [linprog(way * row / length, walls, rooms, bounds=(None, None)) for way in (1, -1)]
        margins.append(length * max(abs(end.fun) if end.success else np.nan for end in ends))
    return np.array(margins)


def order_like(wanted: Matrices, given: Matrices) -> Indices:
    """The given network's hidden units in the order (h,) in which they are nearest to the wanted network's."""
    units, others = (np.vstack([W0, W1.T]).T for W0, W1 in (wanted, given))  # a row a hidden unit
    distances = ((units[:, None] - others[None]) ** 2).sum(axis=2)
    return np.asarray(linear_sum_assignment(distances)[1])


def in_order(matrices: Matrices, order: Indices) -> Matrices:
    """The network with its hidden units in this order."""
    return matrices[0][:, order], matrices[1][order]


def largest_difference(one: Matrices, other: Matrices) -> float:
    """The largest between two weights of two networks whose hidden units stand in the same order or any other."""
    matched = in_order(other, order_like(one, other))
    return max(float(np.abs(a - b).max()) for a, b in zip(one, matched, strict=True))
