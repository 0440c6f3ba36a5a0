"""A sweep: plan, skip what is finished, train stacks, hand each result to the store as it comes, say how it went."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.environment import environment
from pipeline.executor import WorkerDiedError, make_executor, share_out, train_stacks
from pipeline.identity import Run
from pipeline.record import colors, make_record, params, summary
from pipeline.stack import Result

if TYPE_CHECKING:
    from pipeline.track import Kept, Store

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


@dataclass(frozen=True)
class Plan:
    """What a sweep will do: its distinct runs, those of them that are finished already, and the stacks to train.

    `workers` is the number of processes that train them; 0 is this process.
    """

    runs: list[Run]
    duplicates: int
    found: dict[str, "Kept"]
    stacks: list[list[Run]]
    workers: int = 0


Report = Callable[[int, Sequence[Outcome]], None]


class Finder(Protocol):
    """Who knows what is finished: the store, or one who only looks at it."""

    def finished(self, fingerprints: Sequence[str]) -> dict[str, "Kept"]:
        """The FINISHED runs that have one of the fingerprints, by fingerprint."""


def make_plan(runs: Iterable[Run], store: Finder | None, force: bool = False) -> Plan:
    """Drops exact duplicates, looks up what is finished (with `force`, nothing is), and groups the rest into stacks.

    The first run's config says who trains.
    """
    given = list(runs)
    distinct = list({run.fingerprint: run for run in reversed(given)}.values())[::-1]
    found = store.finished([run.fingerprint for run in distinct]) if store and not force else {}
    todo = [run for run in distinct if run.fingerprint not in found]
    stacks, workers = share_out(todo, distinct[0].config.executor)
    return Plan(distinct, len(given) - len(distinct), found, stacks, workers)


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
    palette = colors([run.architecture for run in plan.runs])

    def progress(updates: int) -> None:
        report(updates, ())

    with make_executor(plan.workers, progress) as executor:
        for stack, future in train_stacks(executor, plan.stacks, progress):
            for outcome in stack_outcomes(stack, future, store, tags, palette):
                progress(executor.news())  # workers train on while this process writes
                yield outcome


def stack_outcomes(
    stack: Sequence[Run],
    future: Future[list[Result]],
    store: "Store | None",
    tags: Mapping[str, str],
    palette: Mapping[str, str],
) -> Iterator[Outcome]:
    """Yields the outcome of each run of a stack that has ended when it is in the store, and empties the future's list.

    It would hold the curves in memory while the next stack trains.
    """
    try:
        results = future.result()
    except (ArithmeticError, LookupError, OSError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, WorkerDiedError) else f"{type(error).__name__}: {error}"
        for run in stack:
            yield failed_outcome(run, store, tags, reason)
        return
    results.reverse()
    for run in stack:
        result = results.pop()
        run_id = None
        if store:
            record = make_record(run, result, environment(), palette[run.architecture])
            written = {**tags, "command": run.command, **git_tags()}
            run_id = store.write(record, run.dataset, time.time(), result.seconds, written)
        metrics = {key: value for key, value, _ in summary(result)}
        yield Outcome(run, TRAINED, run_id, metrics, result.diverged_at is not None, result=result)


def found_outcome(run: Run, kept: "Kept") -> Outcome:
    """The outcome of a run that is FINISHED in the store."""
    return Outcome(run, FOUND, kept.run_id, kept.metrics, "diverged_at" in kept.tags)


def failed_outcome(run: Run, store: "Store | None", tags: Mapping[str, str], reason: str) -> Outcome:
    """The outcome of a run whose stack raised an error; the store gets a FAILED run with the reason."""
    about = {"fingerprint": run.fingerprint, "cell": run.cell, "failure": reason[:8000], "command": run.command}
    run_id = store.write_failure(run.name, params(run), {**tags, **about}) if store else None
    return Outcome(run, FAILED, run_id, reason=reason)


def git_tags() -> dict[str, str]:
    """The commit that trained a run and whether the checkout was changed, as tags."""
    git: dict[str, Any] = environment()["git"]
    return {"mlflow.source.git.commit": git["commit"], "git.dirty": git["dirty"]} if git else {}
