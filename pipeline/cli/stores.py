"""Verbs that keep stores: `sync`, `ui`, `server`, `prune`."""

import click

from pipeline.cli.group import cli


@cli.command()
@click.argument("words", nargs=-1)
def sync(words: tuple[str, ...]) -> None:
    """Send results that wait to their store.

    A store that fails in the middle of a sweep (its server is gone, its disk full) does not stop the training: what it
    cannot take is kept in a local folder, the outbox. This sends it; so does the next start on that store.

    WORDS: tracking.uri=URI for another store than MLFLOW_TRACKING_URI or sqlite:///mlflow.db.
    """
    from pipeline.verbs.stores import sync_store

    sync_store(words)


@cli.command()
@click.argument("words", nargs=-1)
@click.option("--port", type=click.IntRange(1, 65535), help="The port to listen on; else the first free one from 5000.")
def ui(words: tuple[str, ...], port: int | None) -> None:
    """Open the MLflow UI on the store.

    It is served to this machine only, until Ctrl-C.

    WORDS: tracking.uri=URI for another store than MLFLOW_TRACKING_URI or sqlite:///mlflow.db.
    """
    from pipeline.verbs.stores import serve_ui

    serve_ui(words, port)


@cli.command()
@click.option(
    "--folder", default="seedbed-server", show_default=True, help="Where it keeps everything; made if missing."
)
@click.option("--port", type=click.IntRange(1, 65535), help="The port to listen on; else the first free one from 5000.")
@click.option("--auth", is_flag=True, help="Ask for users and passwords (extra `auth`).")
def server(folder: str, port: int | None, auth: bool) -> None:
    """Run an MLflow server on PostgreSQL, on this machine.

    For stores that several machines share, or that outgrow a SQLite file. Makes a PostgreSQL of its own in the folder
    (the first time) and starts it and MLflow, reachable from this machine only, until Ctrl-C. The data stays.

    Then, in another terminal, here or through an ssh tunnel:
      seedbed sweep experiment=architectures tracking=server

    Needs PostgreSQL's programs and the extra `postgres`. docs/SERVER.md has other machines, passwords and backups.
    """
    from pipeline.verbs.stores import serve_store

    serve_store(folder, port, auth)


@cli.command()
@click.argument("words", nargs=-1)
@click.option("--delete", is_flag=True, help="Delete what is listed, for good; without it nothing is deleted.")
@click.option("--killed", is_flag=True, help="Also runs that were killed before they had a result.")
def prune(words: tuple[str, ...], delete: bool, killed: bool) -> None:
    """List what the store does not need, and delete it with --delete.

    That is: runs of Seedbed's that were deleted in MLflow (in its UI, say), which MLflow only marks; folders of runs
    that no row names, and folders of work that was cut off, both as a killed process leaves them, after an hour.
    Nothing of other tools.

    WORDS: tracking.uri=URI for another store than MLFLOW_TRACKING_URI or sqlite:///mlflow.db.

    For example:
      seedbed prune
      seedbed prune --delete
    """
    from pipeline.verbs.stores import prune_store

    prune_store(words, delete, killed)
