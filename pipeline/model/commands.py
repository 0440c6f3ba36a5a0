"""What `seedbed register` does, and `register=true` at the end of a command: choose, register, say how to use it."""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.checks import check_model_name
from pipeline.compare.commands import texted
from pipeline.compare.links import short_path
from pipeline.compare.results import Selection, read_results
from pipeline.config import TrackingConfig
from pipeline.errors import UserError
from pipeline.key_values import check_keys, key_values
from pipeline.model.choose import Choice, best_run, named_run
from pipeline.model.folder import example
from pipeline.model.register import CHAMPION, Registered, register
from pipeline.store.address import DEFAULT_URI, store_uri
from pipeline.store.reader import Reader, open_reader
from pipeline.store.sinks import translated
from pipeline.terminal import say, warn

KEYS = ("sweep", "experiment", "run", "name", "metric", "tracking.uri")
PORT = 5001  # the UI likes 5000


def register_by_words(words: Sequence[str]) -> None:
    """Registers the run that the words choose."""
    values = key_values(words)
    check_keys(values, KEYS)
    if "run" in values and {"sweep", "experiment", "metric"} & values.keys():
        raise UserError("Choose by run= or by sweep=, experiment= and metric=, not both.")
    if "name" in values:
        check_model_name("name", values["name"])
    reader = open_reader(values.get("tracking.uri"))
    if "run" in values:
        choice = named_run(reader, values["run"])
    else:
        results = read_results(reader.uri, Selection(values.get("sweep"), values.get("experiment")))
        choice = best_run(results, texted(values, "metric"))
    register_and_tell(reader, choice, values.get("name"))


def register_best(tracking: TrackingConfig, sweep: str) -> None:
    """Registers the best run of a sweep, by its run id, where its config keeps runs."""
    reader = Reader(store_uri(tracking.uri))
    register_and_tell(reader, best_run(read_results(reader.uri, Selection(sweep=sweep))), tracking.experiment)


def register_named(tracking: TrackingConfig, run_id: str) -> None:
    """Registers a run, where its config keeps runs."""
    reader = Reader(store_uri(tracking.uri))
    register_and_tell(reader, named_run(reader, run_id), tracking.experiment)


def register_and_tell(reader: Reader, choice: Choice, name: str | None = None) -> None:
    """Registers a run under a name, else that of its MLflow experiment, and prints what came of it."""
    if choice.caution:
        warn(choice.caution)
    with translated(reader.uri):
        if name is None:
            name = experiment_of(reader, choice)
            check_model_name("name (the experiment's, as none is given)", name)
        made = register(reader.client, choice, name)
    tell(reader, choice, made)


def experiment_of(reader: Reader, choice: Choice) -> str:
    """The name of a run's MLflow experiment."""
    client = reader.client
    experiment_id = client.get_run(choice.kept.run_id).info.experiment_id
    return str(client.get_experiment(experiment_id).name)


def tell(reader: Reader, choice: Choice, made: Registered) -> None:
    """Prints what was registered, why this run, and how to predict with it."""
    was = "" if made.is_new else " (it was registered before: no new version)"
    say(f"Model {made.name}, version {made.version}, is the {CHAMPION}{was}.")
    say(f"It is run {choice.kept.run_id}, {choice.name}, of cell {choice.cell}: {choice.why}.")
    say("Try it:")
    activate = Path(sys.executable).with_name("activate")
    if shutil.which("uvicorn") is None and activate.is_file():  # which MLflow serves with, and looks for on the path
        say(f"  . {short_path(activate)}")
    reference = f"{made.name}@{CHAMPION}"
    row = example(choice.kept.dataset).iloc[:1].to_numpy().tolist()
    where = [] if is_usual(reader.uri) else [f"tracking.uri={reader.shown_uri}"]
    say(f"  {shlex.join(['seedbed', 'predict', f'model={reference}', f'rows={row}', *where])}")
    serve = ["mlflow", "models", "serve", "-m", f"models:/{reference}", "--env-manager", "local", "--port", str(PORT)]
    store = "" if is_usual(reader.uri) else f"MLFLOW_TRACKING_URI={shlex.quote(reader.shown_uri)} "
    say(f"  {store}{shlex.join(serve)}")


def is_usual(uri: str) -> bool:
    """True for the store that commands of MLflow's and Seedbed's take here when none is named."""
    return uri == os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_URI)
