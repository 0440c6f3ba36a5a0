"""Tables: a CSV or Parquet file of the user's, or a data set that comes with a library, as a data set.

Columns of numbers are features as they are; of text or truth values, a feature a category (`city=Bonn`), 1 or 0.
Pandas is imported where a table is read: it takes most of a second.
"""

import csv
import gzip
import importlib.util
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.checks import CONTROL, check, is_text, shown
from pipeline.config import DataConfig
from pipeline.data import FILLS, Dataset, build_dataset, check_known, drawn_anew, make_dataset
from pipeline.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

MOST_CATEGORIES = 100  # of a feature: more are names of rows, or free text
MOST_CLASSES = 1000
MOST_TOLD = 5  # places in a message
NO_NUMBER = ("na", "n/a", "none", "null", "<na>", "#n/a", "#na")  # words of programs for a number that is missing


def load_dataset(config: DataConfig) -> Dataset:
    """The data set of a config, inline or a table. Raises UserError for one that cannot be used."""
    if config.is_given:
        raise UserError("data.digest names what was given from Python, which no command can read: name a data.path.")
    return table_dataset(config, read_table(config)) if config.is_table else make_dataset(config)


def read_table(config: DataConfig) -> "pd.DataFrame":
    """The table that a config names; its columns have different names of text, its index counts rows from 1."""
    bundle = BUNDLES.get(config.bundled or "")
    return as_table(config, bundle() if bundle else read_file(Path(config.path or "").expanduser()))


def as_table(config: DataConfig, frame: "pd.DataFrame") -> "pd.DataFrame":
    """A frame, which is changed, as `read_table` gives it. Raises UserError for unusable names, and for no rows."""
    frame.columns = [str(name).strip() for name in frame.columns]
    check_header(list(frame.columns))
    if not len(frame):
        raise UserError(f"{told_table(config)} has no rows: name a file with at least one under its header.")
    frame.index = np.arange(1, len(frame) + 1)
    return frame


def told_table(config: DataConfig) -> str:
    """A table's name for a message."""
    return f"The table {shown(config.path or config.bundled)}"


def read_file(file: Path) -> "pd.DataFrame":
    """A CSV or Parquet file. Raises UserError if there is none, or it cannot be read."""
    import pandas as pd

    kinds = ".csv or .parquet"
    check(file.suffix.lower() in (".csv", ".parquet"), "data.path", str(file), f"a file whose name ends in {kinds}")
    if not file.is_file():
        raise UserError(
            f"data.path is {shown(str(file))}, but there is no such file in {Path.cwd()}: name a CSV or Parquet file."
        )
    try:
        return pd.read_parquet(file) if file.suffix.lower() == ".parquet" else read_csv(file)
    except (OSError, ValueError, csv.Error) as error:  # pandas' and pyarrow's own errors are ValueErrors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"data.path is {shown(str(file))}, which cannot be read ({reason[:200]}).") from error


def read_csv(file: Path) -> "pd.DataFrame":
    """A CSV file in UTF-8 whose first line names its columns; spaces around a value are none of it.

    Numbers are the nearest float64 everywhere. Raises UserError for columns without names, and values without a column.
    """
    import pandas as pd

    with file.open(newline="", encoding="utf-8-sig") as stream:
        lines = csv.reader(stream, skipinitialspace=True)
        header = next(lines, [])
        check_header([name.strip() for name in header])
        check_widths(lines, len(header))
    how: Any = {"encoding": "utf-8-sig", "skipinitialspace": True, "keep_default_na": False, "na_values": [""]}
    frame = pd.read_csv(file, header=0, names=header, index_col=False, dtype=str, **how)
    columns: pd.DataFrame = frame.apply(as_numbers)
    return columns


def check_widths(lines: Iterable[Sequence[str]], columns: int) -> None:
    """Raises UserError for a row with more values than there are columns: which are its own cannot be told."""
    for number, line in enumerate((line for line in lines if line), start=1):
        if len(line) > columns:
            raise UserError(
                f"Row {number} of the table has {len(line)} values, but there are {columns} columns: put a value with "
                "a comma in quotes, or name all columns in the first line."
            )


