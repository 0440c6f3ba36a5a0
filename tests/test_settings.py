"""Settings of calls from Python: names, types, several values, and the sentence for what cannot be used."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.checks import TAKES
from pipeline.config import RunConfig
from pipeline.errors import UserError
from pipeline.python.settings import KEYS, SHORT, TYPES, combinations, key_of, named, plain, typed


def test_every_key_of_the_config_has_a_short_name_of_its_own() -> None:
    assert len({name for name in SHORT if SHORT[name].endswith(name)}) == len(KEYS)
    assert set(TAKES) - {"network", "training", "register"} == set(TYPES)
    assert {key.partition(".")[0] for key in TYPES} == {one.name for one in fields(RunConfig)} - {"register"}


@pytest.mark.parametrize("name", ["training.optimizer", "optimizer"])
def test_a_key_has_two_names(name: str) -> None:
    assert named({name: "adam"}, {}) == named({}, {name: "adam"}) == {"training.optimizer": "adam"}


def test_groups_are_named_as_on_the_command_line() -> None:
    given = named(None, {"init": "he", "executor": "serial", "tracking": "sqlite:///a.db"})
    assert given == {"init.scheme": "he", "executor.kind": "serial", "tracking.uri": "sqlite:///a.db"}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("learning_rat", "learning_rat is not a key of the config: did you mean learning_rate?"),
        ("training.epoch", "training.epoch is not a key of the config: did you mean training.epochs?"),
        ("data.X", "data.X is no setting: X and y are the data, or X is a frame, a file or a data set's name."),
        ("register", "register is not a key of the config: "),
    ],
)
def test_an_unknown_key(name: str, sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        key_of(name)
    assert str(raised.value).startswith(sentence)


def test_settings_are_a_dict() -> None:
    with pytest.raises(UserError, match=r"^settings is \[4\], but it must be keys with values, like"):
        named([4], {})  # type: ignore[arg-type]


def test_a_key_is_given_once() -> None:
    with pytest.raises(UserError, match=r"^training\.epochs is given twice: give it once"):
        named({"training.epochs": 5}, {"epochs": 6})


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        (np.float32(0.5), 0.5),
        (np.array([3, 4]), [3, 4]),
        (np.array(7), 7),
        (pd.Series([1.5]), [1.5]),
        (range(3), [0, 1, 2]),
        (((1, 2), (np.int64(3),)), [[1, 2], [3]]),
        (Path("a") / "b", "a/b"),
        (None, None),
    ],
    ids=repr,
)
def test_values_become_plain(value: Any, becomes: Any) -> None:
    found = plain(value)
    assert found == becomes
    assert type(found) is type(becomes)


def test_a_whole_number_is_a_float_where_the_config_has_floats() -> None:
    """1 and 1.0 would be two fingerprints."""
    assert repr(typed("training.learning_rate", 1)) == "1.0"
    assert repr(typed("training.epochs", 1)) == "1"
    assert repr(typed("data.divide_by", 16)) == "16"  # as on the command line


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("training.epochs", 1.0, "training.epochs is 1.0, but it must be a whole number from 0 to 100000000."),
        ("training.epochs", True, "training.epochs is true, but it must be a whole number from 0 to 100000000."),
        ("training.learning_rate", "0.5", "training.learning_rate is 0.5, but it must be a finite number > 0."),
        (
            "training.learning_rate",
            [0.1, 0.5],
            "training.learning_rate is [0.1, 0.5], but it must be a finite number > 0; several values are for sweep.",
        ),
        ("network.hidden", ["4"], "network.hidden is [4], but it must be a list of whole numbers >= 1, like [4]"),
        ("network.hidden", 4, "network.hidden is 4, but it must be a list of whole numbers >= 1, like [4]"),
        ("training.loss", {"mse": 1}, "training.loss is {mse: 1}, but it must be one of sse, half_sse, mse"),
        ("seed", None, "seed is null, but it must be a whole number from 0 to 4294967295."),
    ],
    ids=str,
)
def test_a_value_of_the_wrong_type(key: str, value: Any, sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        typed(key, value)
    assert str(raised.value).startswith(sentence)


@pytest.mark.parametrize(
    ("key", "value", "values"),
    [
        ("seed", 3, [3]),
        ("seed", [0, 1], [0, 1]),
        ("training.batch_size", [None, 32], [None, 32]),
        ("network.activation", ["tanh", "relu"], ["tanh", "relu"]),
        ("network.activation", [["tanh", "relu"]], [["tanh", "relu"]]),
        ("network.hidden", [4, 5], [[4, 5]]),
        ("network.hidden", [], [[]]),
        ("network.hidden", [[], [4], [4, 5]], [[], [4], [4, 5]]),
        ("training.metrics", ["mse", "sse"], [["mse", "sse"]]),
        ("data.drop", [[], ["sandwiches"]], [[], ["sandwiches"]]),
        ("init.weights", [[[1.0], [2.0]], [[3.0]]], [[[[1.0], [2.0]], [[3.0]]]]),
    ],
    ids=str,
)
def test_a_list_is_several_values_unless_the_key_takes_lists(key: str, value: Any, values: list[Any]) -> None:
    assert combinations({key: value}) == [{key: one} for one in values]


def test_all_combinations_the_last_key_fastest() -> None:
    found = combinations({"network.hidden": [[2], [4]], "training.epochs": 5, "seed": [0, 1]})
    assert [(one["network.hidden"], one["seed"]) for one in found] == [([2], 0), ([2], 1), ([4], 0), ([4], 1)]
    assert all(one["training.epochs"] == 5 for one in found)


def test_a_sweep_has_a_limit_and_every_key_a_value() -> None:
    with pytest.raises(UserError, match=r"^These are 1,000,001 runs, and a sweep has at most 1,000,000: leave some"):
        combinations({"seed": list(range(1_000_001))})
    with pytest.raises(UserError, match=r"^seed has no value: name at least one"):
        combinations({"seed": []})
