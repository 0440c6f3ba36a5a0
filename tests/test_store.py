"""What a sweep leaves in MLflow: written by the real command, read back with MLflow's own client."""

import ast
import io
import json
import os
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run as StoredRun
from numpy.typing import NDArray

from tests.conftest import copy_store, in_process, seedbed
from tests.processes import eventually, session, started
from tests.sweeps import held, prepared

FILES = {
    "weights.npz",
    "loss.npz",
    "predictions.json",
    "predictions.npz",
    "weights.json",
    "config.yaml",
    "environment.json",
}


@pytest.fixture(scope="module")
def client(store: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{store}/mlflow.db")


def runs(client: MlflowClient, experiment: str) -> list[StoredRun]:
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id], max_results=1000))


@pytest.fixture(scope="module")
def sweep(client: MlflowClient) -> list[StoredRun]:
    return [run for run in runs(client, "small") if "fingerprint" in run.data.tags]


@pytest.fixture(scope="module")
def parent(client: MlflowClient) -> StoredRun:
    (one,) = [run for run in runs(client, "small") if "fingerprint" not in run.data.tags]
    return one


def content(client: MlflowClient, run: StoredRun, name: str) -> bytes:
    return Path(client.download_artifacts(run.info.run_id, name)).read_bytes()


def arrays(client: MlflowClient, run: StoredRun, name: str) -> dict[str, NDArray[np.float64]]:
    with np.load(io.BytesIO(content(client, run, name)), allow_pickle=False) as file:
        return dict(file.items())


def pick(sweep: list[StoredRun], hidden: str, seed: int, epochs: int) -> StoredRun:
    (one,) = [
        run
        for run in sweep
        if (run.data.params["network.hidden"], run.data.params["seed"], run.data.params["training.epochs"])
        == (hidden, str(seed), str(epochs))
    ]
    return one


def test_every_run_of_the_sweep_is_finished_under_one_parent(sweep: list[StoredRun], parent: StoredRun) -> None:
    assert len(sweep) == 12
    assert {run.info.status for run in [*sweep, parent]} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in sweep} == {parent.info.run_id}
    assert {run.data.tags["sweep"] for run in sweep} == {parent.info.run_name}
    assert len({run.data.tags["fingerprint"] for run in sweep}) == 12


def test_runs_of_a_cell_differ_in_the_seed_only(sweep: list[StoredRun]) -> None:
    cells: dict[str, list[StoredRun]] = {}
    for run in sweep:
        cells.setdefault(run.data.tags["cell"], []).append(run)
    assert len(cells) == 4
    for members in cells.values():
        assert {run.data.params["seed"] for run in members} == {"0", "1", "2"}
        rest = [{key: value for key, value in run.data.params.items() if key != "seed"} for run in members]
        assert rest[0] == rest[1] == rest[2]


def test_params_are_the_flat_identity_config_as_text(sweep: list[StoredRun]) -> None:
    params = pick(sweep, "[4]", 1, 40).data.params
    assert ast.literal_eval(params["network.hidden"]) == [4]
    assert params["data.name"] == "cat_shop"
    assert re.fullmatch("[0-9a-f]{16}", params["data.digest"])
    assert float(params["training.learning_rate"]) == 0.5
    assert params["training.metrics"] == "['mse']"
    assert params["numerics"] == "portable", "what auto became is recorded"
    assert {key: params[f"network.{key}"] for key in ("depth", "width", "n_params")} == {
        "depth": "1",
        "width": "4",
        "n_params": "16",  # 3 x 4 + 4 x 1, no biases
    }
    assert not any(key.startswith(("tracking", "executor", "data.X", "data.y")) for key in params)


def test_tags_and_names(sweep: list[StoredRun]) -> None:
    for run in sweep:
        assert len(run.info.run_name) <= 20
        assert re.fullmatch("#[0-9a-f]{6}", run.data.tags["mlflow.runColor"])
        assert "diverged_at" not in run.data.tags
    assert pick(sweep, "[2]", 2, 5).info.run_name == "2 lr0.5 s2"
    colors = {run.data.params["network.hidden"]: run.data.tags["mlflow.runColor"] for run in sweep}
    assert colors["[2]"] != colors["[4]"]
    commits = {run.data.tags.get("mlflow.source.git.commit") for run in sweep}
    assert len(commits) == 1
    assert {run.data.tags.get("git.dirty") for run in sweep} <= {"true", "false", None}


