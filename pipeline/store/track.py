"""The store, as a sweep uses it: through a sink it chooses; what that cannot take goes to the outbox.

A run counts as done when it is FINISHED, and that is written last: files, then rows, then the status.
"""

import getpass
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config import TrackingConfig
from pipeline.credentials import public_uri
from pipeline.errors import UserError
from pipeline.identity import Run
from pipeline.interrupts import undisturbed
from pipeline.process import is_gone, this_process
from pipeline.results.datasets import FOLDER, file_name, packed
from pipeline.results.record import Record, fitting_tags
from pipeline.store.address import DEFAULT_URI, check_uri
from pipeline.store.claims import Claims
from pipeline.store.database import settle
from pipeline.store.glance import code_change, last_finished
from pipeline.store.moved import mend_moved
from pipeline.store.outbox import Letter, Outbox
from pipeline.store.place import check_artifacts, existing_experiment, make_experiment
from pipeline.store.sink import PROCESS, Change, Entry, Kept, Point, Sink, described, new_run_id
from pipeline.store.sinks import Tell, is_trouble, open_sink, reason_of, translated
from pipeline.store.starts import kept_starts
from pipeline.store.sync import send_waiting
from pipeline.training.continuing import Starts

LONGEST_NAME = 250  # of a run, in MLflow
TABLES = ("runs.json", "failures.json", "diverged.json")  # what the UI is told to draw of a sweep's files
CLOCKS = 600_000  # ms that those of several machines may differ by
REST_SECONDS = 10.0  # how long a store that failed is left alone
Metrics = Sequence[tuple[str, float, int]]  # points of metrics: key, value, step


@dataclass
class Growing:
    """A run that is RUNNING in the store while it trains: its start in ms since 1970, and the points it has there.

    `times` are those that points were sent with, by key and step: what was written and not answered, as by a server
    that was frozen, is sent again, and must be the same rows then.
    """

    run_id: str
    start: int
    points: set[tuple[str, int]] = field(default_factory=set)
    times: dict[tuple[str, int], int] = field(default_factory=dict)
    end: int | None = None

    def new_points(self, points: Metrics, start: int, end: int) -> list[Point]:
        """Those of the points that are not there, with their times."""
        new = timed([point for point in points if (point[0], point[2]) not in self.points], start, end)
        return [(key, value, self.times.setdefault((key, step), time), step) for key, value, time, step in new]


