"""What `seedbed sync`, `ui`, `server` and `prune` do."""

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipeline.credentials import public_uri
from pipeline.errors import UserError
from pipeline.key_values import check_keys, key_values
from pipeline.terminal import print_table, say, short, warn


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
    from pipeline.servers.ports import HOST, on_free_port
    from pipeline.servers.ui import APP, FIRST_PORT, check_app, links, server
    from pipeline.store.reader import open_reader

    values = key_values(words)
    check_keys(values, ("tracking.uri",))
    reader = open_reader(values.get("tracking.uri"))
    uri = reader.uri
    if uri.startswith("http"):
        say(f"The store is a server: open {public_uri(uri)}")
        return
    check_app()
    say(f"Starting the MLflow UI on {reader.shown_uri} ...")
    with (
        until_ctrl_c(),
        on_free_port(partial(server, uri, options=["--app-name", APP]), port, FIRST_PORT) as (found, process),
    ):
        address = f"http://{HOST}:{found}"
        say(f"MLflow UI: {address}/#/experiments?workflowType=machine_learning")
        for name, link in links(reader, address).items():
            say(f"  {name}: {link}")
        say("Ctrl-C ends it.")
        while process.poll() is None:
            time.sleep(0.5)
        raise UserError(f"The MLflow server ended by itself (exit code {process.returncode}).")


def serve_store(folder: str, port: int | None, auth: bool) -> None:
    """Runs an MLflow server on PostgreSQL in a folder until Ctrl-C, and says how to use it."""
    from pipeline.servers.ports import HOST
    from pipeline.servers.postgres import USER
    from pipeline.servers.server import running
    from pipeline.servers.ui import FIRST_PORT

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
    from pipeline.store.reader import open_reader

    values = key_values(words)
    check_keys(values, ("tracking.uri",))
    reader = open_reader(values.get("tracking.uri"))
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
