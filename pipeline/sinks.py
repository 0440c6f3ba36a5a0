"""Which sink an address gets, and one sentence for whatever goes wrong behind it."""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from http.client import responses

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from pipeline.address import absolute, check_uri, first_cause, is_database
from pipeline.bulk import BulkSink, is_known
from pipeline.credentials import public_uri, redacted
from pipeline.database import is_store, prepare
from pipeline.errors import UserError
from pipeline.sink import Sink

CLIENT_THREADS = 4  # runs written at a time over HTTP
ANSWERED = re.compile(r"error code (\d{3}) != 200(?:\. Response body: '([^\n]*)')?")  # not with MLflow's own JSON
FOREIGN_HOST = "Invalid Host header"  # how MLflow's server refuses a name that it was not told to answer for


Tell = Callable[[str], None]


def open_sink(uri: str, tell: Tell) -> Sink:
    """The sink of a store, which is made if it is a database that has none yet; `tell` takes notes for the user.

    Raises UserError if that cannot be.
    """
    check_uri(uri)
    with translated(uri):
        prepare(uri)
        return sink_of(uri, tell)


def existing_sink(uri: str, tell: Tell) -> Sink | None:
    """The sink of a store that is there; None for a database that has no tables of MLflow. Makes nothing."""
    check_uri(uri)
    with translated(uri):
        return sink_of(uri, tell) if is_store(uri) else None


def sink_of(uri: str, tell: Tell) -> Sink:
    """The bulk sink for a database with the tables of the tested MLflow; blocks for a server that takes them.

    Else MLflow's client.
    """
    if is_database(uri):
        engine = create_engine(absolute(uri))
        if is_known(engine):
            return BulkSink(engine)
        engine.dispose()
        tell(
            f"The tables in {public_uri(uri)} are not those of the MLflow that this Seedbed was tested with, so runs "
            "are written by MLflow's own client, which is slower."
        )
    from pipeline.block import BlockSink, has_route
    from pipeline.client import ClientSink

    if is_database(uri):
        return ClientSink(absolute(uri), 1)
    return (BlockSink if has_route(uri) else ClientSink)(uri, CLIENT_THREADS)


@contextlib.contextmanager
def translated(uri: str, about: str = "") -> Iterator[None]:
    """Turns what MLflow, the database or the file system raise into a UserError; `about` is what was asked for."""
    try:
        yield
    except Exception as error:
        if not is_trouble(error):
            raise
        shown, reason = public_uri(uri), reason_of(error, uri)
        if about:
            raise UserError(f"{about} cannot be read from {shown} ({reason}).") from error
        raise UserError(f"The store {shown} cannot be used ({reason}): {remedy(error)}.") from error


def remedy(error: Exception) -> str:
    """What a user can do about a store's error."""
    told = ANSWERED.search(str(error))
    code = int(told[1]) if told else getattr(error, "get_http_status_code", lambda: 0)()
    if code == 401:
        return "log in with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if code == 403 and FOREIGN_HOST in str(error):
        return "ask the server by a name that its MLFLOW_SERVER_ALLOWED_HOSTS has"
    if code == 403:
        return "choose another tracking.experiment, or have its owner give you access"
    return "check tracking.uri"


def reason_of(error: Exception, uri: str) -> str:
    """Why a store failed, in a few of its own words, without what is secret in its address."""
    said = str(getattr(error, "orig", None) or error)
    if isinstance(error.__context__, OSError):  # of a request that failed MLflow tells all but the cause
        said = first_cause(error)
    elif told := ANSWERED.search(said):
        said = answer(int(told[1]), told[2] or "")
    said = redacted(said.replace(uri, public_uri(uri) or ""))
    return first_sentence(said) or type(error).__name__


def answer(code: int, body: str) -> str:
    """An HTTP answer in a few words: its status, and the first sentence of a body that is not a page."""
    page = body.lstrip().startswith("<")
    said = "" if page or not body else f": {body.partition('. ')[0]}"
    return f"{code} {responses.get(code, '')}".rstrip() + said


def is_trouble(error: Exception) -> bool:
    """True for what a store raises, a database driver that is not installed among it; else it is an error of ours."""
    if isinstance(error, SQLAlchemyError | OSError | ImportError):
        return True
    exceptions = sys.modules.get("mlflow.exceptions")  # asked only where MLflow was imported
    return exceptions is not None and isinstance(error, exceptions.MlflowException)


def first_sentence(text: str) -> str:
    """The first line of a library's message, without its full stop, at most 200 characters."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line[:200].rstrip(".: ")
