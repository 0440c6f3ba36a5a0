"""What `seedbed findings` does: runs each question's sweep, judges it, and says whether the answer still holds."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pipeline.application.words import start_hydra
from pipeline.checks import shown
from pipeline.compare.results import Selection, read_results
from pipeline.errors import FailedRunsError, UserError
from pipeline.findings.arms import Evidence, table_of
from pipeline.findings.declared import Finding, findings, named
from pipeline.findings.judge import Found, judge
from pipeline.findings.page import FOLDER, MEASURED, PAGE, measured_json, page, read_measured
from pipeline.findings.pictures import picture
from pipeline.findings.processes import BYTES_PER_ROW, processes
from pipeline.key_values import check_keys, key_values
from pipeline.store.address import store_uri
from pipeline.store.files import add_files
from pipeline.terminal import hushed, print_table, say

URI = "tracking.uri"


def check_findings(words: Sequence[str], folder: str | None) -> None:
    """Runs and judges the findings named, or all, and prints whether they are as declared.

    With a folder, writes its FINDINGS.md and their pictures. Raises FailedRunsError if a verdict is another one.
    """
    names = [word for word in words if "=" not in word]
    values = key_values([word for word in words if "=" in word])
    check_keys(values, (URI,))
    chosen = named(names)
    place = writable(folder)
    found: dict[str, Found] = {}
    for finding in chosen:
        say(f"{finding.name}: {finding.question}")
        evidence = evidence_of(finding, values)
        table = table_of(finding, evidence)
        found[finding.name] = judge(finding, evidence.runs, table)
        if place:
            add_files(place / FOLDER, {f"{finding.name}.svg": picture(finding, evidence, table)})
    print_found(chosen, found)
    if place:
        write(place, found)
    changed = [finding.name for finding in chosen if found[finding.name].verdict != finding.verdict]
    if changed:
        raise FailedRunsError(f"{len(changed)} of {len(chosen)} findings have another verdict: {', '.join(changed)}.")


def writable(folder: str | None) -> Path | None:
    """The folder to write to, if one is given. Raises UserError if there is none."""
    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"--write is {shown(folder)}, but it must be a folder that is there, like docs.")
    return None if folder is None else Path(folder)


def write(folder: Path, found: Mapping[str, Found]) -> None:
    """Writes the page of all findings that were measured, now or before, and what was measured."""
    today = datetime.date.today().isoformat()
    measured = read_measured(folder) | {name: (today, one) for name, one in found.items()}
    shown_ones = [finding for finding in findings().values() if finding.name in measured]
    measured = {finding.name: measured[finding.name] for finding in shown_ones}
    text = page(shown_ones, measured)
    add_files(folder / FOLDER, {MEASURED: measured_json(measured)})
    add_files(folder, {PAGE: text.encode()})
    say(f"Written: {folder / PAGE}")


def evidence_of(finding: Finding, values: Mapping[str, str]) -> Evidence:
    """The runs of a finding's sweep: those that the store lacks are trained. What takes time or memory is not kept."""
    if finding.metric == BYTES_PER_ROW:
        return Evidence(processes(finding.experiment))
    words = [f"experiment={finding.experiment}", "tracking.report=false"]
    with hushed(True):
        start_hydra(["--multirun", *words, *(f"{key}={value}" for key, value in values.items())])
    selection = Selection(sweep="latest", experiment=finding.experiment)
    results = read_results(store_uri(values.get(URI)), selection)
    return Evidence(results.runs, results)


def print_found(chosen: Sequence[Finding], found: dict[str, Found]) -> None:
    """Prints a row a finding: what was measured, its verdict, and whether that is the declared one."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("finding", "measured", "better", "as declared"):
        table.add_column(column)
    for finding in chosen:
        one = found[finding.name]
        same = "SAME" if one.verdict == finding.verdict else "DIFFERENT"
        table.add_row(*(Text(text) for text in (finding.name, one.told, one.winner, same)))
    print_table(table)
