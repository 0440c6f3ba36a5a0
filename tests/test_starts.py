"""Finished runs in a store that longer runs go on from, with the bits of a training from the beginning."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as StoredRun

from tests.conftest import in_process

WORDS = ("data=cat_shop", "tracking.experiment=longer", "training.metrics=[mse]", "network.bias=true")
FILES = ("weights.npz", "loss.npz", "predictions.npz", "predictions.json", "weights.json")


@pytest.fixture
def short(empty_store: Path) -> Path:
    """A store in which three seeds are finished after 50 updates and after 100, and beside it other.db without them."""
    shutil.copy(empty_store / "mlflow.db", empty_store / "other.db")  # MLflow takes seconds to make one
    assert in_process(["sweep", *WORDS, "seed=0,1,2", "training.epochs=50,100"], empty_store) == 0
    return empty_store


def runs(folder: Path, database: str = "mlflow.db", epochs: str = "300") -> dict[str, StoredRun]:
    """The finished runs of so many epochs, by fingerprint."""
    client = MlflowClient(f"sqlite:///{folder}/{database}")
    found = client.get_experiment_by_name("longer")
    assert found is not None
    kept = client.search_runs([found.experiment_id], f"params.`training.epochs` = '{epochs}' AND status = 'FINISHED'")
    return {one.data.tags["fingerprint"]: one for one in kept}


def file_of(run: StoredRun, name: str) -> Path:
    return Path(str(run.info.artifact_uri).removeprefix("file://")) / name


def check_same_as_from_the_beginning(folder: Path, seeds: str) -> None:
    words = [*WORDS, f"seed={seeds}", "training.epochs=300"]
    assert in_process(["sweep", *words, "tracking.uri=sqlite:///other.db"], folder) == 0
    assert in_process(["sweep", *words], folder) == 0
    here, there = runs(folder), runs(folder, "other.db")
    assert len(here) == len(seeds.split(","))
    assert here.keys() == there.keys()
    for fingerprint, run in here.items():
        for name in FILES:
            assert file_of(run, name).read_bytes() == file_of(there[fingerprint], name).read_bytes()
        assert run.data.metrics == there[fingerprint].data.metrics


def test_a_longer_run_goes_on_from_the_longest_finished_one(short: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process(["plan", *WORDS, "seed=0,1,2,3", "training.epochs=300"], short) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "updates 900 not 1,200: 3 runs go on from finished ones" in told
    check_same_as_from_the_beginning(short, "0,1,2,3")
    assert "4 runs, 3 go on from shorter ones" in capsys.readouterr().out


def test_one_whose_files_are_gone_or_changed_trains_from_the_beginning(short: Path) -> None:
    kept = list(runs(short, epochs="100").values())
    gone, cut, changed = (file_of(run, "weights.npz") for run in kept)
    shutil.rmtree(gone.parent)
    cut.write_bytes(cut.read_bytes()[:-30])
    shutil.copy(file_of(next(iter(runs(short, epochs="50").values())), "weights.npz"), changed)
    check_same_as_from_the_beginning(short, "0,1,2")


def test_runs_that_differ_in_more_than_epochs_or_are_forced_do_not_go_on(
    short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for word in ("training.learning_rate=0.25", "numerics=fast", "init.scale=2", "--force"):
        assert in_process(["plan", *WORDS, "seed=0,1,2", "training.epochs=300", word], short) == 0
        assert "go on" not in capsys.readouterr().out, word
    assert in_process(["plan", *WORDS, "seed=0,1,2", "training.epochs=300"], short) == 0
    assert "go on" in capsys.readouterr().out, "else nothing is shown here"


def test_fast_runs_train_from_the_beginning_as_their_bits_are_the_machines(
    empty_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "seed=0,1", "numerics=fast"]
    assert in_process(["sweep", *words, "training.epochs=50"], empty_store) == 0
    assert in_process(["plan", *words, "training.epochs=300"], empty_store) == 0
    assert "go on" not in capsys.readouterr().out


def test_a_single_run_goes_on_too(short: Path) -> None:
    assert in_process(["train", *WORDS, "seed=1", "training.epochs=300"], short) == 0
    check_same_as_from_the_beginning(short, "1")
