"""What the verbs other than train and sweep do: read their words, work, print."""

import contextlib
import itertools
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import yaml
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pipeline.checks import shown
from pipeline.composing.experiment import data_files, experiment_files, opening, swept
from pipeline.credentials import public_uri
from pipeline.errors import FailedRunsError, UserError
from pipeline.planning.console import Display, print_table, say, short, warn
from pipeline.verbs.published import (
    AGREES,
    DIFFERS,
    MISPRINT,
    Comparison,
    Figure,
    LongRun,
    compare_tutorial,
    tutorials,
    updates_needed,
)

if TYPE_CHECKING:
    from pipeline.results.predict import Predictor
    from pipeline.store.reader import Reader

QUANTILES = {"lowest": 0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "highest": 1}
TEXT_KEYS = ("run", "experiment", "tracking.uri", "sweep", "filter", "metric", "sort", "map", "model", "name")
PREDICTING = ("run", "experiment", "model")
PREDICT_KEYS = (*PREDICTING, "rows", "tracking.uri")


def key_values(words: Sequence[str]) -> dict[str, Any]:
    """`key=value` words, values other than names and addresses read as YAML. Raises UserError for any other word."""
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UserError(f"{shown(word)} is no key=value: see --help for the keys.")
        if key in values:
            raise UserError(f"{key} is given twice: give it once.")
        if not text:
            raise UserError(f"{key}= has no value: give it one, or leave the word out.")
        if key in TEXT_KEYS:
            values[key] = text
            continue
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"{shown(word)} cannot be read: write numbers, text or lists like [[0, 1]].") from error
    return values


def check_keys(values: dict[str, Any], known: Sequence[str]) -> None:
    """Raises UserError for a key that is not known."""
    for key in values:
        if key not in known:
            raise UserError(f"{key} is not a key here: the keys are {', '.join(known)}.")


def list_everything() -> None:
    """Prints the experiments and data sets, each with what its file says of itself."""
    table = listing("experiment=")
    for name, file in experiment_files().items():
        keys = swept(name)
        kind = "A sweep over " + ", ".join(key.rpartition(".")[2] for key in keys) if keys else "One run"
        table.add_row(name, Text(f"{sentence(opening(file).get('Question', ''))} {kind}."))
    print_table(table)
    table = listing("data=")
    for name, file in data_files().items():
        rows = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("X") or []
        size = f"{len(rows)} rows: " if rows else ""
        table.add_row(name, Text(size + opening(file).get("about", "")))
    print_table(table)


