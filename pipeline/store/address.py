"""Addresses of stores: what they may be, and whether anyone answers there.

It is asked before MLflow is, whose own tries go on for minutes where a server is down.
"""

import os
import re
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.checks import wrong_value
from pipeline.credentials import public_uri
from pipeline.errors import UserError

PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
DATABASES = ("sqlite", *PORTS)
SCHEMES = (*DATABASES, "http", "https")
DEFAULT_URI = "sqlite:///mlflow.db"
PROBE_SECONDS = 10.0  # a server that serves others, or a busy machine, may need some
NOBODY_BEHIND = (502, 503, 504)  # what a proxy answers whose server is down; MLflow would try again for minutes
TLS_ONLY = 400  # what a server answers to plain HTTP where it expects TLS; MLflow's /health never does
CERTIFICATE = "MLFLOW_TRACKING_SERVER_CERT_PATH"
NAMED_USER = re.compile(r"""\b(user|role) (["'])[^"']*\2(@(["'])[^"']*\4)?""")


def store_uri(given: str | None) -> str:
    """The store's address: as given, else MLFLOW_TRACKING_URI, else mlflow.db in the working directory."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def scheme_of(uri: str) -> str:
    """The kind of store an address names, without its driver: `sqlite`, `postgresql`, `http`, ..."""
    return uri.split(":", 1)[0].split("+", 1)[0]


def is_database(uri: str) -> bool:
    """True for an address that SQLAlchemy opens, False for a server."""
    return scheme_of(uri) in DATABASES


def check_scheme(uri: str) -> None:
    """Raises UserError for an address of a kind that no store has."""
    if "://" not in uri or scheme_of(uri) not in SCHEMES:
        raise UserError(wrong_value("tracking.uri", public_uri(uri)))


def check_uri(uri: str) -> None:
    """Raises UserError for an address that no store can be at, or where no server answers (within `PROBE_SECONDS`)."""
    check_scheme(uri)
    scheme = scheme_of(uri)
    if scheme == "sqlite":
        check_file(uri)
        return
    if scheme in PORTS:
        probe = check_port
    else:
        import requests  # noqa: F401  # before the time runs: a busy machine takes seconds to import it

        probe = check_health
    try:
        in_time(lambda: probe(uri))
    except ValueError as error:  # its text may have a part of the password, taken for a port
        raise UserError(wrong_value("tracking.uri", public_uri(uri))) from error
    except OSError as error:
        raise UserError(unreachable(uri, error)) from error


def unreachable(uri: str, error: OSError) -> str:
    """What to tell of a server that could not be asked: it may be there, but not be trusted, or not speak TLS."""
    cause, shown = first(error), public_uri(uri)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"The certificate of {shown} is not trusted ({cause.verify_message}): name a file with its CA's "
            f"certificate in {CERTIFICATE}, or write the name that it was made for."
        )
    if isinstance(cause, ssl.SSLError):
        return f"The server at {shown} does not speak TLS as we do ({cause.reason}): write http:// if it has none."
    return f"No server answers at {shown} ({first_cause(error)}): start it, or change tracking.uri."


def check_file(uri: str) -> None:
    """Raises UserError for a SQLite address that names no file, or one that cannot be."""
    if not uri.startswith(("sqlite://", "sqlite+pysqlite://")):
        raise UserError(wrong_value("tracking.uri", uri))
    file = database_file(uri)
    if not file.parent.is_dir():
        raise UserError(f"tracking.uri is {uri}, but the folder {file.parent} does not exist: make it first.")
    if file.is_dir():
        raise UserError(f"tracking.uri is {uri}, but {file} is a folder: name a database file.")


def check_port(uri: str) -> None:
    """Raises OSError or ValueError unless a database server takes connections; one without a host is not asked."""
    parts = urlsplit(uri)
    if parts.hostname:
        socket.create_connection((parts.hostname, parts.port or PORTS[scheme_of(uri)]), PROBE_SECONDS).close()


def check_health(uri: str) -> None:
    """Raises OSError or ValueError unless a server answers over HTTP, whatever it says: it may want a password.

    Raises UserError if it wants TLS, or the file of certificates to trust does not exist.
    """
    import requests  # as MLflow does it: with its proxies and certificates

    insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")
    certificate = os.environ.get(CERTIFICATE)
    if certificate and scheme_of(uri) == "https" and not Path(certificate).exists():
        raise UserError(f"{CERTIFICATE} is {certificate}, which does not exist: name a file with the CA's certificate.")
    verify = certificate or not insecure
    with requests.get(f"{uri.rstrip('/')}/health", timeout=PROBE_SECONDS, verify=verify, stream=True) as answer:
        if answer.status_code in NOBODY_BEHIND:
            raise OSError(f"{answer.status_code} {answer.reason}")
        if answer.status_code == TLS_ONLY and scheme_of(uri) == "http":
            raise UserError(f"The server at {public_uri(uri)} wants TLS: write https:// in tracking.uri.")


def check_login(uri: str) -> None:
    """Raises UserError unless a database server (other addresses are not asked) lets the user into the database."""
    if scheme_of(uri) not in PORTS:
        return
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = create_engine(uri)  # before the time runs: it imports the driver

        def log_in() -> None:
            try:
                engine.connect().close()
            finally:
                engine.dispose()

        in_time(log_in)
    except ValueError as error:
        raise UserError(wrong_value("tracking.uri", public_uri(uri))) from error
    except (SQLAlchemyError, OSError, ImportError) as error:
        raise UserError(
            f"The store {public_uri(uri)} cannot be used ({login_reason(error)}): check tracking.uri."
        ) from error


def login_reason(error: Exception) -> str:
    """Why a database server refused, in its own words (the last thing it said), without the user's name."""
    text = str(getattr(error, "orig", None) or error)
    said = re.split(r"\b(?:FATAL|ERROR): +", text)[-1]
    line = next((line.strip() for line in said.splitlines() if line.strip()), type(error).__name__)
    return NAMED_USER.sub(r"\1", line)[:200].rstrip(".: ")


