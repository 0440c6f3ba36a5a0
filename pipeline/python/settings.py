"""The settings of a call from Python: config keys by their dotted or short names, with plain values of their types."""

import dataclasses
import difflib
import itertools
import math
import os
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from pipeline.checks import TAKES, check, shown
from pipeline.config import DataConfig, RunConfig
from pipeline.errors import UserError

MOST_RUNS = 1_000_000
SECTIONS: dict[str, Any] = {
    key: kind for key, kind in get_type_hints(RunConfig).items() if dataclasses.is_dataclass(kind)
}
TYPES: dict[str, Any] = {
    f"{section}.{key}": kind for section, fields in SECTIONS.items() for key, kind in get_type_hints(fields).items()
} | {"seed": int, "numerics": str}
THE_DATA = ("data.X", "data.y", "data.path", "data.bundled", "data.digest")  # what X and y are for
KEYS = [key for key in TYPES if key not in THE_DATA]
GROUPS = {"init": "init.scheme", "executor": "executor.kind", "tracking": "tracking.uri"}  # as on the command line
SHORT = {key.rpartition(".")[2]: key for key in KEYS} | GROUPS
LISTED = ("divide_by", "target_divide_by", "drop", "features", "target", "targets", "rows", "categorical")
LISTS = {  # the keys whose values are lists, and how deep
    **{f"data.{key}": 1 for key in LISTED},
    **{"network.hidden": 1, "training.metrics": 1, "init.weights": 3},
}

Values = dict[str, Any]


def named(settings: Mapping[str, Any] | None, keys: Mapping[str, Any]) -> Values:
    """All settings by dotted key, with plain values (no NumPy). Raises UserError for an unknown key, or one twice."""
    if not isinstance(settings, Mapping | None):
        raise UserError(f"settings is {shown(settings)}, but it must be keys with values, like {{'epochs': 500}}.")
    values: Values = {}
    for name, value in itertools.chain((settings or {}).items(), keys.items()):
        key = key_of(name)
        if key in values:
            raise UserError(f"{key} is given twice: give it once, as {shown(name)} or by its dotted name.")
        values[key] = plain(value)
    return values


def key_of(name: str) -> str:
    """The dotted key of a dotted or short name. Raises UserError if there is none."""
    key = SHORT.get(name, name)
    if key in KEYS:
        return key
    if key in THE_DATA:
        raise UserError(f"{key} is no setting: X and y are the data, or X is a frame, a file or a data set's name.")
    close = difflib.get_close_matches(name, [*SHORT, *KEYS], n=1)
    hint = f"did you mean {close[0]}?" if close else f"the keys are {', '.join(SHORT)}."
    raise UserError(f"{shown(name)} is not a key of the config: {hint}")


def plain(value: Any) -> Any:
    """A value of Python's own types: of NumPy's and pandas', lists and numbers; of a tuple or range, a list."""
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple | range):
        return [plain(one) for one in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def typed(key: str, value: Any) -> Any:
    """The value as the config has it: a whole number for a key of floats becomes a float. Raises UserError."""
    kind = TYPES[key]
    several = "; several values are for sweep" if isinstance(value, list) and key not in LISTS else ""
    check(fits(kind, value), key, value, f"{TAKES[key]}{several}" if key in TAKES else None)
    return float(value) if kind is float else value


def fits(kind: Any, value: Any) -> bool:
    """Whether a plain value is of a config key's type."""
    if get_origin(kind) is UnionType:
        return any(fits(one, value) for one in get_args(kind))
    if get_origin(kind) is list:
        return isinstance(value, list) and all(fits(get_args(kind)[0], one) for one in value)
    if kind is Any:
        return all(one is None or isinstance(one, bool | int | float | str) for one in flat(value))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return value is None if kind is NoneType else type(value) is kind


def flat(value: Any) -> Iterator[Any]:
    """What lists in lists hold."""
    if isinstance(value, list):
        for one in value:
            yield from flat(one)
    else:
        yield value


def data_config(values: Mapping[str, Any]) -> DataConfig:
    """The data's section of a config from values by field name. Raises UserError."""
    return DataConfig(**{key: typed(f"data.{key}", value) for key, value in values.items()})


def of_section(name: str, values: Values) -> Values:
    """The values of a section's keys, by field name."""
    return {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{name}.")}


class Configs:
    """Builds configs; those that agree in a section share it, as runs of a sweep should."""

    def __init__(self) -> None:
        self._sections: dict[str, Any] = {}

    def __call__(self, data: DataConfig, values: Values) -> RunConfig:
        """The config of this data and these values. Raises UserError for one that cannot be used."""
        parts = {name: self._section(name, of_section(name, values)) for name in SECTIONS if name != "data"}
        top = {key: typed(key, values[key]) for key in ("seed", "numerics") if key in values}
        return RunConfig(data=data, **parts, **top)

    def _section(self, name: str, values: Values) -> Any:
        place = f"{name} {values!r}"
        if place not in self._sections:
            checked = {key: typed(f"{name}.{key}", value) for key, value in values.items()}
            self._sections[place] = SECTIONS[name](**checked)
        return self._sections[place]


def combinations(values: Values) -> list[Values]:
    """Every combination of the values that keys are to have, the last key's changing fastest.

    A list is several values; for a key that takes lists, a list of lists is. Raises UserError for one without values.
    """
    choices = {key: choices_of(key, value) for key, value in values.items()}
    count = math.prod(map(len, choices.values()))
    if count > MOST_RUNS:
        raise UserError(f"These are {count:,} runs, and a sweep has at most {MOST_RUNS:,}: leave some values out.")
    return [dict(zip(choices, chosen, strict=True)) for chosen in itertools.product(*choices.values())]


def choices_of(key: str, value: Any) -> list[Any]:
    """The values that a key is to have."""
    if depth(value) <= LISTS.get(key, 0):
        return [value]
    if not value:
        raise UserError(f"{key} has no value: name at least one.")
    return list(value)


def depth(value: Any) -> int:
    """How many lists are around the innermost value."""
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0
