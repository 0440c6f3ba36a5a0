"""`seedbed register`: the right run wins, its model is whole without Seedbed and without pickle, and gives its bits."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run as StoredRun

from pipeline.checks import check_model_name
from pipeline.compare.cells import cell_table
from pipeline.compare.metric import Metric, metric_of, scored
from pipeline.errors import UserError
from pipeline.model.choose import winner
from pipeline.model.folder import NUMERICS, code_package
from pipeline.paths import PACKAGE
from pipeline.results.predict import run_predictor
from pipeline.results.record import npz
from pipeline.servers.ui import HOST, wait_for
from pipeline.store.database import close_connections
from pipeline.store.files import local_path
from pipeline.store.reader import Reader
from tests.conftest import in_process, seedbed, shared
from tests.frames import frame
from tests.ports import own_port
from tests.sweeps import serving
from tests.test_architecture import reached

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
JAMES = "rows=[[0.2, 1.0, 0.4, 0.3]]"
SCALED = (
    *("train", "data=exam", "data.scaling=standard", "data.target_scaling=standard", "data.target_divide_by=null"),
    *("network.bias=true", "network.hidden=[3,2]", "training.epochs=50"),
)
DIVERGING = ("seed=3", "init.scale=1e308", "network.hidden=[50]", "training.epochs=5")
Told = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def registered(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the store, to read, with models: of its sweep `small`, `happiness`, `score`, `scaled` and `fast`."""

    def make(folder: Path) -> None:
        shutil.copytree(store, folder, dirs_exist_ok=True)
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
    shutil.copytree(registered, folder)
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


# --- who wins ---------------------------------------------------------------------------------------------------


def winner_of(runs: pd.DataFrame, metric: Metric | None = None) -> str:
    metric = metric or metric_of(runs)
    return str(winner(scored(runs, metric), cell_table(runs, metric))["run_id"])


@pytest.mark.parametrize(
    ("cells", "run_id"),
    [
        ({"a": [3.0, 1.0, 2.0]}, "a/1"),
        ({"lucky": [0.001, 9.0, 9.0], "good": [2.0, 1.5, 1.0]}, "good/2"),  # the median counts, not the best seed
        ({"a": [0.5, np.nan, 0.4], "b": [0.6, 0.7, 0.8]}, "a/2"),  # one of three diverged: the median is finite
        ({"a": [np.nan, np.nan, 0.1], "b": [5.0, 6.0, 7.0]}, "b/0"),  # two of three did: it is not
        ({"a": [np.nan, np.nan], "b": [np.nan, np.nan, 0.1]}, "b/2"),  # all medians are infinite
    ],
)
def test_the_best_seed_of_the_cell_with_the_best_median_wins(cells: dict[str, Sequence[float]], run_id: str) -> None:
    assert winner_of(frame(cells)) == run_id


def test_another_metric_chooses_and_higher_may_be_better() -> None:
    runs = frame({"a": [1.0, 2.0], "b": [3.0, 4.0]}, val_accuracy=[0.1, 0.2, 0.8, 0.9])
    assert winner_of(runs, metric_of(runs, "val_accuracy")) == "b/1"


def test_a_failed_run_never_wins() -> None:
    runs = frame({"a": [1.0, 2.0]}, status=["FAILED", "FINISHED"])
    assert winner_of(runs) == "a/1"


def test_the_winner_of_a_sweep_is_the_one_worked_out_by_hand(registered: Path) -> None:
    losses: dict[str, dict[str, float]] = {}
    for run in trained(registered, "small"):
        losses.setdefault(run.data.tags["cell"], {})[run.info.run_id] = run.data.metrics["result/final_loss"]
    assert sorted(map(len, losses.values())) == [3, 3, 3, 3]
    best = min(losses.values(), key=lambda seeds: statistics.median(seeds.values()))
    assert champion(registered, "small").run_id == min(best, key=lambda run_id: best[run_id])


