"""A sweep: plan, skip what is finished, train stacks, hand each result to the store as it comes, say how it went."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.continuing import Starts
from pipeline.credentials import redacted
from pipeline.environment import environment
from pipeline.executor import WorkerDiedError, make_executor, share_out, train_stacks
from pipeline.identity import Run
from pipeline.points import Glimpse
from pipeline.record import Record, colors, curve_metrics, make_head, make_record, summary
from pipeline.stack import Result

if TYPE_CHECKING:
    from pipeline.sink import Kept
    from pipeline.track import Store

TRAINED, FOUND, FAILED = "trained", "found finished", "failed"


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
    """The outcomes behind `execute`."""
    for run in plan.runs:
        if run.fingerprint in plan.found:
            yield found_outcome(run, plan.found[run.fingerprint])
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

    with make_executor(plan.workers, progress) as executor:
        for stack, future in train_stacks(executor, plan.stacks, progress, show if store else None, plan.starts):
            for outcome in stack_outcomes(stack, future, store, tags_of):
                progress(executor.news())  # workers train on while this process writes
                yield outcome


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
        return make_record(run, results[place], environment(), tags_of(run))

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
