"""What is kept of a run: which points of a curve, params as text, tables, and files with the same bytes each time."""

import hashlib
import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.credentials import public_uri
from pipeline.identity import Run
from pipeline.results.record import (
    Record,
    colors,
    files,
    make_record,
    npz,
    params,
    predictions,
    weight_arrays,
    weight_table,
)
from pipeline.training.continuing import trajectory_digest
from pipeline.training.points import curve_steps
from pipeline.training.stack import Result
from tests.factory import EXAM, PROPERTY, rows, run, trained

ENVIRONMENT = {"python": "3.11"}


def both(**changes: Any) -> tuple[Run, Result]:
    """A run and its result."""
    one = run(**changes)
    return one, trained([one])[0]


def record(**changes: Any) -> Record:
    """The record of a run."""
    return make_record(*both(**changes), ENVIRONMENT, {"mlflow.runColor": "#0072b2"})


def arrays(content: bytes) -> dict[str, Any]:
    """An npz file's arrays, read without pickle."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return dict(archive)


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


# --- files ------------------------------------------------------------------------------------------------------


def test_the_files_of_a_run() -> None:
    found = record(epochs=3).files
    assert set(found) == {
        "weights.npz", "loss.npz", "predictions.json", "predictions.npz", "weights.json", "config.yaml",
        "environment.json",
    }  # fmt: skip
    about = json.loads(found["environment.json"])
    assert about.pop("files") == {
        name: hashlib.sha256(found[name]).hexdigest()[:16] for name in found if name != "environment.json"
    }
    assert about == ENVIRONMENT | {"numerics": "portable"}


@pytest.mark.parametrize("bias", [False, True])
def test_weights_are_kept_by_layer_with_their_initial_values(bias: bool) -> None:
    one, its = both(hidden=[4, 5], bias=bias, epochs=20)
    found = arrays(files(one, its, ENVIRONMENT)["weights.npz"])
    shapes = {"W0": (3, 4), "W1": (4, 5), "W2": (5, 1)} | ({"b0": (4,), "b1": (5,), "b2": (1,)} if bias else {})
    assert {name: array.shape for name, array in found.items()} == shapes | {
        f"initial_{name}": shape for name, shape in shapes.items()
    }
    assert {array.dtype for array in found.values()} == {np.dtype(np.float64)}
    for layer in range(3):
        assert (found[f"W{layer}"] == its.final.matrices[layer]).all()
        assert (found[f"initial_W{layer}"] == its.initial[layer]).all()
        assert (found[f"W{layer}"] != found[f"initial_W{layer}"]).all()
        if bias:
            assert (found[f"b{layer}"] == its.final.biases[layer]).all()
            assert (found[f"b{layer}"] != 0).all()
            assert not found[f"initial_b{layer}"].any()


def test_curves_are_kept_whole() -> None:
    one, its = both(epochs=700, metrics=["mse"], curve_points=2)
    found = arrays(files(one, its, ENVIRONMENT)["loss.npz"])
    assert set(found) == {"loss", "mse", "updates"}
    assert found["loss"].tobytes() == its.curves["loss"].tobytes()
    assert found["updates"].tolist() == list(range(701))


def test_the_same_run_gives_the_same_bytes() -> None:
    assert record(epochs=30).files == record(epochs=30).files
    assert record(epochs=30).files["weights.npz"] != record(epochs=31).files["weights.npz"]


@pytest.mark.parametrize("name", ["file", "a/b", "../up", "ünï cödé", "arr.npy", "x" * 300, "self"])
def test_npz_takes_any_name(name: str) -> None:
    found = arrays(npz({name: np.arange(3.0), "other": np.array(["a", "bc"])}))
    assert found[name].tolist() == [0, 1, 2]
    assert found["other"].tolist() == ["a", "bc"]


def test_npz_has_the_same_bytes_whatever_the_layout_in_memory() -> None:
    matrix = np.arange(12.0).reshape(3, 4)
    assert npz({"a": matrix}) == npz({"a": matrix.copy()})
    stacked = np.zeros((3, 4, 8))
    stacked[..., 5] = matrix
    assert npz({"a": stacked[..., 5].copy()}) == npz({"a": matrix})


def test_npz_does_not_carry_the_time() -> None:
    with zipfile.ZipFile(io.BytesIO(npz({"a": np.zeros(1), "b": np.zeros(2)}))) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_npz_refuses_objects() -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        npz({"a": np.array([{}], dtype=object)})


def test_weights_as_a_table() -> None:
    one, its = both(hidden=[2], epochs=4, features=["a", "b", "c"], targets=["t"])
    columns, data = weight_table(one, its)
    assert columns == ["layer", "from", "to", "weight", "initial weight"]
    assert [row[:3] for row in data] == [
        [0, "a", "hidden 1.1"], [0, "a", "hidden 1.2"],
        [0, "b", "hidden 1.1"], [0, "b", "hidden 1.2"],
        [0, "c", "hidden 1.1"], [0, "c", "hidden 1.2"],
        [1, "hidden 1.1", "t"], [1, "hidden 1.2", "t"],
    ]  # fmt: skip
    weights = [*its.final.matrices[0].ravel(), *its.final.matrices[1].ravel()]
    assert [row[3] for row in data] == weights
    assert [row[4] for row in data] == [*its.initial[0].ravel(), *its.initial[1].ravel()]


def test_weights_as_a_table_with_biases() -> None:
    one, its = both(hidden=[2], bias=True, epochs=4, features=["a", "b", "c"], targets=["t"])
    _, data = weight_table(one, its)
    assert len(data) == one.parameters == 11
    biases = [row for row in data if row[1] == "(bias)"]
    assert [row[:3] for row in biases] == [[0, "(bias)", "hidden 1.1"], [0, "(bias)", "hidden 1.2"], [1, "(bias)", "t"]]
    assert [row[3] for row in biases] == [*its.final.biases[0], *its.final.biases[1]]
    assert {row[4] for row in biases} == {0.0}


def test_a_net_without_hidden_layers_as_a_table() -> None:
    one, its = both(hidden=[], epochs=1, y=[[1, 0]] * 4, targets=["s", "t"])
    _, data = weight_table(one, its)
    assert [row[1:3] for row in data] == [[x, y] for x in ("x0", "x1", "x2") for y in ("s", "t")]


@pytest.mark.parametrize(("units", "kept"), [(1250, True), (1251, False)])
def test_nets_of_up_to_5000_weights_have_a_table(units: int, kept: bool) -> None:
    """3 inputs and 1 output: 4 weights a hidden unit."""
    assert ("weights.json" in record(hidden=[units], epochs=0).files) == kept


def test_tables_are_json_of_columns_and_data() -> None:
    found = record(epochs=2).files
    for name in ("predictions.json", "weights.json"):
        content = json.loads(found[name])
        assert set(content) == {"columns", "data"}
        assert {len(row) for row in content["data"]} == {len(content["columns"])}


def test_tables_of_a_run_that_was_never_finite_are_json() -> None:
    found = record(X=[[10, 10]], y=[[1]], hidden=[], scheme="given", weights=[[[1e308], [-1e308]]], epochs=3)

    def refuse(word: str) -> None:
        raise AssertionError(word)

    content = json.loads(found.files["predictions.json"], parse_constant=refuse)
    assert content["data"][0][1] is None


def test_the_config_is_kept_in_full_without_a_password() -> None:
    found = yaml.safe_load(record(uri="postgresql://me:secret@host:5432/db", epochs=3).files["config.yaml"])
    assert found["tracking"]["uri"] == "postgresql://host:5432/db"
    assert found["training"]["epochs"] == 3
    assert found["data"]["X"] == [[1, 0, 1], [0, 1, 1], [0, 0, 1], [1, 1, 1]]
    assert set(found) == {"data", "network", "init", "training", "seed", "numerics", "tracking", "executor"}


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        (None, None),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("http://host:5000", "http://host:5000"),
        ("https://me:secret@host:5000/path", "https://host:5000/path"),
        ("postgresql+psycopg://me:s@cr@et@host/db", "postgresql+psycopg://host/db"),
    ],
)
def test_a_store_is_named_without_user_and_password(uri: str | None, public: str | None) -> None:
    assert public_uri(uri) == public


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        ("postgresql://host/db?user=me&password=secret", "postgresql://host/db"),
        ("sqlite:////data/a@b/mlflow.db", "sqlite:////data/a@b/mlflow.db"),
    ],
)
def test_a_store_is_named_without_a_password_in_its_query_and_with_its_whole_path(uri: str, public: str) -> None:
    assert public_uri(uri) == public


def test_weight_arrays_of_a_run_that_diverged_are_its_last_finite_ones() -> None:
    growing = {"X": [[1.0, 0.5]], "y": [[2.0]], "hidden": [2], "derivative": "of_activation", "learning_rate": 1e307}
    found = weight_arrays(both(**growing, epochs=500)[1])
    assert all(np.isfinite(array).all() for array in found.values())
