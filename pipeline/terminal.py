"""What all commands print with: results on standard output, notes on standard error; numbers and times for people."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

WIDE = 160  # where output is no terminal, tables are not squeezed
MOST_WIDE = 10_000

QUIET: ContextVar[bool] = ContextVar("QUIET", default=False)  # whether results are not printed, in this thread
SHOWN: ContextVar[bool] = ContextVar("SHOWN", default=True)  # whether progress is


class Output(Console):
    """Standard output, on which nothing is printed in a thread that is to be quiet."""

    def print(self, *objects: Any, **how: Any) -> None:
        """Prints as rich does."""
        if not QUIET.get():
            super().print(*objects, **how)


def console(stderr: bool) -> Console:
    """Standard output or error; tables are never squeezed where there is no terminal."""
    kind = Console if stderr else Output
    plain = kind(stderr=stderr, highlight=False, soft_wrap=True)
    return plain if plain.is_terminal else kind(stderr=stderr, highlight=False, soft_wrap=True, width=WIDE)


out, err = console(stderr=False), console(stderr=True)


@contextlib.contextmanager
def hushed(quiet: bool, progress: bool = False) -> Iterator[None]:
    """In the block, if `quiet`, no results are printed, and progress only if asked for; notes and errors are."""
    quieted, shown = QUIET.set(quiet), SHOWN.set(progress or not quiet)
    try:
        yield
    finally:
        QUIET.reset(quieted)
        SHOWN.reset(shown)


def say(text: str) -> None:
    """Prints a line of results; `text` is not markup."""
    out.print(Text(text))


def warn(text: str) -> None:
    """Prints a note on standard error."""
    err.print(Text(f"note: {text}"))


def print_table(table: Table) -> None:
    """Prints a table. A terminal that has no room for its figures breaks its lines, and cuts no number short."""
    for column in table.columns:
        if column.no_wrap:
            column.min_width = max(widest(cell) for cell in (column.header, *column.cells))
    needed = Measurement.get(out, out.options.update(max_width=MOST_WIDE), table).minimum
    table.width = needed if needed > out.width else None
    out.print(table)


def widest(cell: object) -> int:
    """The characters of a cell's longest line."""
    return max(map(cell_len, str(cell).split("\n")))


def counted(number: int, noun: str, plural: str = "s") -> str:
    """`1 stack`, `2 stacks`."""
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def duration(seconds: float) -> str:
    """A time for people: `0.4 s`, `12 s`, `3 min 20 s`, `1 h 5 min`, `2 d 3 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, less, lesser in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // less
            return f"{whole // size} {unit} {rest} {lesser}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def short(number: float) -> str:
    """A large number in at most five characters and a letter: `950`, `12.3 k`, `1.2 M`."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
