"""A sweep: plan, skip what is finished, train stacks, hand each result to the store as it comes, say how it went."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.credentials import redacted
from pipeline.environment import environment
from pipeline.errors import UserError
from pipeline.identity import Run
from pipeline.numerics.train import Progress
from pipeline.results.record import Record, colors, curve_metrics, make_head, make_record, summary
from pipeline.training.continuing import Starts
from pipeline.training.executor import StackExecutor, WorkerDiedError
from pipeline.training.handing_out import share_out, train_stacks
from pipeline.training.points import Glimpse
from pipeline.training.processes import make_executor
from pipeline.training.stack import Result, updates_of

if TYPE_CHECKING:
    from pipeline.store.sink import Kept
    from pipeline.store.track import Store

TRAINED, FOUND, FAILED = "trained", "found finished", "failed"
PARENT = "mlflow.parentRunId"
AWAIT_SECONDS = 2.0  # at least, between two looks at what another sweep has finished
STORE_SECONDS = 180.0  # how long a store may fail meanwhile


@dataclass(frozen=True)
class Outcome:
    """How one run of a sweep ended. run_id is None without a store; `result` is there if it was trained now."""

    run: Run
    status: str
    run_id: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    diverged: bool = False
    reason: str = ""
    result: Result | None = None

    @property
    def diverged_at(self) -> int | None:
        """After how many updates a number was not finite any more, if ever. Without any loss: before the first."""
        updates = int(self.metrics.get("result/updates", 0))
        return updates + ("result/final_loss" in self.metrics) if self.diverged else None


@dataclass(frozen=True)
class Plan:
    """What a sweep will do: its distinct runs, those of them that are finished already, and the stacks to train.

    `workers` is the number of processes that train them; 0 is this process. `starts` are what runs go on from.
    """

    runs: list[Run]
    duplicates: int
    found: dict[str, "Kept"]
    stacks: list[list[Run]]
    workers: int = 0
    starts: Starts = field(default_factory=dict)

    @property
    def is_elsewhere(self) -> bool:
        """True if the workers are not this process's own."""
        return self.workers > 0 and self.runs[0].config.executor.is_elsewhere


TagsOf = Callable[[Run], dict[str, str]]
Report = Callable[[int, Sequence[Outcome]], None]


class Finder(Protocol):
    """Who knows what is finished: the store, or one who only looks at it."""

    def finished(self, fingerprints: Sequence[str]) -> dict[str, "Kept"]:
        """The FINISHED runs that have one of the fingerprints, by fingerprint."""

    def starts(self, runs: Sequence[Run]) -> Starts:
        """What runs can go on from: FINISHED ones that differ in fewer epochs only. By fingerprint."""


def make_plan(runs: Iterable[Run], store: Finder | None, force: bool = False) -> Plan:
    """Drops exact duplicates, looks up what is finished (with `force`, nothing is), and groups the rest into stacks.

    The first run's config says who trains.
    """
    given = list(runs)
    distinct = list({run.fingerprint: run for run in reversed(given)}.values())[::-1]
    found = store.finished([run.fingerprint for run in distinct]) if store and not force else {}
    todo = [run for run in distinct if run.fingerprint not in found]
    starts = store.starts(todo) if store and not force else {}
    stacks, workers = share_out(todo, distinct[0].config.executor, starts)
    return Plan(distinct, len(given) - len(distinct), found, stacks, workers, starts)


def updates_to_make(plan: Plan) -> int:
    """How many updates the plan's stacks take."""
    return sum(updates_of(stack, plan.starts) for stack in plan.stacks)


def execute(
    plan: Plan, store: "Store | None", tags: Mapping[str, str], report: Report, keep_results: bool = False
) -> Iterator[Outcome]:
    """Trains the plan's stacks, writes each run to the store (with `tags`), and yields each run as it ends.

    Runs found finished come first, the others as their stacks end. A stack that raises an error, or whose worker dies
    twice, makes its runs FAILED and does not stop the others.
    `report` is told of updates made and of runs that have ended. Without `keep_results` outcomes come without their
    curves and weights, which a large sweep could not hold.
    """
    for outcome in outcomes_of(plan, store, tags, report):
        report(0, [outcome])
        yield outcome if keep_results else dataclasses.replace(outcome, result=None)


def outcomes_of(plan: Plan, store: "Store | None", tags: Mapping[str, str], report: Report) -> Iterator[Outcome]:
    """The outcomes behind `execute`: what is found, then what is trained here, then what another sweep trains."""
    for run in plan.runs:
        if run.fingerprint in plan.found:
            yield found_outcome(run, plan.found[run.fingerprint])
    todo = [run for stack in plan.stacks for run in stack]
    taken = store.claim(tags.get(PARENT), [run.fingerprint for run in todo]) if store else set()
    own = only(plan, [run for run in todo if run.fingerprint not in taken]) if taken else plan
    yield from trained_outcomes(own, store, tags, report)
    if store and taken:
        store.let_go()
        theirs = only(plan, [run for run in todo if run.fingerprint in taken])
        yield from awaited_outcomes(theirs, store, tags, report)


def only(plan: Plan, runs: Sequence[Run]) -> Plan:
    """The plan, with nothing but some of its runs to train."""
    stacks, workers = share_out(runs, plan.runs[0].config.executor, plan.starts)
    return dataclasses.replace(plan, found={}, stacks=stacks, workers=workers)


