"""The config's dataclasses: what each key takes, and the sentence for what it does not."""

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.checks import TAKES, is_number, shown, wrong_value
from pipeline.composing.compose import SECTIONS
from pipeline.config import RunConfig
from pipeline.errors import UserError
from tests.factory import PROPERTY, config, run

SEED = "a whole number from 0 to 4294967295"
EPOCHS = "a whole number from 0 to 100000000"
HIDDEN = "a list of whole numbers >= 1, like [4] or [4, 5] ([] for no hidden layer)"
METRICS = (
    "a list, without repetitions, of sse, half_sse, mse, sum_abs, half_sum_abs, mean_abs, bce, cross_entropy, accuracy"
)
NAMES = "null or a list of names, all different and none empty"
WEIGHTS = "a list with one matrix (inputs x outputs) a layer, as init.scheme is given"
DIVISOR = "a number other than 0, or a list of such with one a column, as the scaling is divide"
ROW = "a row of at least one number, like [0, 1]"
ROWS = "a list of at least one row, like [[0, 1], [1, 1]]"
XOR = [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_every_key_says_what_it_takes() -> None:
    keys = [field.name for field in dataclasses.fields(RunConfig) if field.name not in SECTIONS]
    keys += [f"{name}.{field.name}" for name, kind in SECTIONS.items() for field in dataclasses.fields(kind)]
    assert sorted(TAKES) == sorted([*keys, "network", "training"])


def test_the_defaults() -> None:
    found = config()
    assert (found.network.hidden, found.network.activation, found.network.bias) == ([4], "sigmoid", False)
    assert (found.init.scheme, found.init.generator, found.init.skip_networks) == ("normal", "pcg64", 0)
    assert (found.training.loss, found.training.learning_rate, found.training.epochs) == ("half_sse", 0.5, 1000)
    assert (found.training.derivative, found.training.metrics, found.training.batch_size) == ("exact", [], None)
    assert (found.seed, found.numerics, found.executor.kind) == (0, "auto", "auto")


@pytest.mark.parametrize(
    "values",
    [
        {"seed": 0},
        {"seed": 2**32 - 1},
        {"epochs": 0},
        {"epochs": 100_000_000},
        {"learning_rate": 5e-324},
        {"learning_rate": 1e308},
        {"hidden": []},
        {"hidden": [1]},
        {"X": [[1]], "y": [5]},
        {"X": XOR, "y": [[0, 1], [1, 0], [1, 0], [0, 1]]},
        {"features": None, "rows": ["a", 2, 0.5, "b"]},
        {"scheme": "uniform", "low": 0.0, "high": 1e-300},
        {"scheme": "given", "hidden": [], "X": XOR, "y": [0, 1, 1, 0], "weights": [[[1], [2]]]},
        {"scaling": "divide", "divide_by": -2},
        {"scaling": "divide", "divide_by": [1, 2, 0.5]},
        {"curve_points": 2},
    ],
    ids=str,
)
def test_the_ends_of_every_range_are_taken(values: dict[str, Any]) -> None:
    assert isinstance(config(**values), RunConfig)


def test_a_flat_y_is_one_output() -> None:
    assert config(X=XOR, y=[0, 1, 1, 0]).data.y == [[0], [1], [1], [0]]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"seed": -1}, f"seed is -1, but it must be {SEED}."),
        ({"seed": 2**32}, f"seed is 4294967296, but it must be {SEED}."),
        ({"numerics": "foo"}, "numerics is foo, but it must be one of auto, portable, fast."),
        ({"learning_rate": 0.0}, "training.learning_rate is 0.0, but it must be a finite number > 0."),
        ({"learning_rate": -1.0}, "training.learning_rate is -1.0, but it must be a finite number > 0."),
        ({"learning_rate": float("nan")}, "training.learning_rate is nan, but it must be a finite number > 0."),
        ({"learning_rate": float("inf")}, "training.learning_rate is inf, but it must be a finite number > 0."),
        ({"epochs": -1}, f"training.epochs is -1, but it must be {EPOCHS}."),
        ({"epochs": 10**8 + 1}, f"training.epochs is 100000001, but it must be {EPOCHS}."),
        ({"loss": "foo"}, "training.loss is foo, but it must be one of sse, half_sse, mse, bce, cross_entropy."),
        (
            {"loss": "mean_abs"},
            "training.loss is mean_abs, but it must be one of sse, half_sse, mse, bce, cross_entropy.",
        ),
        ({"metrics": "mse"}, f"training.metrics is mse, but it must be {METRICS}."),
        ({"metrics": ["mse", "foo"]}, f"training.metrics is [mse, foo], but it must be {METRICS}."),
        ({"metrics": ["mse", "mse"]}, f"training.metrics is [mse, mse], but it must be {METRICS}."),
        ({"derivative": "foo"}, "training.derivative is foo, but it must be one of exact, of_activation."),
        (
            {"batch_size": 0},
            "training.batch_size is 0, but it must be null (all rows an update) or a whole number >= 1.",
        ),
        ({"hidden": [4, 0]}, f"network.hidden is [4, 0], but it must be {HIDDEN}."),
        ({"hidden": [[4]]}, f"network.hidden is [[4]], but it must be {HIDDEN}."),
        ({"hidden": [True]}, f"network.hidden is [true], but it must be {HIDDEN}."),
        ({"hidden": [2.5]}, f"network.hidden is [2.5], but it must be {HIDDEN}."),
        ({"hidden": 4}, f"network.hidden is 4, but it must be {HIDDEN}."),
        (
            {"hidden": [10**7]},
            "network.hidden is [10000000], but it must be of at most 10000000 weights in all, "
            "and these layers have 40000000.",
        ),
        (
            {"activation": "foo"},
            "network.activation is foo, but it must be one of sigmoid, tanh, relu, leaky_relu, identity, or a list "
            "with one for each hidden layer.",
        ),
        (
            {"output_activation": "foo"},
            "network.output_activation is foo, but it must be one of sigmoid, tanh, relu, leaky_relu, identity, "
            "softmax.",
        ),
        ({"bias": 1}, "network.bias is 1, but it must be true or false."),
        ({"bias": None}, "network.bias is null, but it must be true or false."),
        ({"scheme": "foo"}, "init.scheme is foo, but it must be one of normal, uniform, xavier, he, constant, given."),
        ({"generator": "mt"}, "init.generator is mt, but it must be one of pcg64, legacy."),
        ({"scale": 0.0}, "init.scale is 0.0, but it must be a finite number > 0."),
        ({"low": float("nan")}, "init.low is nan, but it must be a finite number."),
        ({"low": 2.0}, "init.high is 1.0, but it must be a finite number above init.low, which is 2.0."),
        ({"high": -1.0}, "init.high is -1.0, but it must be a finite number above init.low, which is -1.0."),
        ({"skip_networks": -1}, "init.skip_networks is -1, but it must be a whole number from 0 to 100000."),
        ({"weights": [[[1]]]}, "init.weights is [[[1]]], but it must be null, as init.scheme is normal."),
        ({"scheme": "given"}, f"init.weights is null, but it must be {WEIGHTS}."),
        ({"scheme": "given", "weights": []}, f"init.weights is [], but it must be {WEIGHTS}."),
        ({"scheme": "given", "weights": [[1, 2]]}, f"init.weights[0][0] is 1, but it must be {ROW}."),
        (
            {"scheme": "given", "weights": [[[1, 2], [3]]]},
            "init.weights[0][1] is [3], but it must be of length 2, like the first row.",
        ),
        (
            {"scheme": "given", "weights": [[["a"]]]},
            "init.weights[0][0] is [a], but it must be made of finite numbers only.",
        ),
        (
            {"scheme": "given", "hidden": [2], "weights": [[[1, 2], [3, 4]], [[1], [2]]]},
            "init.weights has the shapes [[2, 2], [2, 1]], but it must have [[3, 2], [2, 1]], [inputs, outputs] of "
            "each layer, as data and network.hidden say.",
        ),
        ({"X": None}, "data.X is null, but it must be a list of rows, each a list of numbers, like [[0, 1], [1, 1]]."),
        ({"X": []}, f"data.X is [], but it must be {ROWS}."),
        ({"X": [[]]}, f"data.X[0] is [], but it must be {ROW}."),
        ({"X": [1, 2, 3]}, f"data.X[0] is 1, but it must be {ROW}."),
        ({"X": [[1, 2], [3]]}, "data.X[1] is [3], but it must be of length 2, like the first row."),
        ({"X": [[1, "a"]]}, "data.X[0] is [1, a], but it must be made of finite numbers only."),
        ({"X": [[1, float("nan")]]}, "data.X[0] is [1, nan], but it must be made of finite numbers only."),
        ({"X": [[1, True]]}, "data.X[0] is [1, true], but it must be made of finite numbers only."),
        ({"X": [[1, None]]}, "data.X[0] is [1, null], but it must be made of finite numbers only."),
        ({"X": [[10**400]]}, f"data.X[0] is [1{'0' * 55}..., but it must be made of finite numbers only."),
        ({"X": [[1, 2]]}, "data.y has 4 rows, but it must have 1, as data.X has."),
        ({"y": []}, f"data.y is [], but it must be {ROWS}."),
        ({"y": [1, [2], 3, 4]}, f"data.y[0] is 1, but it must be {ROW}."),
        ({"y": ["a", "b"]}, "data.y[0] is [a], but it must be made of finite numbers only."),
        ({"name": " "}, 'data.name is " ", but it must be a name on one line, not blank, of at most 250 characters.'),
        (
            {"experiment": "x" * 501},
            f"tracking.experiment is {'x' * 57}..., but it must be a name on one line, not blank, of at most 250 "
            "characters.",
        ),
        ({"features": "a"}, f"data.features is a, but it must be {NAMES}."),
        ({"features": ["a", "a"]}, f"data.features is [a, a], but it must be {NAMES}."),
        ({"targets": [["a"]]}, f"data.targets is [[a]], but it must be {NAMES}."),
        ({"rows": ["a", ""]}, f"data.rows is [a, ], but it must be {NAMES}."),
        ({"scaling": "foo"}, "data.scaling is foo, but it must be one of none, max, divide, standard."),
        ({"target_scaling": "foo"}, "data.target_scaling is foo, but it must be one of none, max, divide, standard."),
        ({"scaling": "divide"}, f"data.divide_by is null, but it must be {DIVISOR}."),
        ({"scaling": "divide", "divide_by": 0}, f"data.divide_by is 0, but it must be {DIVISOR}."),
        ({"scaling": "divide", "divide_by": []}, f"data.divide_by is [], but it must be {DIVISOR}."),
        ({"scaling": "divide", "divide_by": [1, "a"]}, f"data.divide_by is [1, a], but it must be {DIVISOR}."),
        ({"target_scaling": "divide"}, f"data.target_divide_by is null, but it must be {DIVISOR}."),
        ({"divide_by": 4}, "data.divide_by is 4, but it must be null unless the scaling is divide (it is none)."),
        ({"curve_points": 1}, "tracking.curve_points is 1, but it must be a whole number >= 2."),
        (
            {"artifacts": ""},
            "tracking.artifacts is empty, but it must be null (beside the database file) or a folder.",
        ),
        (
            {"experiment": ""},
            "tracking.experiment is empty, but it must be a name on one line, not blank, of at most 250 characters.",
        ),
    ],
    ids=str,
)
def test_a_value_that_a_key_does_not_take(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        config(**values)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        ("", "empty"),
        (" ", '" "'),
        ("a", "a"),
        (1e-3, "0.001"),
        ([1, [None, "a"]], "[1, [null, a]]"),
        ((1, 2), "[1, 2]"),
        ({"a": False}, "{a: false}"),
        ("a\nb\x1b[31m\ud800", "a\\nb\\x1b[31m\\ud800"),
        ("ä☃", "ä☃"),
        ("x" * 61, "x" * 57 + "..."),
    ],
    ids=repr,
)
def test_values_are_shown_as_they_would_be_typed(value: object, text: str) -> None:
    assert shown(value) == text


