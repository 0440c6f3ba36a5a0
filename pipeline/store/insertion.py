"""Puts many rows into a database fast: thousands a statement, and into PostgreSQL by COPY."""

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

T = TypeVar("T")
Row = tuple[Any, ...]  # in the order of its table's columns
Rows = dict[sa.TableClause, list[Row]]

MOST_VALUES = 30_000  # in a statement; SQLite takes 32,766
LONG = ("tags", "params", "metrics", "latest_metrics")  # the tables with most rows, whose keys begin with the run's id


def blocks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in blocks of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def insert(connection: sa.Connection, rows: Rows, unless: str = "") -> None:
    """Inserts rows, table by table, thousands of them a statement: a third less time than one by one in a batch.

    `unless` ends the statements, with what is to be done about rows that are there.
    """
    for into, values in rows.items():
        if into.name in LONG and not unless and connection.dialect.driver == "psycopg":
            copy(connection, into, values)
            continue
        for some in blocks(values, MOST_VALUES // len(into.c)):
            statement = insertion(into, type(connection.dialect), len(some))  # type: ignore[arg-type]  # odd __hash__
            connection.exec_driver_sql(statement + unless, tuple(itertools.chain.from_iterable(some)))


def copy(connection: sa.Connection, into: sa.TableClause, values: Iterable[Row]) -> None:
    """Inserts rows of new runs as PostgreSQL takes them fastest. Raises what SQLAlchemy would."""
    columns = ", ".join(f'"{column.name}"' for column in into.c)
    statement = f"COPY {into.name} ({columns}) FROM STDIN"
    try:
        with connection.connection.cursor().copy(statement) as rows:
            for row in values:
                rows.write_row(row)
    except connection.dialect.loaded_dbapi.Error as error:
        connection.invalidate(error)
        raise OperationalError(statement, None, error) from error


@functools.lru_cache(maxsize=64)
def insertion(into: Any, dialect: Any, count: int) -> str:
    """The statement that inserts so many rows, whose values come in the order of the table's columns."""
    placed = dialect() if dialect().positional else dialect(paramstyle="format")
    head, _, row = str(sa.insert(into).compile(dialect=placed)).partition(" VALUES ")
    return f"{head} VALUES {', '.join([row] * count)}"
