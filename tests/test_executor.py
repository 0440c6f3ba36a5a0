"""Who trains the stacks: real worker processes, what becomes of a sweep when they die, and Ctrl-C."""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.executor_config import ExecutorConfig
from pipeline.identity import Run
from pipeline.numerics.train import Moment
from pipeline.planning.plan import execute, make_plan
from pipeline.training import executor as executors
from pipeline.training import points
from pipeline.training.executor import (
    BLAS_THREADS,
    Processes,
    Serial,
    StackExecutor,
    UnderWay,
    WorkerDiedError,
    make_executor,
    rough_seconds,
    share_out,
    train_stacks,
)
from pipeline.training.points import Glimpse, Points, curve_steps
from pipeline.training.stack import Result, make_stacks, train_stack, updates_of
from tests import in_worker
from tests.conftest import in_process
from tests.factory import FIRST_COLUMN, bits, run

TWO = ("executor=processes", "executor.workers=2")
DIED = "The worker process that trained it ended with exit code 1, and so did a second one: it ended with exit code 1."


def alive(pid: int) -> bool:
    """True for a process that runs (one that ended and waits for its parent to notice does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def session(leader: int) -> list[int]:
    """The living processes of a session."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3]) == leader and alive(pid):
                found.append(pid)
    return found


def workers_of(leader: int) -> list[int]:
    """The worker processes of a session, by their command line."""
    found = []
    for pid in session(leader):
        with contextlib.suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def eventually(good: Callable[[], bool], seconds: float = 60.0) -> float:
    """Waits until something is so, and returns how long that took."""
    started = time.monotonic()
    while not good():
        assert time.monotonic() - started < seconds, "it never came so"
        time.sleep(0.02)
    return time.monotonic() - started


@pytest.fixture(scope="module")
def one() -> Iterator[Processes]:
    """A single worker, for tests that do it no harm."""
    with Processes(1) as executor:
        yield executor


# --- a worker ---------------------------------------------------------------------------------------------------


def test_a_worker_imports_numpy_but_not_mlflow_hydra_or_what_started_it(one: Processes) -> None:
    found = one.submit(in_worker.about).result()
    assert found["pid"] != os.getpid()
    assert {"numpy", "pipeline.training.stack"} <= found["modules"]
    unwanted = {"mlflow", "hydra", "omegaconf", "pandas", "rich", "click", "pytest", "yaml", "pipeline.__main__"}
    assert not found["modules"] & unwanted


def test_a_worker_has_one_blas_thread_and_leaves_ctrl_c_to_the_driver(one: Processes) -> None:
    before = dict(os.environ)
    found = one.submit(in_worker.about).result()
    assert found["blas"] == ["1"] * len(BLAS_THREADS)
    assert found["threads"] == 0, "threads that are not Python's"
    assert (found["sigint"], found["sigterm"]) == (signal.SIG_IGN, signal.SIG_DFL)
    assert dict(os.environ) == before


def test_starting_a_worker_leaves_environment_and_main_module_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    main = sys.modules["__main__"]
    with Processes(1) as executor:
        assert executor.submit(in_worker.about).result()["blas"] == ["1"] * len(BLAS_THREADS)
    assert (os.environ["OMP_NUM_THREADS"], os.environ.get("MKL_NUM_THREADS")) == ("5", None)
    assert sys.modules["__main__"] is main


def test_an_error_comes_back_and_is_not_tried_again(one: Processes, tmp_path: Path) -> None:
    file = str(tmp_path / "calls")
    for how, kind in (("raise", ZeroDivisionError), ("lack memory", MemoryError)):
        with pytest.raises(kind, match="as asked"):
            one.submit(in_worker.leave_a_line, file, how).result()
    assert one.submit(in_worker.leave_a_line, file, "return").result() == 3


def test_a_call_whose_worker_dies_is_made_once_more(one: Processes, tmp_path: Path) -> None:
    file = str(tmp_path / "calls")
    assert one.submit(in_worker.leave_a_line, file, "be killed once").result() == 2


def test_a_call_whose_worker_dies_twice_fails_and_says_how(one: Processes, tmp_path: Path) -> None:
    file = tmp_path / "calls"
    with pytest.raises(WorkerDiedError, match="ended with exit code 7, and so did a second one"):
        one.submit(in_worker.leave_a_line, str(file), "end").result()
    assert file.read_text().count("called") == 2
    assert one.submit(in_worker.about).result()["pid"] in one.pids(), "the next call has a fresh worker"


def test_killed_for_memory_is_said() -> None:
    with Processes(1) as executor:
        executor.submit(in_worker.about).result()
        future = executor.submit(in_worker.sleep, 60)
        killed: set[int] = set()
        while not future.done():
            for pid in set(executor.pids()) - killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            time.sleep(0.02)
        with pytest.raises(WorkerDiedError, match="was killed by SIGKILL, as happens when memory runs out"):
            future.result()


