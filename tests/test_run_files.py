"""The files of a run: the same bytes each time, weights as tables, and no password."""

import hashlib
import io
import json
import zipfile

import numpy as np
import pytest
import yaml

from pipeline.credentials import public_uri
from pipeline.results.record import files, npz, weight_arrays, weight_table
from tests.records import ENVIRONMENT, arrays, both, record


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
