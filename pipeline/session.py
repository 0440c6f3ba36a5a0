"""One command's work: opens the store, makes the plan, runs it, and tells the user and the parent run how it went."""

import contextlib
import dataclasses
import itertools
import os
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.config import TrackingConfig
from pipeline.credentials import public_uri
from pipeline.data import unfitting_names
from pipeline.errors import FailedRunsError, UserError
from pipeline.identity import Run, is_secret, is_slow
from pipeline.planning.console import (
    MOST_PREDICTIONS,
    Display,
    print_end_of_plan,
    print_failures,
    print_plan,
    print_predictions,
    print_refused,
)
from pipeline.planning.plan import (
    FAILED,
    FOUND,
    PARENT,
    TRAINED,
    Outcome,
    Plan,
    execute,
    git_tags,
    make_plan,
    updates_to_make,
)
from pipeline.planning.preview import preview
from pipeline.planning.tally import parent_files, sweep_metrics
from pipeline.results.record import predictions
from pipeline.terminal import counted, say, warn

if TYPE_CHECKING:
    from pipeline.store.glance import Glance
    from pipeline.store.track import Store


def open_store(tracking: TrackingConfig, stack: contextlib.ExitStack, force: bool) -> "Store | None":
    """The store that a config asks for, until the end of `stack`, or None for `tracking=none`."""
    if tracking.uri is None:
        return None
    from pipeline.store.track import Store

    return stack.enter_context(Store(tracking, warn, force))


def run_one(run: Run, force: bool = False) -> Outcome:
    """Trains one run, or finds it finished (not with `force`), and prints its result. Raises FailedRunsError."""
    with contextlib.ExitStack() as stack:
        store = open_store(run.config.tracking, stack, force)
        outcome = ended(run, store, force)
        waiting = store.send() if store else 0
        print_run(outcome, store)
    if outcome.status == FAILED:
        raise FailedRunsError("The run failed.")
    check_sent(waiting, [run.config.tracking])
    if run.config.register and outcome.run_id:
        from pipeline.model.commands import register_named

        register_named(run.config.tracking, outcome.run_id)
    return outcome


def ended(run: Run, store: "Store | None", force: bool) -> Outcome:
    """How a single run ended, trained now or found finished (not with `force`)."""
    note_oddities([run])
    plan = planned([run], store, force)
    with Display(1, updates_to_make(plan)) as display:
        (outcome,) = execute(plan, store, {}, display.report, keep_results=True)
    return outcome


def run_sweep(
    runs: Sequence[Run],
    words: Sequence[str],
    sessions: dict[tuple[str, str, str], "SweepSession"] | None = None,
    force: bool = False,
    call: str = "",
) -> list[Outcome]:
    """Trains the runs of a sweep that are not finished yet, under one parent run for each MLflow experiment.

    With `force` it trains the finished ones too.

    `words` are the overrides the user gave; `sessions` are those of the sweep's earlier batches, and will be of this
    one too. A sweep from Python has a `call` in place of words. Returns an outcome for every distinct run; only those
    of such a call have results.
    """
    sessions = {} if sessions is None else sessions
    note_oddities(runs)
    groups = by_experiment(runs)
    outcomes: list[Outcome] = []
    waiting = 0
    with contextlib.ExitStack() as stack:
        stores = [open_store(group[0].config.tracking, stack, force) for group in groups]  # all, before any training
        for group, store in zip(groups, stores, strict=True):
            key = experiment_key(group[0])
            plan = planned(group, store, force)
            sessions[key] = SweepSession(store, plan, words, key[1], sessions.get(key), call=call)
            if not call:
                ENDED[key] = sessions[key]
            outcomes += sessions[key].run()
            waiting += store.send() if store else 0
    check_sent(waiting, [group[0].config.tracking for group in groups])
    return outcomes


ENDED: dict[tuple[str, str, str], "SweepSession"] = {}  # sweeps of this command that are not compared yet


