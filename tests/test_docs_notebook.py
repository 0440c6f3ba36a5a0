"""docs/notebook.ipynb runs from the first cell to the last, prints what is stored in it, and names no place."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from tests.notebooks import NOTEBOOK, executed, texts


@pytest.mark.slow
def test_it_prints_what_is_stored() -> None:
    """If not: `python -m tests.notebooks` stores what it prints now."""
    stored = texts(nbformat.read(NOTEBOOK, as_version=4))  # type: ignore[no-untyped-call]
    assert texts(executed(NOTEBOOK)) == stored
    assert any("Fit 4 lr1 s0: half_sse 0.00047" in text for text in stored)


@pytest.mark.slow
def test_a_cell_that_fails_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"network\.hidden is \[0\], but it must be a list"):
        executed(with_cells(tmp_path, "from pipeline import fit\nfit([[0.0]], [1], hidden=[0])"))


@pytest.mark.slow
def test_progress_that_a_slow_machine_prints_is_no_difference_and_a_warning_is(tmp_path: Path) -> None:
    busy = "import pipeline.planning.console\npipeline.planning.console.LINE_EVERY = 0"
    train = "from pipeline import sweep\nprint(len(sweep([[0.0], [1.0]], [0, 1], seed=range(3), epochs=5)))"
    warn = "import sys\nprint('hidden is odd', file=sys.stderr)"
    assert texts(executed(with_cells(tmp_path, train))) == ["3\n"]
    assert texts(executed(with_cells(tmp_path, busy, train, warn))) == ["", "3\n", "hidden is odd\n"]


def with_cells(folder: Path, *sources: str) -> Path:
    """A notebook file like ours with other code cells."""
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"][: len(sources)]
    content["cells"] = [cell | {"source": source} for cell, source in zip(cells, sources, strict=True)]
    (folder / "other.ipynb").write_text(json.dumps(content))
    return folder / "other.ipynb"


def test_it_is_stored_with_outputs_and_names_no_place() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert {output.output_type for output in outputs} == {"stream", "display_data"}
    assert {output.name for output in outputs if output.output_type == "stream"} == {"stdout"}
    said = "".join(texts(notebook)) + json.dumps(notebook.metadata) + "".join(str(cell.metadata) for cell in code)
    assert not re.search(r"/(home|root|tmp|work|usr|Users)\b|[A-Z]:\\|localhost|127\.0\.0\.1", said)
    assert NOTEBOOK.stat().st_size < 150_000