def test_updates_made_in_workers_are_news_and_those_of_a_dead_worker_are_taken_back(one: Processes) -> None:
    one.news()
    one.submit(in_worker.make_updates, 30).result()
    one.submit(in_worker.make_updates, 12).result()
    assert (one.news(), one.news()) == (42, 0)
    with pytest.raises(WorkerDiedError):
        one.submit(in_worker.make_updates_and_die, 1000).result()
    assert one.news() == 0


def test_workers_are_gone_when_the_executor_is_left() -> None:
    with Processes(2) as executor:
        pids = {executor.submit(in_worker.about).result()["pid"] for _ in range(6)}
        assert pids == set(executor.pids())
    assert not any(map(alive, pids))


def test_an_exception_kills_the_workers_at_once() -> None:
    executor = Processes(2)
    for _ in range(5):
        executor.submit(in_worker.sleep, 600)
    eventually(lambda: len(executor.pids()) == 2)
    pids = executor.pids()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), executor:
        raise KeyboardInterrupt
    assert time.monotonic() - started < 2
    assert not any(map(alive, pids))


# --- handing out stacks -----------------------------------------------------------------------------------------


class Slow(StackExecutor):
    """Ends the calls it was given in the reverse order, each when it is waited for; notes how many it has at most."""

    def __init__(self, room: int) -> None:
        self.room, self.most = room, 0
        self.open: list[Future[Any]] = []
        self.calls: list[Sequence[Run]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Takes a stack."""
        future: Future[Any] = Future()
        self.open.append(future)
        self.calls.append(args[0])
        self.most = max(self.most, len(self.open))
        if len(self.open) == self.room or len(self.calls) == 6:
            future.set_result([])
        return future


def test_stacks_come_as_they_end_the_longest_go_first_and_no_more_than_there_is_room_for() -> None:
    stacks = [[run(hidden=[2], epochs=epochs)] for epochs in (10, 30, 20, 60, 40, 50)]
    executor = Slow(3)
    ended = []
    for stack, future in train_stacks(executor, stacks, lambda updates: None):
        executor.open.remove(future)
        ended.append(stack[0].config.training.epochs)
        if len(executor.calls) == 6 and executor.open and not any(one.done() for one in executor.open):
            executor.open[0].set_result([])
    assert [stack[0].config.training.epochs for stack in executor.calls] == [60, 50, 40, 30, 20, 10]
    assert executor.most == 3
    assert ended[0] == 40, "the third ended first"
    assert sorted(ended) == [10, 20, 30, 40, 50, 60]


def test_any_executor_of_the_standard_interface_will_do() -> None:
    class Cluster(ThreadPoolExecutor, StackExecutor):
        room = 4

    stacks = [[run(hidden=[units], epochs=9)] for units in (1, 2, 3)]
    with Cluster(2) as cluster:
        ended = train_stacks(cluster, stacks, lambda updates: None)
        found = {id(stack): future.result() for stack, future in ended}
    for stack in stacks:
        assert bits(found[id(stack)][0]) == bits(train_stack(stack)[0])


def test_progress_in_this_process_and_in_workers_adds_up_to_all_updates() -> None:
    runs = [run(hidden=[units], seed=seed, epochs=700) for units in (1, 2) for seed in range(3)]
    for workers in (0, 2):
        made: list[int] = []
        with make_executor(workers, made.append) as executor:
            assert len(list(train_stacks(executor, make_stacks(runs), made.append))) == 2
        assert sum(made) == 6 * 700, workers


def test_serial_raises_ctrl_c_and_keeps_errors() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    executor = Serial(lambda updates: None)
    assert isinstance(executor.submit(lambda: 1 // 0).exception(), ZeroDivisionError)
    with pytest.raises(KeyboardInterrupt):
        executor.submit(interrupt)


# --- live -------------------------------------------------------------------------------------------------------


def leave_a_file_beyond_half(stack: list[Run], glimpse: Glimpse) -> None:
    """What `in_worker.train_watched` waits for."""
    for fingerprint, some in glimpse.points.items():
        if some.steps[-1] > stack[0].config.training.epochs / 2:
            Path(fingerprint).touch()


def told_of(
    executor: StackExecutor, stacks: list[list[Run]], also: Callable[[list[Run], Glimpse], None] = lambda *_: None
) -> tuple[dict[str, list[int]], list[list[Run]]]:
    """The steps that `live` was told, by fingerprint, and the stacks that it was told of, while stacks train."""
    steps: dict[str, list[int]] = {}
    seen: list[list[Run]] = []

    def live(stack: list[Run], glimpse: Glimpse) -> None:
        assert threading.current_thread() is threading.main_thread()
        seen.append(stack)
        for fingerprint, some in glimpse.points.items():
            assert fingerprint in {one.fingerprint for one in stack}
            steps.setdefault(fingerprint, []).extend(some.steps.tolist())
        also(stack, glimpse)

    with executor:
        for _, future in train_stacks(executor, stacks, lambda updates: None, live):
            future.result()
    return steps, seen


LIVELY = [[run(hidden=[units], seed=seed, epochs=1000) for seed in range(3)] for units in (1, 2)]


def test_this_process_tells_of_points_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "LIVE_SECONDS", 0.0)
    steps, seen = told_of(Serial(lambda updates: None), LIVELY)
    assert steps == {one.fingerprint: curve_steps(1000, 1000, 300) for stack in LIVELY for one in stack}
    assert len(seen) == 2 * 1000 / 500


def test_nobody_looks_if_nobody_is_to_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "LIVE_SECONDS", 0.0)
    monkeypatch.setattr(Moment, "finite", None)
    with Serial(lambda updates: None) as executor:
        assert [future.exception() for _, future in train_stacks(executor, LIVELY, lambda updates: None)] == [None] * 2


def test_a_worker_sends_points_and_those_that_a_second_one_sends_again_are_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(executors, "train_here", in_worker.train_watched)
    stacks = [[run(seed=seed, epochs=10_000) for seed in range(3)], [run(epochs=10_000, hidden=[1])]]
    steps, _ = told_of(Processes(1), stacks, leave_a_file_beyond_half)
    assert (tmp_path / "died").exists()
    assert sorted(steps) == sorted(one.fingerprint for stack in stacks for one in stack)
    wanted = curve_steps(10_000, 10_000, 300)
    for told in steps.values():
        assert told == wanted[: len(told)]
        assert len(told) > len(wanted) / 2, "those on their way when a stack has ended are not told"


def test_a_worker_killed_while_it_sends_does_no_harm() -> None:
    with Processes(1) as executor:
        with pytest.raises(WorkerDiedError):
            executor.submit(in_worker.tell_much, 200, True).result()
        executor.glimpses()
        executor.submit(in_worker.tell_much, 3, False).result()
        eventually(lambda: len(executor.glimpses()) > 0)


def test_a_worker_does_not_wait_for_its_news_to_be_read() -> None:
    """Nobody reads: the pipe is full after 64 KiB; then its other end closes."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    queue: SimpleQueue[Glimpse] = SimpleQueue()
    thread = threading.Thread(target=executors.send, args=(queue, sender), daemon=True)
    thread.start()
    for _ in range(50):
        queue.put(Glimpse({"any": Points(np.arange(2**14), {"loss": np.zeros(2**14)})}))
    thread.join(0.2)
    assert thread.is_alive()
    receiver.close()
    thread.join(10)
    assert not thread.is_alive()


def test_what_is_told_of_a_stack_that_is_not_in_training_is_left_out() -> None:
    told: list[int] = []
    under_way = UnderWay(lambda stack, glimpse: told.append(len(glimpse.points)))
    stack = LIVELY[0]
    glimpse = Glimpse({stack[0].fingerprint: Points(np.array([0, 1]), {"loss": np.zeros(2)})})
    under_way.tell(glimpse)
    assert told == []
    with Processes(1) as executor:
        under_way.submit(executor, stack, {}).result()
    under_way.tell(glimpse)
    under_way.tell(glimpse)
    assert told == [1]
    under_way.remove(stack)
    under_way.tell(glimpse)
    assert told == [1]


# --- who trains -------------------------------------------------------------------------------------------------


def shared(runs: list[Run], **executor: Any) -> tuple[list[int], int]:
    """Lengths of the stacks, and the number of workers."""
    stacks, workers = share_out(runs, ExecutorConfig(**executor))
    return [len(stack) for stack in stacks], workers


def test_auto_takes_workers_for_long_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "cores", lambda: 2)
    short = [run(seed=seed, epochs=100) for seed in range(200)]
    assert shared(short) == ([200], 0)
    long = [run(seed=seed, epochs=50_000) for seed in range(200)]
    assert shared(long) == ([100, 100], 2)
    assert shared(long[:40]) == ([40], 0), "one narrow stack is not cut"
    assert shared(long[:20] + [run(hidden=[3], seed=seed, epochs=50_000) for seed in range(20)]) == ([20, 20], 2)
    assert shared(long[:1]) == ([1], 0)
    assert shared([]) == ([], 0)
    assert shared(long, kind="serial") == ([200], 0)
    assert shared(long, workers=3) == ([67, 67, 66], 3)
    assert shared(long, workers=1) == ([200], 0)
    assert shared(short, kind="processes") == ([100, 100], 2)
    assert shared(short[:50], kind="processes", workers=4) == ([50], 1), "no more workers than stacks"
    monkeypatch.setattr(executors, "cores", lambda: 1)
    assert shared(long) == ([200], 0)


