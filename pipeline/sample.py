"""What a run trains on and is measured on: its part of the rows, scaled for the network."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from pipeline.config import DataConfig
from pipeline.data import Dataset, Recipe, Scale, fit, recipe_of, scaled, spread_of
from pipeline.errors import UserError

Array = NDArray[np.float64]
Places = NDArray[np.intp]

DRAW = 2  # the stream of a seed that draws parts; the weights have the seed's own
LABELS, OUTLIERS = 3, 4  # those that spoil rows to train on
FAR = 10.0  # standard deviations: how far an outlier is moved
TRAINING = "training"


@dataclass(frozen=True)
class Part:
    """Some rows of a data set: X (m, d) and y (m, k), scaled; `places` (m,) says which rows, in rising order."""

    X: Array
    y: Array
    places: Places


@dataclass(frozen=True)
class Sample:
    """The rows that a run trains on, and those held out by name (`val`, `test`); the scales, fitted on the former."""

    training: Part
    input_scale: Scale
    target_scale: Scale
    held: Mapping[str, Part] = field(default_factory=dict)


@functools.lru_cache(maxsize=32)  # runs that share their rows share the very arrays
def whole(dataset: Dataset) -> Sample:
    """All rows, to train on."""
    part = Part(dataset.X, dataset.y, np.arange(len(dataset.X)))
    return Sample(part, dataset.input_scale, dataset.target_scale)


def sample_of(dataset: Dataset, config: DataConfig, seed: int) -> Sample:
    """The parts that a config asks for, drawn by a run's seed; all rows if it asks for none.

    Fills and scales are fitted on the rows to train on, spoiled as they may be. Raises UserError if a part gets no row.
    """
    recipe = recipe_of(config)
    parted = recipe.validation or recipe.test or recipe.training_rows is not None
    return drawn(dataset, recipe, seed) if parted else whole(dataset)


@functools.lru_cache(maxsize=32)  # runs of a sweep that share their seed share their sample
def drawn(dataset: Dataset, recipe: Recipe, seed: int) -> Sample:
    """The sample of a seed."""
    names = places_of(dataset, recipe, seed)
    dataset = spoiled(dataset, recipe, seed, names[TRAINING])
    input_scale, target_scale = fit(dataset, recipe, names[TRAINING])
    X, y = scaled(dataset, input_scale, target_scale)
    parts = {name: Part(X[places], y[places], places) for name, places in names.items()}
    return Sample(parts.pop(TRAINING), input_scale, target_scale, parts)


def places_of(dataset: Dataset, recipe: Recipe, seed: int) -> dict[str, Places]:
    """Which rows are in which part, by its name. Raises UserError for a part without rows.

    Units (rows, or groups, which stay whole) stand in an order that the seed draws, and each takes as much of a line as
    it has rows. The line begins with the share of `test`, then comes `val`, then the rows to train on: a unit belongs
    where its middle lies. So other shares for validation leave the rows of `test` as they are. With `stratify` each
    class has a line of its own.
    """
    n = len(dataset.raw_X)
    units = np.unique(dataset.groups, return_inverse=True)[1] if dataset.groups else np.arange(n)
    order = Generator(PCG64(SeedSequence([seed, DRAW]))).random(int(units.max()) + 1)
    middles = np.empty(n)
    for rows in strata(dataset, recipe):
        middles[rows] = middles_of(units[rows], order)
    validation = validation_share(recipe, n)
    held = {"test": middles < recipe.test, "val": middles < recipe.test + validation}
    held["val"] &= ~held["test"]
    found = {TRAINING: ~(held["test"] | held["val"]), "val": held["val"], "test": held["test"]}
    asked = {TRAINING: 1 - validation - recipe.test, "val": validation, "test": recipe.test}
    for name, share in asked.items():
        if share and not found[name].any():
            raise UserError(too_few(dataset, name, share))
    return {name: np.flatnonzero(found[name]) for name, share in asked.items() if share}


def validation_share(recipe: Recipe, n: int) -> float:
    """The share of n rows to validate on: all that are left, if the number of rows to train on is given.

    Raises UserError if that is less than the share asked for.
    """
    if recipe.training_rows is None:
        return recipe.validation
    rows = n * (1 - recipe.test) - recipe.training_rows
    if rows < n * recipe.validation - 0.5:
        most = round(n * (1 - recipe.test - recipe.validation))
        raise UserError(
            f"data.training_rows is {recipe.training_rows}, but it must be at most {most}: the others of {n} rows are "
            "held out by data.validation and data.test."
        )
    if rows < 0.5 and recipe.validation:
        raise UserError(
            f"data.training_rows is {recipe.training_rows}, which leaves none of {n} rows to data.validation."
        )
    return rows / n if rows >= 0.5 else 0.0


def too_few(dataset: Dataset, part: str, share: float) -> str:
    """The sentence for a part that gets no row."""
    has = f"{len(set(dataset.groups))} groups" if dataset.groups else f"{len(dataset.raw_X)} rows"
    return f"The part {part} is {share:g} of {has}, which leaves it empty: change data.validation and data.test."


def strata(dataset: Dataset, recipe: Recipe) -> list[Places]:
    """The rows of each class, if a recipe asks for the same shares of each; else all rows together.

    Raises UserError for targets that are no classes.
    """
    if not recipe.stratify:
        return [np.arange(len(dataset.raw_y))]
    if not (dataset.is_classes or np.isin(dataset.raw_y, (0, 1)).all()):
        raise UserError("data.stratify is true, but it must be false, as the targets are no classes.")
    kind = np.unique(dataset.raw_y, axis=0, return_inverse=True)[1].reshape(-1)
    return [np.flatnonzero(kind == one) for one in range(int(kind.max()) + 1)]


def middles_of(units: Places, order: Array) -> Array:
    """Where on a line from 0 to 1 the middle of each row's unit (m,) lies, if units stand by their `order`, (m,)."""
    known, place, sizes = np.unique(units, return_inverse=True, return_counts=True)
    standing = order[known].argsort(kind="stable")
    ends = sizes[standing].cumsum()
    middles = np.empty(len(known))
    middles[standing] = (ends - sizes[standing] / 2) / len(units)
    return middles[place]


