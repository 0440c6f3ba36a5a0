"""Predictions for new rows, in the data's own units, as CSV: by a kept run, or by what else predicts."""

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.checks import is_number, shown
from pipeline.config import DataConfig
from pipeline.errors import UserError
from pipeline.numerics.network import predict
from pipeline.results.kept import KeptRun

Array = NDArray[np.float64]
NAME_COLUMN = "input"


def read_rows(
    file: Path, features: Sequence[str], unused: Sequence[str] | None = (), fills: bool = False
) -> tuple[list[str], Array]:
    """Names and values (m, d) of a CSV file's rows: a header with the features in any order, and maybe `input`.

    A column `city` gives the features `city=Bonn`, `city=Ulm`; `unused` columns may be there, any others if it is
    None; with `fills` numbers may be missing (nan). A file whose first line is all numbers has no header, but the
    features in their order. Names are empty where the file has no column `input`.

    Raises UserError for a file that does not fit.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            lines = [line for line in csv.reader(stream) if any(cell.strip() for cell in line)]
    except OSError as error:
        raise UserError(f"--input {file} cannot be read ({error.strerror}): name a CSV file.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--input {file} is no CSV file in UTF-8 ({error}): name another.") from error
    if not lines:
        raise UserError(f"--input {file} is empty: it must have the columns {', '.join(features)}.")
    header = [cell.strip() for cell in lines[0]]
    if all(number_or_none(cell) is not None for cell in header):
        header = [*features]
    else:
        del lines[0]
    given = [name for name in header if name in features or unused is None or name not in unused]
    sources = {name: source_of(name, given) for name in features}
    columns = list(dict.fromkeys(column for column, _ in sources.values()))
    check_columns(str(file), [name for name in given if unused is not None or name in columns], columns)
    if not lines:
        raise UserError(f"--input {file} has no rows under its header: add at least one.")
    names, values = [], []
    for number, line in enumerate(lines, start=1):
        if len(line) != len(header):
            raise UserError(f"Row {number} of {file} has {len(line)} values, but it must have {len(header)}.")
        cells = dict(zip(header, line, strict=True))
        names.append(cells.get(NAME_COLUMN, "").strip())
        where = f"row {number} of {file}"
        check_categories(where, cells, sources)
        values.append([to_value(where, source, cells, fills) for source in sources.values()])
    return names, np.array(values)


Source = tuple[str, str | None]  # a column, and the category that a feature stands for, if it is one of categories


def source_of(feature: str, header: Sequence[str]) -> Source:
    """Which column gives a feature: its own, or that of its categories."""
    if feature not in header:
        for place, char in enumerate(feature):
            if char == "=" and feature[:place] in header:
                return feature[:place], feature[place + 1 :]
    return feature, None


def check_categories(where: str, cells: Mapping[str, str], sources: Mapping[str, Source]) -> None:
    """Raises UserError for a category that is none of the features."""
    known: dict[str, list[str]] = {}
    for column, category in sources.values():
        if category is not None:
            known.setdefault(column, []).append(category)
    for column, names in known.items():
        if cells[column].strip() not in names:
            given = shown(cells[column].strip())
            raise UserError(f"{column} in {where} is {given}, but it must be one of {', '.join(names)}.")


def to_value(where: str, source: Source, cells: Mapping[str, str], fills: bool) -> float:
    """A feature's value in a row. Raises UserError if the cell is no number and should be one."""
    column, category = source
    if category is not None:
        return float(cells[column].strip() == category)
    if fills and not cells[column].strip():
        return math.nan
    return to_number(where, column, cells[column])


def check_columns(where: str, header: Sequence[str], features: Sequence[str]) -> None:
    """Raises UserError unless the header is the features, in any order, and maybe `input`."""
    want = ", ".join(features)
    if len(set(header)) != len(header):
        raise UserError(f"{where} has a column twice: it must have the columns {want}.")
    unknown = [name for name in header if name not in (*features, NAME_COLUMN)]
    missing = [name for name in features if name not in header]
    if unknown or missing:
        faults = [
            f"{word} {', '.join(names)}" for word, names in (("has unknown", unknown), ("lacks", missing)) if names
        ]
        raise UserError(f"{where} {' and '.join(faults)}: the columns must be {want}.")


