"""Whole sweeps with worker processes: the same store, what fails alone, workers that are killed, and Ctrl-C."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.executor_config import ExecutorConfig
from pipeline.planning.plan import execute, make_plan
from pipeline.training import executor as executors
from pipeline.training.handing_out import share_out, train_stacks
from pipeline.training.processes import Processes
from pipeline.training.stack import Result, make_stacks, train_stack, updates_of
from tests import in_worker
from tests.conftest import in_process
from tests.factory import FIRST_COLUMN, bits, run
from tests.processes import TWO, alive, eventually, session, started, workers_of
from tests.sweeps import held, prepared

DIED = "The worker process that trained it ended with exit code 1, and so did a second one: it ended with exit code 1."

# --- whole sweeps -----------------------------------------------------------------------------------------------

SMALL = ("data=cat_shop", "network.hidden=[2],[3],[4]", "seed=0,1", "training.epochs=40", "training.metrics=[mse]")


def test_workers_leave_the_same_store_as_one_process(empty_store: Path) -> None:
    from mlflow import MlflowClient

    def kept(name: str, *words: str) -> dict[str, Any]:
        assert in_process(["sweep", *SMALL, f"tracking.experiment={name}", *words], empty_store) == 0
        client = MlflowClient(f"sqlite:///{empty_store}/mlflow.db")
        found = client.get_experiment_by_name(name)
        assert found is not None
        runs = client.search_runs([found.experiment_id], "tags.fingerprint LIKE '%'")
        assert len(runs) == 6
        assert {one.info.status for one in runs} == {"FINISHED"}
        own = {"sweep", "command", "mlflow.parentRunId"}
        return {
            one.data.tags["fingerprint"]: (
                one.data.params,
                one.data.metrics,
                [(m.step, m.value) for m in client.get_metric_history(one.info.run_id, "curve/loss")],
                {key: value for key, value in one.data.tags.items() if key not in own},
                {
                    file.name: content(file, name)
                    for file in Path(client.download_artifacts(one.info.run_id, "")).iterdir()
                },
            )
            for one in runs
        }

    def content(file: Path, experiment: str) -> bytes:
        said = file.read_bytes().replace(experiment.encode(), b"")
        if file.name == "environment.json":  # has the command, and a digest of config.yaml
            return json.dumps(
                {key: value for key, value in json.loads(said).items() if key not in ("command", "files")}
            ).encode()
        return said.split(b"executor:")[0] if file.name == "config.yaml" else said

    serial, processes = kept("alone", "executor=serial"), kept("shared", *TWO)
    assert serial == processes
    for name in ("alone", "shared"):
        table = runs_table(empty_store, name)
        assert [row[table["columns"].index("run")] for row in table["data"]] == [
            f"{units} lr0.5 s{seed}" for units in (2, 3, 4) for seed in (0, 1)
        ]


def runs_table(folder: Path, experiment: str) -> Any:
    """runs.json of an experiment's last sweep."""
    return json.loads(parent_file(folder, experiment, "runs.json"))


def parent_file(folder: Path, experiment: str, name: str) -> bytes:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    parent = client.search_runs([found.experiment_id], "tags.kind = 'sweep'")[0]
    return Path(client.download_artifacts(parent.info.run_id, name)).read_bytes()


