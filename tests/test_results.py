"""Runs read back into one typed frame: by SQL and through MLflow's client the same, and as they ended."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from pandas.testing import assert_frame_equal

from pipeline.compare.frame import frame_of, value_of
from pipeline.compare.results import Results, Selection, read_results, select
from pipeline.errors import UserError
from pipeline.session import run_sweep
from pipeline.store.client import ClientSink
from pipeline.store.rows import ClientSource, TableSource
from tests.conftest import copy_store, in_process
from tests.factory import GROWING, run


def uri_of(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def read(folder: Path, **selection: Any) -> Results:
    return read_results(uri_of(folder), Selection(**selection))


def test_a_sweep_is_one_typed_frame(store: Path) -> None:
    results = read(store)
    runs = results.runs
    assert results.title.startswith("Sweep small 20")
    assert (len(runs), runs["cell"].nunique(), runs["run_id"].nunique()) == (12, 4, 12)
    assert sorted(runs["network.hidden"].unique()) == ["[2]", "[4]"]
    kinds = {name: runs[name].dtype for name in ("seed", "training.epochs", "training.learning_rate", "network.bias")}
    assert kinds == {
        "seed": np.int64,
        "training.epochs": np.int64,
        "training.learning_rate": np.float64,
        "network.bias": np.bool_,
    }
    assert set(runs["status"]) == {"FINISHED"}
    assert runs["diverged_at"].isna().all()
    assert (runs["updates"] == runs["training.epochs"]).all()
    assert (runs["best_loss"] <= runs["final_loss"]).all()
    assert runs["final_mse"].notna().all()


def test_both_ways_to_read_give_the_same(store: Path) -> None:
    client = ClientSink(uri_of(store), 1)
    by_client, by_tables = select(client, uri_of(store), Selection()), read(store)
    assert isinstance(by_client.source, ClientSource)
    assert isinstance(by_tables.source, TableSource)
    assert_frame_equal(by_client.runs, by_tables.runs)
    assert_frame_equal(by_client.curves(), by_tables.curves())
    assert_frame_equal(by_client.with_reached(0.4), by_tables.with_reached(0.4))
    chosen = Selection(experiment="small")
    one, other = (select(sink, uri_of(store), chosen).runs for sink in (client, by_tables.sink))
    assert_frame_equal(one, other)
    for parent in (by_client.parent, by_tables.parent):
        assert parent
        assert (parent.status, parent.experiment, parent.tags["kind"]) == ("FINISHED", "small", "sweep")


def test_curves_and_the_updates_to_a_threshold(store: Path) -> None:
    results = read(store)
    curves = results.curves()
    assert list(curves.columns) == ["run_id", "step", "value"]
    longest = results.runs[results.runs["training.epochs"] == 40]
    for _, one in longest.iterrows():
        points = curves[curves["run_id"] == one["run_id"]]
        assert points["step"].tolist() == list(range(41))
        assert points["value"].iloc[-1] == one["final_loss"]
        threshold = points["value"].iloc[17]
        first = points.loc[points["value"] <= threshold, "step"].min()
        reached = results.with_reached(float(threshold)).set_index("run_id")["reached_at"]
        assert reached[one["run_id"]] == first
    assert results.with_reached(-1.0)["reached_at"].isna().all()
    mse = results.curves("mse")
    assert len(mse) == len(curves)


def test_runs_that_have_just_ended_make_the_frame_that_the_store_gives(empty_store: Path) -> None:
    where: dict[str, Any] = {"uri": uri_of(empty_store), "experiment": "small", "epochs": 7}
    runs = [run(hidden=[width], seed=seed, **where) for width in (2, 3) for seed in (0, 1)]
    outcomes = run_sweep([*runs, run(**GROWING, learning_rate=1e307, **where | {"epochs": 90})], [])
    assert any(outcome.diverged for outcome in outcomes)
    now = frame_of(outcomes)
    kept = read(empty_store).runs
    own = ["sweep", "experiment_id", "seconds"]
    assert_frame_equal(now.drop(columns=own), kept.drop(columns=own), check_like=True)
    assert kept["diverged_at"].notna().sum() == 1
    assert read(empty_store).kept(str(kept.loc[kept["diverged_at"].notna(), "run_id"].iloc[0])).diverged_at


def test_a_number_of_the_data_that_is_as_usual_is_in_the_frame_all_the_same(empty_store: Path) -> None:
    """Such keys are no params of a run, or it would be another run since there are such keys."""
    words = ["data=cat_shop", "data.validation=0.5", "data.label_noise=0,0.5", "seed=0,1", "training.epochs=3"]
    assert in_process(["sweep", *words], empty_store) == 0
    runs = read(empty_store).runs
    assert sorted(runs["data.label_noise"]) == [0.0, 0.0, 0.5, 0.5]
    assert "data.outliers" not in runs


def test_a_sweep_that_found_its_runs_has_them_too(store: Path, tmp_path: Path) -> None:
    copy_store(store, tmp_path)
    words = ["data=cat_shop", "network.hidden=[2],[4]", "seed=0,7", "training.epochs=5", "training.metrics=[mse]"]
    assert in_process(["sweep", *words, "tracking.experiment=small"], tmp_path) == 0
    results = read(tmp_path)
    assert sorted(results.runs["seed"]) == [0, 0, 7, 7]
    assert results.runs["sweep"].nunique() == 2
    assert results.parent
    again = read(tmp_path, sweep=results.parent.run_id)
    assert_frame_equal(again.runs, results.runs)
    assert_frame_equal(read(tmp_path, sweep=results.parent.name).runs, results.runs)
    first = [one for one in results.source.parents() if one.run_id != results.parent.run_id]
    assert len(read(tmp_path, sweep=first[0].run_id).runs) == 12
    assert len(read(tmp_path, experiment="small", sweep="latest").runs) == 4
    assert len(read(tmp_path, experiment="small").runs) == 14
    assert set(read(tmp_path, filter="params.seed = '7'").runs["seed"]) == {7}
    assert read(tmp_path, filter="params.seed = '7'", experiment="small").parent is None


@pytest.mark.parametrize(
    ("selection", "told"),
    [
        ({"sweep": "nothing"}, r"There is no sweep nothing in .*: choose latest, a run id, or a name \(small 20"),
        ({"experiment": "nothing"}, r"There is no experiment nothing in .* \(with a sweep there are: small\)"),
        ({"experiment": "happiness", "sweep": "latest"}, "There is no sweep in .* yet"),
        ({"filter": "params.seed = '99'"}, "The filter params.seed = '99' in .* has no run to compare"),
        ({"filter": "nonsense"}, "Invalid clause"),
    ],
)
def test_what_is_not_there_is_told(store: Path, selection: dict[str, str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read(store, **selection)


def test_without_a_store_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no store at"):
        read(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_sweep_that_has_no_list_of_runs_has_those_that_it_trained(empty_store: Path) -> None:
    assert in_process(["sweep", "data=cat_shop", "seed=0,1", "training.epochs=3"], empty_store) == 0
    before = read(empty_store)
    assert before.parent
    (listed,) = empty_store.glob(f"**/{before.parent.run_id}/artifacts/runs.json")
    listed.unlink()  # as if it had been killed before its end
    after = read(empty_store).runs
    assert_frame_equal(after.sort_values("run_id"), before.runs.sort_values("run_id"))


def test_a_sweep_without_a_run_gives_way_to_the_one_before(
    empty_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        assert in_process(["sweep", "data=cat_shop", f"seed={seed}", "training.epochs=3"], empty_store) == 0
    latest = read(empty_store)
    client = MlflowClient(uri_of(empty_store))
    client.delete_run(latest.run_ids[0])
    capsys.readouterr()
    before = read(empty_store, sweep="latest")
    assert list(before.runs["seed"]) == [0]
    assert before.parent != latest.parent
    assert latest.parent
    told = f"note: Sweep {latest.parent.name}, the latest, has no finished run: this is the latest that has some."
    assert capsys.readouterr().err.split() == told.split()
    with pytest.raises(UserError, match="has no run to compare"):
        read(empty_store, sweep=latest.parent.run_id)
    client.delete_run(before.run_ids[0])
    with pytest.raises(UserError, match=f"{latest.parent.name} .*has no run to compare"):
        read(empty_store, experiment="cat_shop", sweep="latest")


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("0.5", 0.5), ("1e-05", 1e-05), ("True", True), ("[4, 5]", "[4, 5]"), ("sse", "sse"), ("None", None)],
)
def test_values_of_params(text: str, value: object) -> None:
    assert value_of(text) == value
    assert type(value_of(text)) is type(value)