def number_or_none(text: str) -> float | None:
    """The finite number that a text is, if it is one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def to_number(where: str, feature: str, text: str) -> float:
    """A cell's number. Raises UserError if it is none."""
    number = number_or_none(text)
    if number is None:
        raise UserError(f"{feature} in {where} is {shown(text.strip())}, but it must be a finite number.")
    return number


def read_number(value: object) -> object:
    """The number that a text like 1e-3 is (YAML takes it for text); else the value itself."""
    number = number_or_none(value) if isinstance(value, str) else None
    return value if number is None else number


def columns_of(features: Sequence[str]) -> list[str]:
    """The columns that features come from, where each may be given as `column=value`: `city` for `city=Bonn`."""
    return list(dict.fromkeys(name.partition("=")[0] for name in features))


def named_row(named: Mapping[str, Any], features: Sequence[str]) -> Array:
    """Values (1, d) of a row given by all of its columns. Raises UserError for what is no number, or no category."""
    sources = {name: source_of(name, list(named)) for name in features}
    check_categories("the row", {key: str(value) for key, value in named.items()}, sources)
    values = [named[column] if kind is None else float(str(named[column]) == kind) for column, kind in sources.values()]
    return inline_rows(values, features)


def inline_rows(rows: object, features: Sequence[str]) -> Array:
    """Values (m, d) of rows given as [[...], ...], or one row as [...]. Raises UserError if they do not fit."""
    listed = rows if isinstance(rows, list) and rows and all(isinstance(row, list) for row in rows) else [rows]
    listed = [[*map(read_number, row)] if isinstance(row, list) else row for row in listed]
    for row in listed:
        if not isinstance(row, list) or not all(is_number(value) for value in row):
            raise UserError(f"rows is {shown(rows)}, but it must be a list of rows of finite numbers, like [[0, 1]].")
        if len(row) != len(features):
            raise UserError(f"A row has {len(row)} values, but it must have {len(features)}: {', '.join(features)}.")
    return np.array(listed, dtype=np.float64)


@dataclass(frozen=True)
class Predictor:
    """What predicts: its features and targets, the range of each feature in training, and the network.

    low and high are (d,); `outputs` takes rows (m, d) to predictions (m, k), all in the data's own units. Of a table
    there are `unused` columns, None for all others; `fills` is True if numbers may be missing.
    """

    features: tuple[str, ...]
    targets: tuple[str, ...]
    low: Array
    high: Array
    outputs: Callable[[Array], Array]
    unused: tuple[str, ...] | None = ()
    fills: bool = False


def run_predictor(run: KeptRun) -> Predictor:
    """What predicts with a run's weights."""
    dataset, sample = run.dataset, run.sample
    matrices, biases = run.weights

    def outputs(rows: Array) -> Array:
        scaled = predict(sample.input_scale.apply(rows), matrices, biases, run.mode)
        return sample.target_scale.invert(scaled)

    fills = sample.input_scale.fill is not None
    return Predictor(dataset.features, dataset.targets, *run.training_range, outputs, unused_columns(run.data), fills)


def unused_columns(data: DataConfig) -> tuple[str, ...] | None:
    """The columns of a table that a network does not take; None for all but its features, where these were chosen."""
    if not data.is_table:
        return ()
    if data.features is not None:
        return None
    return tuple(name for name in (*(data.target or []), *data.drop, data.groups, data.rows) if name is not None)


def extrapolations(names: Sequence[str], rows: Array, by: Predictor) -> Iterator[str]:
    """A warning for every value outside the range that the network was trained on."""
    low, high = by.low, by.high
    for number, (name, row) in enumerate(zip(names, rows, strict=True), start=1):
        for j in np.flatnonzero((row < low) | (row > high)):
            yield (
                f"{name or f'row {number}'}: {by.features[j]} is {row[j]:g}, outside the training range "
                f"{low[j]:g} to {high[j]:g}; the prediction extrapolates."
            )


def prediction_csv(names: Sequence[str], rows: Array, by: Predictor) -> str:
    """CSV of the rows (m, d, unscaled) with their predictions, unscaled, under the data set's own names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    named = any(names)
    writer.writerow([*([NAME_COLUMN] if named else []), *by.features, *by.targets])
    for name, row, output in zip(names, rows, by.outputs(rows), strict=True):
        writer.writerow([*([name] if named else []), *(f"{value:.12g}" for value in row), *map(float, output)])
    return text.getvalue()