def test_a_stack_that_kills_its_workers_fails_alone(
    empty_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(executors, "train_here", in_worker.train_or_die)
    assert in_process(["sweep", *SMALL, "tracking.experiment=deadly", *TWO], empty_store) == 1
    said = capsys.readouterr()
    assert "6 runs: 4 trained, 2 failed" in said.out
    assert "error: 2 of 6 runs failed." in said.err
    assert said.err.count(f": {DIED}\n") == 2
    assert "Traceback" not in said.err
    table = runs_table(empty_store, "deadly")
    status = [row[table["columns"].index("status")] for row in table["data"]]
    assert status == ["trained", "trained", "failed", "failed", "trained", "trained"]
    failures = json.loads(parent_file(empty_store, "deadly", "failures.json"))["data"]
    assert [(row[0], row[1]) for row in failures] == [(f"3 lr0.5 s{seed}", DIED) for seed in (0, 1)]
    monkeypatch.undo()
    assert in_process(["sweep", *SMALL, "tracking.experiment=deadly", *TWO], empty_store) == 0
    assert "6 runs: 2 trained, 4 found finished" in capsys.readouterr().out


def test_a_stack_whose_worker_was_killed_is_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(executors, "train_here", in_worker.train_or_die_once)
    assert in_process(["sweep", *SMALL, "tracking=none", *TWO], tmp_path) == 0
    assert "6 runs: 6 trained" in capsys.readouterr().out
    assert (tmp_path / "died").exists()


@pytest.mark.parametrize("executor", [("executor=serial",), TWO])
def test_a_stack_that_raises_fails_alone(
    executor: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(executors, "train_here", in_worker.train_or_raise)
    assert in_process(["sweep", *SMALL, "tracking=none", *executor], tmp_path) == 1
    said = capsys.readouterr()
    assert "6 runs: 4 trained, 2 failed" in said.out
    assert said.err.count("FloatingPointError: as asked") == 2


@pytest.mark.slow
def test_any_runs_of_a_large_sweep_have_the_bits_they_have_alone() -> None:
    settings = FIRST_COLUMN | {"generator": "pcg64", "learning_rate": 0.5}
    runs = [
        run(**(settings | {"hidden": hidden, "seed": seed, "epochs": 60 + seed % 7}))
        for hidden in ([4], [4, 5])
        for seed in range(1000)
    ]
    wanted = {one.fingerprint: one for one in random.Random(0).sample(runs, 20)}
    stacks, workers = share_out(runs, ExecutorConfig("processes", 2))
    assert (workers, len(stacks)) == (2, 4)
    found: dict[str, Result] = {}
    with Processes(2) as executor:
        for stack, future in train_stacks(executor, stacks, lambda updates: None):
            results = zip(stack, future.result(), strict=True)
            found |= {one.fingerprint: result for one, result in results if one.fingerprint in wanted}
    for fingerprint, one in wanted.items():
        assert bits(found[fingerprint]) == bits(train_stack([one])[0])


def test_no_run_is_lost_or_doubled_between_plan_and_outcomes() -> None:
    runs = [run(hidden=[units], seed=seed, epochs=5) for units in (1, 2, 3) for seed in range(70)]
    plan = dataclasses.replace(make_plan(runs, None), stacks=make_stacks(runs, 2), workers=2)
    told: list[int] = []
    outcomes = list(execute(plan, None, {}, lambda updates, ended: told.append(updates)))
    assert sorted(one.run.fingerprint for one in outcomes) == sorted(one.fingerprint for one in runs)
    assert {one.status for one in outcomes} == {"trained"}
    assert all(one.result is None for one in outcomes)
    assert sum(told) == sum(map(updates_of, plan.stacks)) == 3 * 70 * 5


# --- signals, in real commands ----------------------------------------------------------------------------------

STACKS = "network.hidden=[1],[2],[3],[4],[5],[6],[7],[8]"
LONG = ("sweep", "data=cat_shop", STACKS, "seed=0,1", "training.epochs=6000", "tracking.experiment=long")


def statuses(folder: Path) -> list[str]:
    """Of the runs of the experiment `long`, then of its parents, sorted."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = client.get_experiment_by_name("long")
    runs = client.search_runs([found.experiment_id]) if found else []
    return sorted(one.info.status if "fingerprint" in one.data.tags else f"parent {one.info.status}" for one in runs)


def holding(folder: Path, *hidden: list[int], tells: bool = True) -> dict[str, str]:
    """The environment in which stacks of these hidden layers wait for a file `go`: the sweep has not ended before."""
    return {"PYTHONPATH": os.pathsep.join([str(prepared(folder, held(folder, hidden, tells))), *sys.path])}


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_of_a_sweep_costs_nothing(empty_store: Path) -> None:
    held_back = holding(empty_store, *([units] for units in range(1, 8)))  # all but the longest
    with started("pipeline", *LONG, *TWO, cwd=empty_store, err=subprocess.PIPE, variables=held_back) as process:
        eventually(lambda: {"FINISHED", "RUNNING"} <= set(statuses(empty_store)), 300)
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        (empty_store / "go").touch()
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "16 runs: 16 trained" in out
    assert statuses(empty_store) == ["FINISHED"] * 16 + ["parent FINISHED"]


@pytest.mark.slow
def test_no_worker_outlives_a_driver_that_is_killed(tmp_path: Path) -> None:
    with started(
        "pipeline", *LONG[:-2], "training.epochs=50000000", "tracking=none", *TWO, cwd=tmp_path, err=subprocess.PIPE
    ) as process:
        eventually(lambda: len(workers_of(process.pid)) == 2)
        time.sleep(1)  # until they train
        workers = workers_of(process.pid)
        assert len(workers) == 2
        process.kill()
        process.wait(120)
        eventually(lambda: not any(map(alive, workers)))
        eventually(lambda: not session(process.pid))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("executor", [("executor=serial",), TWO])
def test_ctrl_c_stops_a_sweep_keeps_what_is_finished_and_leaves_no_worker(
    executor: tuple[str, ...], kind: signal.Signals, empty_store: Path
) -> None:
    held_back = holding(empty_store, [1], tells=False)  # which is trained last
    with started("pipeline", *LONG, *executor, cwd=empty_store, err=subprocess.PIPE, variables=held_back) as process:
        eventually(lambda: "FINISHED" in statuses(empty_store), 300)
        os.killpg(process.pid, kind)
        assert process.wait(120) == 130  # about a second on a quiet machine; by itself it would not end
        eventually(lambda: not session(process.pid))
        assert "Traceback" not in process.stderr.read() if process.stderr else False
    kept = statuses(empty_store)
    assert set(kept) == {"FINISHED", "parent KILLED"}
    assert 0 < kept.count("FINISHED") < 16
    assert in_process([*LONG, *executor], empty_store) == 0
    assert statuses(empty_store) == ["FINISHED"] * 16 + ["parent FINISHED", "parent KILLED"]


@pytest.mark.slow
@pytest.mark.parametrize("executor", [("executor=serial",), TWO])
@pytest.mark.parametrize(("wait", "times"), [(0.0, 1), (1.5, 1), (1.5, 3)])
def test_ctrl_c_stops_a_sweep_without_a_store(
    executor: tuple[str, ...], wait: float, times: int, tmp_path: Path
) -> None:
    """Also while workers start, and if it is pressed more than once."""
    words = (*LONG[:-2], "training.epochs=50000000", "tracking=none")
    with started("pipeline", *words, *executor, cwd=tmp_path, err=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("Sweep")
        time.sleep(wait)
        for _ in range(times):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.003)
        code = process.wait(120)  # a fraction of a second on a quiet machine; by itself it would end in an hour
        assert code == 130 or times > 1
        eventually(lambda: not session(process.pid))
        assert process.stderr
        if times == 1:
            assert process.stderr.read().strip().splitlines()[-1:] == ["interrupted"]
    assert not list(tmp_path.iterdir())
