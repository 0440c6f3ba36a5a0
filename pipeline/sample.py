"""What a run trains on and is measured on: its part of the rows, scaled for the network."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from pipeline.config import DataConfig
from pipeline.data import Dataset, Recipe, Scale, fit, recipe_of, scaled
from pipeline.errors import UserError

Array = NDArray[np.float64]
Places = NDArray[np.intp]

DRAW = 2  # the stream of a seed that draws parts; the weights have the seed's own
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
    """The parts that `data.validation` and `data.test` ask for, drawn by a run's seed; all rows if they ask for none.

    Fills and scales are fitted on the rows to train on. Raises UserError if a part gets no row.
    """
    recipe = recipe_of(config)
    return drawn(dataset, recipe, seed) if recipe.validation or recipe.test else whole(dataset)


@functools.lru_cache(maxsize=32)  # runs of a sweep that share their seed share their sample
def drawn(dataset: Dataset, recipe: Recipe, seed: int) -> Sample:
    """The sample of a seed."""
    names = places_of(dataset, recipe, seed)
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
    held = {"test": middles < recipe.test, "val": middles < recipe.test + recipe.validation}
    held["val"] &= ~held["test"]
    found = {TRAINING: ~(held["test"] | held["val"]), "val": held["val"], "test": held["test"]}
    asked = {TRAINING: 1 - recipe.validation - recipe.test, "val": recipe.validation, "test": recipe.test}
    for name, share in asked.items():
        if share and not found[name].any():
            raise UserError(too_few(dataset, name, share))
    return {name: np.flatnonzero(found[name]) for name, share in asked.items() if share}


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