@PROPERTY
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=20))
def test_whatever_is_shown_is_short_and_on_one_line(value: object) -> None:
    text = shown(value)
    assert 0 < len(text) <= 60
    assert text.isprintable()


def test_a_place_in_a_list_is_told_from_its_key() -> None:
    assert wrong_value("network.hidden[1]", "a") == f"network.hidden[1] is a, but network.hidden must be {HIDDEN}."


@pytest.mark.parametrize("value", [True, None, "1", float("inf"), float("nan"), 10**400, [1]], ids=lambda v: str(v)[:9])
def test_what_is_no_number(value: object) -> None:
    assert not is_number(value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"y": [[5], [2], [3], [1]], "loss": "bce"},
            "training.loss has bce, which is for targets from 0 to 1, but the network is given others, from 1 to 5",
        ),
        (
            {"y": [[1, 1], [0, 1], [1, 1], [0, 1]], "loss": "cross_entropy", "output_activation": "softmax"},
            "training.loss has cross_entropy, which is for targets that add up to 1 in each row",
        ),
        (
            {"y": [[0], [1], [0], [0]], "target_scaling": "standard", "metrics": ["accuracy"]},
            "training.metrics has accuracy, which is for targets from 0 to 1",
        ),
    ],
)
def test_targets_that_a_loss_or_metric_is_not_defined_for_are_told(changes: dict[str, Any], sentence: str) -> None:
    X = [[0, 0, 1], [1, 1, 1], [1, 0, 1], [0, 1, 1]]
    with pytest.raises(UserError, match=sentence):
        run(**{"X": X, "loss": "half_sse"} | changes)


def test_copies_of_rows_are_not_both_trained_on_and_held_out() -> None:
    with pytest.raises(
        UserError, match=r"data\.noise is 0\.0, but it must be a number > 0, as data\.draw makes copies"
    ):
        run(X=[[0], [1]], y=[[0], [1]], draw=50, validation=0.2)
    assert run(X=[[0], [1]], y=[[0], [1]], draw=50).sample.held == {}
