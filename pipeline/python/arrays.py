"""What a call from Python is given to train on: arrays, a pandas frame, a file, or a data set's name.

Two arrays are what `data.X` and `data.y` are on the command line, and a frame or file what `data.path` is: with the
same values, names and settings the same run. None of them is changed, nor kept by reference.
"""

from collections.abc import Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.checks import check, shown
from pipeline.config import DataConfig
from pipeline.data import Dataset, build_dataset, drawn_anew, kept_features, names_or, row_names
from pipeline.errors import UserError
from pipeline.paths import find
from pipeline.python.settings import Values, data_config
from pipeline.tables import as_table, load_dataset, table_dataset, text

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

NUMBERS = "biuf"  # kinds of NumPy arrays
TABLES = (".csv", ".parquet")
TASKS = ("regression", "classes")
NO_NUMBERS = "{} is no array of numbers: give rows of equal length, of numbers only, or a pandas frame."


@dataclass(frozen=True)
class Given:
    """A data set and the config that names it. `labels` (k,) are classes as they were given, where targets are some."""

    config: DataConfig
    dataset: Dataset
    labels: NDArray[Any] | None = None


def given(X: Any, y: Any, values: Values) -> Given:
    """The data set of X and y, with the settings of `data` by field name. Raises UserError if it cannot be used.

    X is (n, d) numbers and y (n,) or (n, k) numbers; or X is a frame, or a CSV or Parquet file (a path), and y the
    target's column, several, or (of a frame) the values themselves; or X names a data set of conf/data, without y.
    Arrays whose y is labels, or that have a `task`, are a table too.
    """
    if hasattr(X, "toarray"):
        raise UserError("X is sparse, but it must be an array of all its numbers: give X.toarray().")
    if isinstance(X, str | Path):
        return from_name(str(X), y, values)
    if is_frame(X):
        return from_frame(X, y, values)
    if y is None:
        raise UserError("y is missing: give the targets, a row for each of X (or X as a frame, with y its column).")
    if isinstance(y, str):
        raise UserError(f"y is {shown(y)}, but as X is an array it must be the targets' values: give X as a frame.")
    if values.get("task") in TASKS or values_of("y", y).dtype.kind not in NUMBERS:
        return from_frame(*framed(X, y, values))
    return from_numbers(X, y, values)


def is_frame(X: Any) -> bool:
    """True for a pandas frame, which need not be imported to tell."""
    return hasattr(X, "iloc") and hasattr(X, "columns")


def from_name(name: str, y: Any, values: Values) -> Given:
    """The data set of a file, with its target, or of a name in conf/data."""
    if name.lower().endswith(TABLES):
        base = {"path": name} | ({} if y is None else {"target": y})
    else:
        files = {file.stem: file for file in (find("conf") / "data").glob("*.yaml") if file.stem != "csv"}
        if name not in files or y is not None:
            known = f"{', '.join(sorted(files))} (without y), or a file that ends in {' or '.join(TABLES)}"
            raise UserError(f"X is {shown(name)}, but as text it must be a data set: {known}.")
        base = yaml.safe_load(files[name].read_text(encoding="utf-8"))
    config = data_config(base | values)
    return Given(config, load_dataset(config))


def from_numbers(X: Any, y: Any, values: Values) -> Given:
    """The data set of arrays of numbers, as if its rows were given inline; `features`, `targets`, `rows` name them."""
    raw_X, raw_y = matrix("X", X), matrix("y", y)
    check_rows(raw_X, raw_y)
    for key in ("target", "categorical", "groups"):
        check(values.get(key) is None, f"data.{key}", values.get(key), "null, as X is an array: give a frame")
    values = dict(values)
    features = names_or("x", names_of("features", values, raw_X.shape[1]), raw_X.shape[1])
    targets = names_or("y", names_of("targets", values, raw_y.shape[1]), raw_y.shape[1])
    rows = row_names(names_of("rows", values, len(raw_X)), raw_X.tolist())
    config = data_config({"name": "data", **values, "digest": "not known yet"})
    kept = kept_features(config.drop, features)
    features = tuple(features[j] for j in kept)
    dataset = build_dataset(config, raw_X[:, kept], raw_y, features=features, targets=targets, rows=rows)
    dataset = drawn_anew(config, dataset)
    return Given(replace(config, digest=dataset.digest), dataset)


def matrix(what: str, value: Any) -> Array:
    """A copy of an array-like as float64 (n, columns). Raises UserError unless it is finite numbers in rows."""
    array = as_array(what, value)
    if what == "y" and array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or 0 in array.shape:
        want = "(rows, features)" if what == "X" else "(rows,) or (rows, targets)"
        raise UserError(f"{what} has the shape {array.shape}, but it must be {want}, with one of each at least.")
    if len(wrong := np.argwhere(~np.isfinite(array))):
        row, column = wrong[0]
        raise UserError(
            f"{what} has {array[row, column]} in row {row} of column {column}, but it must be finite numbers (with "
            f"task='regression' or 'classes', missing= may fill in nan)."
        )
    return array