def test_the_stored_command_repeats_the_run(sweep: list[StoredRun]) -> None:
    command = pick(sweep, "[4]", 1, 40).data.tags["command"]
    assert command.startswith("seedbed train ")
    for word in ("data=cat_shop", "'network.hidden=[4]'", "seed=1", "training.epochs=40"):
        assert word in command


def test_curves_have_true_update_counts_and_summaries_their_last_values(
    client: MlflowClient, sweep: list[StoredRun]
) -> None:
    run = pick(sweep, "[4]", 0, 40)
    kept = arrays(client, run, "loss.npz")
    assert list(kept["updates"]) == list(range(41))
    for name in ("loss", "mse"):
        history = client.get_metric_history(run.info.run_id, f"curve/{name}")
        assert [point.step for point in history] == list(range(41))
        assert [point.value for point in history] == list(kept[name])
    assert np.allclose(kept["mse"], kept["loss"] * 2 / 4, rtol=1e-15)
    metrics = run.data.metrics
    assert metrics["result/final_loss"] == kept["loss"][-1]
    assert metrics["result/best_loss"] == kept["loss"].min()
    assert metrics["result/log10_best_loss"] == pytest.approx(np.log10(kept["loss"].min()))
    assert metrics["result/updates"] == 40


def test_curves_are_thinned_to_curve_points_but_kept_whole_in_the_file(client: MlflowClient) -> None:
    (run,) = runs(client, "happiness")
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "curve/loss")]
    assert len(steps) <= 300
    assert (steps[0], steps[-1]) == (0, 1900)
    assert arrays(client, run, "loss.npz")["loss"].shape == (1901,)


def test_weights_and_the_table_a_person_can_read(client: MlflowClient, sweep: list[StoredRun]) -> None:
    run = pick(sweep, "[4]", 0, 40)
    weights = arrays(client, run, "weights.npz")
    assert {name: array.shape for name, array in weights.items()} == {
        "W0": (3, 4),
        "W1": (4, 1),
        "initial_W0": (3, 4),
        "initial_W1": (4, 1),
    }
    assert np.array_equal(weights["initial_W0"], np.random.default_rng(0).standard_normal((3, 4)))
    table = json.loads(content(client, run, "weights.json"))
    assert table["columns"] == ["layer", "from", "to", "weight", "initial weight"]
    assert table["data"][0] == [0, "answer_1", "hidden 1.1", weights["W0"][0, 0], weights["initial_W0"][0, 0]]
    assert len(table["data"]) == 16


def test_predictions_are_a_table_the_ui_draws(client: MlflowClient) -> None:
    (run,) = runs(client, "exam")
    table = json.loads(content(client, run, "predictions.json"))
    assert table["columns"] == [
        "input",
        "prediction",
        "target",
        "error",
        "hours_studied",
        "hours_slept",
        "prediction_unscaled",
        "target_unscaled",
    ]
    first = dict(zip(table["columns"], table["data"][0], strict=True))
    assert (first["input"], first["target"], first["target_unscaled"]) == ("student 1", 0.92, 92.0)
    assert first["error"] == first["prediction"] - first["target"]
    assert first["prediction_unscaled"] == pytest.approx(100 * first["prediction"])
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [{"path": "predictions.json", "type": "table"}]
    npz = arrays(client, run, "predictions.npz")
    assert list(npz) == table["columns"]
    assert list(npz["prediction"]) == [row[1] for row in table["data"]]


def test_all_files_are_there_and_config_and_environment_tell_how_to_repeat(
    client: MlflowClient, sweep: list[StoredRun]
) -> None:
    run = pick(sweep, "[2]", 0, 5)
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == FILES
    config = yaml.safe_load(content(client, run, "config.yaml"))
    assert config["data"]["X"] == [[1, 0, 1], [0, 1, 1], [0, 0, 1], [1, 1, 1]]
    assert (config["seed"], config["network"]["hidden"]) == (0, [2])
    environment = json.loads(content(client, run, "environment.json"))
    assert environment["packages"]["numpy"] == np.__version__
    assert environment["numerics"] == "portable"


