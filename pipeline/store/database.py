"""A store's database: looked at before MLflow opens it, made once and whole, kept quick.

MLflow is imported where it is used: it takes seconds.
"""

import atexit
import contextlib
import fcntl
import functools
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from pipeline.credentials import public_uri
from pipeline.errors import UserError
from pipeline.store.address import absolute, check_login, database_file, is_database, scheme_of

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from pipeline.store.api import MlflowClient

REVISION = "dc11669786a5"  # of the schema that MLflow 3.17 makes, with which all of this is tested
BUSY_MS = 20_000  # how long a connection waits for another's write, as MLflow has it
LOG_PAGES = 10_000  # of the write-ahead log, 40 MB, before it is folded in
SETTLE_SECONDS = 5.0
NETWORKS = ("9p", "afs", "beegfs", "ceph", "cifs", "fuse.", "gpfs", "lustre", "nfs", "smb", "virtiofs")
FILLED = "runs, metrics, latest_metrics, params, tags"  # the tables that a sweep fills


def prepare(uri: str) -> None:
    """Sees to it that a database has a store, whoever else starts at this moment; a server has its own already.

    Raises UserError for a database that lets nobody in, or that is not for this MLflow.
    """
    if scheme_of(uri) == "sqlite":
        file = database_file(uri)
        make_database(file)
        tune_connections(file)
    if is_database(uri) and not is_store(uri):
        with alone(uri):
            make_tables(absolute(uri), "mlruns")


def is_store(uri: str) -> bool:
    """False for a database that is not there or empty, True for a store that this MLflow can use, or a server.

    Raises UserError for another database. MLflow itself would put its tables there, or change those of an older one.
    """
    if not is_database(uri):
        return True
    if scheme_of(uri) == "sqlite" and not has_content(database_file(uri)):
        return False
    check_login(uri)
    tables, revision = looked_at(uri)
    if "experiments" not in tables or revision is None:
        if tables and scheme_of(uri) == "sqlite":
            raise UserError(f"{public_uri(uri)} is a database of something else: name another file with tracking.uri.")
        return False
    if revision != REVISION:
        check_revision(uri, revision)
    return True


def looked_at(uri: str) -> tuple[list[str], str | None]:
    """The names of a database's tables, and the revision of MLflow's schema if it has one."""
    from sqlalchemy import create_engine, inspect, text
    from sqlalchemy.exc import DatabaseError

    engine = create_engine(absolute(uri))
    try:
        tables = inspect(engine).get_table_names()
        if "alembic_version" not in tables:
            return tables, None
        with engine.connect() as connection:
            return tables, connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except DatabaseError as error:
        reason = str(error.orig or error).rstrip(".")
        raise UserError(f"The store {public_uri(uri)} cannot be used ({reason}): check tracking.uri.") from error
    finally:
        engine.dispose()


def check_revision(uri: str, revision: str) -> None:
    """Raises UserError unless `revision` is that of this MLflow's schema."""
    import mlflow
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    scripts = ScriptDirectory.from_config(_get_alembic_config(""))  # type: ignore[no-untyped-call]
    known = [script.revision for script in scripts.walk_revisions()]  # the newest first
    shown = public_uri(uri)
    if revision not in known:
        raise UserError(
            f"The store {shown} is of a newer MLflow than {mlflow.__version__} (it has schema {revision}): "
            "use that one, or name another store with tracking.uri."
        )
    if revision != known[0]:
        raise UserError(
            f"The store {shown} is of an older MLflow (it has schema {revision}, MLflow {mlflow.__version__} needs "
            f"{known[0]}): copy it, then `mlflow db upgrade {shown}` brings it up to date."
        )


def has_content(file: Path) -> bool:
    """True for a file that is there and not empty: SQLite, once it looks for a database, leaves an empty one."""
    return file.exists() and file.stat().st_size > 0


def make_database(file: Path) -> None:
    """Makes an empty store at `file` unless there is one; whole or not at all, and by one process.

    It is built in a folder beside its place and linked there: a process that ends in the middle of MLflow's migrations
    would leave a file that never opens again. What a killed process left is cleared away.
    """
    lock, folder = lock_of(file), file.with_name(f".seedbed-{file.name}")
    if not has_content(file):
        with locked(lock), emptied(folder):
            if not has_content(file):
                make_tables(f"sqlite:///{folder / file.name}", str(file.with_name("mlruns")))
                use_wal(folder / file.name)
                put(folder / file.name, file)
    elif lock.exists() or folder.exists():
        with contextlib.suppress(OSError), locked(lock), emptied(folder):
            pass


def make_tables(uri: str, artifacts: str) -> None:
    """Has MLflow make its tables, 2 s of work, unless they are there; `artifacts` is for its default experiment."""
    from pipeline.store.api import SqlAlchemyStore

    SqlAlchemyStore(uri, artifacts).engine.dispose()  # type: ignore[no-untyped-call]


