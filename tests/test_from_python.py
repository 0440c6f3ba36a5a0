"""`fit` and `sweep`: the same runs as the command line's, with the same bits, kept if asked for."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import threadpoolctl

from pipeline import fit, sweep
from pipeline.composing.experiment import compose_run
from pipeline.identity import Run
from pipeline.planning.plan import FOUND, TRAINED
from pipeline.python.fitted import Fit
from pipeline.python.notebook import quietly
from pipeline.session import ENDED
from pipeline.terminal import say
from pipeline.threads import one_thread
from tests.conftest import in_process
from tests.factory import CAT_SHOP, EXAM, HAPPINESS, bits, trained
from tests.frames import SHOP

X, Y = CAT_SHOP["X"], CAT_SHOP["y"]


def run_of(*words: str) -> Run:
    """The run that the command line makes of these words."""
    return compose_run(words)


def same(one: Fit, run: Run) -> bool:
    """Whether a fit has the fingerprint of a run, and its bits when that is trained here."""
    result = one.outcome.result
    return one.run.fingerprint == run.fingerprint and result is not None and bits(result) == bits(trained([run])[0])


# --- the same runs as the command line's ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "rows", "settings"),
    [
        (
            ["data=happiness", "training.epochs=40"],
            HAPPINESS,
            {
                "name": "happiness",
                "features": ["money", "relationship", "sandwiches", "baseline"],
                "targets": ["happiness"],
                "rows": ["Alejandra", "Bob", "Alice"],
            },
        ),
        (
            ["data=exam", "network.hidden=[3]", "training.learning_rate=1", "seed=7", "training.epochs=40"],
            EXAM,
            {
                "name": "exam",
                "features": ["hours_studied", "hours_slept"],
                "targets": ["score"],
                "rows": ["student 1", "student 2", "student 3"],
                "scaling": "max",
                "target_scaling": "divide",
                "target_divide_by": 100,
                "hidden": (3,),
                "learning_rate": np.float64(1),
                "seed": np.int64(7),
            },
        ),
    ],
    ids=["happiness", "exam"],
)
def test_arrays_are_the_rows_of_a_data_set(words: list[str], rows: dict[str, Any], settings: dict[str, Any]) -> None:
    X, y = np.array(rows["X"]), np.array(rows["y"])
    assert same(fit(X, y, epochs=40, **settings), run_of(*words))
    assert same(fit(X.tolist(), y[:, 0], epochs=40, **settings), run_of(*words))


@pytest.mark.parametrize("name", ["happiness", "exam", "cat_shop", "digits"])
def test_a_data_set_by_its_name(name: str) -> None:
    few: dict[str, Any] = {"epochs": 2, "seed": 5, "validation": 0.25}
    words = [f"data={name}", "training.epochs=2", "seed=5", "data.validation=0.25"]
    assert same(fit(name, **few), run_of(*words))


def test_rows_typed_on_a_command_line() -> None:
    words = [f"data.X={json.dumps(X)}", f"data.y={json.dumps(Y)}", "data=cat_shop", "data.name=data"]
    words += [f"data.{key}=null" for key in ("features", "targets", "rows")]
    words += ["init=uniform", "training.optimizer=adam", "training.metrics=[mse]", "network.bias=true"]
    settings = {"training.optimizer": "adam", "network.bias": True}
    assert same(fit(np.array(X), Y, settings, init="uniform", metrics=["mse"]), run_of(*words))


def test_a_frame_is_a_csv_file(tmp_path: Path) -> None:
    SHOP.to_csv(tmp_path / "shop.csv", index=False)
    words = ["data=csv", f"data.path={tmp_path}/shop.csv", "data.target=[score]", "training.epochs=20"]
    run = run_of(*words)
    file = str(tmp_path / "shop.csv")
    assert same(fit(SHOP, "score", name="shop", epochs=20), run)
    assert same(fit(SHOP.drop(columns="score"), SHOP["score"], name="shop", epochs=20), run)
    assert same(fit(SHOP, target=["score"], name="shop", epochs=20), run)
    assert same(fit(file, "score", epochs=20), run)


def test_classes_of_a_frame_are_those_of_a_csv_file(tmp_path: Path) -> None:
    SHOP.to_csv(tmp_path / "shop.csv", index=False)
    words = ["data=csv", f"data.path={tmp_path}/shop.csv", "data.target=[city]", "training.epochs=20", "numerics=fast"]
    assert same(fit(SHOP, "city", name="shop", epochs=20, numerics="fast"), run_of(*words))


def test_a_sweep_trains_what_fit_does() -> None:
    found = sweep(X, Y, hidden=[[2], [4]], learning_rate=[0.1, 1], seed=range(3), epochs=30)
    assert [(one.config.network.hidden, one.config.training.learning_rate) for one in found[::3]] == [
        ([2], 0.1), ([2], 1.0), ([4], 0.1), ([4], 1.0),
    ]  # fmt: skip
    for one in found:
        alone = fit(X, Y, {"network.hidden": one.config.network.hidden}, seed=one.config.seed, epochs=30,
                    learning_rate=one.config.training.learning_rate)  # fmt: skip
        assert alone.run.fingerprint == one.run.fingerprint
        assert np.array_equal(alone.loss, one.loss)
        assert all(map(np.array_equal, alone.weights, one.weights))


def test_workers_change_no_bit() -> None:
    here = sweep(X, Y, hidden=[[2], [4]], seed=range(3), epochs=30, executor="serial")
    there = sweep(X, Y, hidden=[[2], [4]], seed=range(3), epochs=30, executor="processes", workers=2)
    assert [one.loss.tobytes() for one in here] == [one.loss.tobytes() for one in there]


def test_blas_has_one_thread() -> None:
    """More share large products out by their width: numerics=fast would have other bits than the command's."""

    def threads() -> set[int]:
        return {one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"}

    with threadpoolctl.threadpool_limits(2, "blas"):
        before = threads()
        with one_thread():
            assert threads() == {1}
        assert threads() == before == {2}


def test_calls_of_two_threads_do_not_disturb_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """The first to end neither gives BLAS its threads back nor the other its voice; the last restores both."""

    def threads() -> set[int]:
        return {one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"}

    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with quietly(False):
            first_in.set()
            assert second_in.wait(120)
        first_out.set()

    def second() -> set[int]:
        assert first_in.wait(120)
        with quietly(False):
            second_in.set()
            assert first_out.wait(120)
            say("not to be printed")
            return threads()

    with threadpoolctl.threadpool_limits(2, "blas"), ThreadPoolExecutor(2) as pool:
        ended, found = pool.submit(first), pool.submit(second)
        assert first_in.wait(120)
        say("printed")
        assert found.result() == {1}
        ended.result()
        assert threads() == {2}
    say("again")
    assert capsys.readouterr().out == "printed\nagain\n"


def test_two_threads_train_at_once_as_one_after_the_other() -> None:
    settings = [{"hidden": [[2], [3]], "epochs": 200, "seed": [seed, seed + 1]} for seed in (0, 2, 4)]
    with ThreadPoolExecutor(3) as pool:
        at_once = list(pool.map(lambda one: sweep(X, Y, one), settings))
    ENDED.clear()  # of what other tests ran in this process
    ENDED["a", "b", "c"] = parent = object()  # type: ignore[assignment]  # of a command in this process
    for one, found in zip(settings, at_once, strict=True):
        assert [fit.loss.tobytes() for fit in sweep(X, Y, one)] == [fit.loss.tobytes() for fit in found]
    assert list(ENDED.values()) == [parent]
    ENDED.clear()


# --- kept runs --------------------------------------------------------------------------------------------------


def test_a_run_of_the_command_is_found(empty_store: Path) -> None:
    assert in_process(["train", "data=happiness", "training.epochs=60"], empty_store) == 0
    uri = f"sqlite:///{empty_store}/mlflow.db"
    found = fit("happiness", epochs=60, tracking=uri)
    assert found.outcome.status == FOUND
    again = fit("happiness", epochs=60, tracking=uri, force=True)
    assert again.outcome.status == TRAINED
    assert again.run_id != found.run_id
    assert np.array_equal(found.loss, again.loss)
    assert all(map(np.array_equal, found.weights, again.weights))
    assert all(map(np.array_equal, found.initial_weights, again.initial_weights))
    assert np.array_equal(found.predict(HAPPINESS["X"]), again.predict(HAPPINESS["X"]))
    assert found.results == again.results
    assert np.isnan(found.seconds)


def test_a_kept_sweep_trains_nothing_twice_and_commands_know_it(
    empty_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"hidden": [[2], [4]], "seed": range(3), "epochs": 20, "experiment": "shop"}
    settings |= {"tracking": f"sqlite:///{empty_store}/mlflow.db"}
    first = sweep(SHOP, "score", **settings)
    second = sweep(SHOP, "score", **settings)
    assert {one.outcome.status for one in first} == {TRAINED}
    assert {one.outcome.status for one in second} == {FOUND}
    assert [one.run_id for one in first] == [one.run_id for one in second]
    assert all(np.array_equal(one.loss, other.loss) for one, other in zip(first, second, strict=True))
    pd.testing.assert_frame_equal(first.cells, second.cells)
    assert capsys.readouterr().out == ""

    assert in_process(["compare"], empty_store) == 0
    said = capsys.readouterr().out
    assert first.verdict in said
    assert in_process(["reproduce", "--all"], empty_store) == 0
    assert "6 runs: all IDENTICAL" in capsys.readouterr().out
    (empty_store / "new.csv").write_text("hours,city\n3,Bonn\n")
    assert in_process(["predict", f"run={first[0].run_id}", "--input", "new.csv"], empty_store) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert float(line.rpartition(",")[2]) == first[0].predict(pd.DataFrame({"hours": [3], "city": ["Bonn"]}))[0]


def test_arrays_are_kept_once_and_proved_again(empty_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = sweep(X, Y, seed=range(3), epochs=20, experiment="toy", tracking=f"sqlite:///{empty_store}/mlflow.db")
    tables = list(empty_store.rglob("datasets/*.npz"))
    assert [file.stem for file in tables] == [found[0].run.dataset.digest]
    (config,) = empty_store.rglob(f"{found[0].run_id}/artifacts/config.yaml")
    assert "X: null" in config.read_text()
    environment = json.loads((config.parent / "environment.json").read_text())
    assert str(Path.cwd()) not in json.dumps(environment["command"])
    assert in_process(["reproduce", "experiment=toy", "--all"], empty_store) == 0
    assert "3 runs: all IDENTICAL" in capsys.readouterr().out
    assert in_process(["predict", "experiment=toy", "rows=[[0, 1, 1]]"], empty_store) == 0


def test_a_longer_run_goes_on_from_a_kept_one(empty_store: Path) -> None:
    uri = f"sqlite:///{empty_store}/mlflow.db"
    fit(X, Y, epochs=20, tracking=uri)
    assert np.array_equal(fit(X, Y, epochs=50, tracking=uri).loss, fit(X, Y, epochs=50).loss)


def test_no_command_reads_what_python_gave(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "data=csv", "data.path=null", "data.target=[y]", "data.digest=0123456789abcdef", "tracking=none"]
    assert in_process(words, tmp_path) == 1
    assert "data.digest names what was given from Python, which no command can read" in capsys.readouterr().err


# --- start-up ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import pipeline", {"numpy", "pandas", "hydra", "mlflow", "sklearn", "rich"}),
        ("from pipeline import fit, sweep", {"pandas", "scipy", "hydra", "omegaconf", "mlflow", "sklearn"}),
        (
            "from pipeline import fit, sweep; fit([[0.], [1.]], [0, 1], epochs=2)\n"
            "sweep([[0.], [1.]], [0, 1], epochs=2, seed=[0, 1])",
            {"pandas", "scipy", "hydra", "omegaconf", "mlflow", "sklearn"},
        ),
    ],
    ids=["package", "functions", "training"],
)
def test_only_what_is_needed_is_imported(code: str, absent: set[str]) -> None:
    code += f"\nimport sys; print(sorted({absent!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_package_offers_no_more() -> None:
    import pipeline

    with pytest.raises(AttributeError, match=r"^module 'pipeline' has no attribute 'fitt'"):
        pipeline.fitt  # noqa: B018
    assert all(callable(getattr(pipeline, name)) for name in pipeline.__all__)


def test_rows_are_drawn_from_arrays_as_from_a_data_set() -> None:
    X, y = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0.0, 1.0, 1.0, 0.0]
    drawn = fit(X, y, hidden=[2], epochs=3, draw=100, noise=0.5)
    assert drawn.run.dataset.X.shape == (100, 2)
    assert len(np.unique(drawn.run.dataset.X, axis=0)) == 100
