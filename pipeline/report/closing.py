"""What a sweep leaves behind for people: its comparison as files of the parent run, Views, notes and the report."""

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from pipeline.compare.comparison import Comparison, compare
from pipeline.compare.frame import frame_of
from pipeline.compare.links import REPORT, KeptSweep, print_links, run_link
from pipeline.compare.results import Selection, select
from pipeline.compare.tables import print_cells
from pipeline.compare.wording import short_keys
from pipeline.errors import UserError
from pipeline.planning.plan import FAILED, FOUND, Outcome
from pipeline.report.earlier import Left, digest_of, leave
from pipeline.report.views import MLFLOW, MOST_DRAWN, View, is_known, link, tags_of, views_of
from pipeline.results.record import table
from pipeline.store.sink import Change, Sink
from pipeline.store.sinks import existing_sink, translated
from pipeline.terminal import say, warn

if TYPE_CHECKING:
    from pipeline.report.page import Drawn  # with matplotlib

NOTE = "mlflow.note.content"
TABLES = ("cells.json", "against_best.json", "effects.json", "runs.json", "failures.json", "diverged.json")
MOST_CELLS = 10


def conclude(outcomes: Sequence[Outcome], with_report: bool, parent: KeptSweep | None) -> None:
    """Compares the runs of a sweep that has ended, prints what came out, and keeps it with the sweep's parent run.

    What cannot be written is told, and no harm: it can be made again from the runs.
    """
    ended = [outcome for outcome in outcomes if outcome.status != FAILED]
    if not ended:
        return
    found = compare(frame_of(ended))
    print_cells(found, found.cells, MOST_CELLS)
    say(found.verdicts.sentence)
    if parent is None:
        return
    try:
        with translated(parent.uri):
            pages = keep(parent, outcomes, found, with_report)
    except UserError as error:
        warn(
            f"Not all of the comparison is kept: {error} `seedbed compare` and `seedbed report` make it from the runs."
        )
    else:
        print_links(parent, pages, with_report)


def keep(
    parent: KeptSweep, outcomes: Sequence[Outcome], found: Comparison, with_report: bool
) -> Sequence[tuple[str, str]]:
    """Writes the comparison to the sweep's parent run, Views and a note to its experiment; returns their pages."""
    sink = existing_sink(parent.uri, lambda _: None)  # the store has told what there is to tell
    if sink is None:
        raise FileNotFoundError("it is gone")
    alone = all(outcome.status != FOUND for outcome in outcomes)  # then Views need not show runs of other sweeps
    experiment_id = parent.experiment.experiment_id
    try:
        sink.change([Change(parent.run_id, tags=note_tags(found), files=comparison_files(found))])
        views = views_for(parent, found, alone)
        tags = tags_of(views, int(time.time() * 1000)) | experiment_note(parent, views, found, "cells.json")
        sink.tag_experiment(experiment_id, tags)
        if with_report:
            say("Drawing the report ...")
            write_report(sink, parent.uri, parent.run_id)
            tags |= experiment_note(parent, views, found, REPORT)
            sink.tag_experiment(experiment_id, tags)
        pages = [(view.name, link(experiment_id, view)) for view in views]
        left = Left(found.verdicts.sentence, note_tags(found, with_report), tags, pages)
        leave(sink, parent, digest_of(outcomes, parent, with_report), left)
    finally:
        sink.close()
    return pages


def comparison_files(found: Comparison) -> dict[str, bytes]:
    """The comparison as files of the sweep's parent run."""
    return {
        "cells.json": frame_table(found.cells),
        "cells.csv": found.cells.to_csv(index=False, lineterminator="\n").encode(),
        "against_best.json": frame_table(found.verdicts.table),
        "effects.json": frame_table(found.effects.terms),
    }


def frame_table(of: pd.DataFrame) -> bytes:
    """A frame as a table that MLflow's UI draws: of a column with a dot in its name it would draw no value."""
    names = [name.replace(".", " ") for name in short_keys(list(map(str, of.columns)))]
    return table(names, json.loads(of.to_json(orient="values", double_precision=15)))


def note_tags(found: Comparison, with_report: bool = False) -> dict[str, str]:
    """The tags that show the comparison on the parent's page: the verdict first, then what its files are."""
    report = "The report is report.html; all" if with_report else "All"
    parts = [
        found.verdicts.sentence,
        found.effects.sentence,
        f"{report} cells are in cells.json, all runs in runs.json, the plan in plan.json.",
    ]
    tables = json.dumps([{"path": name, "type": "table"} for name in TABLES])
    return {NOTE: "\n\n".join(part for part in parts if part), "mlflow.loggedArtifacts": tables}


def views_for(parent: KeptSweep, found: Comparison, alone: bool) -> list[View]:
    """The Views of a sweep: of its own runs, or with others of its experiment if it found some there.

    None, with a note to the user, where the UI is of an MLflow that has not been tested with them.
    """
    if not is_known():
        warn(f"Views of the UI are left out: their form is known of MLflow {MLFLOW}x, and another one is installed.")
        return []
    epochs = int(found.runs["training.epochs"].max())
    return views_of(parent.name if alone else None, found.keys, epochs)


def experiment_note(parent: KeptSweep, views: Sequence[View], found: Comparison, file: str) -> dict[str, str]:
    """The experiment's description: the verdict of its latest sweep, and where to look: `file` is of its run."""
    about = "Report of the latest sweep" if file == REPORT else "Cells of the latest sweep"
    experiment_id = parent.experiment.experiment_id
    links = [(view.name, link(experiment_id, view)) for view in views]
    links.append((about, run_link(experiment_id, parent.run_id, file)))
    listed = "\n".join(f"- [{name}]({address})" for name, address in links)
    if len(found.runs) > MOST_DRAWN:
        listed += f"\n\nMLflow draws {MOST_DRAWN} runs at a time: those of the first seeds, or the best ones."
    return {NOTE: f"{found.verdicts.sentence}\n\n{listed}\n"}


def write_report(sink: Sink, uri: str, parent_id: str) -> None:
    """Draws a sweep's report, and keeps it."""
    from pipeline.report.page import draw_best, report

    results = select(sink, uri, Selection(sweep=parent_id))
    found = compare(results.runs)
    drawn = draw_best(results, found)
    keep_report(sink, parent_id, found, report(results, found, drawn), drawn)


def keep_report(sink: Sink, parent_id: str, found: Comparison, page: bytes, drawn: "Drawn | None") -> None:
    """Keeps a report as a file of the sweep's parent run, and the pictures of its best run with that run."""
    changes = [Change(parent_id, tags=note_tags(found, with_report=True), files={REPORT: page})]
    changes += [Change(drawn.run_id, files=drawn.files)] if drawn and drawn.files else []
    sink.change(changes)