def lock_of(file: Path) -> Path:
    """Who holds this file may make the database."""
    return file.with_name(f".{file.name}.lock")


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """The block runs in one process at a time; the others wait. A killed process holds nothing."""
    while True:
        with file.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_same(lock.fileno(), file):
                continue  # its last holder has removed it: somebody else may hold a new one
            try:
                yield
            finally:
                file.unlink(missing_ok=True)
            return


def is_same(descriptor: int, file: Path) -> bool:
    """True if an open file is still the one at this path."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def emptied(folder: Path) -> Iterator[None]:
    """A new folder for the block, in place of one that may be left there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put(built: Path, file: Path) -> None:
    """Puts a file that was built into its place, unless somebody has put one there."""
    try:
        os.link(built, file)
    except OSError:  # an empty file is there, or the file system has no hard links
        if not has_content(file):
            built.rename(file)


@contextlib.contextmanager
def alone(uri: str) -> Iterator[None]:
    """The block runs in one process at a time, for PostgreSQL on whatever machine: MLflow's migrations cannot race."""
    if scheme_of(uri) == "sqlite":
        with locked(lock_of(database_file(uri))):
            yield
    elif scheme_of(uri) == "postgresql":
        from sqlalchemy import create_engine, text

        engine = create_engine(uri)
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(hashtext('seedbed'))"))
            yield
        engine.dispose()  # which ends the connection, and with it the lock
    else:
        yield


def use_wal(file: Path) -> None:
    """Has readers and the writer of a SQLite file not wait for each other, where the file system allows it."""
    if not is_network(file):
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # kept in the file; SQLite leaves it where it cannot be


def is_network(file: Path, mounts: str = "/proc/self/mountinfo") -> bool:
    """True for a file on a network's file system, whose machines do not share the memory that WAL needs."""
    try:
        lines = Path(mounts).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not on Linux
        return False
    kinds = {}
    for line in lines:
        place, _, kind = line.partition(" - ")
        mount = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), place.split()[4])
        kinds[mount] = kind.split()[0]
    nearest = max((one for one in kinds if file.resolve().is_relative_to(one)), key=len, default="")
    return kinds.get(nearest, "").startswith(NETWORKS)


TUNED: set[Path] = set()  # the SQLite files whose connections are tuned
ENGINES: "WeakSet[Engine]" = WeakSet()  # who has made connections, MLflow's stores among them


def tune_connections(file: Path) -> None:
    """Has every further connection of this process to a SQLite file wait for others, and with WAL sync less often.

    A power cut may then take the last transactions, never the file's consistency; a killed process loses nothing.
    """
    TUNED.add(file.resolve())
    watch_connections()


@functools.cache
def watch_connections() -> None:
    """Tells SQLAlchemy, once a process, whom to call; what is open is closed when the process ends."""
    from sqlalchemy import Engine, event

    event.listen(Engine, "connect", tune)
    event.listen(Engine, "engine_connect", lambda connection: ENGINES.add(connection.engine))
    atexit.register(close_connections)


def tune(connection: Any, _: object) -> None:
    """Sets a new connection of SQLAlchemy's up, if it is one to a file of ours."""
    if isinstance(connection, sqlite3.Connection):
        place = connection.execute("PRAGMA database_list").fetchone()[2]
        if place and Path(place).resolve() in TUNED:
            connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            connection.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES}")
            if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
                connection.execute("PRAGMA synchronous=NORMAL")


def close_connections() -> None:
    """Closes what MLflow keeps open of our files; it opens anew. The last to close one removes its write-ahead log."""
    for engine in list(ENGINES):
        if Path(engine.url.database or "").resolve() in TUNED:
            engine.dispose()


def settle(uri: str) -> None:
    """After a sweep: statistics for the query planner (the UI's charts draw 30 times faster), and one whole file."""
    if scheme_of(uri) == "sqlite":
        close_connections()
        settle_file(database_file(uri))
    elif scheme_of(uri) == "postgresql":
        from sqlalchemy import create_engine, text
        from sqlalchemy.exc import SQLAlchemyError

        engine = create_engine(uri, isolation_level="AUTOCOMMIT")
        with contextlib.suppress(SQLAlchemyError), engine.connect() as connection:
            connection.execute(text(f"ANALYZE {FILLED}"))
        engine.dispose()


def settle_file(file: Path) -> None:
    """Analyzes a SQLite file and folds in its write-ahead log, so that a plain copy of it is whole."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(file, timeout=SETTLE_SECONDS)) as connection,
    ):
        connection.execute("PRAGMA analysis_limit=400")
        connection.execute("ANALYZE")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def made_experiment(client: "MlflowClient", name: str, location: str | None, tags: Mapping[str, str]) -> str:
    """The id of a new MLflow experiment, or of the one that another process has just made under this name."""
    from pipeline.store.api import MlflowException

    try:
        return str(client.create_experiment(name, location, dict(tags)))
    except MlflowException as error:
        found = client.get_experiment_by_name(name) if error.error_code == "RESOURCE_ALREADY_EXISTS" else None
        if found is None:
            raise
        return str(found.experiment_id)
