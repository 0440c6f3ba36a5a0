"""docs/FINDINGS.md: the declared sentences with the numbers that were measured, which lie beside it as JSON."""

import json
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from pipeline.composing.experiment import experiment_files, opening
from pipeline.errors import UserError
from pipeline.findings.declared import Finding
from pipeline.findings.judge import Found
from pipeline.paths import PACKAGE

PAGE, FOLDER, MEASURED = "FINDINGS.md", "findings", "measured.json"
MINUTES = 5
LINE = 120  # characters


def measured_json(measured: Mapping[str, tuple[str, Found]]) -> bytes:
    """Dates and numbers of findings by name, as JSON; what is not a number is null."""
    content = {name: {"date": date, **asdict(found)} for name, (date, found) in sorted(measured.items())}
    return (json.dumps(plain(content), indent=1, ensure_ascii=False) + "\n").encode()


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_measured(folder: Path) -> dict[str, tuple[str, Found]]:
    """What was measured for the page of a folder, by name; empty if it has none. Raises UserError for another file."""
    file = folder / FOLDER / MEASURED
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {name: (values.pop("date"), found_of(values)) for name, values in content.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{file} is not what `seedbed findings --write` writes: delete it, and write it anew."
        ) from error


def found_of(values: dict[str, Any]) -> Found:
    """What was measured, from JSON."""
    for key in ("effect", "low", "high"):
        values[key] = math.nan if values[key] is None else values[key]
    values["arms"] = tuple(values["arms"])
    for key in ("medians", "diverged"):
        values[key] = tuple(math.nan if value is None else value for value in values[key])
    return Found(**values)


def page(findings: Sequence[Finding], measured: Mapping[str, tuple[str, Found]]) -> str:
    """The page of findings, all of which were measured."""
    template = (PACKAGE / "findings" / "page.md.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(keep_trailing_newline=True, undefined=jinja2.StrictUndefined)  # noqa: S701  # no HTML
    strong = sum(measured[finding.name][1].p < 0.001 for finding in findings)
    sections = [section(finding, *measured[finding.name]) for finding in findings]
    values = {"findings": sections, "count": len(findings), "strong": strong, "minutes": MINUTES}
    return environment.from_string(template).render(values)


def section(finding: Finding, date: str, found: Found) -> dict[str, str]:
    """What the page says of a finding."""
    command = opening(experiment_files()[finding.experiment])["Command"]
    return {
        "name": finding.name,
        "question": finding.question,
        "anchor": anchor(finding.question),
        "better": found.winner,
        "size": found.told.partition(": ")[2],
        "answer": filled(answer(finding, found)),
        "about": filled(f"One hears: {finding.heard} Measured on {date}: {found.told}."),
        "command": command,
    }


def filled(text: str) -> str:
    """A paragraph as lines of a page."""
    return textwrap.fill(text, LINE, break_long_words=False, break_on_hyphens=False)


def answer(finding: Finding, found: Found) -> str:
    """The answer with its numbers. Raises UserError if it has a place for what is not measured."""
    try:
        return finding.answer.format(**found.texts)
    except (KeyError, IndexError, ValueError) as error:
        known = ", ".join(found.texts)
        raise UserError(f"The answer of {finding.name} has a place {error}: the places are {known}.") from error


def anchor(heading: str) -> str:
    """Where a link to a heading leads."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