def as_array(what: str, value: Any) -> Array:
    """A copy of an array-like as float64. Raises UserError unless it is of numbers, in rows of one length."""
    array = values_of(what, value)
    try:
        if array.dtype.kind in NUMBERS or (array.dtype.kind == "O" and not has_text(array)):
            return np.array(array, dtype=np.float64, order="C")
    except (ValueError, TypeError):
        pass
    raise UserError(NO_NUMBERS.format(what))


def values_of(what: str, value: Any) -> NDArray[Any]:
    """An array-like as an array of what it holds. Raises UserError for rows of different lengths."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise UserError(NO_NUMBERS.format(what)) from error


def has_text(array: NDArray[Any]) -> bool:
    """True if an array of objects holds text."""
    return any(isinstance(one, str) for one in array.ravel())


def check_rows(X: Sized, y: Sized) -> None:
    """Raises UserError unless X and y have as many rows."""
    if len(X) != len(y):
        raise UserError(f"y has {len(y)} rows, but it must have {len(X)}, as X has.")


def names_of(key: str, values: Values, count: int) -> Any:
    """Takes names out of the settings, if they are there. Raises UserError unless there are `count`, and different."""
    names = values.pop(key, None)
    if names is not None and not (isinstance(names, list) and len(set(map(str, names))) == len(names) == count):
        raise UserError(f"{key} is {shown(names)}, but it must be a list of {count} different names.")
    return names


def framed(X: Any, y: Any, values: Values) -> tuple["pd.DataFrame", Any, Values]:
    """Arrays as a frame, its targets, and the settings that are left: names become those of the columns."""
    import pandas as pd

    raw_X = as_array("X", X)
    if raw_X.ndim != 2:
        raise UserError(f"X has the shape {raw_X.shape}, but it must be (rows, features).")
    values = dict(values)
    d = raw_X.shape[1]
    frame = pd.DataFrame(raw_X, columns=list(names_or("x", names_of("features", values, d), d)))
    return frame, target_frame(values_of("y", y), values), values


def target_frame(y: Any, values: Values) -> "pd.DataFrame":
    """The targets' values as a frame; `targets` names them, which is taken out of the settings. Raises UserError."""
    import pandas as pd

    if hasattr(y, "columns"):
        frame: pd.DataFrame = y.rename(columns=lambda name: str(name).strip())
        return frame
    columns = values_of("y", y)
    if columns.ndim not in (1, 2):
        raise UserError(f"y has the shape {columns.shape}, but it must be (rows,) or (rows, targets).")
    k = columns.shape[1] if columns.ndim == 2 else 1
    names = names_of("targets", values, k)
    if names is None and getattr(y, "name", None) is not None:
        names = [y.name]
    return pd.DataFrame(columns, columns=list(names_or("y", names, k)))


def from_frame(frame: "pd.DataFrame", y: Any, values: Values) -> Given:
    """The data set of a frame: y names its targets, or holds them."""
    import pandas as pd

    values = dict(values)
    frame = frame.rename(columns=lambda name: str(name).strip())
    if y is None:
        y = values.pop("target", None)
    if isinstance(y, int | np.integer):
        y = str(y)
    names = [y] if isinstance(y, str) else y
    if isinstance(names, list) and all(isinstance(name, str) for name in names) and set(names) <= set(frame.columns):
        values["target"] = names
    elif isinstance(y, str) or y is None:
        raise UserError(f"y is {shown(y)}, but it must be a column of the frame, several, or the targets' values.")
    else:
        targets = target_frame(y, values)
        check_rows(frame, targets)
        values["target"] = list(targets.columns)
        frame = pd.concat([frame.reset_index(drop=True), targets.reset_index(drop=True)], axis=1)
    name = values.pop("name", "data")
    as_file = data_config({**values, "name": name, "path": str(name)})  # tables.py tells of it under its name
    frame = as_table(as_file, frame.infer_objects())
    dataset = table_dataset(as_file, frame)
    return Given(replace(as_file, path=None, digest=dataset.digest), dataset, labels_of(as_file, frame, dataset))


def labels_of(config: DataConfig, frame: "pd.DataFrame", dataset: Dataset) -> NDArray[Any] | None:
    """The classes of a frame's target, (k,), as its column has them; None where it has none."""
    if not dataset.is_classes:
        return None
    column = frame[config.target[0]].dropna()
    known = {text(value): value for value in column.unique()}
    labels = [known[name] for name in dataset.targets]
    return np.array(labels, dtype=object if len(set(map(type, labels))) > 1 else None)  # NumPy would make 1 to text
