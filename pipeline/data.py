"""Data sets: rows with names, scaled for the network, and the way back to the units of the tutorial."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import DataConfig, check
from pipeline.errors import UserError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """scaled = (x - offset) / factor, column by column; offset and factor are (columns,)."""

    offset: Array
    factor: Array

    def apply(self, x: Array) -> Array:
        """Scales x, (n, columns)."""
        return (x - self.offset) / self.factor

    def invert(self, scaled: Array) -> Array:
        """Takes scaled values, (n, columns), back to their units."""
        return scaled * self.factor + self.offset

    @property
    def is_identity(self) -> bool:
        """True where scaling changes nothing."""
        return not self.offset.any() and bool((self.factor == 1.0).all())


def fit_scale(key: str, kind: str, divisor: Any, x: Array) -> Scale:
    """The scale `kind` for the columns of x, (n, columns).

    none; max: divide by the column's maximum; divide: by `divisor` (a number, or one a column);
    standard: subtract the mean and divide by the standard deviation (by 1 where a column is constant).
    Raises UserError if a maximum is not positive or the divisors do not fit the columns.
    """
    columns = x.shape[1]
    offset, factor = np.zeros(columns), np.ones(columns)
    if kind == "max":
        factor = x.max(axis=0)
        good = bool((factor > 0).all())
        check(
            good, key, "max", "none, divide or standard, as a column without a positive maximum cannot be divided by it"
        )
    elif kind == "divide":
        given = np.atleast_1d(np.asarray(divisor, dtype=np.float64))
        want = f"one number, or {columns} (one a column)"
        check(given.size in (1, columns), key.replace("scaling", "divide_by"), divisor, want)
        factor = np.broadcast_to(given, (columns,)).copy()
    elif kind == "standard":
        constant = (x == x[0]).all(axis=0)  # the mean of equal numbers may differ from them in the last bit
        offset = np.where(constant, x[0], x.mean(axis=0))
        factor = np.where(constant, 1.0, np.sqrt(((x - offset) ** 2).mean(axis=0)))
    return Scale(offset, factor)


@dataclass(frozen=True)
class Dataset:
    """Rows ready to train on.

    raw_X (n, d) and raw_y (n, k) are in the data's units, X and y the same scaled for the network. `rows` are n
    different names, `features` d, `targets` k. `digest` identifies values and names, before scaling.
    """

    name: str
    raw_X: Array  # noqa: N815
    raw_y: Array
    X: Array
    y: Array
    features: tuple[str, ...]
    targets: tuple[str, ...]
    rows: tuple[str, ...]
    input_scale: Scale
    target_scale: Scale
    digest: str

    @property
    def key(self) -> bytes:
        """Equal for data sets that train alike: the scaled numbers' shapes and bytes."""
        return repr((self.X.shape, self.y.shape)).encode() + self.X.tobytes() + self.y.tobytes()


def make_dataset(config: DataConfig) -> Dataset:
    """Checks and scales a configured data set. Raises UserError where numbers overflow or a scaling does not fit."""
    raw_X = np.array(config.X, dtype=np.float64)
    raw_y = np.array(config.y, dtype=np.float64)
    features = names_or("x", config.features, raw_X.shape[1])
    targets = names_or("y", config.targets, raw_y.shape[1])
    rows = row_names(config.rows, config.X)
    with np.errstate(all="ignore"):  # numbers that overflow are refused below
        input_scale = fit_scale("data.scaling", config.scaling, config.divide_by, raw_X)
        target_scale = fit_scale("data.target_scaling", config.target_scaling, config.target_divide_by, raw_y)
        X, y = input_scale.apply(raw_X), target_scale.apply(raw_y)
    if not all(np.isfinite(array).all() for array in (X, y, input_scale.factor, target_scale.factor)):
        raise UserError(
            "data.X and data.y must stay finite when scaled: choose another data.scaling or smaller numbers."
        )
    return Dataset(
        name=config.name,
        raw_X=raw_X,
        raw_y=raw_y,
        X=X,
        y=y,
        features=features,
        targets=targets,
        rows=rows,
        input_scale=input_scale,
        target_scale=target_scale,
        digest=digest_of(raw_X, raw_y, features, targets, rows),
    )


def names_or(prefix: str, names: Any, count: int) -> tuple[str, ...]:
    """The given names; `prefix`0, `prefix`1, ... (or `prefix` alone for one column) if there are none, or not `count`.

    Names that do not fit in number are those of a data set whose rows were replaced on the command line.
    """
    if names is not None and len(names) == count:
        return tuple(str(name).strip() for name in names)
    return (prefix,) if count == 1 and prefix == "y" else tuple(f"{prefix}{i}" for i in range(count))


def unfitting_names(config: DataConfig) -> Iterator[str]:
    """A sentence for each list of names that is not used because it has not one name a feature, target or row."""
    for key, names, count in (
        ("features", config.features, len(config.X[0])),
        ("targets", config.targets, len(config.y[0])),
        ("rows", config.rows, len(config.X)),
    ):
        if names is not None and len(names) != count:
            yield (
                f"data.{key} has {len(names)} names where {count} are needed, so made-up ones are used "
                f"(data.{key}=null does the same without a note)."
            )


def row_names(names: Any, X: Any) -> tuple[str, ...]:
    """The given row names; else each row's numbers (`0 1`) if that tells rows apart, else `row 0`, `row 1`, ..."""
    if names is not None and len(names) == len(X):
        return tuple(str(name).strip() for name in names)
    texts = tuple(" ".join(f"{value:g}" for value in row) for row in X)
    return texts if len(set(texts)) == len(texts) else tuple(f"row {i}" for i in range(len(X)))


def digest_of(X: Array, y: Array, *names: tuple[str, ...]) -> str:
    """16 hex digits that change with any value, shape or name; the same on every machine."""
    digest = hashlib.sha256(json.dumps([X.shape, y.shape, *names]).encode())
    for array in (X, y):
        digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    return digest.hexdigest()[:16]
