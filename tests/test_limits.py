"""Limits of MLflow and odd names: what is cut says so, names stay in their folder, no value is infinite, no pickle."""

import ast
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

import pipeline
from pipeline.errors import UserError
from pipeline.results.record import (
    LONGEST_PARAM,
    LONGEST_TAG,
    curve_points,
    fitting,
    fitting_tags,
    make_record,
    npz,
    params,
    read_npz,
    summary,
)
from pipeline.store.files import check_file_name
from tests.conftest import in_process
from tests.factory import PROPERTY, run, trained

ODD = ["new\nline", "emoji 🦆", "nul\0", "\"'quotes'\"", "../../up", "/root", "a\\b", "x" * 10_000, "per%cent"]


def test_a_short_text_is_kept_and_a_long_one_says_that_it_was_cut() -> None:
    assert fitting("x" * 6000, 6000) == "x" * 6000
    one, other = (fitting("x" * 6001 + end, 6000) for end in "ab")
    assert len(one) == len(other) == 6000
    assert one != other
    assert "... (cut: 6002 characters, sha256 " in one


def test_long_params_are_cut_and_config_yaml_has_them_whole() -> None:
    divisors = [1.0 + i / 7 for i in range(900)]
    wide: dict[str, Any] = {"X": [[1.0] * 900] * 2, "y": [[0], [1]], "hidden": [1], "epochs": 1}
    one = run(**wide, scaling="divide", divide_by=divisors)
    other = run(**wide, scaling="divide", divide_by=[*divisors[:-1], 5])
    assert len(params(one)["data.divide_by"]) == LONGEST_PARAM
    assert params(one)["data.divide_by"] != params(other)["data.divide_by"]
    record = make_record(one, trained([one])[0], {}, {})
    assert yaml.safe_load(record.files["config.yaml"])["data"]["divide_by"] == divisors


def test_tags_are_cut_and_can_be_stored_anywhere() -> None:
    tags = fitting_tags({"command": "seedbed " * 2000, "failure": "a\0b\udcff"})
    assert len(tags["command"]) == LONGEST_TAG
    assert tags["failure"] == "a\\x00b\\udcff"


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", "/etc/passwd", "a\0", "a\nb", "c:x", "x" * 256])
def test_a_file_name_cannot_lead_elsewhere(name: str) -> None:
    with pytest.raises(UserError, match="its files lie in one folder"):
        check_file_name(name)


def test_the_files_of_a_run_have_good_names() -> None:
    one = run(epochs=1)
    for name in make_record(one, trained([one])[0], {}, {}).files:
        assert check_file_name(name) == name


def test_odd_names_of_columns_and_rows_are_trained_stored_and_read_back(empty_store: Path) -> None:
    data = {"X": np.eye(len(ODD)).tolist(), "y": [[0]] * len(ODD), "features": ODD, "rows": ODD, "targets": ["../t"]}
    folder = empty_store / "mine" / "data"
    folder.mkdir(parents=True)
    (folder / "odd.yaml").write_text(yaml.safe_dump({**data, "name": "odd"}))
    words = ["train", "--config-dir", "mine", "data=odd", "training.epochs=2", "tracking.experiment=small"]
    assert in_process(words, empty_store) == 0
    client = MlflowClient(f"sqlite:///{empty_store}/mlflow.db")
    found = client.get_experiment_by_name("small")
    assert found is not None
    (kept,) = client.search_runs([found.experiment_id])
    files = empty_store / "mlflow-artifacts" / kept.info.run_id / "artifacts"
    table = json.loads((files / "predictions.json").read_text())
    assert table["columns"][4:] == ODD
    assert [row[0] for row in table["data"]] == ODD
    assert yaml.safe_load((files / "config.yaml").read_text())["data"]["features"] == ODD
    arrays = read_npz((files / "predictions.npz").read_bytes(), "it")
    assert len(arrays) == len(table["columns"])
    assert not any("\0" in name or name.startswith("/") or ".." in name.split("/") for name in arrays)
    assert [array.tolist() for array in arrays.values()][4:] == np.eye(len(ODD)).tolist()


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "\udcff", " ", "x" * 251])
@pytest.mark.parametrize("key", ["experiment", "name"])
def test_names_that_a_database_has_no_room_for_are_refused(key: str, name: str) -> None:
    with pytest.raises(UserError, match=r"must be a name on one line, not blank, of at most 250 characters\.$"):
        run(**{key: name})


