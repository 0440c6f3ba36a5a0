"""What `seedbed list` prints."""

import yaml
from rich.table import Table
from rich.text import Text

from pipeline.composing.experiment import data_files, experiment_files, opening, swept
from pipeline.terminal import print_table


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
