"""`seedbed compare`: its formats, its words, what it refuses; and the end of a sweep, which prints the same."""

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from pipeline.compare.comparison import compare, compare_sweep
from pipeline.compare.results import Selection, read_results
from pipeline.errors import UserError
from tests.compared import SWEEP, swept, uri
from tests.conftest import in_process

__all__ = ["swept"]  # a fixture


def told(words: Sequence[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    code = in_process(["compare", *words], folder)
    caught = capsys.readouterr()
    assert (code, caught.err) == (0, "")
    return caught.out


def refused(words: Sequence[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert in_process(list(words), folder) == 1
    caught = capsys.readouterr()
    assert caught.out == ""
    return caught.err


def test_the_table_has_cells_verdict_differences_and_effects(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told([], swept, capsys)
    found = compare_sweep(uri=uri(swept))
    assert "Sweep widths 20" in text
    assert found.verdicts.sentence in text
    assert "Final loss of 6 cells over their seeds" in text
    assert found.effects.sentence in text
    best = found.cells.iloc[0]
    line = next(line.split() for line in text.splitlines() if line.split()[:1] == [best["network.hidden"]])
    assert line[1:6] == ["200", "10", *(f"{best[name]:.3g}" for name in ("median", "mean", "iqm"))]
    assert f"{found.verdicts.best} against the others" in text
    row = found.verdicts.table.iloc[0]
    assert f"{row['effect']:.3g}" in text


def test_a_sweep_ends_with_the_same_cells_and_verdict(swept: Path) -> None:
    said = (swept / "said").read_text(encoding="utf-8")
    found = compare_sweep(uri=uri(swept))
    assert found.verdicts.sentence in said
    results = read_results(uri(swept), Selection())
    kept = {name: results.table(name) for name in ("cells.json", "against_best.json", "effects.json", "diverged.json")}
    cells = pd.DataFrame(kept["cells.json"]["data"], columns=kept["cells.json"]["columns"])
    assert cells["cell"].tolist() == found.cells["cell"].tolist()
    assert cells["iqm"].tolist() == pytest.approx(found.cells["iqm"].tolist(), rel=1e-12)
    assert len(kept["against_best.json"]["data"]) == 5
    assert kept["diverged.json"]["data"] == []
    parent = results.parent
    assert parent
    assert parent.tags["mlflow.note.content"].startswith(found.verdicts.sentence)
    assert parent.run_id in said


def test_csv_is_the_cell_table_alone(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_csv(io.StringIO(told(["--format", "csv"], swept, capsys)))
    cells = compare_sweep(uri=uri(swept)).cells
    assert_frame_equal(table, cells, check_dtype=False)
    assert table["n"].tolist() == [10] * 6
    assert table["median"].is_monotonic_increasing


def test_json_has_all_of_it(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(told(["--format", "json"], swept, capsys), parse_constant=pytest.fail)
    found = compare_sweep(uri=uri(swept))
    assert content["verdict"] == found.verdicts.sentence
    assert (content["runs"], len(content["cells"]), len(content["against_best"])) == (60, 6, 5)
    assert content["metric"] == "final_loss"
    assert {term["term"] for term in content["effects"]} >= {"network.hidden", "training.epochs"}


def test_markdown_and_parquet(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(["--format", "markdown"], swept, capsys).splitlines()
    assert lines[0].startswith("# Sweep widths")
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 6
    assert len({line.count("|") for line in table}) == 1
    command = [sys.executable, "-m", "pipeline", "compare", "--format", "parquet"]
    done = subprocess.run(command, cwd=swept, capture_output=True, check=True, timeout=900)
    assert_frame_equal(pd.read_parquet(io.BytesIO(done.stdout)), compare_sweep(uri=uri(swept)).cells)


def test_groups_threshold_order_and_metric(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["by=network.hidden", "threshold=0.05", "sort=-mean", "metric=best_loss", "--format", "csv"]
    table = pd.read_csv(io.StringIO(told(words, swept, capsys)))
    assert sorted(table["network.hidden"]) == ["[2]", "[4]", "[8]"]
    assert table["n"].tolist() == [20] * 3
    assert table["mean"].is_monotonic_decreasing
    runs = read_results(uri(swept), Selection()).with_reached(0.05)
    reached = runs.dropna(subset="reached_at").groupby("network.hidden").size().to_dict()
    assert dict(zip(table["network.hidden"], table["reached"], strict=True)) == {"[2]": 0, "[4]": 0, "[8]": 0} | reached
    assert 0 < sum(reached.values()) < 60
    text = told(["by=network.hidden", "threshold=0.05"], swept, capsys)
    assert "Final loss of 3 groups over their seeds" in text
    assert "to the next kept point" in text


def test_the_median_by_two_keys(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = read_results(uri(swept), Selection()).runs
    table = pd.read_csv(io.StringIO(told(["map=network.hidden,training.epochs", "--format", "csv"], swept, capsys)))
    assert table["network.hidden"].tolist() == ["[2]", "[4]", "[8]"]
    median = runs[(runs["network.hidden"] == "[4]") & (runs["training.epochs"] == 200)]["final_loss"].median()
    assert table.set_index("network.hidden").loc["[4]", "200"] == median
    text = told(["map=network.hidden,training.epochs"], swept, capsys)
    assert "Median final loss by network.hidden (down) and training.epochs (across)" in text
    assert f"{median:.3g}" in text


def test_a_threshold_may_be_written_as_in_science(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(["threshold=5e-2"], swept, capsys) == told(["threshold=0.05"], swept, capsys)


def test_cells_as_groups_have_the_verdicts_of_cells(swept: Path) -> None:
    runs = read_results(uri(swept), Selection()).runs
    cells, groups = compare(runs).verdicts, compare(runs, by=["cell", "cell"]).verdicts
    columns = ["n", "paired", "effect", "low", "high", "p_corrected", "told"]
    assert_frame_equal(groups.table[columns], cells.table[columns])
    assert groups.sentence.count("told") == cells.sentence.count("told")


def test_losses_in_different_units_are_not_compared_without_a_warning(swept: Path) -> None:
    runs = read_results(uri(swept), Selection()).runs
    runs["final_mse"] = runs["final_loss"] / 4
    other = runs.assign(cell="other " + runs["cell"])
    other["training.loss"] = "mse"
    both = pd.concat([runs, other], ignore_index=True)
    sentence = compare(both).verdicts.sentence
    assert sentence.startswith("Careful: runs that differ in training.loss have losses in different units (with ")
    assert "Careful" not in compare(both, "final_mse").verdicts.sentence
    assert "Careful" not in compare(both, "updates").verdicts.sentence
    assert "Careful" not in compare(runs).verdicts.sentence


def test_a_run_that_was_forced_again_is_no_further_seed(empty_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "data=cat_shop", "seed=range(0,3)", "training.epochs=5", "tracking.experiment=twice"]
    assert in_process(words, empty_store) == 0
    assert in_process([*words, "--force"], empty_store) == 0
    for which in ("experiment=twice", "filter=tags.sweep LIKE 'twice%'"):
        assert "3 runs." in told([which], empty_store, capsys)


def test_two_experiments_of_one_sweep_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process(["sweep", "data=exam,cat_shop", "tracking=none", "training.epochs=5"], tmp_path) == 0
    said = capsys.readouterr().out
    assert said.index("Comparison of cat_shop ") < said.index("Comparison of exam ")
    assert said.count("Final loss of 1 cell over their seeds") == 2


def test_the_python_functions_take_a_frame_or_a_store(swept: Path) -> None:
    runs = read_results(uri(swept), Selection(experiment="widths")).runs
    one, other = (
        compare(runs, "result/best_loss", by=["network.hidden"]),
        compare_sweep(uri=uri(swept), metric="best_loss", by=["network.hidden"]),
    )
    assert_frame_equal(one.cells, other.cells)
    assert one.verdicts.sentence == other.verdicts.sentence
    assert one.keys == ("network.hidden", "training.epochs")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["metric=nothing"],
            "metric=nothing is nothing that these runs have: choose from final_loss, best_loss, updates",
        ),
        (["metric=seed"], "metric=seed is nothing that these runs have: choose from final_loss"),
        (["by=nothing"], "by=nothing is nothing that these runs have: choose from cell, data.digest, data.drop, "),
        (["threshold=low"], "threshold is low, but it must be a number: a loss to reach."),
        (["threshold=.nan"], "threshold is nan, but it must be a number"),
        (["sort=nothing"], "sort=nothing is no column: choose from cell, network.hidden, training.epochs"),
        (["map=seed"], "map=seed must be two keys, like map=network.hidden,training.epochs."),
        (["map=seed,nothing"], "map=nothing is nothing that these runs have: choose from cell"),
        (["sweep=nothing"], "There is no sweep nothing in"),
        (["sweep=latest", "filter=params.seed = '1'"], "Choose runs by sweep= or by filter=, not both."),
        (["nothing=1"], "nothing is not a key here: the keys are sweep, experiment, filter"),
        (["filter=nonsense"], "Invalid clause"),
        (["tracking.uri=sqlite:///none.db"], "There is no store at sqlite:///none.db"),
        (["--format", "xml"], "--format"),
        (["--most", "0"], "--most"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    swept: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(["compare", *words], swept, capsys)
    assert said.startswith("error: ")
    assert sentence in said
    assert said.count("\n") == 1


def test_one_run_and_one_cell_say_what_they_can(empty_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process(["sweep", "data=cat_shop", "seed=3", "training.epochs=5"], empty_store) == 0
    text = told([], empty_store, capsys)
    assert "There is only one cell" in text or "one cell" in text
    assert in_process(["sweep", "data=cat_shop", "seed=range(0,12)", "training.epochs=5"], empty_store) == 0
    text = told([], empty_store, capsys)
    assert "12 runs" in text
    assert "Fewer than 10 seeds" not in text


def test_a_sweep_without_a_store_is_compared_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process(["sweep", *SWEEP[:1], "tracking=none", "seed=range(0,5)", "training.epochs=5,6"], tmp_path) == 0
    said = capsys.readouterr().out
    assert "Final loss of 2 cells over their seeds" in said
    assert "epochs=6" in said
    assert "Report" not in said
    assert not list(tmp_path.iterdir())


def test_a_frame_without_the_metric_is_refused() -> None:
    runs = pd.DataFrame({"final_loss": [1.0], "seed": [0], "cell": ["a"], "status": ["FINISHED"]})
    with pytest.raises(UserError, match="metric=other is nothing that these runs have"):
        compare(runs, "other")


def test_runs_with_rows_held_out_are_compared_by_those(empty_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "data=cat_shop", "seed=range(0,5)", "network.hidden=[2],[3]", "data.validation=0.5"]
    assert in_process([*words, "training.epochs=3"], empty_store) == 0
    assert "Val loss of 2 cells" in capsys.readouterr().out
    assert in_process(["compare"], empty_store) == 0
    assert "Val loss of 2 cells" in capsys.readouterr().out
    assert in_process(["compare", "metric=final_loss"], empty_store) == 0
    assert "Final loss of 2 cells" in capsys.readouterr().out
    assert in_process(["register", "name=held"], empty_store) == 0
    assert "val loss" in capsys.readouterr().out
