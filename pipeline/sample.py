"""What a run trains on and is measured on: its part of the rows, scaled for the network."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.data import Dataset, Scale

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """Some rows of a data set: X (m, d) and y (m, k), scaled; `places` (m,) says which rows, in rising order."""

    X: Array
    y: Array
    places: NDArray[np.intp]


@dataclass(frozen=True)
class Sample:
    """The rows that a run trains on, and those held out by name (`val`, `test`); the scales, fitted on the former."""

    training: Part
    input_scale: Scale
    target_scale: Scale
    held: Mapping[str, Part] = field(default_factory=dict)


def whole(dataset: Dataset) -> Sample:
    """All rows, to train on."""
    part = Part(dataset.X, dataset.y, np.arange(len(dataset.X)))
    return Sample(part, dataset.input_scale, dataset.target_scale)
