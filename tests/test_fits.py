"""What `fit` and `sweep` give (curves, weights, predictions, cells), and one sentence for what they cannot use."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline import UserError, fit, sweep
from tests.factory import CAT_SHOP
from tests.frames import SHOP

X, Y = CAT_SHOP["X"], CAT_SHOP["y"]


# --- results ----------------------------------------------------------------------------------------------------


def test_what_a_fit_has() -> None:
    one = fit(X, Y, hidden=[3, 2], bias=True, epochs=25, metrics=["mse"], batch_size=3)
    assert set(one.curves) == {"loss", "mse"}
    assert one.loss.shape == one.updates.shape == (26,)
    assert one.updates[-1] == 50
    assert one.results["final_loss"] == one.loss[-1]
    assert [matrix.shape for matrix in one.weights] == [(3, 3), (3, 2), (2, 1)]
    assert [matrix.shape for matrix in one.initial_weights] == [(3, 3), (3, 2), (2, 1)]
    assert [bias.shape for bias in one.biases] == [(3,), (2,), (1,)]
    assert one.seconds > 0
    assert one.diverged_at is None
    assert one.run_id is None
    assert one.run.command == "fit(X, y, hidden=[3, 2], bias=True, epochs=25, metrics=['mse'], batch_size=3)"
    assert repr(one).startswith("<Fit 3-2 lr0.5 s0: half_sse 0.")
    assert repr(one).endswith(" after 50 updates>")


def test_a_fit_that_diverges_says_when() -> None:
    one = fit(X, Y, activation="identity", output_activation="identity", learning_rate=1e6, epochs=500)
    assert one.diverged_at is not None
    assert len(one.loss) == one.diverged_at
    assert np.isfinite(one.loss).all()
    assert np.isfinite(one.weights[0]).all()
    assert repr(one).endswith(f", diverged after {one.diverged_at}>")


def test_predictions_are_in_the_datas_units() -> None:
    one = fit(SHOP, "score", epochs=500, hidden=[3])
    assert np.allclose(one.predict(SHOP), SHOP["score"], atol=1.5)
    assert one.predict(SHOP).shape == (6,)
    assert one.outputs(SHOP).shape == (6, 1)
    turned = SHOP[["city", "hours"]].iloc[::-1]
    assert np.array_equal(one.predict(turned), one.predict(SHOP)[::-1])
    as_numbers = np.column_stack([SHOP["hours"], SHOP["city"] == "Bonn", SHOP["city"] == "Ulm"])
    assert np.array_equal(one.predict(as_numbers), one.predict(SHOP))


@pytest.mark.parametrize(
    ("labels", "settings"),
    [
        (np.array([7, 3, 3, 7]), {"task": "classes"}),
        (np.array(["yes", "no", "no", "yes"]), {}),
        (["yes", "no", "no", "yes"], {}),
        (pd.Series(["yes", "no", "no", "yes"], name="buys"), {}),
        (np.array([2.5, 1.0, 1.0, 2.5]), {"task": "classes"}),
    ],
    ids=str,
)
def test_classes_come_back_as_they_were(labels: Any, settings: dict[str, Any]) -> None:
    one = fit(np.array(X), labels, epochs=300, bias=True, learning_rate=1, **settings)
    assert one.predict(X).tolist() == list(labels)
    assert one.labels is not None
    assert one.outputs(X).shape == (4, 2)
    assert one.config.training.loss == "cross_entropy"


def test_arrays_with_a_task_are_a_table() -> None:
    one = fit(np.array(X), np.array([[3.0, 1], [5, 2], [1, 3], [0, 0]]), task="regression", epochs=5)
    assert (one.config.data.scaling, one.config.data.target_scaling) == ("standard", "standard")
    assert (one.config.network.output_activation, one.config.training.loss) == ("identity", "mse")
    assert one.run.dataset.features == ("x0", "x1", "x2")
    assert one.run.dataset.targets == ("y0", "y1")
    assert one.predict(X).shape == (4, 2)


def test_columns_of_a_frame_may_be_numbers() -> None:
    one = fit(pd.DataFrame(X), [0, 1, 1, 0], epochs=5)
    assert one.run.dataset.features == ("0", "1", "2")
    assert np.array_equal(one.predict(pd.DataFrame(X)), one.predict(X))


def test_a_column_may_have_a_number_for_its_name() -> None:
    frame = pd.DataFrame(np.column_stack([X, Y]))
    one, other = fit(frame, 3, epochs=2), fit(frame, "3", epochs=2)
    assert one.run.dataset.targets == ("3",)
    assert one.run.fingerprint == other.run.fingerprint


def test_several_targets_beside_a_frame() -> None:
    both = np.column_stack([SHOP["score"], 1 - SHOP["score"]])
    one = fit(SHOP[["hours"]], both, epochs=2)
    assert one.run.dataset.targets == ("y0", "y1")
    assert one.predict(SHOP).shape == (6, 2)
    assert fit(SHOP[["hours"]], both, epochs=2, targets=["up", "down"]).run.dataset.targets == ("up", "down")
    assert fit(SHOP[["hours"]], SHOP["score"], epochs=2).run.dataset.targets == ("score",)


def test_categories_and_classes_of_several_types() -> None:
    frame = pd.DataFrame({"m": ["1", True, "x", 2, 0.5, "x"], "n": ["1", True, "x"] * 2})
    one = fit(frame, np.array(["a", 1] * 3, dtype=object), categorical=["m", "n"], epochs=2)
    assert one.run.dataset.features == ("m=0.5", "m=True", "m=2", "m=1", "m=x", "n=True", "n=1", "n=x")
    assert set(map(type, one.predict(frame))) <= {str, int}
    assert one.labels is not None
    assert one.labels.tolist() == [1, "a"]


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_named_by_text_or_a_path(kind: Any, tmp_path: Path) -> None:
    SHOP.to_csv(tmp_path / "X.CSV", index=False)
    assert fit(kind(tmp_path / "X.CSV"), "score", epochs=2).run.dataset.targets == ("score",)


def test_numbers_may_be_missing_if_that_is_said() -> None:
    holes = np.array(X, dtype=float)
    holes[0, 0] = np.nan
    one = fit(holes, Y, task="regression", missing="mean", epochs=5)
    assert np.isfinite(one.predict(holes)).all()


def test_what_is_given_is_neither_changed_nor_kept() -> None:
    mine, targets, frame = np.array(X, dtype=float), np.array(Y, dtype=float), SHOP.copy()
    one = fit(mine, targets, epochs=5, drop=["x1"])
    fit(frame, "score", epochs=5)
    assert mine.tolist() == X
    assert targets.tolist() == Y
    pd.testing.assert_frame_equal(frame, SHOP)
    before = one.run.dataset.raw_X.copy()
    mine[:], targets[:] = 9, 9
    assert np.array_equal(one.run.dataset.raw_X, before)


@pytest.mark.parametrize("name", ["X", "y", "raw_X", "raw_y"])
def test_rows_that_runs_share_cannot_be_written_to(name: str) -> None:
    with pytest.raises(ValueError, match="read-only"):
        getattr(fit(X, Y, epochs=1, scaling="standard").run.dataset, name)[:] = 0


def test_a_sweep_has_cells_with_seeds_as_noise() -> None:
    found = sweep(X, Y, hidden=[[2], [8]], seed=range(10), epochs=500, learning_rate=1, bias=True)
    assert len(found) == 20
    assert found[-1].config.seed == 9
    assert list(found.cells["network.hidden"]) == ["[8]", "[2]"]
    assert list(found.cells["n"]) == [10, 10]
    best = [one.loss[-1] for one in found if one.config.network.hidden == [8]]
    assert found.cells["median"][0] == np.median(best)
    assert found.cells["low"][0] < found.cells["iqm"][0] < found.cells["high"][0]
    assert found.best.loss[-1] == min(best)
    assert [len(fits) for fits in found.by_cell.values()] == [10, 10]
    assert next(iter(found.by_cell.values()))[0].config.network.hidden == [8]
    assert found.runs["final_loss"].tolist() == [one.loss[-1] for one in found]
    assert found.verdict.startswith("hidden=[8] is best")
    assert "<table" in found._repr_html_()
    assert repr(found) == "<Sweep of 20 runs>"


def test_the_best_run_is_that_of_the_rows_held_out_if_there_are_any() -> None:
    found = sweep("exam", hidden=[4], seed=range(8), epochs=30, validation=0.3)
    assert found.best.results["val_loss"] == min(one.results["val_loss"] for one in found)
    assert found.best.results["final_loss"] > min(one.results["final_loss"] for one in found)


def test_a_sweep_that_diverges_has_no_best_run() -> None:
    found = sweep(X, Y, activation="identity", output_activation="identity", learning_rate=1e6, seed=range(3))
    assert list(found.cells["diverged"]) == [3]
    with pytest.raises(UserError, match=r"^All runs of the sweep diverged: choose a lower training\.learning_rate"):
        found.best  # noqa: B018


def test_a_run_asked_for_twice_is_there_once() -> None:
    assert [one.config.seed for one in sweep(X, Y, seed=[1, 0, 1], epochs=2)] == [1, 0]


def test_nothing_is_printed_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fit(X, Y, epochs=5)
    sweep(X, Y, seed=range(3), epochs=5).cells  # noqa: B018
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_fits_can_be_pickled() -> None:
    one = fit(SHOP, "city", epochs=5)
    again = pickle.loads(pickle.dumps(one))  # noqa: S301 - our own
    assert np.array_equal(again.loss, one.loss)
    assert again.predict(SHOP).tolist() == one.predict(SHOP).tolist()


def test_a_usual_sigmoid_that_never_reaches_the_targets_is_told() -> None:
    with pytest.warns(UserWarning, match=r"^y goes from 0 to 90, and a sigmoid, the usual output.*task='regression'"):
        fit(X, [0, 90, 3, 7], epochs=1)
    fit(X, [0, 90, 3, 7], epochs=1, output_activation="sigmoid")  # warnings are errors here
    fit(X, [0, 90, 3, 7], epochs=1, target_scaling="max")


# --- what cannot be used ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "y", "settings", "sentence"),
    [
        (X, None, {}, "y is missing: give the targets, a row for each of X"),
        (X, [1, 2, 3], {}, "y has 3 rows, but it must have 4, as X has."),
        ([1, 2, 3], [1, 2, 3], {}, "X has the shape (3,), but it must be (rows, features)"),
        ([[1], [2, 3]], [1, 2], {}, "X is no array of numbers: give rows of equal length, of numbers only"),
        ([["a"], ["b"]], [1, 2], {}, "X is no array of numbers: "),
        ([[1.0], [np.inf]], [1, 2], {}, "X has inf in row 1 of column 0, but it must be finite numbers"),
        (np.zeros((0, 2)), [], {}, "X has the shape (0, 2), but it must be (rows, features), with one of each"),
        (np.zeros((2, 2, 2)), [0, 1], {}, "X has the shape (2, 2, 2), but it must be (rows, features)"),
        (np.array([[1j]]), [1], {}, "X is no array of numbers: "),
        (X, Y, {"features": ["a"]}, "features is [a], but it must be a list of 3 different names."),
        (X, Y, {"rows": ["a", "a", "b", "c"]}, "rows is [a, a, b, c], but it must be a list of 4 different names."),
        (X, Y, {"drop": ["x7"]}, "data.drop names x7, which is not there: choose from x0, x1, x2."),
        (X, Y, {"drop": 5}, "data.drop is 5, but it must be a list of names of columns"),
        (X, Y, {"hidden": [0]}, "network.hidden is [0], but it must be a list of whole numbers >= 1"),
        (X, Y, {"learning_rate": -1}, "training.learning_rate is -1.0, but it must be a finite number > 0."),
        (X, Y, {"loss": "cross_entropy"}, "network.output_activation is sigmoid, but it must be softmax, as"),
        (X, Y, {"groups": "x0"}, "data.groups is x0, but it must be null, as X is an array: give a frame."),
        ("happyness", None, {}, "X is happyness, but as text it must be a data set: cat_shop, digits, exam"),
        ("happiness", Y, {}, "X is happiness, but as text it must be a data set: "),
        ("none.csv", "a", {}, "data.path is none.csv, but there is no such file in "),
        (SHOP, None, {}, "y is null, but it must be a column of the frame, several, or the targets' values."),
        (SHOP, "scores", {}, "y is scores, but it must be a column of the frame"),
        (SHOP, SHOP["score"], {}, "The table has two columns score: give them different names."),
        (SHOP, [1, 2], {}, "y has 2 rows, but it must have 6, as X has."),
        (SHOP["hours"], SHOP["score"], {}, "X has the shape (6,), but it must be (rows, features)"),
        (SHOP, "score", {"features": ["hour"]}, "data.features names hour, which is not there"),
        (X, "text", {}, "y is text, but as X is an array it must be the targets' values: give X as a frame."),
        (X, np.zeros((4, 1, 1)), {"task": "regression"}, "y has the shape (4, 1, 1), but it must be (rows,) or (rows,"),
        (X, [[1], [2, 3], [4], [5]], {}, "y is no array of numbers: give rows of equal length"),
        (SHOP, [[1], [2, 3]], {}, "y is no array of numbers: give rows of equal length"),
        (SHOP, 1.5, {}, "y has the shape (), but it must be (rows,) or (rows, targets)."),
        (SHOP, 1, {}, "y is 1, but it must be a column of the frame"),
        (SHOP, np.ones((6, 2)), {"targets": ["a"]}, "targets is [a], but it must be a list of 2 different names."),
        (X, ["a", "a ", "b", "b"], {}, "The column y has 'a' and 'a ': write them alike."),
        (X, np.array([1, "1", 2, 2], dtype=object), {}, "The column y has 1 and '1': write them alike."),
    ],
    ids=lambda one: str(one)[:40] if isinstance(one, str | dict) else "",
)
def test_what_cannot_be_used_is_one_sentence(X: Any, y: Any, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        fit(X, y, **settings)
    assert str(raised.value).startswith(sentence)
    assert "\n" not in str(raised.value)


def test_a_sparse_matrix_is_refused() -> None:
    from scipy.sparse import csr_array

    with pytest.raises(UserError, match=r"^X is sparse, but it must be an array of all its numbers"):
        fit(csr_array(np.eye(3)), [0, 1, 0])


@pytest.mark.parametrize(
    ("X", "sentence"),
    [
        (
            [[1.0, 2.0]],
            r"^X has the shape \(1, 2\), but it must be \(rows, 3\), the features hours, city=Bonn, city=Ulm",
        ),
        (SHOP[["hours"]], "^X lacks the column city"),
        (SHOP.assign(city="Rom"), "^city has the new value Rom, but it must be one of Bonn, Ulm"),
        (SHOP.assign(hours=np.nan), "^X has numbers that are missing or not finite"),
        (SHOP.assign(hours=[1, 2, "x", np.nan, 5, 6]), r"^hours in row 3 is x, but it must be a number\.$"),
        (SHOP.assign(hours=["1", "2", "3", "4", "5", "many"]), "^hours in row 6 is many, but it must be a number"),
    ],
    ids=["shape", "column", "category", "nan", "text", "numbers as text"],
)
def test_rows_that_cannot_be_predicted(X: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        fit(SHOP, "score", epochs=1).predict(X)


def test_a_sweep_with_a_bad_value_trains_nothing(tmp_path: Path) -> None:
    store = tmp_path / "mlflow.db"
    with pytest.raises(UserError, match=r"^network\.hidden is \[0\]"):
        sweep(X, Y, hidden=[[4], [0]], tracking=f"sqlite:///{store}")
    assert not store.exists()


def test_a_failed_training_is_told_with_its_reason() -> None:
    """A curve of 10^8 points does not fit into the memory that this process may have."""
    code = (
        "import resource, pipeline; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        "try: pipeline.fit([[0.0], [1.0]], [0, 1], epochs=100_000_000, metrics=['mean_abs'])\n"
        "except pipeline.UserError as error: print(type(error).__name__, error)\n"
        "several = {'metrics': [['mean_abs'], ['mean_abs', 'mse']], 'epochs': 100_000_000}\n"
        "found = pipeline.sweep([[0.0], [1.0]], [0, 1], several, executor='serial')\n"
        "print(len(found), len(found.failures))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("FailedRunsError The run failed (MemoryError: ")
    assert done.stdout.splitlines()[1] == "0 2"
