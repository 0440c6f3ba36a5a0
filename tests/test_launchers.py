"""Other launchers and sweepers than ours: Hydra's own, joblib's and Optuna's, in real processes, with a real store."""

import importlib.util
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.conftest import seedbed
from tests.progress import complaints

pytestmark = pytest.mark.slow

WORDS = ("data=exam", "training.epochs=50")


def needs(module: str) -> pytest.MarkDecorator:
    """Skips where an extra is not installed."""
    package = importlib.util.find_spec("hydra_plugins")
    folders = list(package.submodule_search_locations or ()) if package else []
    found = any(Path(folder, module).is_dir() for folder in folders)
    return pytest.mark.skipif(not found, reason=f"{module} is not installed")


LAUNCHERS = ["stacked", "basic", pytest.param("joblib", marks=needs("hydra_joblib_launcher"))]


def kept(folder: Path) -> tuple[list[Run], list[Run]]:
    """The parent runs and the trained runs of an MLflow experiment."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = client.get_experiment_by_name("exam")
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    trained = [run for run in runs if "fingerprint" in run.data.tags]
    return [run for run in runs if run not in trained], trained


Figures = list[tuple[str, float]]


def figures(runs: list[Run]) -> Figures:
    """Fingerprints and final losses, sorted."""
    return sorted((run.data.tags["fingerprint"], run.data.metrics["result/final_loss"]) for run in runs)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """What our own launcher and sweeper keep."""
    folder = tmp_path_factory.mktemp("ours")
    assert seedbed("sweep", *WORDS, "seed=0,1", cwd=folder).returncode == 0
    return figures(kept(folder)[1])


@pytest.mark.parametrize("sweeper", ["stacked", "basic"])
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_keeps_the_same_runs(launcher: str, sweeper: str, ours: Figures, empty_store: Path) -> None:
    names = f"hydra/launcher={launcher}", f"hydra/sweeper={sweeper}"
    done = seedbed("sweep", *names, *WORDS, "seed=0,1", cwd=empty_store)
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    _, runs = kept(empty_store)
    assert {run.data.params["seed"]: run.info.status for run in runs} == {"0": "FINISHED", "1": "FINISHED"}
    assert figures(runs) == ours


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_without_a_store(launcher: str, tmp_path: Path) -> None:
    done = seedbed("sweep", f"hydra/launcher={launcher}", *WORDS, "seed=0,1", "tracking=none", cwd=tmp_path)
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    assert ("2 runs: 2 trained" in done.stdout) == (launcher == "stacked")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sweeper", ["stacked", "basic"])
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_bad_job_is_one_sentence(launcher: str, sweeper: str, tmp_path: Path) -> None:
    names = f"hydra/launcher={launcher}", f"hydra/sweeper={sweeper}"
    done = seedbed("sweep", *names, *WORDS, "seed=0,-1", "tracking=none", cwd=tmp_path)
    assert done.returncode == 1
    ours = [
        line
        for line in complaints(done.stderr).splitlines()
        if not line.startswith("Error executing job with overrides:")
    ]
    place = "" if (sweeper, launcher != "stacked") == ("basic", True) else "job 1 of the sweep ("
    assert len(ours) == 1
    assert ours[0].startswith(f"error: {place}")
    assert ours[0].endswith("seed is -1, but it must be a whole number from 0 to 4294967295.")


@pytest.mark.parametrize("sweeper", ["stacked", "basic"])
@pytest.mark.parametrize(
    ("words", "runs"),
    [
        (("data=glob(*,exclude=[csv,digits])", "seed=range(0,3)"), 12),
        (("experiment=exam,cat_shop", "training.learning_rate=choice(0.1,1)"), 4),
        (("hydra.sweeper.params={seed: 'range(0,4)', data: 'exam,happiness'}",), 8),
        (("experiment=architectures", "seed=0"), 48),
    ],
)
def test_every_way_to_say_several(words: tuple[str, ...], runs: int, sweeper: str, tmp_path: Path) -> None:
    if sweeper == "basic" and words[0].startswith("hydra.sweeper.params="):
        pytest.skip("OmegaConf cannot merge a dict into the null that Hydra's sweeper has there; a file can set it")
    fixed = (f"hydra/sweeper={sweeper}", "training.epochs=3", "tracking.uri=null", "tracking.experiment=x")
    done = seedbed("sweep", *words, *fixed, cwd=tmp_path)
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    assert "seeds" in done.stdout
    counted = [line for line in done.stdout.splitlines() if " trained, in " in line]
    expected = runs if "experiment=architectures" not in words else runs // 3
    assert counted[0].startswith(f"{expected} runs: {expected} trained")


@needs("hydra_optuna_sweeper")
def test_optuna_finds_a_learning_rate(empty_store: Path) -> None:
    trials = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=20", "hydra.sweeper.n_jobs=10")
    done = seedbed("sweep", *trials, "training.learning_rate=tag(log,interval(0.01,10))", *WORDS, cwd=empty_store)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Sweep exam: 10 runs; 1 stack to train.") == 2
    (parent,), runs = kept(empty_store)
    assert (parent.info.status, parent.data.metrics["sweep/trained"]) == ("FINISHED", 20)
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}
    found = yaml.safe_load((empty_store / "optimization_results.yaml").read_text())
    assert found["best_value"] == min(run.data.metrics["result/final_loss"] for run in runs)


@needs("hydra_optuna_sweeper")
def test_optuna_says_what_is_wrong_in_one_sentence(tmp_path: Path) -> None:
    words = ("hydra/sweeper=optuna", "training.learning_rate=interval(-2,-1)", "tracking=none")
    done = seedbed("sweep", *words, cwd=tmp_path)
    assert done.returncode == 1
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "it must be a finite number > 0" in sentence
    assert "Traceback" not in done.stderr
