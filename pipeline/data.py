"""Data sets: rows with names, scaled for the network, and the way back to the units of the tutorial."""

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from pipeline.checks import check, shown
from pipeline.config import DataConfig
from pipeline.errors import UserError

Array = NDArray[np.float64]
Places = NDArray[np.intp] | slice

ROWS = 5  # the stream of data.draw_seed that draws rows and noise
MOST_TOLD = 30  # names in a message


@dataclass(frozen=True)
class Scale:
    """scaled = (x - offset) / factor, column by column; offset, factor and fill are (columns,).

    `fill` stands in for numbers that are missing (nan), if some may be.
    """

    offset: Array
    factor: Array
    fill: Array | None = None

    def apply(self, x: Array) -> Array:
        """Scales x, (n, columns): x itself where that changes nothing."""
        x = filled(x, self.fill)
        return x if self.is_identity else (x - self.offset) / self.factor

    def invert(self, scaled: Array) -> Array:
        """Takes scaled values, (n, columns), back to their units."""
        return scaled * self.factor + self.offset

    @property
    def is_identity(self) -> bool:
        """True where scaling changes nothing."""
        return not self.offset.any() and bool((self.factor == 1.0).all())


def filled(x: Array, fill: Array | None) -> Array:
    """X (n, columns) with `fill` (columns,) where a number is missing."""
    return x if fill is None else np.where(np.isnan(x), fill, x)


FILLS: dict[str, Callable[[Array], Any]] = {"mean": np.mean, "median": np.median}


def fit_fill(rule: str, features: Sequence[str], x: Array) -> Array | None:
    """What stands in for missing numbers of x (n, columns): the mean or median of the others; None for other rules.

    Raises UserError for a column that is missing in all rows.
    """
    if rule not in FILLS:
        return None
    known = [column[~np.isnan(column)] for column in x.T]
    for name, values in zip(features, known, strict=True):
        if not len(values):
            raise UserError(f"{name} is missing in all rows to train on: leave it out with data.drop=[{name}].")
    return np.array([FILLS[rule](values) for values in known])


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


NO_SCALE = Scale(np.zeros(1), np.ones(1))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows ready to train on.

    raw_X (n, d) and raw_y (n, k) are in the data's units, X and y the same scaled for the network. `rows` are n
    different names, `features` d, `targets` k. `digest` identifies values and names, before scaling. `groups` are n
    names of what rows belong to, if they are given; `is_classes`: targets are 1 for a row's class and 0 for the others.
    A feature of raw_X may be missing (nan); `fit` says how it is filled and scaled.
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
    groups: tuple[str, ...] = ()
    is_classes: bool = False

    @functools.cached_property
    def key(self) -> str:
        """Equal for data sets that train alike: a digest of the scaled numbers and their shapes."""
        return digest_of(self.X, self.y)


@dataclass(frozen=True)
class Recipe:
    """The keys of a config that say how rows are divided into parts, filled and scaled. No `target_scaling`: as usual.

    It can be a key of a cache, so that runs share what they have in common.
    """

    scaling: str
    divide_by: Any
    target_scaling: str | None
    target_divide_by: Any
    missing: str
    validation: float
    test: float
    stratify: bool
    training_rows: int | None
    label_noise: float
    outliers: float


def recipe_of(config: DataConfig) -> Recipe:
    """The recipe of a config."""
    values: dict[str, Any] = {item.name: getattr(config, item.name) for item in fields(Recipe)}
    for key, value in values.items():
        values[key] = tuple(value) if isinstance(value, list) else value
    return Recipe(**values)


def make_dataset(config: DataConfig) -> Dataset:
    """Checks and scales inline rows. Raises UserError where numbers overflow or a scaling does not fit."""
    raw_X = np.array(config.X, dtype=np.float64)
    features = names_or("x", config.features, raw_X.shape[1])
    kept = kept_features(config.drop, features)
    dataset = build_dataset(
        config,
        raw_X[:, kept],
        np.array(config.y, dtype=np.float64),
        features=[features[j] for j in kept],
        targets=names_or("y", config.targets, len(config.y[0])),
        rows=row_names(config.rows, config.X),
    )
    return drawn_anew(config, dataset)


def kept_features(drop: Sequence[str], features: Sequence[str]) -> list[int]:
    """The places of the features that are not dropped. Raises UserError if one is unknown, or none is left."""
    check_known("data.drop", drop, features)
    kept = [j for j, name in enumerate(features) if name not in drop]
    left = "such that one of the features is left: " + ", ".join(features)
    check(bool(kept), "data.drop", list(drop), left)
    return kept


