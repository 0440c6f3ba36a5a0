"""What keys of a config take, and the sentence that says so of a value which one does not."""

import math
import re
from collections.abc import Iterable
from typing import Any

from pipeline.credentials import public_text
from pipeline.errors import UserError
from pipeline.numerics.activations import HIDDEN, OUTPUT
from pipeline.numerics.losses import LOSSES, RAW_SUMS
from pipeline.numerics.optimizer import OPTIMIZERS, SCHEDULES

SCALINGS = ("none", "max", "divide", "standard")
BUNDLED = ("digits",)
TASKS = ("auto", "regression", "classes")
MISSING_RULES = ("error", "drop_rows", "mean", "median")
OUTPUTS = {"rows": "sigmoid", "regression": "identity", "classes": "softmax"}  # usual, by DataConfig.kind
LOSS_OF = {"rows": "half_sse", "regression": "mse", "classes": "bce"}  # the usual loss, where outputs are no softmax
SCHEMES = ("normal", "uniform", "xavier", "he", "constant", "given")
GENERATORS = ("pcg64", "legacy")
DERIVATIVES = ("exact", "of_activation")
NUMERICS = ("auto", "portable", "fast")
ELSEWHERE = ("dask", "futures")  # executors whose workers are not this process's own
EXECUTORS = ("auto", "serial", "processes", *ELSEWHERE)
KERNELS = ("numpy", "numba")

MOST_EPOCHS = 100_000_000  # the curve of one run has a number for each: 800 MB
MOST_WEIGHTS = 10_000_000
MOST_SKIPPED = 100_000
MOST_DRAWN = 100_000_000  # rows: a number of each is 800 MB
MOST_WORKERS = 1024
LONGEST_NAME = 250  # of an experiment in MLflow (its tables have room for 256)
NOT_IN_A_MODEL = "/:@?#%"  # in an address like models:/NAME@ALIAS they mean something


def one_of(choices: Iterable[str]) -> str:
    """The choices in words."""
    names = list(choices)
    return names[0] if len(names) == 1 else f"one of {', '.join(names)}"


