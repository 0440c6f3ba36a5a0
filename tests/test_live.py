"""What is told of training while it goes, by this process and by workers."""

import multiprocessing
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from pipeline.identity import Run
from pipeline.numerics.train import Moment
from pipeline.training import executor as executors
from pipeline.training import points, processes
from pipeline.training.executor import Serial, StackExecutor, WorkerDiedError
from pipeline.training.handing_out import UnderWay, train_stacks
from pipeline.training.points import Glimpse, Points, curve_steps
from pipeline.training.processes import Processes
from tests import in_worker
from tests.factory import run
from tests.processes import eventually


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
    thread = threading.Thread(target=processes.send, args=(queue, sender), daemon=True)
    thread.start()
    for _ in range(50):
        queue.put(Glimpse({"any": Points(np.arange(2**14), {"loss": np.zeros(2**14)})}))
    thread.join(0.2)
    assert thread.is_alive()
    receiver.close()
    thread.join(120)
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