def check_known(key: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Raises UserError if one of the names that a key lists is not known."""
    for name in names:
        if name not in known:
            told = ", ".join(known[:MOST_TOLD]) + (", ..." if len(known) > MOST_TOLD else "")
            raise UserError(f"{key} names {shown(name)}, which is not there: choose from {told}.")


def build_dataset(
    config: DataConfig,
    raw_X: Array,
    raw_y: Array,
    *,
    features: Sequence[str],
    targets: Sequence[str],
    rows: Sequence[str],
    groups: Sequence[str] = (),
    is_classes: bool = False,
) -> Dataset:
    """A data set of raw_X (n, d) and raw_y (n, k) under these names, scaled as a config says.

    Raises UserError where numbers overflow or a scaling does not fit.
    """
    raw_X, raw_y = (np.ascontiguousarray(one).view() for one in (raw_X, raw_y))  # in another order sums have other bits
    names = tuple(features), tuple(targets), tuple(rows)
    grouped = (tuple(groups),) if groups else ()
    unscaled = Dataset(
        *(config.name or "", raw_X, raw_y, raw_X, raw_y, *names, NO_SCALE, NO_SCALE),
        digest=digest_of(raw_X, raw_y, *names, *grouped),
        groups=tuple(groups),
        is_classes=is_classes,
    )
    input_scale, target_scale = fit(unscaled, recipe_of(config), slice(None))
    X, y = scaled(unscaled, input_scale, target_scale)
    for array in (raw_X, raw_y, X, y):
        array.setflags(write=False)  # runs share them; what was given stays as it is
    return replace(unscaled, X=X, y=y, input_scale=input_scale, target_scale=target_scale)


def drawn_anew(config: DataConfig, dataset: Dataset) -> Dataset:
    """The data set that a config draws from the rows of another: `draw` of them, each as likely, with noise.

    The noise is normal, with `noise` of each feature's standard deviation: a feature that is constant stays so. Without
    either, it is the other data set itself. Raises UserError as `build_dataset`.
    """
    if config.draw is None and not config.noise:
        return dataset
    n = len(dataset.raw_X)
    order = Generator(PCG64(SeedSequence([config.draw_seed, ROWS])))
    places = np.arange(n) if config.draw is None else (order.random(config.draw) * n).astype(np.intp)
    raw_X = dataset.raw_X[places]
    if config.noise:
        raw_X += order.standard_normal(raw_X.shape) * (config.noise * spread_of(dataset.raw_X))
    return build_dataset(
        config,
        raw_X,
        dataset.raw_y[places],
        features=dataset.features,
        targets=dataset.targets,
        rows=[f"{number} {dataset.rows[place]}" for number, place in enumerate(places, start=1)],
        groups=[dataset.groups[place] for place in places] if dataset.groups else (),
        is_classes=dataset.is_classes,
    )


def spread_of(x: Array) -> Array:
    """The standard deviation of each column of x (n, columns); 0 where it is constant, nan left out."""
    return np.where((x == x[0]).all(axis=0), 0.0, np.nanstd(x, axis=0))


def fit(dataset: Dataset, recipe: Recipe, places: Places) -> tuple[Scale, Scale]:
    """The scales of inputs and targets for the rows in some places. Raises UserError for one that does not fit."""
    usual = "none" if dataset.is_classes else "standard"
    X, y = dataset.raw_X[places], dataset.raw_y[places]
    fill = fit_fill(recipe.missing, dataset.features, X)
    with np.errstate(all="ignore"):  # numbers that overflow are refused later
        inputs = fit_scale("data.scaling", recipe.scaling, recipe.divide_by, filled(X, fill))
        targets = fit_scale("data.target_scaling", recipe.target_scaling or usual, recipe.target_divide_by, y)
    return replace(inputs, fill=fill), targets


def scaled(dataset: Dataset, input_scale: Scale, target_scale: Scale) -> tuple[Array, Array]:
    """All rows, (n, d) and (n, k), scaled. Raises UserError if they do not stay finite."""
    with np.errstate(all="ignore"):
        X, y = input_scale.apply(dataset.raw_X), target_scale.apply(dataset.raw_y)
    if not all(np.isfinite(array).all() for array in (X, y, input_scale.factor, target_scale.factor)):
        raise UserError(
            "data.X and data.y must stay finite when scaled: choose another data.scaling or smaller numbers."
        )
    return X, y


def names_or(prefix: str, names: Any, count: int) -> tuple[str, ...]:
    """The given names; `prefix`0, `prefix`1, ... (or `prefix` alone for one column) if there are none, or not `count`.

    Names that do not fit in number are those of a data set whose rows were replaced on the command line.
    """
    if names is not None and len(names) == count:
        return tuple(str(name).strip() for name in names)
    return (prefix,) if count == 1 and prefix == "y" else tuple(f"{prefix}{i}" for i in range(count))


def unfitting_names(config: DataConfig) -> Iterator[str]:
    """A sentence for each list of names that is not used because it has not one name a feature, target or row."""
    if config.is_table:
        return
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