def test_it_says_which_run_why_and_what_to_try(own: Path, told: Told) -> None:
    code, out, _ = told(own, "register", "metric=final_mse")
    assert code == 0
    version = champion(own, "small")
    assert out.startswith(
        "Model small, version 1, is the champion (it was registered before: no new version).\n"
        f"It is run {version.run_id}"
    )
    assert re.search(
        r"its cell has the best median of 4 cells, final mse \S+ over 3 seeds; seed \d is its best, with \S+\.\n", out
    )
    commands = [shlex.split(line) for line in re.findall(r"^  ([^.].*)$", out, re.MULTILINE)]
    assert commands[0] == ["seedbed", "predict", "model=small@champion", "rows=[[1.0, 0.0, 1.0]]"]
    assert commands[1][:5] == ["mlflow", "models", "serve", "-m", "models:/small@champion"]
    assert told(own, *commands[0][1:])[0] == 0


def test_another_store_is_named_in_what_to_try(own: Path, told: Told) -> None:
    (own / "mlflow.db").rename(own / "other.db")
    code, out, _ = told(own, "register", "tracking.uri=sqlite:///other.db")
    assert code == 0
    assert "'rows=[[1.0, 0.0, 1.0]]' tracking.uri=sqlite:///other.db" in out
    assert "MLFLOW_TRACKING_URI=sqlite:///other.db mlflow models serve" in out


# --- what it leaves alone ---------------------------------------------------------------------------------------


def test_the_run_is_as_it_was(store: Path, registered: Path) -> None:
    (before,), (after,) = trained(store, "happiness"), trained(registered, "happiness")
    assert after.info.status == "FINISHED"
    assert (after.info.start_time, after.info.end_time) == (before.info.start_time, before.info.end_time)
    assert after.data.to_dictionary() == before.data.to_dictionary()
    assert after.outputs is not None
    (output,) = after.outputs.model_outputs
    assert champion(registered, "happiness").source == f"models:/{output.model_id}"
    places = [local_path(run.info.artifact_uri) for run in (before, after)]
    names = [sorted(path.name for path in place.iterdir()) for place in places if place]
    assert names[0] == names[1]


def test_mlflows_global_state_and_the_working_directory_are_as_they_were(own: Path, told: Told) -> None:
    import mlflow

    for name in ("uv.lock", "pyproject.toml"):  # MLflow would copy them into the model
        (own / name).write_text("")
    before = mlflow.active_run(), mlflow.get_tracking_uri(), sorted(own.glob("*[!ml]"))  # no mlflow.db-shm, -wal
    assert told(own, "register", "experiment=exam", "name=another")[0] == 0
    assert (mlflow.active_run(), mlflow.get_tracking_uri(), sorted(own.glob("*[!ml]"))) == before
    assert not (model_folder(own, "another") / "uv.lock").exists()


def test_what_reads_the_store_still_works(own: Path, told: Told) -> None:
    run_id = champion(own, "small").run_id
    code, out, _ = told(own, "reproduce", f"run={run_id}")
    assert (code, "IDENTICAL" in out) == (0, True)
    assert told(own, "compare", "experiment=small")[0] == 0
    code, out, _ = told(own, "prune")
    assert (code, out) == (0, "Nothing to prune in sqlite:///mlflow.db.\n")


def test_a_pruned_run_leaves_its_model(own: Path, told: Told) -> None:
    before = told(own, "predict", "model=happiness@champion", JAMES)
    client_of(own).delete_run(champion(own, "happiness").run_id)
    close_connections()
    assert told(own, "prune", "--delete")[0] == 0
    assert told(own, "predict", "model=happiness@champion", JAMES) == before


def test_the_same_run_makes_no_new_version_but_is_the_champion_again(own: Path, told: Told) -> None:
    first = champion(own, "small")
    other = next(run for run in trained(own, "small") if run.info.run_id != first.run_id)
    code, out, _ = told(own, "register", f"run={other.info.run_id}")
    assert (code, out.splitlines()[0]) == (0, "Model small, version 2, is the champion.")
    assert champion(own, "small").run_id == other.info.run_id
    assert told(own, "register")[1].startswith("Model small, version 1, is the champion (it was registered before")
    assert champion(own, "small").run_id == first.run_id
    assert len(client_of(own).search_model_versions("name = 'small'")) == 2