def awaited_outcomes(plan: Plan, store: "Store", tags: Mapping[str, str], report: Report) -> Iterator[Outcome]:
    """The outcomes of a plan that another sweep trains, as they come. What it leaves undone is trained here."""
    left = {run.fingerprint: run for stack in plan.stacks for run in stack}
    updates_a_run = updates_to_make(plan) / len(left)
    is_told = False
    while left:
        began = time.monotonic()
        claimed, found = looked_at(store, list(left))
        for fingerprint, kept in found.items():
            yield found_outcome(left.pop(fingerprint), kept)
        report(round(updates_a_run * len(found)), ())
        free = [left.pop(fingerprint) for fingerprint in list(left) if fingerprint not in claimed]
        if free:
            yield from outcomes_of(only(plan, free), store, tags, report)
        elif left:
            if not is_told:
                what = f"{len(left)} of these runs" if len(plan.runs) > 1 else "this run"
                store.tell(f"Another sweep trains {what} at this moment: it is waited for.")
                is_told = True
            time.sleep(max(AWAIT_SECONDS, 10 * (time.monotonic() - began)))  # who trains needs the store, too


def looked_at(store: "Store", fingerprints: Sequence[str]) -> tuple[set[str], dict[str, "Kept"]]:
    """What others claim and have finished. A store that fails is asked again. Raises UserError after STORE_SECONDS."""
    deadline = time.monotonic() + STORE_SECONDS
    while True:
        try:
            return store.claimed(fingerprints)
        except UserError as error:
            if time.monotonic() > deadline:
                raise
            store.tell(f"{error} It is asked again.")
            time.sleep(5 * AWAIT_SECONDS)


def trained_outcomes(plan: Plan, store: "Store | None", tags: Mapping[str, str], report: Report) -> Iterator[Outcome]:
    """The outcomes of a plan's stacks, as they end."""
    tags_of = tags_for(plan.runs, tags)
    if store:
        store.keep_data(run for stack in plan.stacks for run in stack)

    def progress(updates: int) -> None:
        report(updates, ())

    def show(stack: Sequence[Run], glimpse: Glimpse) -> None:
        runs = {run.fingerprint: run for run in stack}
        if store:
            points = {one: curve_metrics(known) for one, known in glimpse.points.items()}
            store.grow(points, lambda one: make_head(runs[one], tags_of(runs[one])))

    with executor_of(plan, progress) as executor:
        for stack, future in train_stacks(executor, plan.stacks, progress, show if store else None, plan.starts):
            for outcome in stack_outcomes(stack, future, store, tags_of):
                progress(executor.news())  # workers train on while this process writes
                yield outcome


def executor_of(plan: Plan, progress: Progress) -> StackExecutor:
    """Who trains a plan's stacks. Raises UserError if it cannot be reached."""
    config = plan.runs[0].config.executor
    if plan.is_elsewhere:
        from pipeline.training.cluster import make_cluster

        return make_cluster(config)
    return make_executor(plan.workers, progress)


def stack_outcomes(
    stack: Sequence[Run],
    future: Future[list[Result]],
    store: "Store | None",
    tags_of: TagsOf,
) -> Iterator[Outcome]:
    """Writes the runs of a stack that has ended to the store, and yields the outcome of each.

    The future's list is emptied: it would hold the curves in memory while the next stack trains.
    """
    try:
        results = future.result()
    except (ArithmeticError, LookupError, OSError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, WorkerDiedError) else f"{type(error).__name__}: {error}"
        for run in stack:
            yield failed_outcome(run, store, tags_of(run), reason)
        return

    def record_of(place: int) -> Record:
        run = stack[place]
        return make_record(run, results[place], environment() | results[place].trained_on, tags_of(run))

    run_ids = store.write([run.fingerprint for run in stack], record_of) if store else {}
    for place, run in reversed(list(enumerate(stack))):
        result = results.pop()
        metrics = {key: value for key, value, _ in summary(result)}
        yield Outcome(run, TRAINED, run_ids.get(place), metrics, result.diverged_at is not None, result=result)


def found_outcome(run: Run, kept: "Kept") -> Outcome:
    """The outcome of a run that is FINISHED in the store."""
    return Outcome(run, FOUND, kept.run_id, kept.metrics, kept.diverged)


def failed_outcome(run: Run, store: "Store | None", tags: Mapping[str, str], reason: str) -> Outcome:
    """The outcome of a run whose stack raised an error; the store gets a FAILED run with the reason."""
    head = make_head(run, {**tags, "failure": redacted(reason)})
    run_id = store.write_failure(head) if store else None
    return Outcome(run, FAILED, run_id, reason=reason)


def tags_for(runs: Iterable[Run], sweep_tags: Mapping[str, str]) -> TagsOf:
    """What gives a run the tags that its sweep decides: the sweep's own, the colour, the command, the commit."""
    palette = colors([run.architecture for run in runs])

    def tags_of(run: Run) -> dict[str, str]:
        color = {"mlflow.runColor": palette[run.architecture]}
        return {**sweep_tags, **color, "command": run.command, **git_tags()}

    return tags_of


def git_tags() -> dict[str, str]:
    """The commit that trained a run and whether the checkout was changed, as tags."""
    git: dict[str, Any] = environment()["git"]
    return {"mlflow.source.git.commit": git["commit"], "git.dirty": git["dirty"]} if git else {}
