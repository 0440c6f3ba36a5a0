"""Sends what waits in the outbox to its store."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from pipeline.config import TrackingConfig
from pipeline.interrupts import let_through
from pipeline.store.outbox import Letter, Outbox, discard, read
from pipeline.store.place import existing_experiment, make_experiment
from pipeline.store.sink import Change, Entry, Sink

TOGETHER = 500  # letters that are in memory at a time


def send_waiting(sink: Sink, uri: str) -> int:
    """Sends all that waits for a store and returns how many letters that were. Raises what the store raises.

    A new run that is FINISHED there already is dropped: somebody trained it again, or an earlier sending was cut off.
    So is a change that was made already, or whose run is not there any more.
    """
    with Outbox(uri).emptying() as folders:
        for start in range(0, len(folders), TOGETHER):
            send(sink, uri, folders[start : start + TOGETHER])
        return len(folders)


def send(sink: Sink, uri: str, folders: Sequence[Path]) -> None:
    """Sends some letters: new runs, then changes."""
    entries: dict[TrackingConfig, dict[Path, Entry]] = defaultdict(dict)
    changes: dict[Path, Letter] = {}
    forced: set[Path] = set()
    for folder in folders:
        letter = read(folder)
        if isinstance(letter.content, Change):
            changes[folder] = letter
        else:
            entries[replace(letter.tracking, uri=uri)][folder] = letter.content
        if letter.is_forced:
            forced.add(folder)
    for tracking, of_experiment in entries.items():
        send_entries(sink, uri, tracking, of_experiment, forced)
    send_changes(sink, uri, changes)


def send_changes(sink: Sink, uri: str, letters: dict[Path, Letter]) -> None:
    """Sends changes of runs, each of which ends its run."""
    changes = {folder: cast("Change", letter.content) for folder, letter in letters.items()}
    ends = sink.ends([change.run_id for change in changes.values()])
    for folder, change in changes.items():
        let_through()
        if ends.get(change.run_id) not in (None, (change.status, change.end)):
            sink.change([replace(change, status="KILLED") if is_there(sink, uri, letters[folder]) else change])
        discard(folder)


def is_there(sink: Sink, uri: str, letter: Letter) -> bool:
    """True if the letter would end a run well that another sweep has trained meanwhile: it would be there twice."""
    fingerprint = letter.content.tags.get("fingerprint")
    if letter.is_forced or letter.content.status != "FINISHED" or not fingerprint:
        return False
    experiment = existing_experiment(sink, replace(letter.tracking, uri=uri))
    return experiment is not None and bool(sink.finished(experiment, "fingerprint", [fingerprint]))


def send_entries(sink: Sink, uri: str, tracking: TrackingConfig, entries: dict[Path, Entry], forced: set[Path]) -> None:
    """Sends new runs to their experiment, which is made if it is not there."""
    experiment = existing_experiment(sink, tracking) or make_experiment(sink, uri, tracking)
    fingerprints = {folder: entry.tags.get("fingerprint", "") for folder, entry in entries.items()}
    found = sink.finished(experiment, "fingerprint", fingerprints.values())
    there = {folder for folder, value in fingerprints.items() if value in found and folder not in forced}
    for folder in there:
        discard(folder)
    new = [folder for folder in entries if folder not in there]
    for place, _ in sink.create(experiment, (entries[folder] for folder in new)):
        discard(new[place])
