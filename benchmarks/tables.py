"""What all tables of the benchmark share."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table


def table(title: str, first: str, columns: Sequence[str]) -> Table:
    """A table whose first column is text and whose others are numbers."""
    made = Table(title=title, box=SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    made.add_column(first, no_wrap=True)
    for column in columns:
        made.add_column(column, justify="right")
    return made


def short(value: float) -> str:
    """Three digits, without powers of ten."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"
