"""Cuts runs into stacks for so many workers, and hands these out to an executor, the longest first."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

from pipeline.executor_config import ExecutorConfig
from pipeline.identity import Run
from pipeline.numerics.train import Progress
from pipeline.training.continuing import NO_STARTS, Starts
from pipeline.training.executor import LIVE, StackExecutor, cores
from pipeline.training.points import Glimpse
from pipeline.training.stack import Result, epochs_left, make_stacks, trajectories_of

POLL_SECONDS = 0.2

# A rough cost of training, for ordering stacks and for `auto`: of one network's update for each weight and row, and of
# the NumPy calls of a stack's update for each layer (measured with portable numerics on a Xeon of 2023).
SECONDS_A_WEIGHT_AND_ROW = 6e-9
SECONDS_A_LAYER = 40e-6
WORTH_WORKERS = 1.5  # seconds of training from which `auto` starts workers, which takes 0.3 s
MANY = 32  # workers, where it is not known how many there are


def share_out(runs: Sequence[Run], config: ExecutorConfig, starts: Starts = NO_STARTS) -> tuple[list[list[Run]], int]:
    """Stacks of the runs, and how many worker processes train them (0: this process does).

    `auto` takes workers where there is more than one core, more than one stack once groups are cut, and training here
    would take WORTH_WORKERS seconds or more. A single run is always trained here. How many workers a cluster has is
    not known yet: it gets stacks for MANY.
    """
    stacks = make_stacks(runs, starts=starts)
    workers = config.workers or (MANY if config.scheduler else cores())
    if config.kind == "serial" or len(runs) <= 1:
        return stacks, 0
    cut = make_stacks(runs, workers, starts)
    workers = min(workers, len(cut))
    needed = sum(rough_seconds(stack, starts) for stack in stacks)
    if config.kind == "auto" and (workers == 1 or needed < WORTH_WORKERS):
        return stacks, 0
    return cut, workers


def rough_seconds(stack: Sequence[Run], starts: Starts = NO_STARTS) -> float:
    """About how long training a stack takes. `seedbed plan` measures it; this is free."""
    first = stack[0]
    updates = [epochs_left(runs, starts) for runs in trajectories_of(stack)]
    per_network = first.parameters * len(first.dataset.X) * SECONDS_A_WEIGHT_AND_ROW
    layers = len(first.sizes) - 1
    return sum(updates) * per_network + max(updates) * layers * SECONDS_A_LAYER


def train_stacks(
    executor: StackExecutor,
    stacks: Sequence[list[Run]],
    progress: Progress,
    live: Callable[[list[Run], Glimpse], None] | None = None,
    starts: Starts = NO_STARTS,
) -> Iterator[tuple[list[Run], Future[list[Result]]]]:
    """Has stacks trained, the longest first, and yields each with its results when it has ended.

    No more than `executor.room` of them are under way or wait to be taken, as their curves take much memory. `live` is
    called here, in the caller's thread, with a stack that trains for long and the points that became known of it.
    """
    waiting = deque(sorted(stacks, key=lambda stack: rough_seconds(stack, starts), reverse=True))
    pending: dict[Future[list[Result]], list[Run]] = {}
    under_way = UnderWay(live)
    while waiting or pending:
        while waiting and len(pending) < executor.room:
            stack = waiting.popleft()
            pending[under_way.submit(executor, stack, starts)] = stack
        done, _ = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
        for future in done:
            under_way.remove(pending[future])
        for glimpse in executor.glimpses():
            under_way.tell(glimpse)
        if updates := executor.news():
            progress(updates)
        if done:
            future = done.pop()
            yield pending.pop(future), future


class UnderWay:
    """The stacks that are in training, and which of their points `live` was told of: each is told once.

    A stack whose worker died is seen from its beginning again, and a glimpse may come later than the results.
    """

    def __init__(self, live: Callable[[list[Run], Glimpse], None] | None) -> None:
        self._live = live
        self._stacks: dict[str, list[Run]] = {}  # by fingerprint, as are the last steps that were told
        self._told: dict[str, int] = {}

    def submit(self, executor: StackExecutor, stack: list[Run], starts: Starts) -> Future[list[Result]]:
        """Has a stack trained; an executor that does so at once, in this thread, tells at once."""
        its_starts = {run.fingerprint: starts[run.fingerprint] for run in stack if run.fingerprint in starts}
        self._stacks |= {run.fingerprint: stack for run in stack}
        token = LIVE.set(self.tell if self._live else None)
        try:
            return executor.train(stack, its_starts)
        finally:
            LIVE.reset(token)

    def tell(self, glimpse: Glimpse) -> None:
        """Tells what is new in a glimpse of a stack that is in training."""
        stack = self._stacks.get(next(iter(glimpse.points)))
        points = {one: points.behind(self._told.get(one, -1)) for one, points in glimpse.points.items()}
        points = {one: some for one, some in points.items() if len(some.steps)}
        if self._live and stack and points:
            self._told |= {one: int(some.steps[-1]) for one, some in points.items()}
            self._live(stack, Glimpse(points))

    def remove(self, stack: Sequence[Run]) -> None:
        """Forgets a stack, which has its results."""
        for run in stack:
            self._stacks.pop(run.fingerprint, None)
            self._told.pop(run.fingerprint, None)