def as_numbers(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """A column of text as numbers, if it has no other text. Python's float is exact; pandas' depends on its version.

    Between numbers the word NA is one that is missing; between text it is text.
    """
    import pandas as pd

    try:
        values = [np.nan if pd.isna(value) else number(value) for value in column]
    except ValueError:
        return column.str.strip()
    return pd.Series(values, column.index, np.float64, column.name)


def number(text: str) -> float:
    """The number that a text is, nan if it says that it is missing. Raises ValueError if it is none."""
    if "_" in text:
        raise ValueError(text)
    return float("nan" if text.strip().lower() in NO_NUMBER else text)


def check_header(names: Sequence[str]) -> None:
    """Raises UserError unless a table's columns have different names."""
    for number, name in enumerate(names, start=1):
        good = bool(name) and is_text(name) and CONTROL.search(name) is None
        if not good:
            raise UserError(f"Column {number} of the table has no name that can be used: name it in the first line.")
        if name in names[: number - 1]:
            raise UserError(f"The table has two columns {shown(name)}: give them different names.")
    if len(names) < 2:
        raise UserError(
            f"The table has {len(names)} column, but it must have a target and a feature at least: separate columns "
            "by commas, and name them in the first line."
        )


def digits() -> "pd.DataFrame":
    """8x8 pictures of 1,797 handwritten digits (`pixel_<row>_<column>`, 0 to 16; `digit`), from scikit-learn's files.

    They are those of sklearn.datasets.load_digits (a test compares), whose import would take three seconds.
    """
    import pandas as pd

    found = importlib.util.find_spec("sklearn")
    file = Path(found.origin if found and found.origin else "").parent / "datasets" / "data" / "digits.csv.gz"
    if not file.is_file():
        raise UserError(f"data.bundled is digits, but scikit-learn has no file {file.name}: install it anew.")
    names = [f"pixel_{i}_{j}" for i in range(8) for j in range(8)]
    with gzip.open(file, "rt") as stream:
        return pd.DataFrame(np.loadtxt(stream, delimiter=","), columns=[*names, "digit"]).astype({"digit": int})


BUNDLES: dict[str, Callable[[], "pd.DataFrame"]] = {"digits": digits}


def table_dataset(config: DataConfig, frame: "pd.DataFrame") -> Dataset:
    """The data set of a table's columns. Raises UserError for columns that are not there or cannot be used."""
    features = chosen_features(config, list(frame.columns))
    besides = [name for name in (config.groups, config.rows) if name is not None]
    frame = frame[list(dict.fromkeys([*config.target, *features, *besides]))]
    check_cells(config, frame, features)
    frame = frame.dropna() if config.missing == "drop_rows" else frame
    if not len(frame):
        raise UserError(f"{told_table(config)} has no row without a missing value: leave columns out with data.drop.")
    names, columns = zip(*(part for name in features for part in encoded(config, frame[name])), strict=True)
    targets, raw_y, is_classes = encoded_targets(config, frame)
    check_varied(config, dict(zip(names, columns, strict=True)), raw_y)
    dataset = build_dataset(
        config,
        np.column_stack(columns),
        raw_y,
        features=names,
        targets=targets,
        rows=row_names(config, frame),
        groups=[text(value) for value in frame[config.groups]] if config.groups else (),
        is_classes=is_classes,
    )
    return drawn_anew(config, dataset)


def chosen_features(config: DataConfig, columns: list[str]) -> list[str]:
    """The columns that are features. Raises UserError for a key that names a column that is not there, or two uses."""
    uses = {
        "data.target": config.target,
        "data.groups": [config.groups] if config.groups else [],
        "data.rows": [config.rows] if config.rows else [],
    }
    lists = {"data.features": config.features or [], "data.drop": config.drop, "data.categorical": config.categorical}
    for key, names in (uses | lists).items():
        check_known(key, names or [], columns)
    used = {name: key for key, names in uses.items() for name in names}
    for key in ("data.features", "data.drop"):
        for name in lists[key] or []:
            if name in used:
                raise UserError(f"{key} names {shown(name)}, which {used[name]} names too: name it in one of them.")
    features = config.features or [name for name in columns if name not in used]
    left = [name for name in features if name not in config.drop]
    if not left:
        raise UserError(f"{told_table(config)} has no feature left: leave some out of data.drop or data.target.")
    return left


def check_cells(config: DataConfig, frame: "pd.DataFrame", features: Sequence[str]) -> None:
    """Raises UserError for text among numbers, values that are missing and may not be, and numbers not finite."""
    for name in features:
        check_text(config, frame[name])
    fillable = [name for name in features if config.missing in FILLS and is_numeric(config, frame[name])]
    if config.missing != "drop_rows":
        empty = frame.drop(columns=fillable).isna()
        if places := list(told_places(empty)):
            gaps = empty.columns[empty.any()]
            fills = all(name in features and is_numeric(config, frame[name]) for name in gaps)
            raise UserError(f"{told_table(config)} lacks values: {listed(places)}. {remedy(config, fills)}")
    for name in frame.columns:
        if is_numeric(config, frame[name]):
            numbers = to_numbers(frame[name])
            infinite = frame[[name]].assign(**{name: np.isinf(numbers)})
            if places := list(told_places(infinite)):
                raise UserError(f"{told_table(config)} has numbers that are not finite: {listed(places)}.")


def told_places(marked: "pd.DataFrame") -> Iterator[str]:
    """`hours in row 3` for every place that is marked as true."""
    for row, column in zip(*np.nonzero(marked.to_numpy(dtype=bool)), strict=True):
        yield f"{shown(marked.columns[column])} in row {marked.index[row]}"


def listed(places: Sequence[str]) -> str:
    """The first places, and how many more there are."""
    more = len(places) - MOST_TOLD
    return ", ".join(places[:MOST_TOLD]) + (f" and {more:,} more" if more > 0 else "")


def remedy(config: DataConfig, fills: bool) -> str:
    """What a user can do about missing values; `fills`: all are in features of numbers, which can be filled."""
    if config.missing in FILLS:
        return f"data.missing={config.missing} fills features of numbers only: choose drop_rows."
    return f"Fill them in, or set data.missing to drop_rows{', mean or median' if fills else ''}."


def is_numeric(config: DataConfig, column: "pd.Series[Any]") -> bool:
    """True for a column of numbers that is not to be taken for categories."""
    from pandas.api import types

    return types.is_numeric_dtype(column) and not types.is_bool_dtype(column) and not is_category(config, column)


def is_category(config: DataConfig, column: "pd.Series[Any]") -> bool:
    """True for a column that a config takes for categories: named ones, or else text, truth values, categories."""
    from pandas.api import types

    if config.categorical is not None and column.name not in config.target:
        return column.name in config.categorical
    asked = column.name in config.target and config.task == "classes"
    return asked or types.is_bool_dtype(column) or is_text_column(column) or str(column.dtype) == "category"


def is_text_column(column: "pd.Series[Any]") -> bool:
    """True for a column of text, with truth values or nothing between."""
    from pandas.api import types

    known = column.dropna()
    return types.is_string_dtype(column) or all(isinstance(value, str | bool) for value in known)


def to_numbers(column: "pd.Series[Any]") -> Array:
    """A column of numbers as float64; missing ones are nan."""
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def encoded(config: DataConfig, column: "pd.Series[Any]") -> list[tuple[str, Array]]:
    """A feature by name, or one a category. Raises UserError for a column of neither numbers nor categories."""
    name = str(column.name)
    if is_numeric(config, column):
        return [(name, to_numbers(column))]
    if not is_category(config, column):
        raise UserError(
            f"The column {shown(name)} is neither of numbers nor of categories ({column.dtype}): leave it out with "
            "data.drop, or name it in data.categorical."
        )
    found = categories(column)
    if len(found) > MOST_CATEGORIES:
        raise UserError(
            f"The column {shown(name)} has {len(found):,} categories, and at most {MOST_CATEGORIES} can be told apart: "
            f"leave it out with data.drop, or name the rows by it with data.rows={shown(name)}."
        )
    texts = np.array([text(value) for value in column])
    return [(f"{name}={one}", (texts == one).astype(np.float64)) for one in found]


def check_text(config: DataConfig, column: "pd.Series[Any]") -> None:
    """Raises UserError for a column of text that is numbers but for some cells, unless it is to be categories."""
    if column.name in (config.categorical or []) or not is_text_column(column):
        return
    known = column.dropna()
    odd = [(row, value) for row, value in known.items() if not is_number_text(str(value))]
    if 0 < len(odd) < len(known) / 2:
        row, value = odd[0]
        raise UserError(
            f"The column {shown(column.name)} has {shown(text(value))} in row {row}, where other rows have "
            "numbers: mend it, or name the column in data.categorical."
        )


def is_number_text(value: str) -> bool:
    """True for text that is a number, or says that one is missing."""
    try:
        number(value)
    except ValueError:
        return False
    return True


def categories(column: "pd.Series[Any]") -> list[str]:
    """The different values of a column in their order, as text. Raises UserError for two that are the same as text."""
    found: dict[str, Any] = {}
    for value in sorted(column.unique(), key=standing):
        other = found.setdefault(text(value), value)
        if other is not value:
            raise UserError(f"The column {shown(column.name)} has {other!r} and {value!r}: write them alike.")
    return list(found)


def standing(value: Any) -> tuple[str, Any]:
    """Where a category stands among others: numbers come first, then what else there is, each kind in its order."""
    return "" if isinstance(value, Number) else type(value).__name__, value


def text(value: Any) -> str:
    """A category for people: a whole number without its point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def encoded_targets(config: DataConfig, frame: "pd.DataFrame") -> tuple[list[str], Array, bool]:
    """Names and values (n, k) of the targets, and whether these are classes. Raises UserError if they cannot be."""
    columns = [frame[name] for name in config.target]
    texts = [str(column.name) for column in columns if not is_numeric(config, column)]
    if config.task != "classes" and not texts:
        return config.target, np.column_stack([to_numbers(column) for column in columns]), False
    if config.task == "regression":
        raise UserError(f"data.task is regression, but the target {shown(texts[0])} is not of numbers: use classes.")
    one = "a single column, as its values are classes, each of which becomes an output"
    check(len(columns) == 1, "data.target", config.target, one)
    found = categories(columns[0])
    if len(found) > MOST_CLASSES:
        raise UserError(
            f"The target {shown(config.target[0])} has {len(found):,} classes: {MOST_CLASSES} are the most."
        )
    texts = [text(value) for value in columns[0]]
    return found, (np.array(texts)[:, None] == np.array(found)).astype(np.float64), True


def check_varied(config: DataConfig, features: dict[str, Array], y: Array) -> None:
    """Raises UserError for a table from which nothing can be learned, as all of its rows are the same."""
    if (y == y[0]).all():
        targets = ", ".join(config.target)
        raise UserError(f"The target {shown(targets)} is the same in all rows: there is nothing to learn.")
    if all((column == column[0]).all() for column in features.values()):
        raise UserError("All features are the same in all rows: there is nothing to learn from.")


def row_names(config: DataConfig, frame: "pd.DataFrame") -> list[str]:
    """The names of rows, by a column or as the table counts them. Raises UserError for a name that is there twice."""
    if config.rows is None:
        return [f"row {number}" for number in frame.index]
    names = [text(value) for value in frame[config.rows]]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(
            f"data.rows is {config.rows}, but several rows are named {shown(twice[0])} there: choose a column of "
            "different names, or none."
        )
    return names
