"""`seedbed register`, and register=true: the right run wins, and all else is left alone."""

import contextlib
import re
import shlex
import shutil
import sqlite3
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.checks import check_model_name
from pipeline.compare.cells import cell_table
from pipeline.compare.metric import Metric, metric_of, scored
from pipeline.errors import UserError
from pipeline.model.choose import winner
from pipeline.store.database import close_connections
from pipeline.store.files import local_path
from tests.frames import frame
from tests.models import JAMES, Told, champion, client_of, model_folder, own, registered, told, trained

__all__ = ["own", "registered", "told"]  # fixtures

DIVERGING = ("seed=3", "init.scale=1e308", "network.hidden=[50]", "training.epochs=5")


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
