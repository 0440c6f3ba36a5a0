"""What is kept of a run: which points of a curve, params as text, metrics, tags and predictions."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.results.record import colors, files, make_record, params, predictions
from pipeline.training.continuing import trajectory_digest
from pipeline.training.points import curve_steps
from tests.factory import EXAM, PROPERTY, rows, run, trained
from tests.records import ENVIRONMENT, arrays, both, record

# --- which points of a curve ------------------------------------------------------------------------------------

PLANNED = st.one_of(st.integers(0, 1000), st.integers(0, 10**9))
POINTS = st.integers(2, 400)


@PROPERTY
@given(planned=PLANNED, points=POINTS, data=st.data())
def test_curve_steps_are_few_sorted_and_include_first_and_last(planned: int, points: int, data: st.DataObject) -> None:
    updates = data.draw(st.one_of(st.just(planned), st.integers(0, planned)))
    steps = curve_steps(updates, planned, points)
    assert steps == sorted(set(steps))
    assert steps[0] == 0
    assert steps[-1] == updates
    assert len(steps) <= points
    assert all(type(step) is int for step in steps)


@PROPERTY
@given(planned=PLANNED, points=POINTS)
def test_curve_steps_use_at_least_a_third_of_the_points_they_may(planned: int, points: int) -> None:
    assert len(curve_steps(planned, planned, points)) >= min(planned + 1, points / 3)


@PROPERTY
@given(planned=PLANNED, points=POINTS, data=st.data())
def test_a_run_that_ended_early_has_the_steps_it_reached_and_its_last(
    planned: int, points: int, data: st.DataObject
) -> None:
    updates = data.draw(st.integers(0, planned))
    whole, part = curve_steps(planned, planned, points), curve_steps(updates, planned, points)
    assert part == [step for step in whole if step < updates] + [updates]


@PROPERTY
@given(planned=st.integers(0, 400), extra=st.integers(1, 50))
def test_a_curve_that_fits_is_kept_whole(planned: int, extra: int) -> None:
    assert curve_steps(planned, planned, max(planned + extra, 2)) == list(range(planned + 1))


def test_curve_steps_are_spread_over_the_whole_run_and_its_beginning() -> None:
    """No gap wider than twice an even spread of half the points, and the first updates are there."""
    steps = curve_steps(100_000, 100_000, 300)
    assert np.diff(steps).max() <= 2 * 100_000 / 150
    assert len([step for step in steps if step < 100]) >= 15


@pytest.mark.parametrize(
    ("points", "steps"),
    [(2, [0, 100]), (3, [0, 100]), (4, [0, 1, 100]), (5, [0, 1, 50, 100]), (6, [0, 1, 10, 50, 100])],
)
def test_curve_steps_by_hand(points: int, steps: list[int]) -> None:
    """Half of the points evenly over 0 to 100, half on a log scale from 1 to 100."""
    assert curve_steps(100, 100, points) == steps


def test_curves_are_metrics_with_true_update_counts() -> None:
    found = record(epochs=1000, metrics=["mse", "mean_abs"], curve_points=50)
    one = trained([run(epochs=1000, metrics=["mse", "mean_abs"])])[0]
    steps = curve_steps(1000, 1000, 50)
    for name, curve in one.curves.items():
        points = [(value, step) for key, value, step in found.metrics if key == f"curve/{name}"]
        assert points == [(curve[step], step) for step in steps]


# --- params, metrics, tags --------------------------------------------------------------------------------------


def test_params_are_the_identity_as_text_and_the_size_of_the_network() -> None:
    found = params(run(hidden=[4, 5], bias=True, learning_rate=0.1, epochs=500, metrics=["mse"], seed=7))
    assert all(type(text) is str for text in found.values())
    wanted = {
        "data.name": "data",
        "data.scaling": "none",
        "data.target_scaling": "none",
        "network.hidden": "[4, 5]",
        "network.activation": "sigmoid",
        "network.output_activation": "sigmoid",
        "network.bias": "True",
        "network.depth": "2",
        "network.width": "5",
        "network.n_params": "47",  # 3*4 + 4 + 4*5 + 5 + 5*1 + 1
        "data.drop": "[]",
        "init.scheme": "normal",
        "init.scale": "1.0",
        "init.generator": "pcg64",
        "init.skip_networks": "0",
        "training.learning_rate": "0.1",
        "training.epochs": "500",
        "training.loss": "half_sse",
        "training.metrics": "['mse']",
        "training.derivative": "exact",
        "training.batch_size": "None",
        "training.optimizer": "sgd",
        "training.l2": "0.0",
        "training.schedule": "constant",
        "training.patience": "None",
        "seed": "7",
        "numerics": "portable",
    }
    assert found == wanted | {"data.digest": run().dataset.digest}


def test_params_name_given_weights_by_their_digest_and_leave_rows_out() -> None:
    found = params(run(hidden=[], scheme="given", weights=[[[1.5], [2], [3]]]))
    assert len(found["init.weights"]) == 16
    assert not {"data.X", "data.y"} & set(found)
    assert max(map(len, found.values())) < 100


@pytest.mark.parametrize(("hidden", "depth", "width"), [([], "0", "0"), ([3], "1", "3"), ([2, 7, 4], "3", "7")])
def test_depth_and_width(hidden: list[int], depth: str, width: str) -> None:
    found = params(run(hidden=hidden))
    assert (found["network.depth"], found["network.width"]) == (depth, width)


def test_the_metrics_that_sum_a_run_up() -> None:
    one, its = both(epochs=30, metrics=["mean_abs"], learning_rate=3.0)
    found = {
        key: value
        for key, value, _ in make_record(one, its, ENVIRONMENT, {"mlflow.runColor": "#fff"}).metrics
        if "result/" in key
    }
    best = its.curves["loss"].min()
    assert found == {
        "result/updates": 30,
        "result/final_loss": its.curves["loss"][-1],
        "result/best_loss": best,
        "result/log10_best_loss": pytest.approx(np.log10(best)),
        "result/final_mean_abs": its.curves["mean_abs"][-1],
    }


def test_a_loss_of_0_has_no_logarithm() -> None:
    found = record(X=[[0]], y=[[0.5]], hidden=[], epochs=2)  # sigmoid(0) = 1/2, exactly
    assert {key: value for key, value, _ in found.metrics if "result/" in key} == {
        "result/updates": 2,
        "result/final_loss": 0,
        "result/best_loss": 0,
    }


def test_tags_of_a_run() -> None:
    one, its = both(epochs=3)
    assert make_record(one, its, ENVIRONMENT, {"mlflow.runColor": "#0072b2"}).tags == {
        "fingerprint": one.fingerprint,
        "cell": one.cell,
        "trajectory": trajectory_digest(one),
        "mlflow.runColor": "#0072b2",
        "mlflow.loggedArtifacts": '[{"path": "predictions.json", "type": "table"}]',
    }


def test_a_run_that_was_never_finite_is_recorded_without_a_curve() -> None:
    found = record(X=[[1], [2]], y=[[1e200], [0]], hidden=[2], epochs=50)
    assert found.tags["diverged_at"] == "0"
    assert found.metrics == [("result/updates", 0.0, 0)]
    assert {name: len(array) for name, array in arrays(found.files["loss.npz"]).items()} == {"loss": 0, "updates": 0}


def test_a_run_that_diverged_on_the_way_is_recorded_up_to_there() -> None:
    growing = {"X": [[1.0, 0.5]], "y": [[2.0]], "hidden": [], "derivative": "of_activation", "learning_rate": 2e307}
    one, its = both(**growing, epochs=500)
    found = make_record(one, its, ENVIRONMENT, {"mlflow.runColor": "#fff"})
    assert its.diverged_at is not None
    assert 1 < its.diverged_at < 500
    assert found.tags["diverged_at"] == str(its.diverged_at)
    steps = [step for key, _, step in found.metrics if key == "curve/loss"]
    assert steps == curve_steps(its.diverged_at - 1, 500, 300)
    assert arrays(found.files["loss.npz"])["updates"].tolist() == list(range(its.diverged_at))
    assert all(np.isfinite(value) for _, value, _ in found.metrics)


def test_colors_are_given_by_architecture() -> None:
    found = colors(["4-5", "none", "4-5", "2"])
    assert set(found) == {"2", "4-5", "none"}
    assert len(set(found.values())) == 3
    assert found == colors(["none", "2", "4-5"])
    assert len(colors([str(i) for i in range(30)])) == 30


# --- predictions ------------------------------------------------------------------------------------------------


def test_predictions_of_one_output() -> None:
    one, its = both(epochs=5, features=["a", "b", "c"], rows=["p", "q", "r", "s"])
    columns, data = predictions(one, its)
    assert columns == ["input", "prediction", "target", "error", "a", "b", "c"]
    found = its.final.prediction[:, 0]
    wanted = zip("pqrs", found, [1, 1, 0, 0], [[1, 0, 1], [0, 1, 1], [0, 0, 1], [1, 1, 1]], strict=True)
    assert data == [[name, o, y, o - y, *x] for name, o, y, x in wanted]
    assert {type(value) for row in data for value in row[1:]} == {float}


def test_predictions_of_several_outputs_carry_their_names() -> None:
    one, its = both(y=[[1, 0], [1, 0], [0, 1], [0, 1]], targets=["yes", "no"], features=["a", "b", "c"], epochs=1)
    columns, data = predictions(one, its)
    assert columns[1:7] == ["prediction_yes", "target_yes", "error_yes", "prediction_no", "target_no", "error_no"]
    assert columns[7:] == ["a", "b", "c"]
    found = its.final.prediction
    assert [row[1] for row in data] == found[:, 0].tolist()
    assert [row[6] for row in data] == (found[:, 1] - [0, 0, 1, 1]).tolist()


def test_scaled_targets_get_columns_in_their_own_units() -> None:
    """Exam scores are divided by 100: 92 is 0.92 to the network; the features are scaled too."""
    one, its = both(**EXAM, epochs=5)
    columns, data = predictions(one, its)
    assert columns == ["input", "prediction", "target", "error", "x0", "x1", "prediction_unscaled", "target_unscaled"]
    assert [row[2] for row in data] == [0.92, 0.86, 0.89]
    assert [row[-1] for row in data] == [92.0, 86.0, 89.0]
    assert [row[-2] for row in data] == pytest.approx([100 * row[1] for row in data])
    assert [row[4:6] for row in data] == [[2 / 3, 1], [1 / 3, 5 / 9], [1, 6 / 9]]


def test_several_scaled_outputs() -> None:
    one, its = both(y=[[10, 2], [10, 0], [0, 2], [0, 2]], target_scaling="max", targets=["m", "n"], epochs=1)
    columns, data = predictions(one, its)
    wanted = ["prediction_unscaled_m", "target_unscaled_m", "prediction_unscaled_n", "target_unscaled_n"]
    assert columns[-4:] == wanted
    assert [row[-3::2] for row in data] == [[10, 2], [10, 0], [0, 2], [0, 2]]


def test_features_named_like_a_result_are_told_apart() -> None:
    one, its = both(
        features=["input", "error", "prediction_unscaled"], epochs=1, target_scaling="divide", target_divide_by=2
    )
    columns, _ = predictions(one, its)
    assert columns[4:7] == ["feature input", "feature error", "feature prediction_unscaled"]
    assert len(set(columns)) == len(columns)


TWO = {"y": [[1, 2], [1, 2], [0, 1], [0, 1]], "target_scaling": "max"}


@pytest.mark.parametrize(
    "changes",
    [
        {"features": ["prediction", "feature prediction", "c"]},
        TWO | {"targets": ["m", "n"], "features": ["a", "b", "prediction_unscaled_m"]},
        TWO | {"targets": ["m", "unscaled_m"]},
    ],
    ids=str,
)
def test_no_names_make_two_columns_alike(changes: dict[str, Any]) -> None:
    one, its = both(**changes, epochs=1)
    columns, data = predictions(one, its)
    assert len(set(columns)) == len(columns)
    data_set = one.dataset
    outputs, targets = its.final.prediction, data_set.y
    blocks = [np.stack([outputs, targets, outputs - targets], axis=2).reshape(4, -1), data_set.X]
    if not data_set.target_scale.is_identity:
        blocks.append(np.stack([data_set.target_scale.invert(outputs), data_set.raw_y], axis=2).reshape(4, -1))
    np.testing.assert_array_equal([row[1:] for row in data], np.hstack(blocks))


def test_at_most_200_rows_are_in_the_table_and_all_of_them_in_the_arrays() -> None:
    one, its = both(**rows(201, 2, 1), epochs=0)
    found = files(one, its, ENVIRONMENT)
    assert len(json.loads(found["predictions.json"])["data"]) == 200
    whole = arrays(found["predictions.npz"])
    assert whole["prediction"].tobytes() == its.final.prediction[:, 0].tobytes()
    assert whole["input"].tolist() == list(one.dataset.rows)
    assert set(whole) == {"input", "prediction", "target", "error", "x0", "x1"}
