"""The comparison of an earlier sweep of the very same runs: it still holds, and need not be made again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pipeline.compare.links import REPORT, KeptSweep, print_links
from pipeline.paths import PACKAGE
from pipeline.planning.plan import FOUND, Outcome
from pipeline.store.sink import Change, Sink
from pipeline.store.sinks import existing_sink, is_trouble
from pipeline.terminal import say

TAG = "comparison"  # of a parent run: the digest of what its comparison was made from
FILE = "comparison.json"  # what it left elsewhere than in its files
ROOMS = ("compare", "pictures", "report")  # whose code makes it
TABLES = ("cells.json", "cells.csv", "against_best.json", "effects.json")


@dataclass(frozen=True)
class Left:
    """What a comparison left: its verdict, tags of the parent run and of the experiment, pages of the UI to look at."""

    sentence: str
    tags: Mapping[str, str]
    experiment_tags: Mapping[str, str]
    pages: Sequence[tuple[str, str]]


def digest_of(outcomes: Sequence[Outcome], parent: KeptSweep, with_report: bool) -> str:
    """16 hex digits of all that decides a comparison: the runs, what was asked, and the code that compares."""
    files = [file for room in ROOMS for file in sorted((PACKAGE / room).iterdir())]
    sources = [file.read_bytes() for file in files if file.suffix in (".py", ".j2")]
    asked = [parent.command, parent.question, str(with_report)]
    ids = sorted(str(outcome.run_id) for outcome in outcomes)
    return hashlib.sha256(b"\0".join([*sources, *(text.encode() for text in (*asked, *ids))])).hexdigest()[:16]


def leave(sink: Sink, parent: KeptSweep, digest: str, left: Left) -> None:
    """Keeps with a sweep's parent run what a later sweep of the same runs needs to know."""
    sink.change([Change(parent.run_id, tags={TAG: digest}, files={FILE: json.dumps(asdict(left)).encode()})])


def holds(outcomes: Sequence[Outcome], parent: KeptSweep, with_report: bool) -> bool:
    """Copies the comparison of an earlier sweep, if nothing was trained since and it had the same runs; says so.

    False if there is none, or it cannot be read.
    """
    if any(outcome.status != FOUND for outcome in outcomes):
        return False
    sink = existing_sink(parent.uri, lambda _: None)
    if sink is None:
        return False
    try:
        return copied(sink, parent, digest_of(outcomes, parent, with_report), with_report)
    except Exception as error:
        if not is_trouble(error):
            raise
        return False
    finally:
        sink.close()


def copied(sink: Sink, parent: KeptSweep, digest: str, with_report: bool) -> bool:
    """Copies what the latest sweep with this digest left, if there is one."""
    same = sink.finished(parent.experiment, TAG, [digest]).get(digest)
    if not same:
        return False
    earlier = same[-1].run_id
    names = (*TABLES, FILE, *([REPORT] if with_report else []))
    files = {name: sink.read(earlier, name) for name in names}
    # What points at the earlier sweep's run points at this one's.
    files[FILE] = files[FILE].replace(earlier.encode(), parent.run_id.encode())
    try:
        left = Left(**json.loads(files[FILE]))
    except (ValueError, TypeError):  # somebody changed the file
        return False
    sink.change([Change(parent.run_id, tags={**left.tags, TAG: digest}, files=files)])
    sink.tag_experiment(parent.experiment.experiment_id, left.experiment_tags)
    say(left.sentence)
    say("These runs were compared before: `seedbed compare` prints their cells.")
    print_links(parent, left.pages, with_report)
    return True