def sentence(text: str) -> str:
    """A text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def listing(title: str) -> Table:
    """An empty table of names and what they are, which stays legible in a narrow terminal."""
    table = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    return table


def print_published(names: Sequence[str]) -> None:
    """Compares the tutorials named (all if none is). Raises FailedRunsError if a figure that should agree does not."""
    known = tutorials()
    for name in names:
        if name not in known:
            raise UserError(f"There is no tutorial {shown(name)}: choose from {', '.join(known)}.")
    chosen = list(dict.fromkeys(names)) or list(known)
    with Display(0, sum(updates_needed(name) for name in chosen)) as display:
        comparisons = [compare_tutorial(name, lambda updates: display.report(updates, ())) for name in chosen]
    for comparison in comparisons:
        print_comparison(comparison)
    figures = [figure for comparison in comparisons for figure in comparison.figures]
    bad = [figure for figure in figures if figure.verdict == DIFFERS]
    printed = [figure.verdict for figure in figures if not figure.computed]
    computed = [figure.verdict for figure in figures if figure.computed]
    say(f"{count_of(AGREES, printed)} printed figures agree; {printed.count(MISPRINT)} are misprints of the text.")
    if computed:
        say(f"{count_of(AGREES, computed)} figures that no text prints agree with what was computed once.")
    if bad:
        named = "; ".join(f"{figure.where}, {figure.what}" for figure in bad)
        raise FailedRunsError(f"{len(bad)} figures differ from the printed ones: {named}.")


def count_of(verdict: str, verdicts: Sequence[str]) -> str:
    """`3 of 4`."""
    return f"{verdicts.count(verdict)} of {len(verdicts)}"


def print_comparison(comparison: Comparison) -> None:
    """Prints a tutorial's figures beside ours, what its text got wrong, and its long run."""
    for where, figures in itertools.groupby(comparison.figures, key=lambda figure: figure.where):
        table = Table(title=f"{comparison.tutorial}: {where}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("figure")
        for column in ("printed", "ours"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("verdict, digits that agree")
        for figure in figures:
            ours = f"{figure.ours:.{min(figure.digits + 2, 17)}g}"
            table.add_row(Text(figure.what), figure.printed, ours, Text(told_verdict(figure)))
        print_table(table)
    for remark in comparison.remarks:
        say(f"  - {remark}")
    if comparison.long_run:
        print_long_run(comparison.long_run)
    say("")


def told_verdict(figure: Figure) -> str:
    """A figure's verdict with how many digits agree, and why it is a misprint or not printed."""
    why = figure.misprint or figure.computed
    return f"{figure.verdict}, {figure.agreeing} of {figure.digits}" + (f": {why}" if why else "")


def print_long_run(run: LongRun) -> None:
    """Prints where the exam text's unseeded long run lies among seeded ones."""
    right = ", ".join(f"{value:.4f}" for value in run.row_scaled_right)
    table = Table(title=f"The run without a seed, among {len(run.mse)} seeds", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("after 100,000 updates")
    for column in ("mse\n(after 99,999)", "prediction of\n[0.5, 1.0], as printed", f"prediction of\n[{right}]"):
        table.add_column(column, justify="right", no_wrap=True)
    below = [f"{np.mean(run.mse < run.printed_mse):.0%}", f"{np.mean(run.as_in_the_text < run.printed_prediction):.0%}"]
    table.add_row("printed", f"{run.printed_mse:.9g}", f"{run.printed_prediction:.8f}", "")
    table.add_row("seeds below it", *below, "")
    for name, share in QUANTILES.items():
        values = [np.quantile(each, share) for each in (run.mse, run.as_in_the_text, run.scaled_right)]
        table.add_row(name, f"{values[0]:.3g}", f"{values[1]:.8f}", f"{values[2]:.8f}")
    print_table(table)
    stuck = run.mse[run.stuck]
    if len(stuck):
        say(f"  {len(stuck)} of {len(run.mse)} runs are stuck, at a median mse of {np.median(stuck):.3g}.")


def open_reader(values: Mapping[str, Any]) -> "Reader":
    """The store that `tracking.uri=` names, or the default one. Raises UserError if there is none."""
    from pipeline.store.address import store_uri
    from pipeline.store.reader import Reader

    reader = Reader(store_uri(values.get("tracking.uri")))
    if reader.moved:
        warn(reader.moved)
    return reader


def print_predictions(words: Sequence[str], file: str | None) -> None:
    """Predicts rows and prints them as CSV, with a warning on standard error for each that extrapolates."""
    from pipeline.results.predict import columns_of, extrapolations, inline_rows, named_row, prediction_csv, read_rows

    values = key_values(words)
    predictor = chosen_predictor(values)
    features, columns = predictor.features, columns_of(predictor.features)
    named = {key: value for key, value in values.items() if key not in PREDICT_KEYS}
    check_keys(named, (*PREDICT_KEYS, *columns))
    if (file is not None) + ("rows" in values) + bool(named) != 1:
        raise UserError(f"Say what to predict: --input FILE.csv, or rows=[[...]], or each of {', '.join(columns)}=.")
    if file is not None:
        names, rows = read_rows(Path(file), features, predictor.unused, predictor.fills)
    else:
        missing = [name for name in columns if name not in named]
        if named and missing:
            raise UserError(f"The row lacks {', '.join(missing)}: give each of {', '.join(columns)}.")
        rows = named_row(named, features) if named else inline_rows(values["rows"], features)
        names = [""] * len(rows)
    for warning in extrapolations(names, rows, predictor):
        click.echo(f"warning: {warning}", err=True)
    click.echo(prediction_csv(names, rows, predictor), nl=False)


def chosen_predictor(values: Mapping[str, Any]) -> "Predictor":
    """What predicts: the run, the best run of the experiment, or the registered model that the words name."""
    from pipeline.results.predict import run_predictor

    if sum(key in values for key in PREDICTING) != 1:
        raise UserError("Say which network predicts: run=RUN_ID, experiment=NAME or model=NAME@champion, one of them.")
    reader = open_reader(values)
    if "model" in values:
        from pipeline.model.load import registered_predictor

        return registered_predictor(reader, values["model"])
    return run_predictor(reader.run(values["run"]) if "run" in values else reader.best(values["experiment"]))


def sync_store(words: Sequence[str]) -> None:
    """Sends what waits for a store, and ends there what a process that is gone has left RUNNING."""
    from pipeline.store.address import check_scheme, store_uri
    from pipeline.store.outbox import Outbox
    from pipeline.store.sinks import open_sink, translated
    from pipeline.store.sync import send_waiting
    from pipeline.store.track import end_stale

    values = key_values(words)
    check_keys(values, ("tracking.uri",))
    uri = store_uri(values.get("tracking.uri"))
    check_scheme(uri)
    outbox = Outbox(uri)
    waiting = len(outbox.waiting())
    if not waiting:
        say(f"Nothing waits for {outbox.shown_uri}.")
        return
    say(f"{waiting} results wait for {outbox.shown_uri}.")
    with translated(uri):
        sink = open_sink(uri, warn)
        sent = send_waiting(sink, uri)
        end_stale(sink)
    say(f"{sent} are in it now." if sent else "Another process is sending them.")


def serve_ui(words: Sequence[str], port: int | None) -> None:
    """Serves the MLflow UI until Ctrl-C; for a store that is a server, says where it is."""
    from pipeline.servers.ui import HOST, free_port, links, server

    values = key_values(words)
    check_keys(values, ("tracking.uri",))
    reader = open_reader(values)
    uri = reader.uri
    if uri.startswith("http"):
        say(f"The store is a server: open {public_uri(uri)}")
        return
    port = free_port(port)
    address = f"http://{HOST}:{port}"
    say(f"Starting the MLflow UI on {reader.shown_uri} ...")
    with until_ctrl_c(), server(uri, port) as process:
        say(f"MLflow UI: {address}/#/experiments?workflowType=machine_learning")
        for name, link in links(reader, address).items():
            say(f"  {name}: {link}")
        say("Ctrl-C ends it.")
        while process.poll() is None:
            time.sleep(0.5)
        raise UserError(f"The MLflow server ended by itself (exit code {process.returncode}).")


def serve_store(folder: str, port: int | None, auth: bool) -> None:
    """Runs an MLflow server on PostgreSQL in a folder until Ctrl-C, and says how to use it."""
    from pipeline.servers.postgres import USER
    from pipeline.servers.server import running
    from pipeline.servers.ui import FIRST_PORT, HOST

    home = Path(folder).expanduser().absolute()
    say(f"Starting PostgreSQL and MLflow on {home} ...")
    with until_ctrl_c(), running(home, port, auth) as server:
        usual = server.address == f"http://{HOST}:{FIRST_PORT}"
        words = "tracking=server" if usual else f"tracking=server tracking.uri={server.address}"
        say(f"MLflow UI: {server.address}/#/experiments?workflowType=machine_learning")
        say(f"Train into it with {words}, for example: seedbed sweep experiment=architectures {words}")
        if auth:
            say(f"Users must log in: admin has the password in {home / 'admin-password'}.")
        say(f"PostgreSQL: port {server.database_port}, user {USER}, password in {home / 'pgpass'}.")
        say("Only this machine can reach it (docs/SERVER.md has the others). Ctrl-C ends it; the data stays.")
        while True:
            server.check()
            time.sleep(0.5)


@contextlib.contextmanager
def until_ctrl_c() -> Iterator[None]:
    """Ends the block by Ctrl-C, which a shell's background job ignores otherwise."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        say("ended")


def prune_store(words: Sequence[str], delete: bool, killed: bool) -> None:
    """Prints what the store does not need, and deletes it if that is asked for."""
    from pipeline.store import prune

    values = key_values(words)
    check_keys(values, ("tracking.uri",))
    reader = open_reader(values)
    found = prune.find_waste(reader.uri, reader.client, killed)
    if not found:
        say(f"Nothing to prune in {reader.shown_uri}.")
        return
    table = Table(title=f"What {reader.shown_uri} does not need", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("what")
    for column in ("runs", "folders or files", "size"):
        table.add_column(column, justify="right", no_wrap=True)
    for waste in found:
        table.add_row(waste.about, f"{len(waste.run_ids):,}", f"{len(waste.folders):,}", f"{short(waste.bytes)}B")
    print_table(table)
    if not delete:
        say("Nothing was deleted: `seedbed prune --delete` does it, for good.")
        return
    prune.delete(reader.uri, found)
    say("Deleted.")