def in_time(probe: Callable[[], None], seconds: float = PROBE_SECONDS) -> None:
    """Calls `probe`, passes on what it raises, and raises TimeoutError if it takes longer.

    It runs in a thread: neither a name server nor a driver keeps to a time that one could set.
    """
    raised: list[BaseException] = []

    def call() -> None:
        try:
            probe()
        except BaseException as error:  # noqa: BLE001  # raised again by the thread that waits
            raised.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    is_late = thread.is_alive()  # asked first: it may end, and have raised, between the two questions
    if raised:
        raise raised[0]
    if is_late:
        raise TimeoutError(f"no answer within {seconds:.0f} s")


def first(error: BaseException) -> BaseException:
    """The exception that an exception was raised for in the first place."""
    while below := error.__cause__ or error.__context__:
        error = below
    return error


def first_cause(error: BaseException) -> str:
    """What an exception was raised for in the first place, in words."""
    error = first(error)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def absolute(uri: str) -> str:
    """The same address with a SQLite file's full path: MLflow remembers stores by address, not by folder."""
    return f"{uri.split(':', 1)[0]}:///{database_file(uri)}" if uri.startswith("sqlite") else uri


def database_file(uri: str) -> Path:
    """The absolute path of a SQLite URI's file. Raises UserError if the URI names none."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        name = make_url(uri).database
    except ArgumentError as error:
        raise UserError(f"tracking.uri is {uri}, but it must be like sqlite:///mlflow.db.") from error
    if not name or name == ":memory:":
        raise UserError(f"tracking.uri is {uri}, which keeps nothing: name a file, like sqlite:///mlflow.db.")
    file = Path(name).absolute()
    if "?" in str(file) or unquote(str(file)) != str(file):
        raise UserError(
            f"The database file {file} has a ? or a % code in its path, which no address can have: move it elsewhere."
        )
    return file
