"""Runs a notebook in a fresh kernel. `python -m tests.notebooks` stores what docs/notebook.ipynb gives now."""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
PROGRESS = re.compile(r"(\d+%, \d+/\d+ runs.*\n)+")  # lines of a sweep that takes some seconds on a busy machine


def executed(file: Path) -> Any:
    """The notebook with the outputs of running all its cells in an empty folder, without progress.

    Raises what a cell raises.
    """
    notebook: Any = nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=600, resources=resources, record_timing=False)
        client.execute(env=os.environ | {"PYTHONPATH": path, "MPLBACKEND": "inline", "IPYTHONDIR": folder})
    notebook.metadata.language_info = {"name": "python"}  # without the version of Python
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not is_progress(output)]
    return notebook


def is_progress(output: Any) -> bool:
    """True for lines on standard error that say how far a sweep is, and nothing else."""
    return output.output_type == "stream" and output.name == "stderr" and bool(PROGRESS.fullmatch(output.text))


def texts(notebook: Any) -> list[str]:
    """What each code cell printed or showed as text."""
    return [
        "".join(shown_text(output) for output in cell.outputs) for cell in notebook.cells if cell.cell_type == "code"
    ]


def shown_text(output: Any) -> str:
    """The text of an output; none of a picture."""
    if output.output_type == "stream":
        return str(output.text)
    return "" if "image/png" in output.data else str(output.data["text/plain"])


if __name__ == "__main__":
    nbformat.write(executed(NOTEBOOK), NOTEBOOK)  # type: ignore[no-untyped-call]
