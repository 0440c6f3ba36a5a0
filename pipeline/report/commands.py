"""What `seedbed report` does: reads its words, compares, draws, writes the page."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.checks import shown
from pipeline.compare.commands import COMPARING, SELECTING, compared
from pipeline.errors import UserError
from pipeline.key_values import check_keys, key_values
from pipeline.report.closing import keep_report
from pipeline.report.page import draw_best, report
from pipeline.store.address import store_uri
from pipeline.store.files import add_files, check_file_name
from pipeline.store.sinks import translated
from pipeline.terminal import counted, say


def write_report(words: Sequence[str], file: str) -> None:
    """Writes the report that the words ask for to a file and, if it is one of a sweep, to the sweep's run."""
    values = key_values(words)
    check_keys(values, (*SELECTING, *COMPARING))
    place = Path(file)
    check_place(place)
    results, found = compared(values)
    say(f"{results.title} in {results.shown_uri}: {counted(len(results.runs), 'run')}. Drawing ...")
    drawn = draw_best(results, found)
    page = report(results, found, drawn)
    try:
        add_files(place.absolute().parent, {place.name: page})
    except OSError as error:
        raise UserError(f"{place} cannot be written ({error.strerror}): name another file with --out.") from error
    say(found.verdicts.sentence)
    say(f"Report: {place}")
    if results.parent and found.is_default:
        with translated(store_uri(values.get("tracking.uri"))):
            keep_report(results.sink, results.parent.run_id, found, page, drawn)


def check_place(place: Path) -> None:
    """Raises UserError if a file can never be there, before anything is read for nothing."""
    if place.is_dir() or not place.absolute().parent.is_dir():
        raise UserError(f"--out is {shown(str(place))}, but it must be a file in a folder that is there.")
    if place.suffix.lower() not in ("", ".html", ".htm"):
        raise UserError(f"--out is {shown(str(place))}, but the report is a page: name a file that ends in .html.")
    try:
        check_file_name(place.name)
    except UserError as error:
        wrong = "a file's name may have none of \\ : * ? \" < > |"
        raise UserError(f"--out is {shown(str(place))}, but {wrong}.") from error
