"""Views of MLflow's UI: their form, the runs that their filters find, and other versions of MLflow."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from pipeline.report import views
from pipeline.report.views import BEST_FIRST, BY_SEED, LONGEST_TAG, TAG, View, tags_of, views_of, written
from tests.conftest import in_process

KEYS = ["network.hidden", "seed", "training.learning_rate", "training.epochs"]


def unpacked(value: str) -> dict[str, Any]:
    """What the UI reads of a tag."""
    kind, _, packed = json.loads(value)["state"].partition(";")
    assert kind == "deflate"
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed, validate=True)))
    return state


def by_id(found: list[View]) -> dict[str, View]:
    return {view.view_id: view for view in found}


def test_a_view_unpacks_to_what_was_made() -> None:
    found = views_of("a sweep", KEYS, 1000)
    tags = tags_of(found, 1_700_000_000_000)
    assert list(tags) == [f"{TAG}{view.view_id}" for view in found]
    assert len(tags) == 5
    for view, value in zip(found, tags.values(), strict=True):
        assert len(value) < LONGEST_TAG / 5
        assert unpacked(value) == view.state
        content = json.loads(value)
        assert content["name"] == view.name
        assert content["createdAt"] == content["updatedAt"] == 1_700_000_000_000


def test_a_view_too_long_for_the_ui_is_left_out() -> None:
    # Letters that do not compress, as in a name that nobody gives.
    endless = base64.b85encode(
        b"".join(bytes([place * place % 251]) * (place % 3 + 1) for place in range(30_000))
    ).decode()
    long = View("long", endless, "TABLE", {})
    assert len(written(long, 0)) > LONGEST_TAG
    short = views_of("a sweep", KEYS, 1000)[0]
    assert list(tags_of([long, short], 0)) == [f"{TAG}{short.view_id}"]


def test_swept_keys_are_columns_and_axes_as_far_as_there_is_room() -> None:
    keys = [f"training.key{number}" for number in range(9)]
    found = by_id(views_of("a sweep", [*keys, "seed"], 1000))
    columns = found["seedbed-runs"].state["selectedColumns"]
    assert columns[:7] == [*(f"params.`{key}`" for key in keys[:6]), "params.`seed`"]
    assert "metrics.`result/final_loss`" in columns
    (axes,) = found["seedbed-axes"].state["compareRunCharts"]
    assert axes["selectedParams"] == [*keys[:6], "seed"]


def test_curves_are_grouped_with_a_log_axis() -> None:
    found = by_id(views_of("a sweep", KEYS, 1000))
    groups = {name: found[f"seedbed-{name}"].state["groupBy"] for name in ("curves", "cells", "runs")}
    order = {name: found[f"seedbed-{name}"].state["orderByKey"] for name in ("curves", "cells", "axes", "runs", "best")}
    assert order == {"curves": BY_SEED, "cells": BY_SEED, "axes": BY_SEED, "runs": BEST_FIRST, "best": BEST_FIRST}
    assert groups["runs"] is None
    assert groups["curves"]["groupByKeys"] == [{"mode": "param", "groupByData": "network.hidden"}]
    assert groups["cells"]["groupByKeys"] == [{"mode": "tag", "groupByData": "cell"}]
    for name in ("curves", "cells"):
        charts = found[f"seedbed-{name}"].state["compareRunCharts"]
        assert [(chart["xAxisScaleType"], chart["scaleType"]) for chart in charts] == [
            ("linear", "log"),
            ("log", "log"),
        ]


@pytest.mark.parametrize("name", ["plain", "it's", 'so "called"', "back\\slash 100 % _ ü"])
def test_filters_find_exactly_the_sweeps_runs(name: str, empty_store: Path) -> None:
    """Also of a sweep beside others, and with the most epochs only."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{empty_store}/mlflow.db")
    experiment = client.create_experiment("quotes", (empty_store / "files").as_uri())
    made: dict[tuple[str, str], str] = {}
    for sweep in (name, "another", name + "x"):
        for epochs in ("5", "40"):
            run = client.create_run(experiment, tags={"sweep": sweep, "fingerprint": "f"})
            client.log_param(run.info.run_id, "training.epochs", epochs)
            made[sweep, epochs] = run.info.run_id
    client.create_run(experiment, tags={"kind": "sweep", "mlflow.runName": name})  # the parent
    found = by_id(views_of(name, KEYS, 40))

    def runs(view: str) -> set[str]:
        return {run.info.run_id for run in client.search_runs([experiment], found[view].state["searchFilter"])}

    assert runs("seedbed-runs") == {made[name, "5"], made[name, "40"]}
    assert runs("seedbed-curves") == {made[name, "40"]}


@pytest.mark.parametrize("name", [None, "both ' and \""])
def test_without_a_name_that_can_be_asked_for_all_trained_runs_are_found(name: str | None, empty_store: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{empty_store}/mlflow.db")
    experiment = client.create_experiment("quotes", (empty_store / "files").as_uri())
    trained = [client.create_run(experiment, tags={"fingerprint": sweep, "sweep": sweep}).info.run_id for sweep in "ab"]
    client.create_run(experiment, tags={"kind": "sweep"})
    asked = views_of(name, KEYS, 40)[0].state["searchFilter"]
    assert sorted(run.info.run_id for run in client.search_runs([experiment], asked)) == sorted(trained)


SMALL = ["sweep", "data=cat_shop", "seed=0,1", "training.epochs=5", "tracking.experiment=viewed"]


def experiment_tags(folder: Path) -> dict[str, str]:
    from mlflow import MlflowClient

    experiment = MlflowClient(f"sqlite:///{folder}/mlflow.db").get_experiment_by_name("viewed")
    assert experiment
    return dict(experiment.tags)


def test_a_sweep_writes_its_views_and_prints_their_links(empty_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process(SMALL, empty_store) == 0
    said = capsys.readouterr().out
    tags = experiment_tags(empty_store)
    ids = [key.removeprefix(TAG) for key in tags if key.startswith(TAG)]
    assert len(ids) == 5
    for view_id in ids:
        assert f"viewStateShareKey={view_id}" in said
        assert f"viewStateShareKey={view_id}" in tags["mlflow.note.content"]


def test_another_mlflow_gets_no_views_and_the_user_is_told(
    empty_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(views, "MLFLOW", "0.0.")
    assert in_process(SMALL, empty_store) == 0
    caught = capsys.readouterr()
    assert "Views of the UI are left out" in caught.out + caught.err
    assert "viewStateShareKey" not in caught.out
    assert not [key for key in experiment_tags(empty_store) if key.startswith(TAG)]