@contextlib.contextmanager
def compared() -> Iterator[None]:
    """Compares the runs of the sweeps that the block has run, once: a sweeper may run batch after batch of one.

    Then registers the best, if that was asked for.
    """
    ENDED.clear()
    failure = None
    try:
        yield
    except FailedRunsError as error:
        failure = error
    for session in ENDED.values():
        if len(ENDED) > 1:
            say(f"Comparison of {session.name}:")
        session.conclude()
    for session in ENDED.values():
        session.register()
    if failure:
        raise failure


def check_sent(waiting: int, stores: Iterable[TrackingConfig]) -> None:
    """Raises FailedRunsError if results wait in the outbox: who looks into the store now does not find them."""
    if waiting:
        shown = ", ".join(dict.fromkeys(public_uri(tracking.uri) or "" for tracking in stores))
        raise FailedRunsError(
            f"{waiting} results wait for {shown}: `seedbed sync` or the next start there sends them, and nothing needs "
            "to be trained again."
        )


def show_plan(runs: Sequence[Run], refused: Sequence[tuple[str, str]] = (), force: bool = False) -> None:
    """Prints what a sweep of these runs would do, for each MLflow experiment, and makes nothing.

    `refused` are the words of jobs that cannot run, each with the reason. Raises UserError, behind the tables, if there
    are any: the sweep would refuse to start.
    """
    note_oddities(runs)
    groups = by_experiment(runs)
    glances = [glance(group[0].config.tracking) for group in groups]
    plans = [planned(*both, force) for both in zip(groups, glances, strict=True)]  # all, before any is measured
    previews = []
    for group, plan, seen in zip(groups, plans, glances, strict=True):
        tracking = group[0].config.tracking
        previews.append(preview(plan, tracking.uri, seen is None or seen.in_bulk))
        where = f"in {public_uri(tracking.uri)}" if tracking.uri else "without a store"
        print_plan(f"Plan of {tracking.experiment}, {where}", previews[-1])
    print_end_of_plan(previews)
    if refused:
        print_refused(refused)
        raise UserError(
            f"{len(refused)} of {len(runs) + len(refused)} combinations cannot run, and a sweep that has one trains "
            "none: change or leave out the values that are named."
        )


def glance(tracking: TrackingConfig) -> "Glance | None":
    """Who knows what is finished where a config's runs go, without making a store; None for `tracking=none`."""
    if tracking.uri is None:
        return None
    from pipeline.store.glance import Glance

    return Glance(tracking, warn)


def planned(runs: Sequence[Run], store: "Store | Glance | None", force: bool) -> Plan:
    """The plan of these runs; a note if nothing was found for them as the numerics code has changed."""
    plan = make_plan(runs, store, force)
    if store and not (plan.found or force) and (change := store.code_change(plan.runs[0])):
        warn(f"{change} Runs of before stay in the store; as other code may give other bits, they are not taken now.")
    return plan


def note_oddities(runs: Sequence[Run]) -> None:
    """Says, once each, which of a data set's names are not used as they do not fit its rows, and what will be slow."""
    notes = dict.fromkeys((note, run.config.data.name) for run in runs for note in unfitting_names(run.config.data))
    for note, _ in notes:
        warn(note)
    for name in dict.fromkeys(name for _, name in notes):
        warn(f"data.name is {name}, as of the data set whose rows are replaced: data.name=NAME tells them apart.")
    slow = {run.architecture for run in runs if is_slow(run)}
    if slow:
        warn(
            f"numerics=portable trains nets of this size ({', '.join(sorted(slow))}) several times slower than fast: "
            "numerics=auto takes fast for them, whose last bits depend on the machine."
        )


def by_experiment(runs: Iterable[Run]) -> list[list[Run]]:
    """The runs that go to the same MLflow experiment together."""
    return [list(group) for _, group in itertools.groupby(sorted(runs, key=experiment_key), key=experiment_key)]


def experiment_key(run: Run) -> tuple[str, str, str]:
    """Equal for runs that go to the same MLflow experiment."""
    tracking = run.config.tracking
    return tracking.uri or "", tracking.experiment or "", tracking.artifacts or ""