# --- what the model is ------------------------------------------------------------------------------------------


def test_the_model_holds_no_pickle_and_no_path_of_ours(registered: Path) -> None:
    place = model_folder(registered, "happiness")
    files = [path for path in place.rglob("*") if path.is_file()]
    package = code_package()
    assert sorted(str(path.relative_to(place)) for path in files) == sorted(
        ["MLmodel", "artifacts/network.npz", "conda.yaml", "input_example.json", "model.py", "python_env.yaml"]
        + ["requirements.txt", "serving_input_example.json"]
        + [f"code/{package}/{name}.py" for name in ("__init__", *NUMERICS)]
    )
    for path in files:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                assert all(archive[name].dtype.kind in "fU" for name in archive)
        else:
            text = path.read_text(encoding="utf-8")
            assert str(PACKAGE) not in text
            assert "from pipeline" not in text


def test_it_ships_every_module_that_a_prediction_takes() -> None:
    needed = {"numerics.network"} | reached("numerics.network")
    assert {f"numerics.{name}" for name in NUMERICS} == needed


def test_signature_example_and_requirements(registered: Path) -> None:
    place = model_folder(registered, "score")
    about = yaml.safe_load((place / "MLmodel").read_text())
    inputs, outputs = (json.loads(about["signature"][side]) for side in ("inputs", "outputs"))
    assert [(one["name"], one["type"]) for one in inputs] == [("hours_studied", "double"), ("hours_slept", "double")]
    assert [(one["name"], one["type"]) for one in outputs] == [("score", "double")]
    example = json.loads((place / "input_example.json").read_text())
    assert example == {"columns": ["hours_studied", "hours_slept"], "data": [[2.0, 9.0], [1.0, 5.0], [3.0, 6.0]]}
    lines = (place / "requirements.txt").read_text().splitlines()
    assert [re.fullmatch(r"(numpy|pandas|mlflow)==[\d.]+", line) is not None for line in lines] == [True] * 3


def test_metadata_says_where_it_comes_from_and_how_it_is_scaled(registered: Path) -> None:
    (run,) = trained(registered, "exam")
    told = yaml.safe_load((model_folder(registered, "score") / "MLmodel").read_text())["metadata"]
    assert told["run_id"] == run.info.run_id
    assert told["fingerprint"] == run.data.tags["fingerprint"]
    assert told["cell"] == run.data.tags["cell"]
    assert set(told["code"]) == set(NUMERICS)
    assert told["features"][1] == {
        "name": "hours_slept", "scaling": "divided by 9.0", "trained from": 5.0, "trained to": 9.0
    }  # fmt: skip
    assert told["targets"] == [{"name": "score", "scaling": "divided by 100.0"}]
    version = champion(registered, "score")
    assert version.tags == {"fingerprint": told["fingerprint"], "cell": told["cell"]}
    model = client_of(registered).get_logged_model(version.source.removeprefix("models:/"))
    assert (str(model.status), model.source_run_id) == ("READY", run.info.run_id)
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "score", "version": version.version}]


@pytest.mark.parametrize("name", ["small", "happiness", "score", "scaled", "fast"])
def test_it_predicts_the_bits_of_its_run_with_its_own_code(registered: Path, name: str) -> None:
    import mlflow.pyfunc

    kept = Reader(f"sqlite:///{registered}/mlflow.db").run(champion(registered, name).run_id)
    rows = np.random.default_rng(0).normal(0.0, 20.0, (50, len(kept.dataset.features)))
    ours = run_predictor(kept).outputs(rows)
    model = mlflow.pyfunc.load_model(str(model_folder(registered, name)))
    columns = list(kept.dataset.features)
    theirs = model.predict(pd.DataFrame(rows, columns=columns)[columns[::-1]])  # by name, in any order
    assert list(theirs.columns) == list(kept.dataset.targets)
    assert theirs.to_numpy().tobytes() == ours.tobytes()
    python_model = model.unwrap_python_model()
    assert python_model.numerics.__name__ == f"{code_package()}.network"
    assert python_model.numerics.__file__.startswith(str(model_folder(registered, name)).rpartition("/models/")[0])