class Store:
    """One MLflow experiment in one store. Use as a context manager: runs that are RUNNING when it ends are KILLED."""

    def __init__(self, tracking: TrackingConfig, tell: Tell, forced: bool = False) -> None:
        """Opens the store and the experiment, making what is missing; sends what waited for the store.

        `tell` takes notes for the user; `forced`: runs are new ones also where the same is FINISHED. Raises UserError
        if the store cannot be used.
        """
        self.tracking, self.tell, self.forced = tracking, tell, forced
        self.uri = tracking.uri or DEFAULT_URI
        self.shown_uri = public_uri(self.uri) or ""
        self.outbox = Outbox(self.uri)
        self._growing: dict[str, Growing] = {}
        self._posted: list[Path] = []
        self._rests_until = 0.0
        self._has_failed = False
        self._opened_at = now()
        check_artifacts(tracking.artifacts)
        self.sink = open_sink(self.uri, tell)
        with translated(self.uri):
            if note := mend_moved(self.uri):
                tell(note)
            self.experiment = existing_experiment(self.sink, tracking) or make_experiment(self.sink, self.uri, tracking)
            self._claims = Claims(self.sink, self.experiment)
            self._send_old()
            end_stale(self.sink)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        left, self._growing = list(self._growing.values()), {}
        self._attempt(lambda: self.sink.change([Change(one.run_id, status="KILLED", end=now()) for one in left]))
        self._claims.close()
        self.sink.close()
        if not self._has_failed:
            settle(self.uri)

    def _send_old(self) -> None:
        """Sends what earlier commands have left; what can never be sent must not keep this one from its work."""
        try:
            sent = send_waiting(self.sink, self.uri)
        except UserError as error:
            self.tell(f"Not all that waits for {self.shown_uri} could be sent: {error}")
            return
        if sent:
            self.tell(f"{sent} results that had waited for {self.shown_uri} are in it now.")

    def finished(self, fingerprints: Sequence[str]) -> dict[str, Kept]:
        """The FINISHED runs of this experiment that have one of the fingerprints, by fingerprint."""
        with translated(self.uri):
            return last_finished(self.sink, self.experiment, fingerprints)

    def claim(self, sweep: str | None, fingerprints: Sequence[str]) -> set[str]:
        """Claims runs for a sweep, by its run id; returns those of them that another sweep trains now, or just has.

        A single run, without a sweep, claims nothing, and waits for those that do. Raises UserError.
        """
        if self.forced or not fingerprints:
            return set()
        with undisturbed(), translated(self.uri):
            theirs = self._claims.take(sweep, fingerprints) if sweep else self._claims.held(fingerprints)
            return theirs | self._lately(fingerprints).keys()

    def claimed(self, fingerprints: Sequence[str]) -> tuple[set[str], dict[str, Kept]]:
        """Those of the runs that other sweeps claim now, and those that have been FINISHED since this store was opened.

        Raises UserError.
        """
        with undisturbed(), translated(self.uri):
            end_stale(self.sink)
            return self._claims.held(fingerprints), self._lately(fingerprints)

    def let_go(self) -> None:
        """Claims nothing any more, as nothing is left to train here. Else others wait until the sweep ends."""
        self._attempt(self._claims.let_go)

    def _lately(self, fingerprints: Sequence[str]) -> dict[str, Kept]:
        return last_finished(self.sink, self.experiment, fingerprints, self._opened_at - CLOCKS)

    def starts(self, runs: Sequence[Run]) -> Starts:
        """What runs can go on from: FINISHED ones of this experiment that differ in fewer epochs only."""
        with translated(self.uri):
            return kept_starts(self.sink, self.experiment, runs)

    def code_change(self, run: Run) -> str:
        """How the numerics code has changed since the last FINISHED run of this cell; empty if it has not."""
        with translated(self.uri):
            return code_change(self.sink, self.experiment, run)

    def keep_data(self, runs: Iterable[Run]) -> None:
        """Keeps the tables that runs will train on, each once. Raises UserError if the store cannot take them."""
        tables = {run.dataset.digest: run.dataset for run in runs if run.config.data.is_table}
        with undisturbed(), translated(self.uri):
            for digest, dataset in tables.items():
                self.sink.keep_shared(self.experiment, FOLDER, file_name(digest), packed(dataset))

    def write(self, fingerprints: Sequence[str], record_of: Callable[[int], Record]) -> dict[int, str]:
        """Writes trained runs and returns their run ids by place; what is missing there waits in the outbox.

        `record_of` gives the record of a place, again if it must.
        """
        written: dict[int, str] = {}
        ids = [new_run_id() for _ in fingerprints]  # the same when it is sent again: it may have arrived unanswered
        self._attempt(lambda: self._write(fingerprints, record_of, ids, written))
        for place, run_id in enumerate(ids):
            if place not in written:
                self._post(self._content(record_of(place), run_id))
        for fingerprint in fingerprints:
            self._growing.pop(fingerprint, None)
        return written

    def _write(
        self,
        fingerprints: Sequence[str],
        record_of: Callable[[int], Record],
        ids: Sequence[str],
        written: dict[int, str],
    ) -> None:
        """Writes runs and notes in `written` those that are in the store for good, by place."""
        if self._claims.is_doubtful:
            self._leave_to_others(fingerprints, written)
        missing = [(place, fingerprint) for place, fingerprint in enumerate(fingerprints) if place not in written]
        grown = [place for place, fingerprint in missing if fingerprint in self._growing]
        new = [place for place, fingerprint in missing if fingerprint not in self._growing]
        self.sink.change([self._ending(record_of(place)) for place in grown])
        written |= {place: self._growing.pop(fingerprints[place]).run_id for place in grown}  # Ctrl-C may come now
        entries = (self._entry(record_of(place), ids[place]) for place in new)
        for i, run_id in self.sink.create(self.experiment, entries):
            written[new[i]] = run_id

    def _leave_to_others(self, fingerprints: Sequence[str], written: dict[int, str]) -> None:
        """Takes the runs that others have trained, where one sweep has taken the other for dead."""
        found = self._lately(fingerprints)
        grown = [self._growing.pop(fingerprint) for fingerprint in found if fingerprint in self._growing]
        self.sink.change([Change(one.run_id, status="KILLED", end=now()) for one in grown])
        written |= {place: found[one].run_id for place, one in enumerate(fingerprints) if one in found}

    def grow(self, runs: Mapping[str, Metrics], record_of: Callable[[str], Record]) -> None:
        """Shows runs that train, by fingerprint, as RUNNING, with the points of their curves that are new.

        `record_of` gives what is known of one: name, params and tags. What the store cannot take now, the end brings.
        """
        self._attempt(lambda: self._grow(runs, record_of))

    def _grow(self, runs: Mapping[str, Metrics], record_of: Callable[[str], Record]) -> None:
        new = [fingerprint for fingerprint in runs if fingerprint not in self._growing]
        start = now()
        entries = (self._opened(record_of(fingerprint), start) for fingerprint in new)
        for place, run_id in self.sink.create(self.experiment, entries):
            self._growing[new[place]] = Growing(run_id, start)
        changes = [self._growth(self._growing[fingerprint], points) for fingerprint, points in runs.items()]
        self.sink.change([change for change in changes if change.points])
        for fingerprint, points in runs.items():
            self._growing[fingerprint].points |= {(key, step) for key, _, step in points}

    def write_failure(self, head: Record) -> str | None:
        """Writes a run that could not be trained, with status FAILED, and returns its run id if the store has it."""
        growing = self._growing.pop(head.tags["fingerprint"], None)
        if growing:
            return self._change(Change(growing.run_id, tags=head.tags, status="FAILED", end=now()))
        entry = Entry(head.name, "FAILED", now(), now(), head.params, tags=about(head.tags), run_id=new_run_id())
        written: list[str] = []
        if not self._attempt(lambda: written.extend(one for _, one in self.sink.create(self.experiment, [entry]))):
            self._post(entry)
        return written[0] if written else None

    def open_sweep(self, name: str, params: Mapping[str, str], tags: Mapping[str, str]) -> str:
        """Makes the parent run of a sweep (RUNNING) and returns its run id."""
        entry = Entry(name[:LONGEST_NAME], "RUNNING", now(), params=params, tags=fitting_tags(about(tags)))
        with undisturbed(), translated(self.uri):
            return next(run_id for _, run_id in self.sink.create(self.experiment, [entry]))

    def reopen_sweep(self, run_id: str) -> None:
        """Makes the parent run of a sweep that goes on RUNNING again. Raises UserError."""
        with undisturbed(), translated(self.uri):
            self.sink.change([Change(run_id, status="RUNNING")])

    def close_sweep(
        self, run_id: str, status: str, metrics: Mapping[str, float], files: Mapping[str, bytes], note: str
    ) -> None:
        """Writes a sweep's outcome to its parent run and ends it with `status` (FINISHED, FAILED, KILLED)."""
        tables = [{"path": name, "type": "table"} for name in TABLES if name in files]
        tags = {"mlflow.note.content": note, "mlflow.loggedArtifacts": json.dumps(tables)}
        end = now()
        points = [(key, value, end, 0) for key, value in metrics.items()]
        self._change(Change(run_id, points, tags, files, status, end))

    def table(self, run_id: str, name: str) -> tuple[list[str], list[list[Any]]]:
        """Columns and rows of a run's table; both empty if the file is gone."""
        try:
            content = json.loads(self.sink.read(run_id, name))
        except Exception as error:
            if not is_trouble(error):
                raise
            return [], []
        return content["columns"], content["data"]

    def send(self) -> int:
        """Sends what this store could not take, if it can now, and returns how many of this command's results wait."""
        if self.waiting:
            self._rests_until = 0.0
            self._attempt(lambda: send_waiting(self.sink, self.uri))
        return self.waiting

    @property
    def waiting(self) -> int:
        """How many of this command's results wait in the outbox. What earlier ones left there is not counted."""
        return sum(folder.exists() for folder in self._posted)

    def _change(self, change: Change) -> str | None:
        if self._attempt(lambda: self.sink.change([change])):
            return change.run_id
        self._post(change)
        return None

    def _post(self, content: Entry | Change) -> None:
        with undisturbed():
            self._posted.append(self.outbox.keep(Letter(self.tracking, content, self.forced)))

    def _attempt(self, work: Callable[[], object]) -> bool:
        """Does some writing undisturbed; False if the store fails, which is then left alone for a while."""
        if self._has_failed and time.monotonic() < self._rests_until:
            return False
        try:
            with undisturbed():
                if self._has_failed:
                    check_uri(self.uri)
                work()
        except UserError as error:
            self._fail(str(error))
        except Exception as error:
            if not is_trouble(error):
                raise
            self._fail(reason_of(error, self.uri))
        else:
            return True
        return False

    def _fail(self, reason: str) -> None:
        self._rests_until = time.monotonic() + REST_SECONDS
        if not self._has_failed:
            self._has_failed = True
            self.tell(
                f"The store {self.shown_uri} fails ({reason}): results wait in {self.outbox.folder} from here on."
            )

    def _content(self, record: Record, run_id: str) -> Entry | Change:
        return self._ending(record) if record.tags["fingerprint"] in self._growing else self._entry(record, run_id)

    def _entry(self, record: Record, run_id: str) -> Entry:
        end = now()
        start = end - int(record.seconds * 1000)
        points = timed(record.metrics, start, end)
        data = described(record.dataset)
        tags = about(record.tags)
        return Entry(record.name, "FINISHED", start, end, record.params, points, tags, data, record.files, run_id)

    def _opened(self, record: Record, start: int) -> Entry:
        tags, data = about(record.tags), described(record.dataset)
        return Entry(record.name, "RUNNING", start, params=record.params, tags=tags, dataset=data)

    def _growth(self, run: Growing, points: Metrics) -> Change:
        return Change(run.run_id, run.new_points(points, now(), now()))

    def _ending(self, record: Record) -> Change:
        run = self._growing[record.tags["fingerprint"]]
        run.end = run.end or now()
        points = run.new_points(record.metrics, run.start, run.end)
        return Change(run.run_id, points, record.tags, record.files, "FINISHED", run.end)


def end_stale(sink: Sink) -> int:
    """Marks runs KILLED that are RUNNING in the store and whose process is gone; returns how many."""
    gone = [run_id for run_id, process in sink.running(PROCESS).items() if is_gone(process)]
    sink.change([Change(run_id, status="KILLED", end=now()) for run_id in sorted(gone)])  # two at once: in one order
    return len(gone)


def timed(metrics: Metrics, start: int, end: int) -> list[Point]:
    """Points with times between two, as if each step had taken as long."""
    per_step = (end - start) / max(1, *(step for *_, step in metrics), 1)
    return [(key, value, start + int(step * per_step), step) for key, value, step in metrics]


def about(tags: Mapping[str, str]) -> dict[str, str]:
    """A run's tags with those that say who wrote it."""
    source = {"mlflow.user": user(), "mlflow.source.name": "seedbed", "mlflow.source.type": "LOCAL"}
    return {**source, PROCESS: this_process(), **tags}


def now() -> int:
    """Ms since 1970."""
    return int(time.time() * 1000)


def user() -> str:
    """The login name, or `unknown` where there is none (some containers)."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