def in_plan_order(plan: Plan, outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes as the plan has their runs: they come as stacks end, which differs from time to time."""
    place = {run.fingerprint: i for i, run in enumerate(plan.runs)}
    return sorted(outcomes, key=lambda outcome: place[outcome.run.fingerprint])


class SweepSession:
    """A sweep in one MLflow experiment, from opening its parent run (if there is a store) to the final word."""

    def __init__(
        self,
        store: "Store | None",
        plan: Plan,
        words: Sequence[str],
        experiment: str,
        earlier: "SweepSession | None" = None,
        *,
        call: str = "",
    ) -> None:
        """Opens the parent run, or goes on with that of an earlier batch, and announces the plan."""
        self.store, self.plan = store, plan
        self.ended: dict[str, Outcome] = earlier.ended if earlier else {}
        self.name = f"{experiment} {time.strftime('%Y-%m-%d %H:%M:%S')}"
        self.question = question_of(words)
        self.call = call
        self.command = call or shlex.join(["seedbed", "sweep", *(word for word in words if not is_secret(word))])
        found = f", {len(plan.found)} of them finished already" if plan.found else ""
        found += f", {len(plan.starts)} go on from shorter ones" if plan.starts else ""
        by = f" in {plan.workers} processes" if plan.workers else ""
        by = " by workers elsewhere" if plan.is_elsewhere else by
        same = f" ({plan.duplicates} duplicates dropped)" if plan.duplicates else ""
        stacks = counted(len(plan.stacks), "stack")
        say(f"Sweep {experiment}: {len(plan.runs)} runs{same}{found}; {stacks} to train{by}.")
        self.run_id: str | None
        if earlier:
            self.name, self.run_id = earlier.name, earlier.run_id
            if store and self.run_id:
                store.reopen_sweep(self.run_id)
        else:
            self.run_id = store.open_sweep(self.name, self._params(experiment), self._tags()) if store else None

    def _params(self, experiment: str) -> dict[str, str]:
        counts = {"runs": len(self.plan.runs), "found": len(self.plan.found), "duplicates": self.plan.duplicates}
        return {f"sweep/{key}": str(value) for key, value in {"experiment": experiment, **counts}.items()}

    def _tags(self) -> dict[str, str]:
        return {"kind": "sweep", "command": self.command, **git_tags()}

    def run(self) -> list[Outcome]:
        """Runs the plan, closes the parent whatever happens, and prints the outcome."""
        tags = {"sweep": self.name, PARENT: self.run_id} if self.run_id else {}
        started = time.monotonic()
        outcomes: list[Outcome] = []
        status = "FAILED"
        try:
            with Display(len(self.plan.runs), updates_to_make(self.plan)) as display:
                outcomes.extend(execute(self.plan, self.store, tags, display.report, keep_results=bool(self.call)))
            status = "FAILED" if any(outcome.status == FAILED for outcome in outcomes) else "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            outcomes = in_plan_order(self.plan, outcomes)
            self._close(outcomes, status)
        self._print(outcomes, time.monotonic() - started)
        return outcomes

    def _close(self, outcomes: Sequence[Outcome], status: str) -> None:
        self.ended = {outcome.run.fingerprint: outcome for outcome in outcomes} | self.ended
        if self.store and self.run_id:
            outcomes = self.ended_in_store(self.store)
            status = "FAILED" if status == "FINISHED" and any(one.status == FAILED for one in outcomes) else status
            files = parent_files(self.plan, outcomes, self.command, self.question)
            note = f"{len(outcomes)} runs have ended: `seedbed compare sweep={self.run_id}` compares them."
            self.store.close_sweep(self.run_id, status, sweep_metrics(outcomes), files, note)

    def ended_in_store(self, store: "Store") -> list[Outcome]:
        """What has ended; what could not be written then is sent now, if that can be, and so gets its run id."""
        missing = [one.run.fingerprint for one in self.ended.values() if one.run_id is None]
        if missing and not store.send():
            for fingerprint, kept in store.finished(missing).items():
                self.ended[fingerprint] = dataclasses.replace(self.ended[fingerprint], run_id=kept.run_id)
        return list(self.ended.values())

    def _print(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        counts = {status: sum(outcome.status == status for outcome in outcomes) for status in (TRAINED, FOUND, FAILED)}
        if counts[TRAINED] + counts[FAILED] == 0:
            say("Nothing to train: every run is finished in the store.")
        print_failures(outcomes)
        told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        say(f"{len(outcomes)} runs: {told}, in {seconds:.1f} s.")
        if self.store and self.run_id and not self.store.waiting:
            say(f"Kept in {self.store.shown_uri}, experiment {self.store.experiment.name!r}, under run {self.run_id}.")

    def conclude(self) -> None:
        """Compares the runs, once all batches have ended; says where to look."""
        from pipeline.compare.links import KeptSweep
        from pipeline.report.earlier import holds

        outcomes, with_report, kept = list(self.ended.values()), self.plan.runs[0].config.tracking.report, None
        if self.store and self.run_id and not self.store.waiting:
            where = self.store.uri, self.store.experiment, self.run_id
            kept = KeptSweep(*where, self.name, self.command, self.question)
        if kept is None or not holds(outcomes, kept, with_report):
            from pipeline.report.closing import conclude  # with scipy and pandas, which takes a second

            conclude(outcomes, with_report, kept)
        if self.store and kept:
            say(f"Look at them: {ui_command(self.store.uri)}")

    def register(self) -> None:
        """Makes a model of the best run, if the sweep is to. Raises UserError if there is none to take."""
        config = self.plan.runs[0].config
        if not (config.register and self.store and self.run_id) or all(
            one.status == FAILED for one in self.ended.values()
        ):
            return
        if self.store.waiting:
            warn(f"No model is registered, as results wait: `seedbed register sweep={self.run_id}` does it later.")
            return
        from pipeline.model.commands import register_best

        register_best(config.tracking, self.run_id)


def question_of(words: Sequence[str]) -> str:
    """What the sweep's experiment file asks; empty without one."""
    chosen = dict(word.partition("=")[::2] for word in words).get("experiment", "")
    if not chosen:
        return ""
    from pipeline.composing.experiment import experiment_files, opening

    return opening(experiment_files()[chosen]).get("Question", "") if chosen in experiment_files() else ""


def ui_command(uri: str) -> str:
    """How to open the UI on this store; an address that may hold a password is not repeated."""
    if uri == os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"):
        return "seedbed ui"
    return f"seedbed ui tracking.uri={uri if public_uri(uri) == uri else '...'}"


def told_loss(run: Run, metrics: Mapping[str, float]) -> str:
    """The final loss in words, and the lowest where that is another."""
    if "result/final_loss" not in metrics:
        return "no finite loss"
    final = metrics["result/final_loss"]
    lowest = "" if (best := metrics["result/best_loss"]) == final else f" (lowest {best:.6g})"
    return f"{run.config.training.loss} {final:.6g}{lowest}"


def print_run(outcome: Outcome, store: "Store | None") -> None:
    """Prints how a single run ended."""
    run, metrics = outcome.run, outcome.metrics
    if outcome.status == FAILED:
        print_failures([outcome])
        return
    if outcome.status == FOUND and store and outcome.run_id:
        say(f"Nothing to train: this run is finished in the store, as run {outcome.run_id}.")
        print_predictions(*store.table(outcome.run_id, "predictions.json"), len(run.dataset.X))
    if outcome.result:
        print_predictions(*predictions(run, outcome.result, MOST_PREDICTIONS), len(run.dataset.X))
        if outcome.result.diverged_at is not None:
            say(f"The run diverged: after {outcome.result.diverged_at} updates a number was not finite any more.")
    say(f"{run.name}: {told_loss(run, metrics)} after {metrics['result/updates']:.0f} updates.")
    if store and outcome.run_id:
        say(f"Kept in {store.shown_uri}, experiment {store.experiment.name!r}, as run {outcome.run_id}.")