@pytest.mark.slow
def test_it_needs_no_seedbed(registered: Path) -> None:
    code = (
        "import sys; sys.modules['pipeline'] = None\n"
        "import mlflow.pyfunc, pandas as pd\n"
        f"model = mlflow.pyfunc.load_model({str(model_folder(registered, 'happiness'))!r})\n"
        "row = pd.DataFrame([[0.2, 1.0, 0.4, 0.3]], columns=['money', 'relationship', 'sandwiches', 'baseline'])\n"
        "print(repr(float(model.predict(row)['happiness'].iloc[0])))"
    )
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    variables |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=registered, env=variables, capture_output=True, text=True, check=True
    )
    assert done.stdout == "0.9544331363809591\n"  # published: "about 0.95"


# --- seedbed predict model= -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rows"), [("happiness", JAMES), ("score", "rows=[[2, 9], [7, 1]]"), ("scaled", "rows=[[1, 5]]")]
)
def test_a_model_predicts_what_its_run_predicts(registered: Path, told: Told, name: str, rows: str) -> None:
    by_run = told(registered, "predict", f"run={champion(registered, name).run_id}", rows)
    assert by_run[0] == 0
    assert told(registered, "predict", f"model={name}@champion", rows) == by_run
    assert told(registered, "predict", f"model={name}/1", rows) == by_run