def is_spoiled(config: DataConfig) -> bool:
    """True if a run's rows to train on are its own, spoiled by its seed."""
    return bool(config.label_noise or config.outliers)


def spoiled(dataset: Dataset, recipe: Recipe, seed: int, places: Places) -> Dataset:
    """The data set with wrong labels and outliers in the shares of the rows `places` that a recipe asks for, if any.

    A wrong label is the targets of another row, different ones, each as likely. An outlier has one feature, drawn among
    those that vary, moved up or down by FAR of its standard deviations. A larger share has the rows of a smaller one.
    """
    if not recipe.label_noise and not recipe.outliers:
        return dataset
    raw_y = relabelled(dataset.raw_y, recipe.label_noise, seed, places)
    return replace(dataset, raw_X=with_outliers(dataset.raw_X, recipe.outliers, seed, places), raw_y=raw_y)


def relabelled(y: Array, share: float, seed: int, places: Places) -> Array:
    """Targets y (n, k), wrong ones in a share of the rows `places`."""
    wrong, order = chosen(seed, LABELS, share, places)
    known, kind = np.unique(y[places], axis=0, return_inverse=True)
    kind = kind.reshape(-1)[np.searchsorted(places, wrong)]
    steps = 1 + (order.random(len(wrong)) * (len(known) - 1)).astype(np.intp)  # around the circle of targets
    y = y.copy()
    y[wrong] = known[(kind + steps) % len(known)]
    return y


def with_outliers(X: Array, share: float, seed: int, places: Places) -> Array:
    """Features X (n, d), moved far off in a share of the rows `places`."""
    far, order = chosen(seed, OUTLIERS, share, places)
    spread = spread_of(X[places])
    varied = np.flatnonzero(spread)
    if not len(varied):
        return X
    column = varied[(order.random(len(far)) * len(varied)).astype(np.intp)]
    X = X.copy()
    X[far, column] += np.where(order.random(len(far)) < 0.5, -FAR, FAR) * spread[column]
    return X


def chosen(seed: int, stream: int, share: float, places: Places) -> tuple[Places, Generator]:
    """A share of some places, drawn by a stream of a seed, and what goes on drawing from it."""
    order = Generator(PCG64(SeedSequence([seed, stream])))
    standing = order.random(len(places)).argsort(kind="stable")
    return places[standing[: round(share * len(places))]], order
