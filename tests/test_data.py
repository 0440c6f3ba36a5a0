"""Data sets: scaling and the way back, names where none are given, and what the digest depends on."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.config import DataConfig
from pipeline.data import Dataset, fit_scale, make_dataset
from pipeline.errors import UserError
from tests.factory import EXAM, PROPERTY

BASE: dict[str, Any] = {
    "X": [[2, 9], [1, 5], [3, 6]],
    "y": [[92, 1], [86, 2], [89, 4]],
    "features": ["studied", "slept"],
    "targets": ["score", "rank"],
    "rows": ["Ann", "Bea", "Cem"],
}


def dataset(**changes: Any) -> Dataset:
    """The data set BASE with some keys changed."""
    return make_dataset(DataConfig(**(BASE | changes)))


def test_unscaled_data_are_the_rows_as_they_are() -> None:
    found = dataset()
    np.testing.assert_array_equal(found.X, [[2.0, 9.0], [1.0, 5.0], [3.0, 6.0]])
    np.testing.assert_array_equal(found.y, [[92.0, 1.0], [86.0, 2.0], [89.0, 4.0]])
    assert found.X.dtype == found.y.dtype == np.float64
    assert found.input_scale.is_identity
    assert found.target_scale.is_identity


def test_max_divides_each_column_by_its_largest_value() -> None:
    found = dataset(scaling="max", target_scaling="max")
    np.testing.assert_array_equal(found.X, [[2 / 3, 1.0], [1 / 3, 5 / 9], [1.0, 6 / 9]])
    np.testing.assert_array_equal(found.y, [[1.0, 0.25], [86 / 92, 0.5], [89 / 92, 1.0]])
    assert not found.input_scale.is_identity


def test_the_exam_data_are_scaled_as_in_the_text() -> None:
    """Inputs by the maxima 3 and 9, scores by 100 (exam text: X / amax(X, axis=0), y / 100)."""
    keys = ("X", "y", "scaling", "target_scaling", "target_divide_by")
    found = make_dataset(DataConfig(**{key: EXAM[key] for key in keys}))
    np.testing.assert_array_equal(found.X, np.array(EXAM["X"]) / [3, 9])
    np.testing.assert_array_equal(found.y, [[0.92], [0.86], [0.89]])


@pytest.mark.parametrize(("divisor", "columns"), [(4, [4, 4]), ([4], [4, 4]), ([2, 10], [2, 10]), (-0.5, [-0.5, -0.5])])
def test_divide_takes_one_number_or_one_a_column(divisor: Any, columns: list[float]) -> None:
    found = dataset(scaling="divide", divide_by=divisor, target_scaling="divide", target_divide_by=divisor)
    np.testing.assert_array_equal(found.X, np.array(BASE["X"]) / columns)
    np.testing.assert_array_equal(found.y, np.array(BASE["y"]) / columns)


def test_standard_subtracts_the_mean_and_divides_by_the_standard_deviation() -> None:
    """Columns 1, 3 (mean 2, deviation 1) and -4, 2 (mean -1, deviation 3): both become -1, 1."""
    found = dataset(X=[[1, -4], [3, 2]], y=[[0], [1]], rows=None, targets=None, scaling="standard")
    np.testing.assert_array_equal(found.X, [[-1.0, -1.0], [1.0, 1.0]])
    np.testing.assert_array_equal(found.input_scale.offset, [2.0, -1.0])
    np.testing.assert_array_equal(found.input_scale.factor, [1.0, 3.0])


@pytest.mark.parametrize(
    "value",
    [7, 0, 0.1],
)
def test_standard_moves_a_constant_column_to_0_and_does_not_divide_by_0(value: float) -> None:
    found = dataset(X=[[value, 1], [value, 3], [value, 5]], scaling="standard")
    np.testing.assert_array_equal(found.X[:, 0], [0.0, 0.0, 0.0])
    assert found.input_scale.factor[0] == 1.0


def test_new_rows_are_scaled_with_the_scale_of_the_training_rows() -> None:
    """The exam text divides [4, 8] by its own maximum; by the training maxima 3 and 9 it is [1.3333, 0.8889]."""
    scaled = dataset(scaling="max").input_scale.apply(np.array([[4.0, 8.0]]))
    np.testing.assert_array_equal(scaled, [[4 / 3, 8 / 9]])


@pytest.mark.parametrize("kind", ["none", "max", "divide", "standard"])
@PROPERTY
@given(x=arrays.arrays(np.float64, (5, 2), elements=st.floats(1e-3, 1e6)))
def test_invert_takes_scaled_values_back(kind: str, x: Any) -> None:
    scale = fit_scale("data.scaling", kind, [3.0, 0.7] if kind == "divide" else None, x)
    np.testing.assert_allclose(scale.invert(scale.apply(x)), x, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("key", ["scaling", "target_scaling"])
def test_a_column_without_a_positive_maximum_is_refused_by_max(key: str) -> None:
    change = {"X": [[0, 1], [-1, 1], [0, 2]], "y": [[-1, 1], [0, 1], [0, 1]], key: "max"}
    sentence = (
        f"data.{key} is max, but it must be none, divide or standard, "
        "as a column without a positive maximum cannot be divided by it."
    )
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        dataset(**change)


@pytest.mark.parametrize("prefix", ["", "target_"])
def test_as_many_divisors_as_columns_are_asked_for(prefix: str) -> None:
    sentence = f"data.{prefix}divide_by is [1, 2, 3], but it must be one number, or 2 (one a column)."
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        dataset(**{f"{prefix}scaling": "divide", f"{prefix}divide_by": [1, 2, 3]})


@pytest.mark.parametrize(
    "change",
    [
        {"X": [[1e308, 1]], "y": [[1]], "scaling": "divide", "divide_by": 1e-10},
        {"X": [[1]], "y": [[1e308]], "target_scaling": "divide", "target_divide_by": 1e-10},
        {"X": [[1e308], [1.1e308]], "y": [[1], [2]], "scaling": "standard"},
        {"X": [[1e200], [0]], "y": [[1], [2]], "scaling": "standard"},
    ],
    ids=str,
)
def test_numbers_that_overflow_when_scaled_are_refused_in_one_sentence(change: dict[str, Any]) -> None:
    sentence = "data.X and data.y must stay finite when scaled: choose another data.scaling or smaller numbers."
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        dataset(**change)


def test_a_single_number_a_target_row_is_one_output() -> None:
    assert dataset(y=[1, 2, 4], targets=None).y.tolist() == [[1.0], [2.0], [4.0]]


def test_given_names_are_used_stripped() -> None:
    found = dataset(features=[" a", "b "], targets=["c", 4], rows=["x", "y", " z "])
    assert (found.features, found.targets, found.rows) == (("a", "b"), ("c", "4"), ("x", "y", "z"))


def test_without_names_columns_are_numbered_and_a_row_is_called_by_its_numbers() -> None:
    found = dataset(X=[[0, 0.25], [1, -3]], y=[[1], [2]], features=None, targets=None, rows=None)
    assert (found.features, found.targets, found.rows) == (("x0", "x1"), ("y",), ("0 0.25", "1 -3"))


def test_several_outputs_without_names_are_numbered() -> None:
    assert dataset(targets=None).targets == ("y0", "y1")


def test_a_single_feature_is_numbered_too() -> None:
    assert dataset(X=[[1], [2], [3]], features=None).features == ("x0",)


@pytest.mark.parametrize("X", [[[1, 2], [1, 2], [0, 0]], [[1.0000001, 2], [1, 2], [0, 0]]])
def test_rows_that_look_alike_are_numbered(X: list[list[float]]) -> None:
    assert dataset(X=X, rows=None).rows == ("row 0", "row 1", "row 2")


def test_names_that_do_not_fit_in_number_are_not_used() -> None:
    """They are those of a configured data set whose rows were replaced on the command line."""
    found = dataset(X=[[0, 1, 2]], y=[[5]])
    assert (found.features, found.targets, found.rows) == (("x0", "x1", "x2"), ("y",), ("0 1 2",))


@pytest.mark.parametrize(
    "change",
    [
        {"X": [[2, 9], [1, 5], [3, 6.000000000000001]]},
        {"y": [[92, 1], [86, 2], [89, 4.000000000000001]]},
        {"X": [[1, 5], [2, 9], [3, 6]]},  # other order of rows
        {"X": [[9, 2], [5, 1], [6, 3]]},
        {"X": [[2, 9, 1], [1, 5, 1], [3, 6, 1]], "features": None},
        {"features": ["studied", "sleep"]},
        {"features": ["slept", "studied"]},
        {"features": None},
        {"targets": ["score", "place"]},
        {"rows": ["Ann", "Bea", "Dan"]},
        {"rows": None},
    ],
    ids=str,
)
def test_the_digest_changes_with(change: dict[str, Any]) -> None:
    assert dataset(**change).digest != dataset().digest


def test_the_digest_tells_shapes_apart_that_have_the_same_numbers() -> None:
    names = {"features": ["a"], "targets": ["b"], "rows": ["r"]}
    wide = dataset(**names, X=[[1, 2, 3]], y=[[4]])
    even = dataset(**names, X=[[1, 2]], y=[[3, 4]])
    tall = dataset(**names, X=[[1], [2]], y=[[3], [4]])
    assert len({wide.digest, even.digest, tall.digest}) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"X": [[2.0, 9.0], [1.0, 5.0], [3.0, 6.0]]},
        {"name": "another"},
        {"scaling": "max"},
        {"scaling": "divide", "divide_by": 3},
        {"target_scaling": "standard"},
        {"features": [" studied", "slept "]},
    ],
    ids=str,
)
def test_the_digest_does_not_change_with(change: dict[str, Any]) -> None:
    assert dataset(**change).digest == dataset().digest


def test_the_digest_is_the_same_on_every_machine() -> None:
    """Computed once with this code: a change would make every stored run look like another one."""
    assert dataset().digest == "31070590fe79afae"


def test_the_key_depends_on_the_scaled_numbers_and_their_shape_only() -> None:
    assert dataset(name="another", rows=None, features=None).key == dataset().key
    assert dataset(scaling="max").key != dataset().key
    assert dataset(X=[[1, 2]], y=[[3, 4]]).key != dataset(X=[[1, 2, 3]], y=[[4]]).key
    assert dataset(X=[[1, 2], [3, 4]], y=[[5], [6]]).key != dataset(X=[[1], [2]], y=[[3, 4], [5, 6]]).key


# --- rows drawn anew --------------------------------------------------------------------------------------------

DRAWN: dict[str, Any] = {
    "X": [[0, 5], [1, 5], [2, 5]],
    "y": [0, 1, 2],
    "rows": ["a", "b", "c"],
    "features": ["x", "constant"],
}


def drawn(**keys: Any) -> Dataset:
    return make_dataset(DataConfig(**(DRAWN | keys)))


def test_rows_are_drawn_with_their_targets_and_have_names_of_their_own() -> None:
    one = drawn(draw=200)
    assert one.raw_X.shape == (200, 2)
    np.testing.assert_array_equal(one.raw_X[:, :1], one.raw_y)
    assert set(one.raw_y.ravel().tolist()) == {0.0, 1.0, 2.0}
    assert one.rows[0] == "1 " + "abc"[int(one.raw_y[0, 0])]
    assert len(set(one.rows)) == 200


def test_noise_has_its_share_of_each_features_deviation_and_none_where_that_is_0() -> None:
    one = drawn(draw=20_000, noise=0.5)
    noise = one.raw_X[:, 0] - one.raw_y[:, 0]
    assert noise.std() == pytest.approx(0.5 * np.std([0, 1, 2]), rel=0.02)
    assert abs(noise.mean()) < 0.01
    assert set(one.raw_X[:, 1].tolist()) == {5.0}


def test_noise_alone_leaves_the_rows_their_order() -> None:
    one = drawn(noise=0.1)
    assert one.raw_y.ravel().tolist() == [0, 1, 2]
    assert one.rows == ("1 a", "2 b", "3 c")
    assert (one.raw_X[:, 0] != [0, 1, 2]).all()


def test_the_drawn_rows_of_a_seed_are_kept_here() -> None:
    """Computed once: NumPy's PCG64 promises its numbers, so other rows would be another program."""
    assert drawn(draw=8).raw_y.ravel().tolist() == [1, 1, 1, 1, 0, 1, 0, 1]
    assert drawn(draw=8, draw_seed=1).raw_y.ravel().tolist() != [1, 1, 1, 1, 0, 1, 0, 1]
    assert drawn(draw=8, noise=0.5).digest == drawn(draw=8, noise=0.5).digest


def test_scales_are_those_of_the_drawn_rows() -> None:
    one = drawn(draw=50, noise=1.0, scaling="standard")
    assert one.X[:, 0].mean() == pytest.approx(0, abs=1e-14)
    assert one.X[:, 0].std() == pytest.approx(1)


def test_without_drawing_scaled_rows_are_the_rows_themselves() -> None:
    one = drawn()
    assert one.X is one.raw_X
    assert one.rows == ("a", "b", "c")


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"draw": 0}, "data.draw is 0, but it must be null (the rows as they are) or a whole number from 1"),
        ({"noise": -1.0}, "data.noise is -1.0, but it must be a finite number >= 0"),
        ({"noise": float("inf")}, "data.noise is inf, but"),
        ({"draw_seed": -1}, "data.draw_seed is -1, but it must be a whole number from 0"),
    ],
    ids=str,
)
def test_what_cannot_be_drawn(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        drawn(**keys)