def test_a_model_predicts_files_and_rows_by_name(registered: Path, told: Told, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("input,hours_slept,hours_studied\nAnn,9,2\n")
    code, out, _ = told(registered, "predict", "model=score@champion", "--input", str(file))
    assert (code, out.splitlines()[0]) == (0, "input,hours_studied,hours_slept,score")
    by_name = told(registered, "predict", "model=score@champion", "hours_studied=2", "hours_slept=9")
    assert by_name[1].splitlines()[1] == out.splitlines()[1].removeprefix("Ann,")


def test_a_moved_store_reads_the_moved_model(own: Path, told: Told) -> None:
    assert told(own, "predict", "model=happiness@champion", JAMES)[0] == 0
    assert model_folder(own, "happiness").is_relative_to(own)


def test_no_code_of_the_store_runs_where_seedbed_predicts(own: Path, told: Told) -> None:
    before = told(own, "predict", "model=happiness@champion", JAMES)
    for file in model_folder(own, "happiness").rglob("*.py"):
        file.write_text("raise SystemExit('this ran')")
    assert told(own, "predict", "model=happiness@champion", JAMES) == before


def test_a_model_of_other_code_says_so(own: Path, told: Told) -> None:
    file = model_folder(own, "happiness") / "artifacts" / "network.npz"
    with np.load(file, allow_pickle=False) as archive:
        arrays = dict(archive)
    file.write_bytes(npz(arrays | {"code": np.array("seedbed_00000000")}))
    code, _, err = told(own, "predict", "model=happiness@champion", JAMES)
    assert code == 0
    assert "Model happiness, version 1, has other code than this Seedbed: last bits may differ" in err
    file.write_bytes(file.read_bytes()[:100])
    code, _, err = told(own, "predict", "model=happiness@champion", JAMES)
    assert (code, err.count("\n")) == (1, 1)
    assert "network.npz of model happiness, version 1, holds something else than arrays" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["model=nix@champion", JAMES], "There is no model nix in sqlite:///mlflow.db (there are: fast, happiness, sc"),
        (
            ["model=happiness@best", JAMES],
            "There is no model happiness@best in sqlite:///mlflow.db: it has happiness@ch",
        ),
        (["model=happiness/7", JAMES], "it has happiness@champion (version 1)."),
        (
            ["model=happiness", JAMES],
            "model is happiness, but it must be NAME@ALIAS, like happiness@champion, or NAME/",
        ),
        (["model=happiness@champion", "experiment=exam", JAMES], "Say which network predicts: run=RUN_ID, experiment="),
        (["model=happiness@champion", "height=1"], "height is not a key here: "),
        (["model=happiness@champion", "money=1"], "The row lacks relationship, sandwiches, baseline"),
        (["model=happiness@champion", "rows=[[1, 2]]"], "A row has 2 values, but it must have 4: money"),
    ],
)
def test_bad_words_on_a_model_get_one_sentence(registered: Path, told: Told, words: list[str], sentence: str) -> None:
    code, out, err = told(registered, "predict", *words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert sentence in err


def test_a_model_of_another_tool_is_told_from_ours(own: Path, told: Told) -> None:
    other = own / "other"
    other.mkdir()
    (other / "MLmodel").write_text("flavors: {}\n")
    client = client_of(own)
    client.create_registered_model("other")
    client.create_model_version("other", other.as_uri())
    close_connections()
    code, _, err = told(own, "predict", "model=other/1", JAMES)
    assert (code, err) == (
        1, "error: Model other, version 1, was not made by Seedbed: predict with MLflow, `mlflow models predict`.\n"
    )  # fmt: skip


# --- seedbed register, register=true ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run=abc"], "run=abc cannot be read from sqlite:///mlflow.db"),
        (["run=1", "sweep=latest"], "Choose by run= or by sweep=, experiment= and metric=, not both."),
        (
            ["name=a/b"],
            "name is a/b, but it must be a name on one line with none of / : @ ? # % in it, to name a model.",
        ),
        (["metric=nix"], "metric=nix is nothing that these runs have: choose from final_loss, best_loss, updates"),
        (["sweep=nix"], "There is no sweep nix in sqlite:///mlflow.db: choose latest, a run id, or a name (small"),
        (["experiment=nix"], "There is no experiment nix in sqlite:///mlflow.db"),
        (["foo=1"], "foo is not a key here: the keys are sweep, experiment, run, name, metric, tracking.uri."),
        (["tracking.uri=sqlite:///none.db"], "There is no store at sqlite:///none.db"),
    ],
)
def test_bad_words_of_register_get_one_sentence(registered: Path, told: Told, words: list[str], sentence: str) -> None:
    code, out, err = told(registered, "register", *words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert sentence in err


def test_an_experiment_whose_name_no_model_can_have_needs_another(own: Path, told: Told) -> None:
    words = ("data=cat_shop", "training.epochs=5", "tracking.experiment=a/b")
    assert told(own, "sweep", *words)[0] == 0
    code, _, err = told(own, "register")
    assert code == 1
    assert err.startswith("error: name (the experiment's, as none is given) is a/b, but it must be a name on one line")
    assert told(own, "register", "name=a-b")[0] == 0


def test_without_a_sweep_it_says_so(empty_store: Path, told: Told) -> None:
    shutil.rmtree(empty_store / "mlflow-artifacts", ignore_errors=True)
    with contextlib.closing(sqlite3.connect(empty_store / "mlflow.db")) as connection:
        connection.execute("DELETE FROM tags WHERE key = 'kind'")
        connection.commit()
    code, _, err = told(empty_store, "register")
    assert (code, "There is no sweep in sqlite:///mlflow.db yet: `seedbed sweep` makes one." in err) == (1, True)


@pytest.mark.parametrize("name", ["a/b", "a:b", "a@b", " a", "", ".", "a\nb", "a%41"])
def test_a_name_that_no_model_can_have_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"^name is .*, but it must be a name on one line"):
        check_model_name("name", name)


def test_a_sweep_registers_its_best_run_at_its_end(own: Path, told: Told) -> None:
    words = ("sweep", "data=cat_shop", "training.epochs=5,30", "tracking.experiment=own", "register=true")
    code, out, _ = told(own, *words)
    assert code == 0
    assert "Model own, version 1, is the champion.\n" in out
    losses = {run.info.run_id: run.data.metrics["result/final_loss"] for run in trained(own, "own")}
    assert champion(own, "own").run_id == min(losses, key=lambda run_id: losses[run_id])
    code, out, _ = told(own, *words)  # finds the same runs, whatever becomes of the winner
    assert "Nothing to train" in out
    assert "version 1, is the champion (it was registered before" in out
    assert told(own, *words[:-1])[1].count("Nothing to train") == 1


