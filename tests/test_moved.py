"""Stores that are moved, copied and renamed for real, with MLflow's runs in them, and used afterwards."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.entities import Run as StoredRun

from pipeline.store.database import close_connections, made_experiment
from pipeline.store.files import local_path
from pipeline.store.moved import DATABASE_TAG, database_tags, mend_moved
from tests.conftest import in_process


def uri_of(file: Path) -> str:
    return f"sqlite:///{file}"


@pytest.fixture
def made(empty_store: Path) -> Iterator[Path]:
    """A folder `a%b_c ü` with a store whose experiment has one trained run."""
    folder = empty_store / "a%b_c ü"
    folder.mkdir()
    shutil.copy(empty_store / "mlflow.db", folder)
    assert in_process(["train", "data=exam", "training.epochs=3", "tracking.experiment=one"], folder) == 0
    close_connections()
    yield folder
    close_connections()


def the_experiment(folder: Path, name: str = "mlflow.db") -> Experiment:
    found = MlflowClient(uri_of(folder / name)).get_experiment_by_name("one")
    assert found is not None
    return found


def the_run(folder: Path, name: str = "mlflow.db") -> StoredRun:
    client = MlflowClient(uri_of(folder / name))
    (run,) = client.search_runs([the_experiment(folder, name).experiment_id], "params.seed = '0'")
    return run


def check(folder: Path, at: Path, name: str = "mlflow.db") -> None:
    """Predicts with the run of a store, and trains another one, whose files must go to the folder `at`."""
    run = the_run(folder, name)
    words = [f"tracking.uri=sqlite:///{name}"]
    assert in_process(["predict", f"run={run.info.run_id}", "rows=[[2,9]]", *words], folder) == 0
    files = local_path(the_run(folder, name).info.artifact_uri)
    assert files is not None
    assert files == at / run.info.run_id / "artifacts"
    assert (files / "weights.npz").is_file()
    before = len(list(at.iterdir()))
    words += ["data=exam", "training.epochs=3", "tracking.experiment=one", f"seed={before}"]
    assert in_process(["train", *words], folder) == 0
    assert len(list(at.iterdir())) == before + 1


def test_a_folder_that_was_renamed(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = made.with_name("new & %4 folder")
    made.rename(new)
    check(new, new / "mlflow-artifacts")
    told = capsys.readouterr().err
    assert told.count("note: This store was moved or copied from") == 1
    assert f"from {made}: its runs' files are looked up in {new}/mlflow-artifacts now." in told
    assert not made.exists()


def test_a_store_that_was_copied_leaves_its_original_as_it_is(made: Path) -> None:
    copy = made.parent / "cöpy of it"
    shutil.copytree(made, copy)
    before = (made / "mlflow.db").read_bytes()
    check(copy, copy / "mlflow-artifacts")
    assert (made / "mlflow.db").read_bytes() == before
    check(made, made / "mlflow-artifacts")


def test_a_database_that_was_renamed_in_its_folder(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "mlflow.db").rename(made / "runs.db")
    check(made, made / "mlflow-artifacts", "runs.db")
    assert "moved" not in capsys.readouterr().err
    new = made.with_name("elsewhere")
    close_connections()
    made.rename(new)
    check(new, new / "mlflow-artifacts", "runs.db")


def test_a_database_that_moved_alone_finds_the_files_where_they_are(made: Path) -> None:
    new = made.with_name("new")
    new.mkdir()
    (made / "mlflow.db").rename(new / "mlflow.db")
    check(new, made / "mlflow-artifacts")
    (new / "mlflow-artifacts").mkdir()  # as a new experiment does
    assert mend_moved(uri_of(new / "mlflow.db")) is None
    assert the_experiment(new).artifact_location == (made / "mlflow-artifacts").as_uri()


def test_a_store_that_is_reached_by_another_path_was_not_moved(made: Path) -> None:
    link = made.with_name("link")
    link.symlink_to(made)
    before = (made / "mlflow.db").read_bytes()
    assert mend_moved(uri_of(link / "mlflow.db")) is None
    assert (made / "mlflow.db").read_bytes() == before


def test_other_peoples_runs_models_and_experiments(made: Path) -> None:
    client = MlflowClient(uri_of(made / "mlflow.db"))
    experiment = the_experiment(made)
    theirs = client.create_run(experiment.experiment_id)
    client.log_dict(theirs.info.run_id, {"their": 1}, "their.json")
    model = client.create_logged_model(experiment.experiment_id, "model")
    other = client.create_experiment("other", (made / "other files").as_uri())
    apart = client.create_run(other).info
    similar = client.create_experiment(
        "similar", f"{(made / 'mlflow-artifacts').as_uri()}-2", tags=database_tags(uri_of(made / "mlflow.db"))
    )
    client.create_registered_model("theirs")
    client.create_model_version("theirs", f"{theirs.info.artifact_uri}/their.json", theirs.info.run_id)
    close_connections()
    new = made.with_name("new")
    made.rename(new)
    assert mend_moved(uri_of(new / "mlflow.db")) is not None
    assert mend_moved(uri_of(new / "mlflow.db")) is None
    client = MlflowClient(uri_of(new / "mlflow.db"))
    assert Path(client.download_artifacts(theirs.info.run_id, "their.json")).is_file()
    at = (new / "mlflow-artifacts").as_uri()
    assert client.get_logged_model(model.model_id).artifact_location.startswith(f"{at}/")
    assert client.get_model_version("theirs", "1").source == f"{at}/{theirs.info.run_id}/artifacts/their.json"
    assert client.get_run(apart.run_id).info.artifact_uri == apart.artifact_uri, "it has no tag of ours"
    assert client.get_experiment(similar).artifact_location == f"{(made / 'mlflow-artifacts').as_uri()}-2"
    assert the_experiment(new).tags[DATABASE_TAG] == str(new / "mlflow.db")


def test_files_that_lie_elsewhere_stay_where_they_are(
    empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files, folder = tmp_path_factory.mktemp("files"), empty_store / "a"
    folder.mkdir()
    shutil.copy(empty_store / "mlflow.db", folder)
    client, uri = MlflowClient(uri_of(folder / "mlflow.db")), uri_of(folder / "mlflow.db")
    made_experiment(client, "one", files.as_uri(), database_tags(uri))
    close_connections()
    folder.rename(empty_store / "b")
    uri = uri_of(empty_store / "b" / "mlflow.db")
    assert mend_moved(uri) is None
    found = the_experiment(empty_store / "b")
    assert (found.artifact_location, found.tags) == (files.as_uri(), database_tags(uri))


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "postgresql://127.0.0.1:1/runs"])
def test_a_server_does_not_move(uri: str) -> None:
    assert mend_moved(uri) is None
    assert database_tags(uri) == {}


@pytest.mark.parametrize(
    ("place", "path"),
    [("/a/b c", "/a/b c"), ("file:///a/b%20c", "/a/b c"), ("s3://bucket/a", None), ("mlflow-artifacts:/1", None)],
)
def test_places_and_paths(place: str, path: str | None) -> None:
    assert local_path(place) == (Path(path) if path else None)