def test_the_data_set_is_an_input_with_its_digest(client: MlflowClient, sweep: list[StoredRun]) -> None:
    run = client.get_run(sweep[0].info.run_id)
    assert run.inputs is not None
    (entry,) = run.inputs.dataset_inputs
    assert entry.dataset.schema is not None
    assert (entry.dataset.name, entry.dataset.digest) == ("cat_shop", run.data.params["data.digest"])
    assert "bought" in entry.dataset.schema


def test_the_parent_tells_the_sweep_and_shares_no_name_with_its_children(
    client: MlflowClient, sweep: list[StoredRun], parent: StoredRun
) -> None:
    for kind in ("params", "metrics"):
        names = set(getattr(parent.data, kind))
        assert names
        assert not names & set(getattr(sweep[0].data, kind))
    assert parent.data.metrics["sweep/trained"] == 12
    table = json.loads(content(client, parent, "runs.json"))
    listed = {row[table["columns"].index("run id")] for row in table["data"]}
    assert listed == {run.info.run_id for run in sweep}
    cells = json.loads(content(client, parent, "cells.json"))
    assert len(cells["data"]) == 4
    medians = [row[cells["columns"].index("median")] for row in cells["data"]]
    assert medians == sorted(medians)
    assert json.loads(content(client, parent, "failures.json"))["data"] == []
    assert json.loads(content(client, parent, "plan.json"))["runs"] == 12


def test_artifacts_lie_beside_the_database_and_nothing_else_does(empty_store: Path) -> None:
    assert in_process(["train", "data=cat_shop", "training.epochs=3"], empty_store) == 0
    assert len(list(empty_store.glob("mlflow-artifacts/*/artifacts/weights.npz"))) == 1
    beside = {path.name for path in empty_store.iterdir()} - {"mlflow.db-shm", "mlflow.db-wal"}
    assert beside == {"mlflow.db", "mlflow-artifacts"}


def test_a_run_of_the_sweep_trained_alone_has_the_same_files(
    client: MlflowClient, sweep: list[StoredRun], tmp_path: Path
) -> None:
    words = ["data=cat_shop", "network.hidden=[4]", "seed=1", "training.epochs=5", "training.metrics=[mse]"]
    assert in_process(["train", *words, "tracking.uri=sqlite:///alone.db"], tmp_path) == 0
    (alone,) = (tmp_path / "alone-artifacts").glob("*/artifacts")
    run = pick(sweep, "[4]", 1, 5)
    for name in ("weights.npz", "loss.npz", "predictions.json", "predictions.npz"):
        assert (alone / name).read_bytes() == content(client, run, name), name


def count(folder: Path, status: str = "FINISHED") -> int:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return sum(run.info.status == status and "fingerprint" in run.data.tags for run in runs(client, "small"))


