"""`seedbed predict`: rows from a file or the command line, in the data's own units, through the real command."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.conftest import in_process

Predict = Callable[..., tuple[int, str, str]]


@pytest.fixture
def predict(store: Path, capsys: pytest.CaptureFixture[str]) -> Predict:
    """Runs predict in the store's folder; gives the exit code, standard output and standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = in_process(["predict", *words], store)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def table(text: str) -> tuple[list[str], list[list[str]]]:
    header, *rows = [line.split(",") for line in text.splitlines()]
    return header, rows


def test_james_gives_the_printed_prediction_and_a_warning_for_what_lies_outside(predict: Predict) -> None:
    code, out, err = predict("experiment=happiness", "rows=[[0.2, 1.0, 0.4, 0.3]]")
    assert code == 0
    header, (row,) = table(out)
    assert header == ["money", "relationship", "sandwiches", "baseline", "happiness"]
    assert float(row[-1]) == pytest.approx(0.95443314, abs=5e-9)  # published: "about 0.95"
    assert "relationship is 1, outside the training range 0.2 to 0.8" in err
    assert "money is 0.2, outside the training range 0.3 to 1" in err
    assert "sandwiches" not in err


def test_a_row_may_be_given_by_its_features_names(predict: Predict) -> None:
    words = ["money=0.2", "relationship=1", "sandwiches=0.4", "baseline=0.3"]
    by_name = predict("experiment=happiness", *words)
    assert by_name == predict("experiment=happiness", "rows=[[0.2, 1.0, 0.4, 0.3]]")


def test_a_file_may_order_its_columns_and_name_its_rows(predict: Predict, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("relationship,money,input,sandwiches,baseline\n1.0,0.2,James,0.4,0.3\n0.5,0.5,Ann,0.4,0.3\n")
    code, out, err = predict("experiment=happiness", "--input", str(file))
    assert code == 0
    header, rows = table(out)
    assert header == ["input", "money", "relationship", "sandwiches", "baseline", "happiness"]
    assert rows[0][:5] == ["James", "0.2", "1", "0.4", "0.3"]
    assert float(rows[0][5]) == pytest.approx(0.95443314, abs=5e-9)
    assert err.startswith("warning: James: ")
    assert "Ann" not in err


def test_a_file_without_a_header_has_the_features_in_order(predict: Predict, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("0.2,1.0,0.4,0.3\n")
    inline = predict("experiment=happiness", "rows=[0.2, 1.0, 0.4, 0.3]")
    assert predict("experiment=happiness", "--input", str(file)) == inline


def test_inputs_and_predictions_are_in_the_datas_own_units(store: Path, predict: Predict) -> None:
    code, out, err = predict("experiment=exam", "rows=[[2, 9], [1, 5], [3, 6]]")
    assert (code, err) == (0, "")
    header, rows = table(out)
    assert header == ["hours_studied", "hours_slept", "score"]
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    found = client.get_experiment_by_name("exam")
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    kept = client.download_artifacts(run.info.run_id, "predictions.json")
    assert [row[-1] for row in rows] == [str(100 * value) for value in _column(Path(kept), "prediction")]


def _column(file: Path, name: str) -> list[float]:
    import json

    content = json.loads(file.read_text())
    return [row[content["columns"].index(name)] for row in content["data"]]


def test_a_run_id_names_the_network(store: Path, predict: Predict) -> None:
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    found = client.get_experiment_by_name("happiness")
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    rows = "rows=[[0.2, 1.0, 0.4, 0.3]]"
    assert predict(f"run={run.info.run_id}", rows) == predict("experiment=happiness", rows)


def test_the_best_run_of_an_experiment_is_the_one_with_the_lowest_loss(store: Path, predict: Predict) -> None:
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    found = client.get_experiment_by_name("small")
    assert found is not None
    runs = [run for run in client.search_runs([found.experiment_id]) if "fingerprint" in run.data.tags]
    best = min(runs, key=lambda run: run.data.metrics["result/final_loss"])
    rows = "rows=[[1, 0, 1]]"
    assert predict("experiment=small", rows) == predict(f"run={best.info.run_id}", rows)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["experiment=happiness"], "Say what to predict: --input FILE.csv, or rows="),
        (["rows=[[1]]"], "Say which network predicts: run=RUN_ID, experiment=NAME or model=NAME"),
        (["run=1", "experiment=exam", "rows=[[1]]"], "Say which network predicts"),
        (["experiment=happiness", "rows=[[1, 2]]"], "A row has 2 values, but it must have 4: money, relationship"),
        (["experiment=happiness", "rows=abc"], "rows is abc, but it must be a list of rows of finite numbers"),
        (["experiment=happiness", "rows=[[.nan, 1, 1, 1]]"], "must be a list of rows of finite numbers"),
        (["experiment=happiness", "money=1"], "The row lacks relationship, sandwiches, baseline"),
        (["experiment=happiness", "height=1"], "height is not a key here: the keys are run, experiment, model, rows"),
        (["experiment=happiness", "rows=[[1"], "cannot be read"),
        (["experiment=nope", "rows=[[1]]"], "There is no experiment nope in sqlite:///mlflow.db (there are: "),
        (["run=abc", "rows=[[1]]"], "run=abc cannot be read from sqlite:///mlflow.db"),
        (["experiment=exam", "rows=[[1]]", "tracking.uri=sqlite:///none.db"], "There is no store at sqlite:///none.db"),
        (["experiment=happiness", "--input", "none.csv"], "--input none.csv cannot be read"),
        (["happiness"], "happiness is no key=value"),
    ],
)
def test_bad_words_get_one_sentence(predict: Predict, words: list[str], sentence: str) -> None:
    code, out, err = predict(*words)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty: it must have the columns money, relationship, sandwiches, baseline."),
        ("money,relationship,sandwiches,baseline\n", "has no rows under its header"),
        ("a,b\n1,2\n", "has unknown a, b and lacks money, relationship, sandwiches, baseline"),
        ("money,money,sandwiches,baseline\n1,2,3,4\n", "has a column twice"),
        ("money,relationship,sandwiches,baseline\n1,2,3\n", "has 3 values, but it must have 4"),
        ("money,relationship,sandwiches,baseline\n1,x,3,4\n", "is x, but it must be a finite number"),
        ("money,relationship,sandwiches,baseline\n1,inf,3,4\n", "is inf, but it must be a finite number"),
    ],
)
def test_bad_files_get_one_sentence(predict: Predict, tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(text)
    code, out, err = predict("experiment=happiness", "--input", str(file))
    assert (code, out) == (1, "")
    assert sentence in err
    assert err.count("\n") == 1