def test_a_run_that_diverges_is_no_model(own: Path, told: Told) -> None:
    words = (*DIVERGING, "tracking.experiment=lost")
    code, _, err = told(own, "train", *words, "register=true")
    assert code == 1
    assert re.search(r"^error: run=\w+ diverged after \d updates, so it predicts nothing: name another\.$", err, re.M)
    code, _, err = told(own, "sweep", *words[1:], "seed=3,4", "register=true")
    assert code == 1
    assert re.search(
        r"^error: Sweep lost .* has no run to register, as all diverged: train others, for example", err, re.M
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["tracking=none"], "register is true, but nothing is kept: leave out tracking=none, or register=true."),
        (["tracking.experiment=a/b"], "tracking.experiment is a/b, but it must be a name on one line with none of / :"),
        (["register=maybe"], "register is maybe, but it must be true or false."),
        (["hydra/launcher=basic"], "register=true is for Seedbed's own launcher: leave it out, and `seedbed register`"),
    ],
)
def test_what_cannot_be_registered_is_told_before_anything_trains(
    words: list[str], sentence: str, told: Told, tmp_path: Path
) -> None:
    words = ["register=true", *words] if "register=maybe" not in words else words
    code, _, err = told(tmp_path, "sweep", "data=cat_shop", "seed=1,2", *words)
    assert (code, sentence in err) == (1, True), err
    assert not list(tmp_path.iterdir())


# --- real servers -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving_model(folder: Path, reference: str) -> Iterator[str]:
    """`mlflow models serve` on a model, in a folder; gives its address."""
    port = own_port()
    words = ["models", "serve", "-m", f"models:/{reference}", "--env-manager", "local", "--port", str(port)]
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    variables |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), variables["PATH"]])  # of uvicorn
    with (folder / "served.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            cwd=folder,
            env=variables,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(process, port, (folder / "served.log").read_text())
        yield f"http://{HOST}:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def answer(address: str, content: str) -> Any:
    """What a served model says to a request's content."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/invocations", content.encode(), headers)  # noqa: S310  # it is ours
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        return json.load(response)


@pytest.mark.slow
def test_the_served_model_gives_james_his_happiness(own: Path, told: Told) -> None:
    code, out, _ = told(own, "predict", "model=happiness@champion", JAMES)
    assert code == 0
    expected = {"predictions": [{"happiness": float(out.splitlines()[1].rpartition(",")[2])}]}
    (in_readme,) = re.findall(r"/invocations .*?-d '(.*?)'", README, re.DOTALL)
    row = {"money": 0.2, "relationship": 1.0, "sandwiches": 0.4, "baseline": 0.3}
    with serving_model(own, "happiness@champion") as address:
        assert answer(address, in_readme) == expected
        assert answer(address, json.dumps({"inputs": [row]})) == expected
        assert answer(address, json.dumps({"inputs": {name: [value] for name, value in row.items()}})) == expected
    assert f"\n{json.dumps(expected)}\n" in README


@pytest.mark.slow
def test_over_http_it_is_the_same(tmp_path: Path, told: Told) -> None:
    port = own_port()
    uri = f"tracking.uri=http://{HOST}:{port}"
    with serving(tmp_path, port):
        assert told(tmp_path, "sweep", "experiment=happiness", uri, "register=true")[0] == 0
        code, out, err = told(tmp_path, "predict", "model=happiness@champion", JAMES, uri)
        assert (code, out.splitlines()[1]) == (0, "0.2,1,0.4,0.3,0.9544331363809591")
        assert "money is 0.2, outside the training range 0.3 to 1" in err
        again = seedbed("register", uri, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        assert f"MLFLOW_TRACKING_URI=http://{HOST}:{port} mlflow models serve" in again.stdout
        assert again.stderr == ""
        assert not (tmp_path / "mlruns").exists()
        code, _, err = told(tmp_path, "predict", "model=happiness@nix", JAMES, uri)
        assert (code, "There is no model happiness@nix" in err) == (1, True)