@pytest.mark.parametrize("name", ["Default", "../up", "emoji 🦆", 'it\'s "so"', "x" * 250, "a/b%c;--"])
def test_other_names_of_experiments_are_kept(name: str, empty_store: Path) -> None:
    quoted = name.replace('"', '\\"')
    assert in_process(["train", "training.epochs=1", f'tracking.experiment="{quoted}"'], empty_store) == 0
    client = MlflowClient(f"sqlite:///{empty_store}/mlflow.db")
    found = client.get_experiment_by_name(name)
    assert found is not None
    assert len(client.search_runs([found.experiment_id])) == 1


@PROPERTY
@given(
    size=st.sampled_from([1.0, 1e75, 1e150, 1e153, 1.3e154, 1e155, 1e160, 1e300]),
    rate=st.sampled_from([0.5, 1e10, 1e300]),
    loss=st.sampled_from(["half_sse", "sse", "mse"]),
    seed=st.integers(0, 3),
)
def test_no_logged_value_is_nan_or_infinite(size: float, rate: float, loss: str, seed: int) -> None:
    one = run(
        y=[[size], [0.0], [0.0], [size]],
        learning_rate=rate,
        loss=loss,
        metrics=[metric for metric in ("sse", "mse", "sum_abs", "half_sse") if metric != loss],
        derivative="of_activation",
        epochs=20,
        seed=seed,
    )
    (result,) = trained([one])
    logged = curve_points(result.curves, one.config) + summary(result)
    assert logged
    assert all(math.isfinite(value) for _, value, _ in logged)
    if result.diverged_at is not None:
        assert make_record(one, result, {}, {}).tags["diverged_at"] == str(result.diverged_at)


# --- no pickle --------------------------------------------------------------------------------------------------

PICKLES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
LOADERS = {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "exec", "eval", "compile"}
SOURCES = sorted(Path(pipeline.__file__).parent.rglob("*.py"))


def unsafe(tree: ast.AST) -> list[str]:
    """What a module uses that may execute what it reads."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            found += [module for module in modules if module.partition(".")[0] in PICKLES]
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            constant = all(isinstance(argument, ast.Constant) for argument in node.args)
            if name in LOADERS and not constant:
                found.append(name)
            refuses = any(word.arg == "allow_pickle" and ast.unparse(word.value) == "False" for word in node.keywords)
            if name in ("np.load", "np.save", "np.lib.format.write_array") and not refuses:
                found.append(name)
            found += [name] if name in ("np.savez", "np.savez_compressed") else []
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_no_room_writes_or_reads_a_pickle(source: Path) -> None:
    assert unsafe(ast.parse(source.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("code", ["import pickle", "from joblib import dump", "np.load(x)", "yaml.load(x)", "eval(x)"])
def test_the_check_on_pickles_finds_them(code: str) -> None:
    assert unsafe(ast.parse(code))


def test_pickled_objects_are_not_loaded_but_refused_in_one_sentence() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, W0=np.array([{"a": 1}], dtype=object))
    for content in (buffer.getvalue(), b"no zip", b"PK\x03\x04", b""):
        with pytest.raises(UserError, match=r"^weights\.npz of run 1 holds something else than arrays"):
            read_npz(content, "weights.npz of run 1")
    assert read_npz(npz({"W0": np.eye(2)}), "it")["W0"].tolist() == [[1, 0], [0, 1]]
