"""Parts of a data set: which rows a run trains on, the same on every machine, and scales that know only these."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import DataConfig
from pipeline.data import build_dataset, make_dataset
from pipeline.errors import UserError
from pipeline.sample import Sample, sample_of
from pipeline.training.stack import make_stacks, train_stack, trajectories_of
from tests.factory import PROPERTY, bits, rows, run


def sample(n: int = 40, seed: int = 0, **keys: Any) -> Sample:
    """Of made-up rows."""
    config = DataConfig(**(rows(n, 2, 1) | keys))
    return sample_of(make_dataset(config), config, seed)


def of_groups(names: list[str], seed: int, **keys: Any) -> Sample:
    """Of rows that belong to groups."""
    config = DataConfig(path="my.csv", target=["y"], groups="who", **keys)
    n = len(names)
    X, y = np.arange(2.0 * n).reshape(n, 2), np.arange(1.0 * n).reshape(n, 1)
    row_names = [f"row {i}" for i in range(n)]
    dataset = build_dataset(config, X, y, features=["a", "b"], targets=["y"], rows=row_names, groups=names)
    return sample_of(dataset, config, seed)


def places(one: Sample) -> dict[str, list[int]]:
    return {"training": one.training.places.tolist(), **{key: part.places.tolist() for key, part in one.held.items()}}


def test_without_parts_all_rows_are_trained_on_in_the_very_arrays_of_the_data_set() -> None:
    config = DataConfig(**rows(5, 2, 1), scaling="standard")
    dataset = make_dataset(config)
    one = sample_of(dataset, config, 3)
    assert (one.training.X is dataset.X, one.training.y is dataset.y, dict(one.held)) == (True, True, {})
    assert one.training.places.tolist() == [0, 1, 2, 3, 4]
    assert one is sample_of(dataset, config, 4)


@PROPERTY
@given(
    st.integers(8, 60), st.sampled_from([(0.2, 0.0), (0.0, 0.3), (0.25, 0.25), (0.5, 0.2)]), st.integers(0, 2**32 - 1)
)
def test_every_row_is_in_one_part_and_parts_have_their_shares(n: int, shares: tuple[float, float], seed: int) -> None:
    validation, test = shares
    found = places(sample(n, seed, validation=validation, test=test))
    assert sorted(place for part in found.values() for place in part) == list(range(n))
    assert all(part == sorted(part) for part in found.values())
    assert len(found.get("test", [])) == pytest.approx(test * n, abs=0.5)
    assert len(found.get("test", [])) + len(found.get("val", [])) == pytest.approx((validation + test) * n, abs=0.5)


def test_the_parts_of_a_seed_are_kept_here() -> None:
    """Computed once: NumPy's PCG64 promises its numbers, so other rows would be another program."""
    assert places(sample(10, 7, validation=0.2, test=0.2)) == {
        "training": [1, 2, 3, 5, 7, 9],
        "val": [0, 4],
        "test": [6, 8],
    }


def test_another_seed_draws_other_rows() -> None:
    drawn = {tuple(sample(40, seed, validation=0.25).held["val"].places) for seed in range(20)}
    assert len(drawn) == 20


def test_another_share_of_validation_leaves_the_rows_of_test() -> None:
    tests = [places(sample(test=0.2, validation=share))["test"] for share in (0.0, 0.1, 0.5)]
    assert tests[0] == tests[1] == tests[2]


