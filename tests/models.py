"""Stores with registered models, and what tests look up in them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as StoredRun

from pipeline.store.database import close_connections
from pipeline.store.files import local_path
from pipeline.store.reader import Reader
from tests.conftest import copy_all, in_process, shared

JAMES = "rows=[[0.2, 1.0, 0.4, 0.3]]"
SCALED = (
    *("train", "data=exam", "data.scaling=standard", "data.target_scaling=standard", "data.target_divide_by=null"),
    *("network.bias=true", "network.hidden=[3,2]", "training.epochs=50"),
)
Told = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def registered(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the store, to read, with models: of its sweep `small`, `happiness`, `score`, `scaled` and `fast`."""

    def make(folder: Path) -> None:
        copy_all(store, folder)
        for words in (
            [*SCALED, "tracking.experiment=scaled", "register=true"],
            [*SCALED, "tracking.experiment=fast", "register=true", "numerics=fast"],
            ["register"],
            ["register", "experiment=happiness"],
            ["register", "experiment=exam", "name=score"],
        ):
            assert in_process(words, folder) == 0
        close_connections()

    return shared(tmp_path_factory, "registered", make)


@pytest.fixture
def own(registered: Path, tmp_path: Path) -> Iterator[Path]:
    """A store of one test, with those models, that was moved to where it is, and mended."""
    folder = tmp_path / "own"
    copy_all(registered, folder)
    assert Reader(f"sqlite:///{folder}/mlflow.db").moved
    yield folder
    close_connections()


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Runs a command in a folder; gives the exit code, standard output and standard error."""

    def run(folder: Path, *words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = in_process(words, folder)
        caught = capsys.readouterr()
        return code, caught.out, caught.err

    return run


def client_of(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder}/mlflow.db")


def champion(folder: Path, name: str) -> Any:
    return client_of(folder).get_model_version_by_alias(name, "champion")


def model_folder(folder: Path, name: str) -> Path:
    """Where the files of a model's champion are."""
    place = client_of(folder).get_model_version_download_uri(name, champion(folder, name).version)
    path = local_path(place)
    assert path is not None
    return path


def trained(folder: Path, experiment: str) -> list[StoredRun]:
    client = client_of(folder)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return [run for run in client.search_runs([found.experiment_id]) if "fingerprint" in run.data.tags]
