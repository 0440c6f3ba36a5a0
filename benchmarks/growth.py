"""How costs grow, as a model: straight lines in the number of runs, and an update's time by a network's size.

Coefficients are least squares of relative errors, none below 0. `walls` says where the lines meet what a machine has.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

DAY = 86_400.0
MEMORY, DISK, PAGE = 16.0, 1000.0, 10.0  # GB, GB, seconds that somebody waits for a page
FILES = DISK * 1e9 / 16_384  # that fit such a disk: ext4 makes an inode for each 16 KiB
LIMITS = {"driver": DAY, "memory": MEMORY, "disk": DISK, "files": FILES, "page": PAGE, "curves": PAGE, "send": DAY}


def fitted(columns: Sequence[Sequence[float]], measured: Sequence[float]) -> tuple[list[float], list[float]]:
    """Coefficients of the columns for the measured values, and the relative residuals (measured / model - 1)."""
    from scipy.optimize import nnls

    values = np.asarray(measured, dtype=np.float64)
    matrix = np.array(columns, dtype=np.float64).T
    scale = np.linalg.norm(matrix / values[:, None], axis=0)  # columns differ by powers of ten
    found = nnls(matrix / values[:, None] / scale, np.ones(len(values)))[0] / scale
    return found.tolist(), (values / (matrix @ found) - 1).tolist()


@dataclass(frozen=True)
class Line:
    """`fixed + each * runs`, and how far the measured values are from it, as shares of it."""

    fixed: float
    each: float
    residuals: tuple[float, ...] = ()

    def at(self, runs: float) -> float:
        """The value for so many runs."""
        return self.fixed + self.each * runs

    def reaches(self, limit: float) -> float:
        """The number of runs at which the limit is met: 0 if it always is, infinite if it never is."""
        if self.fixed >= limit:
            return 0.0
        return (limit - self.fixed) / self.each if self.each else math.inf


def line(runs: Sequence[float], measured: Sequence[float]) -> Line:
    """The line through values, each measured with so many runs; all 0 of a value that is 0 somewhere."""
    if min(measured) <= 0:
        return Line(0.0, 0.0)
    (fixed, each), residuals = fitted([[1.0] * len(runs), list(runs)], measured)
    return Line(fixed, each, tuple(residuals))


def total(parts: Sequence[Line], runs: Sequence[float], measured: Sequence[float]) -> Line:
    """The sum of lines beside its own measured values: of a noisy total's own fit the parts would not be parts."""
    made = Line(sum(part.fixed for part in parts), sum(part.each for part in parts))
    return replace(
        made, residuals=tuple(value / made.at(count) - 1 for count, value in zip(runs, measured, strict=True))
    )


@dataclass(frozen=True)
class Pace:
    """Microseconds of a run's update: so much an activation, and so much a product of weights."""

    units: float
    products: float
    residuals: tuple[float, ...] = ()

    def at(self, units: float, products: float) -> float:
        """Microseconds for a network with so many activations and products an update."""
        return self.units * units + self.products * products


def pace(units: Sequence[float], products: Sequence[float], measured: Sequence[float]) -> Pace:
    """The pace of the networks of one layout."""
    (unit, product), residuals = fitted([units, products], measured)
    return Pace(unit, product, tuple(residuals))


@dataclass(frozen=True)
class Model:
    """Lines by store and quantity, the pace by layout, and how much of a further worker is of use (1: all)."""

    lines: Mapping[str, Mapping[str, Line]]
    paces: Mapping[str, Pace]
    efficiency: float = 1.0

    def seconds(self, store: str, runs: float, updates: float, microseconds: float, workers: int = 1) -> float:
        """Seconds of a whole sweep: the driver's own work for its runs, and their training.

        Of several workers the driver writes while they train, so that the longer of the two counts.
        """
        driver, write = (self.lines[store][name].at(runs) for name in ("driver", "write"))
        speed = 1 + (workers - 1) * self.efficiency
        training = runs * updates * microseconds / 1e6 / speed
        return driver + training if workers == 1 else driver - write + max(write, training)


@dataclass(frozen=True)
class Wall:
    """A quantity's line beside its limit."""

    store: str
    quantity: str
    line: Line
    limit: float

    @property
    def runs(self) -> float:
        """How many runs meet it."""
        return self.line.reaches(self.limit)


def walls(model: Model) -> list[Wall]:
    """The quantities that have a limit, of each store the first wall first."""
    found = [
        Wall(store, name, lines[name], limit)
        for store, lines in model.lines.items()
        for name, limit in LIMITS.items()
        if name in lines
    ]
    return sorted(found, key=lambda wall: (list(model.lines).index(wall.store), wall.runs))