def test_scales_are_fitted_on_the_rows_to_train_on() -> None:
    config = DataConfig(**rows(40, 3, 2), scaling="standard", target_scaling="max", validation=0.3, test=0.2)
    dataset = make_dataset(config)
    one = sample_of(dataset, config, 1)
    X, y = dataset.raw_X[one.training.places], dataset.raw_y[one.training.places]
    np.testing.assert_array_equal(one.input_scale.offset, X.mean(axis=0))
    np.testing.assert_array_equal(one.target_scale.factor, y.max(axis=0))
    held = one.held["val"]
    np.testing.assert_array_equal(held.X, one.input_scale.apply(dataset.raw_X[held.places]))
    assert (one.input_scale.offset != dataset.input_scale.offset).all()
    np.testing.assert_allclose(one.training.X.mean(axis=0), 0, atol=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_stratified_parts_have_each_class_in_its_share(seed: int) -> None:
    y = [[1, 0]] * 80 + [[0, 1]] * 20
    one = sample(100, seed, y=y, validation=0.2, test=0.1, stratify=True)
    counts = {name: part.y.sum(axis=0).tolist() for name, part in {"training": one.training, **one.held}.items()}
    assert counts == {"training": [56, 14], "val": [16, 4], "test": [8, 2]}


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_a_group_stay_together(seed: int) -> None:
    names = [f"who {i % 9}" for i in range(60)]
    found = places(of_groups(names, seed, validation=0.3, test=0.2))
    groups = [{names[place] for place in part} for part in found.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 9
    assert len(found["val"]) == pytest.approx(18, abs=7)  # a group is 6 or 7 rows


def test_a_run_trains_on_its_sample() -> None:
    one = run(**rows(40, 2, 1), validation=0.25, seed=5)
    assert one.sample is one.sample
    assert len(one.sample.training.X) == 30
    again = run(**rows(40, 2, 1), validation=0.25, seed=5).sample
    assert again.training.X.tobytes() == one.sample.training.X.tobytes()


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"validation": 0.01}, "The part val is 0.01 of 10 rows, which leaves it empty"),
        ({"test": 0.99}, "The part training is 0.01 of 10 rows, which leaves it empty"),
        ({"validation": 0.2, "stratify": True}, "data.stratify is true, but it must be false"),
    ],
)
def test_parts_that_cannot_be(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        sample(10, **keys)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"validation": 1}, "data.validation is 1, but it must be a number from 0 to below 1"),
        ({"test": -0.1}, "data.test is -0.1, but"),
        ({"validation": 0.5, "test": 0.5}, "data.test is 0.5, but it must be below 0.5, as data.validation is 0.5"),
        ({"stratify": 5}, "data.stratify is 5, but it must be true or false"),
    ],
)
def test_shares_that_a_config_does_not_take(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        DataConfig(**rows(4, 1, 1), **keys)


def test_runs_with_other_parts_are_other_trajectories() -> None:
    """The same rows, seed and sizes of parts, but other rows in them."""
    values = rows(40, 2, 2) | {"y": [[1, 0]] * 20 + [[0, 1]] * 20, "test": 0.5, "epochs": 5}
    one, other = run(**values), run(**values, stratify=True)
    assert one.sample.training.places.tolist() != other.sample.training.places.tolist()
    assert [len(trajectories_of(stack)) for stack in make_stacks([one, other])] in ([2], [1, 1])


# --- fewer rows to train on, and spoiled ones -------------------------------------------------------------------


def test_so_many_rows_are_trained_on_and_all_others_held_out() -> None:
    found = places(sample(40, 3, test=0.25, training_rows=8))
    assert [len(found[name]) for name in ("training", "val", "test")] == [8, 22, 10]
    assert found["test"] == places(sample(40, 3, test=0.25))["test"]


def test_fewer_rows_are_among_more() -> None:
    few, more = (set(places(sample(40, 3, test=0.25, training_rows=count))["training"]) for count in (5, 20))
    assert few < more


def test_training_on_all_rows_that_are_left_is_as_without_a_limit() -> None:
    assert places(sample(40, 3, test=0.25, training_rows=30)) == places(sample(40, 3, test=0.25))
    assert places(sample(9, 3, training_rows=9)) == places(sample(9, 3))


@pytest.mark.parametrize("seed", range(3))
def test_wrong_labels_are_other_targets_in_the_share_asked_for(seed: int) -> None:
    y = [[1, 0, 0], [0, 1, 0], [0, 0, 1]] * 30
    clean, spoiled = (sample(90, seed, y=y, test=0.5, label_noise=share).training for share in (0.0, 0.2))
    wrong = (clean.y != spoiled.y).any(axis=1)
    assert wrong.sum() == 9
    assert (spoiled.y.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(clean.X, spoiled.X)


def test_each_wrong_label_is_as_likely() -> None:
    y = [[1, 0, 0], [0, 1, 0], [0, 0, 1]] * 2000
    spoiled = sample(6000, 0, y=y, test=0.5, label_noise=1.0).training
    was = np.array(y)[spoiled.places].argmax(axis=1)
    steps = np.bincount((spoiled.y.argmax(axis=1) - was) % 3, minlength=3)
    assert steps[0] == 0
    assert steps[1] == pytest.approx(1500, abs=110)  # four standard deviations


def test_an_outlier_has_one_feature_ten_deviations_off() -> None:
    X = [[*row, 7.0] for row in rows(60, 2, 1)["X"]]
    clean, spoiled = (sample(60, 1, X=X, test=0.5, outliers=share).training for share in (0.0, 0.3))
    moved = spoiled.X - clean.X
    assert (moved != 0).sum(axis=1).tolist().count(1) == 9
    assert (moved != 0).sum() == 9
    spread = clean.X.std(axis=0)
    for row, column in zip(*np.nonzero(moved), strict=True):
        assert abs(moved[row, column]) == pytest.approx(10 * spread[column])
    assert {-1.0, 1.0} == set(np.sign(moved[moved != 0]).tolist())
    assert not moved[:, 2].any()
    np.testing.assert_array_equal(clean.y, spoiled.y)


def test_a_larger_share_spoils_the_rows_of_a_smaller_one() -> None:
    few, more = (sample(60, 1, test=0.5, outliers=share).training.X for share in (0.1, 0.4))
    clean = sample(60, 1, test=0.5).training.X
    assert set(np.flatnonzero((few != clean).any(axis=1))) < set(np.flatnonzero((more != clean).any(axis=1)))


def test_rows_held_out_stay_clean_but_for_the_scale_that_outliers_change() -> None:
    plain, spoiled = (sample(60, 1, test=0.5, label_noise=share, outliers=share) for share in (0.0, 0.5))
    np.testing.assert_array_equal(plain.held["test"].X, spoiled.held["test"].X)
    np.testing.assert_array_equal(plain.held["test"].y, spoiled.held["test"].y)
    plain, spoiled = (sample(60, 1, test=0.5, outliers=share, scaling="standard") for share in (0.0, 0.5))
    assert (spoiled.input_scale.factor > 2 * plain.input_scale.factor).all()


def test_runs_that_are_spoiled_otherwise_are_other_trajectories() -> None:
    values = rows(40, 2, 1) | {"test": 0.5, "epochs": 5}
    runs = [run(**values), run(**values, label_noise=0.2), run(**values, outliers=0.2), run(**values, label_noise=0.4)]
    (stack,) = make_stacks(runs)
    assert [len(found) for found in trajectories_of(stack)] == [1, 1, 1, 1]
    together = {one.fingerprint: bits(its) for one, its in zip(stack, train_stack(stack), strict=True)}
    for one in runs:
        assert together[one.fingerprint] == bits(train_stack([one])[0])
    assert len(set(together.values())) == 4


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"training_rows": 0}, "data.training_rows is 0, but it must be null (all that are not held out) or a whole"),
        ({"label_noise": 1.5, "test": 0.5}, "data.label_noise is 1.5, but it must be a number from 0 to 1"),
        ({"outliers": -1, "test": 0.5}, "data.outliers is -1, but it must be a number from 0 to 1"),
        ({"outliers": 0.1}, "data.outliers is 0.1, but it must be 0, as no rows are held out, which stay as they are"),
        ({"training_rows": 7, "test": 0.5}, "data.training_rows is 7, but it must be at most 5: the others of 10 rows"),
    ],
    ids=str,
)
def test_rows_that_cannot_be_limited_or_spoiled(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        sample(10, **keys)


def test_a_part_that_was_asked_for_is_never_empty() -> None:
    with pytest.raises(UserError, match=r"data\.training_rows is 10, which leaves none of 10 rows to data\.validation"):
        _ = run(**rows(10, 2, 1), validation=0.04, training_rows=10)


def test_spoiled_rows_are_a_runs_own() -> None:
    """A stack has each network's rows."""
    runs = [run(**rows(10, 2, 1), test=0.1, label_noise=0.5, seed=seed, epochs=3, hidden=[2]) for seed in range(3)]
    (stack,) = make_stacks(runs)
    for one, result in zip(stack, train_stack(stack), strict=True):
        (alone,) = train_stack([one])
        assert alone.curves["loss"].tobytes() == result.curves["loss"].tobytes()