def test_a_single_run_is_trained_in_this_process() -> None:
    assert shared([run(epochs=1_000_000)], kind="processes") == ([1], 0)


def test_the_longest_stack_is_the_one_that_takes_most_work() -> None:
    few_long, many_short = [run(epochs=1000)], [run(seed=seed, epochs=100) for seed in range(100)]
    assert rough_seconds(few_long) > rough_seconds(many_short), "a step of a stack costs something whatever its width"
    assert rough_seconds([run(hidden=[8, 8])]) > rough_seconds([run(hidden=[2])])


@pytest.mark.parametrize("workers", [0, -1, 1025])
def test_workers_must_be_some(workers: int) -> None:
    sentence = f"executor.workers is {workers}, but it must be null (all cores) or a whole number from 1 to 1024."
    with pytest.raises(UserError, match=re.escape(sentence)):
        ExecutorConfig(workers=workers)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        (
            "executor.workers=0",
            "executor.workers is 0, but it must be null (all cores) or a whole number from 1 to 1024.",
        ),
        ("executor.kind=foo", "executor.kind is foo, but it must be one of auto, serial, processes, dask, futures."),
        ("executor=foo", "executor is foo, but it must be one of auto, dask, futures, processes, serial."),
    ],
)
def test_a_wrong_executor_is_one_sentence(
    word: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(["sweep", "seed=1,2", "tracking=none", word], tmp_path) == 1
    assert sentence in capsys.readouterr().err


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


@contextlib.contextmanager
def started(*words: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """A command as a terminal starts it: leader of its own group, Ctrl-C not ignored; nothing is left of it."""
    command = ["env", "--default-signal=INT", sys.executable, "-m", "pipeline", *words]
    with subprocess.Popen(
        command,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            for pid in session(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def statuses(folder: Path) -> list[str]:
    """Of the runs of the experiment `long`, then of its parents, sorted."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = client.get_experiment_by_name("long")
    runs = client.search_runs([found.experiment_id]) if found else []
    return sorted(one.info.status if "fingerprint" in one.data.tags else f"parent {one.info.status}" for one in runs)


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_of_a_sweep_costs_nothing(empty_store: Path) -> None:
    with started(*LONG, *TWO, cwd=empty_store) as process:
        eventually(lambda: "FINISHED" in statuses(empty_store), 120)
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "16 runs: 16 trained" in out
    assert statuses(empty_store) == ["FINISHED"] * 16 + ["parent FINISHED"]


@pytest.mark.slow
def test_no_worker_outlives_a_driver_that_is_killed(tmp_path: Path) -> None:
    with started(*LONG[:-2], "training.epochs=10000000", "tracking=none", *TWO, cwd=tmp_path) as process:
        eventually(lambda: len(workers_of(process.pid)) == 2)
        time.sleep(1)  # until they train
        workers = workers_of(process.pid)
        process.kill()
        process.wait(10)
        eventually(lambda: not any(map(alive, workers)), 5)
        eventually(lambda: not session(process.pid), 5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("executor", [("executor=serial",), TWO])
def test_ctrl_c_stops_a_sweep_keeps_what_is_finished_and_leaves_no_worker(
    executor: tuple[str, ...], kind: signal.Signals, empty_store: Path
) -> None:
    with started(*LONG, *executor, cwd=empty_store) as process:
        eventually(lambda: "FINISHED" in statuses(empty_store), 120)
        os.killpg(process.pid, kind)
        at = time.monotonic()
        assert process.wait(30) == 130
        took = time.monotonic() - at
        eventually(lambda: not session(process.pid), 2)
        assert "Traceback" not in process.stderr.read() if process.stderr else False
    assert took < 20, "about a second on a quiet machine"
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
    words = (*LONG[:-2], "training.epochs=10000000", "tracking=none")
    with started(*words, *executor, cwd=tmp_path) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("Sweep")
        time.sleep(wait)
        at = time.monotonic()
        for _ in range(times):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.003)
        code = process.wait(30)
        assert code == 130 or times > 1
        took = time.monotonic() - at
        eventually(lambda: not session(process.pid), 2)
        assert process.stderr
        if times == 1:
            assert process.stderr.read().strip().splitlines()[-1:] == ["interrupted"]
    assert took < 20, "a fraction of a second on a quiet machine"
    assert not list(tmp_path.iterdir())