def test_a_second_time_trains_nothing_and_more_seeds_only_the_new(
    empty_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", "data=cat_shop", "training.epochs=5", "tracking.experiment=small"]
    assert in_process([*words, "seed=0,1"], empty_store) == 0
    assert "2 runs: 2 trained" in capsys.readouterr().out
    assert in_process([*words, "seed=0,1"], empty_store) == 0
    told = capsys.readouterr().out
    assert "Nothing to train: every run is finished in the store." in told
    assert "2 runs: 2 found finished" in told
    assert count(empty_store) == 2
    assert in_process([*words, "seed=0,1,2"], empty_store) == 0
    assert "3 runs: 1 trained, 2 found finished" in capsys.readouterr().out
    assert count(empty_store) == 3


def test_a_finished_run_is_named_and_shown_instead_of_trained(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a copy: the command settles the database, and other tests hold the shared one to be left as it is."""
    copy_store(store, tmp_path)
    assert in_process(["train", "experiment=happiness"], tmp_path) == 0
    told = capsys.readouterr().out
    assert re.search("Nothing to train: this run is finished in the store, as run [0-9a-f]{32}", told)
    assert "0.93114243" in told


def test_duplicates_are_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process(["sweep", "seed=1,1,2", "training.epochs=3", "tracking=none"], tmp_path) == 0
    assert "2 runs (1 duplicates dropped)" in capsys.readouterr().out
    assert not list(tmp_path.iterdir()), "tracking=none leaves nothing"


def test_a_run_that_diverges_is_finished_with_its_curve_up_to_there(empty_store: Path) -> None:
    words = ["train", "data.y=[1e160,0,0]", "training.loss=mse", "tracking.experiment=small"]
    assert in_process([*words, "training.epochs=50"], empty_store) == 0
    client = MlflowClient(f"sqlite:///{empty_store}/mlflow.db")
    (run,) = runs(client, "small")
    assert run.info.status == "FINISHED"
    assert run.data.tags["diverged_at"] == "0"
    assert "result/final_loss" not in run.data.metrics
    assert not any(key.startswith("curve/") for key in run.data.metrics)
    assert np.isfinite(arrays(client, run, "weights.npz")["W0"]).all()


@pytest.mark.slow
def test_a_stack_that_cannot_be_trained_fails_alone(empty_store: Path) -> None:
    too_large = "network.hidden=[4],[1500000]"  # runs last, the buffers need more than the process may have
    words = ["sweep", too_large, "training.epochs=3", "tracking.experiment=small", "numerics=portable"]
    done = seedbed(*words, cwd=empty_store, memory=5 * 2**29)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "repeat it with: seedbed train" in done.stderr
    assert "error: 1 of 2 runs failed." in done.stderr
    assert (count(empty_store), count(empty_store, "FAILED")) == (1, 1)
    client = MlflowClient(f"sqlite:///{empty_store}/mlflow.db")
    parent = next(run for run in runs(client, "small") if "fingerprint" not in run.data.tags)
    assert parent.info.status == "FAILED"
    (failure,) = json.loads(content(client, parent, "failures.json"))["data"]
    assert "Unable to allocate" in failure[1]


def test_an_experiment_name_may_be_odd_and_the_folder_too(tmp_path: Path) -> None:
    folder = tmp_path / "a b#c"
    folder.mkdir()
    words = ["train", "training.epochs=2", 'tracking.experiment="ä/b \\"c\\""', "tracking.artifacts=my files"]
    assert in_process(words, folder) == 0
    assert len(list((folder / "my files").glob("*/artifacts/weights.npz"))) == 1


def test_a_password_in_the_address_is_kept_nowhere() -> None:
    from pipeline.credentials import public_uri

    assert public_uri("postgresql://user:secret@host/db") == "postgresql://host/db"
    assert public_uri("https://user:sec@ret@host:5000") == "https://host:5000"
    assert public_uri("sqlite:///mlflow.db") == "sqlite:///mlflow.db"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_keeps_what_is_finished_and_leaves_nothing_running(
    empty_store: Path, kind: signal.Signals
) -> None:
    stacks = "network.hidden=" + ",".join(f"[{width}]" for width in range(3, 15))
    words = ["sweep", "data=cat_shop", stacks, "seed=0,1", "training.epochs=4000", "tracking.experiment=small"]
    place = prepared(empty_store, held(empty_store, [[3]]))  # which is trained last, and would end too early
    path = {"PYTHONPATH": os.pathsep.join([str(place), *sys.path])}
    with started("pipeline", *words, cwd=empty_store, variables=path) as process:
        client = MlflowClient(f"sqlite:///{empty_store}/mlflow.db")
        eventually(lambda: client.get_experiment_by_name("small") is not None and count(empty_store) > 0, 300)
        process.send_signal(kind)
        assert process.wait(120) == 130
        eventually(lambda: not session(process.pid))
    statuses = [(run.info.status, "fingerprint" in run.data.tags) for run in runs(client, "small")]
    assert statuses.count(("KILLED", False)) == 1, "the parent"
    assert 0 < statuses.count(("FINISHED", True)) < 24
    assert {status for status, _ in statuses} == {"KILLED", "FINISHED"}, "of the runs those that were seen to grow"
