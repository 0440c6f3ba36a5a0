"""`fit` and `sweep`: the engine behind the command line for notebooks and scripts, with the same runs and bits."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import FailedRunsError
from pipeline.identity import Run, make_run
from pipeline.planning.plan import FAILED, Outcome
from pipeline.python.arrays import Given, given
from pipeline.python.fitted import Fit, Sweep
from pipeline.python.settings import SHORT, Configs, Values, combinations, named, of_section
from pipeline.session import SweepSession, ended, open_store, run_sweep
from pipeline.terminal import hushed
from pipeline.threads import one_thread

USUAL = {"tracking.experiment": None, "tracking.report": False}  # the data set's name; a report takes seconds


def fit(
    X: Any,
    y: Any = None,
    settings: Mapping[str, Any] | None = None,
    *,
    force: bool = False,
    progress: bool = True,
    **keys: Any,
) -> Fit:
    """Trains one network, and gives its curves, weights and predictions.

    X and y: numbers, (n, d) and (n,) or (n, k), which are `data.X` and `data.y` of the command line, with the
    tutorials' defaults: no scaling, a sigmoid as output, half the sum of squares. With `task="regression"` or
    `"classes"`, or labels of text as y, they are a table, with a table's defaults: standard scaling and the mean
    squared error, or softmax and cross-entropy. So is a frame, or a file (`"my.csv"`), with y its target's column, or
    the values. X alone may be a data set's name: `fit("happiness")`.

    Settings are the keys of a config: `hidden=[4]`, `learning_rate=0.5`, `epochs=1000`, `seed=0`, `bias=True`,
    `activation="relu"`, `init="he"`, `optimizer="adam"`, `batch_size=32`, `metrics=["mse"]`, `validation=0.2`,
    `patience=20`, `features=["hours", "slept"]`, ... or by their whole names, as `{"training.optimizer": "adam"}`.

    Nothing is kept, unless `tracking` says where (`"sqlite:///mlflow.db"`, an MLflow server's address); `experiment`
    names the MLflow experiment, else it is the data set's name (`name`). What is finished there is found, and trained
    again only with `force`. Raises UserError for what cannot be used, FailedRunsError if the training fails.
    """
    values = named(settings, keys)
    (run,), data = runs_of(X, y, [values])
    with contextlib.ExitStack() as stack:
        stack.enter_context(quietly(progress))
        store = open_store(run.config.tracking, stack, force)
        outcome = ended(run, store, force)
        if waiting := store.send() if store else 0:
            warnings.warn(f"{waiting} results wait for the store: `seedbed sync` sends them.", stacklevel=2)
    if outcome.status == FAILED:
        raise FailedRunsError(f"The run failed ({outcome.reason}).")
    return Fit(outcome, data[0].labels)


def sweep(
    X: Any,
    y: Any = None,
    settings: Mapping[str, Any] | None = None,
    *,
    force: bool = False,
    progress: bool = True,
    **keys: Any,
) -> Sweep:
    """Trains a network for every combination of the settings' values, in stacks, and compares them.

    What `fit` takes, but a setting may have several values: `seed=range(10)`, `learning_rate=[0.1, 0.5]`,
    `activation=["relu", "tanh"]`. A setting that is a list has several as a list of lists: `hidden=[[4], [8, 8]]`.

    The result is a sequence of Fits, with `cells`, `runs` (pandas frames) and `verdict`. Long sweeps train in worker
    processes (`executor="serial"` and `workers=2` choose). All curves and weights stay in memory: 8 bytes a point.
    A tracked sweep is one that `seedbed compare`, `report` and `reproduce` know; its report is drawn if `report=True`.
    Raises UserError for what cannot be used, before anything is trained.
    """
    values = named(settings, keys)
    runs, data = runs_of(X, y, combinations(values))
    sessions: dict[tuple[str, str, str], SweepSession] = {}
    with quietly(progress):
        try:
            run_sweep(runs, [], sessions, force, call_of("sweep", X, y, values))
        except FailedRunsError as error:  # results that wait for their store are here nevertheless
            warnings.warn(str(error), stacklevel=2)
        for session in sessions.values():
            if session.store:
                session.conclude()
    by_fingerprint = {key: outcome for session in sessions.values() for key, outcome in session.ended.items()}
    return in_order(runs, data, by_fingerprint)


def in_order(runs: Sequence[Run], data: Sequence[Given], outcomes: Mapping[str, Outcome]) -> Sweep:
    """The sweep's runs in the order asked for, each once; those that failed apart."""
    given_to = {run.fingerprint: one for run, one in zip(runs, data, strict=True)}
    found = {one: outcomes[one] for one in given_to if one in outcomes}
    fits = [Fit(one, given_to[key].labels) for key, one in found.items() if one.status != FAILED]
    failures = {one.run.command: one.reason for one in found.values() if one.status == FAILED}
    return Sweep(tuple(fits), failures)


@contextlib.contextmanager
def quietly(progress: bool) -> Iterator[None]:
    """In the block, nothing is printed but notes and, if asked for, progress; BLAS has one thread, as in a command."""
    with hushed(True, progress), one_thread():
        yield


def runs_of(X: Any, y: Any, combined: Sequence[Values]) -> tuple[list[Run], list[Given]]:
    """The runs of some combinations of settings, and the data of each. Raises UserError for the first unusable one."""
    configs, known = Configs(), dict[str, Given]()
    runs, data = [], []
    for values in combined:
        own = of_section("data", values)
        place = repr(own)
        if place not in known:
            known[place] = given(X, y, own)
        config = configs(known[place].config, {**USUAL, **values})
        run = make_run(config, dataset=known[place].dataset, call=call_of("fit", X, y, values))
        check_reach(run, values)
        runs.append(run)
        data.append(known[place])
    return runs, data


def check_reach(run: Run, values: Values) -> None:
    """Warns of targets that the output, if it was not chosen, never reaches."""
    config, y = run.config, run.dataset.y
    if config.data.kind != "rows" or "network.output_activation" in values or (y.min() >= 0 and y.max() <= 1):
        return
    warnings.warn(
        f"y goes from {y.min():g} to {y.max():g}, and a sigmoid, the usual output for arrays, from 0 to 1: give "
        "task='regression' (scaled, with the identity), or output_activation=.",
        stacklevel=4,
    )


def call_of(name: str, X: Any, y: Any, values: Values) -> str:
    """The call as text, to be kept with what it trained; without arrays, and where they are kept."""
    shorts = {key: short for short, key in SHORT.items()}
    X = str(X) if isinstance(X, Path) else X
    given = [repr(one) if isinstance(one, str | int) else word for word, one in (("X", X), ("y", y)) if one is not None]
    named = [f"{shorts.get(key, key)}={value!r}" for key, value in values.items() if not key.startswith("tracking.")]
    return f"{name}({', '.join([*given, *named])})"