NAME = f"a name on one line, not blank, of at most {LONGEST_NAME} characters"
NAMES = "null or a list of names, all different and none empty"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
DIVISOR = "a number other than 0, or a list of such with one a column"
POSITIVE = "a finite number > 0"
COLUMNS = "a list of names of columns, like [hours, slept]"
SHARE = "a number from 0 to below 1: the share of the rows that is held out"
SPOILED = "a number from 0 to 1: a share of the rows to train on"
TAKES = {
    "data.name": NAME,
    "data.X": "a list of rows, each a list of numbers, like [[0, 1], [1, 1]]",
    "data.y": "a list of rows, each a list of numbers, or a list with one number a row, like [0, 1]",
    "data.path": "a CSV or Parquet file, like my.csv (null for inline rows)",
    "data.bundled": f"null or {one_of(BUNDLED)}",
    "data.target": f"{COLUMNS}, of the file",
    "data.features": NAMES,
    "data.targets": NAMES,
    "data.rows": NAMES,
    "data.drop": COLUMNS,
    "data.categorical": f"null (text columns) or {COLUMNS}",
    "data.missing": one_of(MISSING_RULES),
    "data.task": one_of(TASKS),
    "data.groups": "null or the name of a column of a file",
    "data.digest": "null or 16 hex digits",
    "data.scaling": one_of(SCALINGS),
    "data.divide_by": DIVISOR,
    "data.target_scaling": one_of(SCALINGS),
    "data.target_divide_by": DIVISOR,
    "data.draw": f"null (the rows as they are) or a whole number from 1 to {MOST_DRAWN}",
    "data.noise": "a finite number >= 0: a share of each feature's standard deviation",
    "data.draw_seed": f"a whole number from 0 to {2**32 - 1}",
    "data.training_rows": "null (all that are not held out) or a whole number >= 1",
    "data.label_noise": SPOILED,
    "data.outliers": SPOILED,
    "data.validation": SHARE,
    "data.test": SHARE,
    "data.stratify": "true or false",
    "network": "set key by key, as in network.hidden=[4]",
    "network.hidden": "a list of whole numbers >= 1, like [4] or [4, 5] ([] for no hidden layer)",
    "network.activation": f"{one_of(HIDDEN)}, or a list with one for each hidden layer",
    "network.output_activation": one_of(OUTPUT),
    "network.bias": "true or false",
    "init.scheme": one_of(SCHEMES),
    "init.scale": POSITIVE,
    "init.low": "a finite number",
    "init.high": "a finite number above init.low",
    "init.generator": one_of(GENERATORS),
    "init.skip_networks": f"a whole number from 0 to {MOST_SKIPPED}",
    "init.weights": "a list with one matrix (inputs x outputs) a layer",
    "training": "set key by key, as in training.epochs=500",
    "training.learning_rate": POSITIVE,
    "training.epochs": f"a whole number from 0 to {MOST_EPOCHS}",
    "training.loss": one_of(LOSSES),
    "training.metrics": f"a list, without repetitions, of {', '.join(RAW_SUMS)}",
    "training.derivative": one_of(DERIVATIVES),
    "training.batch_size": "null (all rows an update) or a whole number >= 1",
    "training.optimizer": one_of(OPTIMIZERS),
    "training.momentum": "a number from 0 to below 1",
    "training.l2": "a finite number >= 0",
    "training.schedule": one_of(SCHEDULES),
    "training.decay": "a finite number > 0",
    "training.decay_every": "a whole number >= 1",
    "training.patience": "null or a whole number >= 1",
    "seed": f"a whole number from 0 to {2**32 - 1}",
    "numerics": one_of(NUMERICS),
    "register": "true or false",
    "tracking.uri": "like sqlite:///mlflow.db, postgresql://host/database or http://host:5000",
    "tracking.experiment": NAME,
    "tracking.artifacts": "null (beside the database file) or a folder",
    "tracking.curve_points": "a whole number >= 2",
    "tracking.report": "true or false",
    "executor.kind": one_of(EXECUTORS),
    "executor.workers": f"null (all cores) or a whole number from 1 to {MOST_WORKERS}",
    "executor.kernel": one_of(KERNELS),
    "executor.address": "null or a scheduler's address like tcp://host:8786",
    "executor.scheduler_file": "null or a file that `dask scheduler --scheduler-file` wrote",
    "executor.factory": "a class like mpi4py.futures.MPIPoolExecutor",
    "executor.timeout": "a number of seconds > 0",
}


def check(good: bool, key: str, given: object, want: str | None = None) -> None:
    """Raises UserError naming the key, what it was given and what it takes (see TAKES), unless `good`."""
    if not good:
        raise UserError(wrong_value(key, given, want))


def wrong_value(key: str, given: object, want: str | None = None) -> str:
    """The sentence for a value that a key, or a place in its list like `data.X[1]`, does not take."""
    base = re.sub(r"\[.*", "", key)
    subject = "it" if want or base == key else base
    return f"{key} is {shown(given)}, but {subject} must be {want or TAKES[base]}."


def shown(value: object, most: int = 60) -> str:
    """`value` as it would be typed, on one line and cut to a readable length; without passwords of addresses."""
    text = public_text(typed(value))
    if isinstance(value, str) and text.strip() != text:
        text = f'"{text}"'
    text = text or "empty"
    text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return text if len(text) <= most else text[: most - 3] + "..."


def typed(value: object) -> str:
    """`value` as it would be typed on the command line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(typed, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{typed(key)}: {typed(item)}" for key, item in value.items()) + "}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def is_number(value: object) -> bool:
    """True for an int or float that is finite as a float, and is not a bool."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def is_name(text: str) -> bool:
    """True for a text that can name a data set or an experiment: no control characters, which databases refuse."""
    return bool(text.strip()) and len(text) <= LONGEST_NAME and is_text(text) and CONTROL.search(text) is None


def is_text(text: str) -> bool:
    """False for a text with a half of a surrogate pair, which no file can hold: bytes of a shell that are no UTF-8."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def check_model_name(key: str, name: str) -> None:
    """Raises UserError, naming the key, for a name that MLflow's registry does not take or could not find again."""
    good = is_name(name) and name.strip() == name and name not in (".", "..") and not set(name) & set(NOT_IN_A_MODEL)
    check(good, key, name, f"a name on one line with none of {' '.join(NOT_IN_A_MODEL)} in it, to name a model")


