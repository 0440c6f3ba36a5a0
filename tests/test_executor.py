"""Who trains the stacks: this process or worker processes, in which order, and a call whose worker dies."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.executor_config import ExecutorConfig
from pipeline.identity import Run
from pipeline.training import handing_out
from pipeline.training.executor import Serial, StackExecutor, WorkerDiedError
from pipeline.training.handing_out import rough_seconds, share_out, train_stacks
from pipeline.training.processes import BLAS_THREADS, Processes, make_executor
from pipeline.training.stack import make_stacks, train_stack
from tests import in_worker
from tests.conftest import in_process
from tests.factory import bits, run
from tests.processes import alive, eventually

HALF = "be killed once, half of the answer being sent"


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


def test_a_worker_that_is_killed_while_it_sends_its_answer_is_waited_for_no_longer(tmp_path: Path) -> None:
    """In a process of its own, which may be ended if it waits for the rest."""
    lines = (
        "from pipeline.training.processes import Processes",
        "from tests.in_worker import leave_a_line",
        "with Processes(1) as executor:",
        f"    print(executor.submit(leave_a_line, {str(tmp_path / 'calls')!r}, {HALF!r}).result())",
    )
    path = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=tmp_path,
        env=os.environ | path,
        timeout=120,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("2\n", "", 0)


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
    assert time.monotonic() - started < 60, "it did not wait for what they do, which takes 600 s"
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


# --- who trains -------------------------------------------------------------------------------------------------


def shared(runs: list[Run], **executor: Any) -> tuple[list[int], int]:
    """Lengths of the stacks, and the number of workers."""
    stacks, workers = share_out(runs, ExecutorConfig(**executor))
    return [len(stack) for stack in stacks], workers


def test_auto_takes_workers_for_long_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing_out, "cores", lambda: 2)
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
    monkeypatch.setattr(handing_out, "cores", lambda: 1)
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