def check_matrix(key: str, rows: Any) -> None:
    """Raises UserError unless `rows` is a non-empty list of equally long, non-empty lists of finite numbers."""
    check(isinstance(rows, list) and len(rows) > 0, key, rows, "a list of at least one row, like [[0, 1], [1, 1]]")
    for i, row in enumerate(rows):
        check(isinstance(row, list) and len(row) > 0, f"{key}[{i}]", row, "a row of at least one number, like [0, 1]")
        check(len(row) == len(rows[0]), f"{key}[{i}]", row, f"of length {len(rows[0])}, like the first row")
        check(all(map(is_number, row)), f"{key}[{i}]", row, "made of finite numbers only")


def check_names(key: str, names: Any) -> None:
    """Raises UserError unless `names` is null or a list of distinct, non-empty names."""
    if names is None:
        return
    check(isinstance(names, list) and not any(isinstance(name, list | dict | None) for name in names), key, names)
    texts = [str(name).strip() for name in names]
    check(all(texts) and len(set(texts)) == len(texts) and all(map(is_text, texts)), key, names)


def check_columns(key: str, names: Any) -> None:
    """Raises UserError unless `names` is a list, which may be empty, of distinct, non-empty names."""
    check(isinstance(names, list), key, names)
    check_names(key, names)


def check_divisor(key: str, scaling: str | None, divisor: Any) -> None:
    """Raises UserError unless `divisor` suits: null, or for `divide` one number or one a column, none of them 0."""
    if scaling != "divide":
        check(divisor is None, key, divisor, f"null unless the scaling is divide (it is {scaling})")
        return
    values = divisor if isinstance(divisor, list) else [divisor]
    good = len(values) > 0 and all(is_number(value) and value != 0 for value in values)
    check(good, key, divisor, f"{DIVISOR}, as the scaling is divide")


def check_parts(data: Any) -> None:
    """Raises UserError unless the rows of a data config can be divided into parts as it says."""
    for key in ("validation", "test"):
        share = getattr(data, key)
        check(is_number(share) and 0 <= share < 1, f"data.{key}", share)
    left = f"below {1 - data.validation:g}, as data.validation is {data.validation:g} and some rows must be left"
    check(data.validation + data.test < 1, "data.test", data.test, left)
    check(isinstance(data.stratify, bool), "data.stratify", data.stratify)
    good = not (data.stratify and data.groups)
    check(good, "data.stratify", data.stratify, f"false, as data.groups is {data.groups} and groups stay whole")


def holds_out(data: Any) -> bool:
    """True for a data config that may leave rows out of training."""
    return bool(data.validation or data.test or data.training_rows is not None)


def check_drawing(data: Any) -> None:
    """Raises UserError unless rows can be drawn, limited and spoiled as a data config says."""
    check(data.draw is None or 1 <= data.draw <= MOST_DRAWN, "data.draw", data.draw)
    check(is_number(data.noise) and data.noise >= 0, "data.noise", data.noise)
    check(0 <= data.draw_seed < 2**32, "data.draw_seed", data.draw_seed)
    check(data.training_rows is None or data.training_rows >= 1, "data.training_rows", data.training_rows)
    held = bool(data.validation or data.test)
    copies = data.draw is not None and not data.noise and holds_out(data)
    leak = "a number > 0, as data.draw makes copies of rows, and the same row would be trained on and held out"
    check(not copies, "data.noise", data.noise, leak)
    for key in ("label_noise", "outliers"):
        share = getattr(data, key)
        check(is_number(share) and 0 <= share <= 1, f"data.{key}", share)
        clean = "0, as no rows are held out, which stay as they are: set data.validation or data.test"
        check(held or share == 0, f"data.{key}", share, clean)


def check_shapes(weights: Any, shapes: list[tuple[int, int]]) -> None:
    """Raises UserError unless the given matrices have the network's shapes, (inputs, outputs) of each layer."""
    given = [(len(matrix), len(matrix[0])) for matrix in weights]
    if given != shapes:
        raise UserError(
            f"init.weights has the shapes {shown(given)}, but it must have {shown(shapes)}, [inputs, outputs] of each "
            "layer, as data and network.hidden say."
        )
