"""The sink for servers that have Seedbed's route (route.py): runs go a block a request, and are written in bulk there.

All else, and what is too large for a request, goes through MLflow's client.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from pipeline.api import get_default_host_creds, http_request, verify_rest_response
from pipeline.client import ClientSink
from pipeline.insertion import blocks
from pipeline.interrupts import let_through
from pipeline.parcel import (
    ABOUT,
    CHANGE,
    CREATE,
    EXPERIMENT,
    FINISHED,
    MEDIA_TYPE,
    PROTOCOL,
    Content,
    Piece,
    fits,
    is_served,
    parcel,
    piece,
)
from pipeline.sink import Change, Entry, Experiment, Kept, artifact_uri, new_run_id

MOST = 50  # runs in a request: it is to be answered long before the server is taken for frozen
MOST_ASKED = 10_000  # values of a tag in a request, whose answer is a few MB then


def has_route(uri: str) -> bool:
    """True if a server has the route, and lets this user ask for it."""
    answer = asked(uri, ABOUT, "GET")
    try:
        return bool(answer.status_code == 200 and answer.json() == {"protocol": PROTOCOL})
    except ValueError:  # a page
        return False


def asked(uri: str, endpoint: str, method: str, **words: Any) -> Any:
    """A server's answer, asked as MLflow's client does: with its credentials, certificates, tries and waits."""
    return http_request(get_default_host_creds(uri), endpoint, method, **words)  # type: ignore[no-untyped-call]


class BlockSink(ClientSink):
    """Writes new runs and how they go on in blocks, each of which is in the store whole or not at all."""

    in_bulk = True

    def __init__(self, uri: str, threads: int) -> None:
        super().__init__(uri, threads)
        self._open: dict[str, Experiment] = {}  # those of the runs that were made here and have not ended
        self._experiments: dict[str, Experiment] = {}  # those of other runs, by id

    def create(self, experiment: Experiment, entries: Iterable[Entry]) -> Iterator[tuple[int, str]]:
        """Writes the runs block by block; yields the place and run id of each that is in for good."""
        place = 0
        for block, pieces in in_blocks(map(with_id, entries), is_served(experiment)):
            run_ids = self._created(experiment, block, pieces)
            self._open |= {run_id: experiment for run_id, entry in zip(run_ids, block, strict=True) if not entry.end}
            yield from enumerate(run_ids, place)
            place += len(block)

    def _created(self, experiment: Experiment, block: Sequence[Entry], pieces: Sequence[Piece]) -> list[str]:
        if not fits(pieces):
            return [self._create(experiment, entry) for entry in block]
        self._send(CREATE, experiment, block, pieces)
        return [entry.run_id for entry in block]

    def change(self, changes: Sequence[Change]) -> None:
        """Writes the changes block by block."""
        by_experiment: dict[Experiment, list[Change]] = defaultdict(list)
        for change in changes:
            by_experiment[self._home(change.run_id)].append(change)
        for experiment, of_it in by_experiment.items():
            for block, pieces in in_blocks(of_it, is_served(experiment)):
                if fits(pieces):
                    self._send(CHANGE, experiment, block, pieces)
                else:
                    super().change(block)
        for change in changes:
            if change.status not in (None, "RUNNING"):
                self._open.pop(change.run_id, None)

    def _home(self, run_id: str) -> Experiment:
        """The experiment of a run."""
        if run_id in self._open:
            return self._open[run_id]
        experiment_id = self.client.get_run(run_id).info.experiment_id
        if experiment_id not in self._experiments:
            found = self.client.get_experiment(experiment_id)
            is_active = found.lifecycle_stage == "active"
            self._experiments[experiment_id] = Experiment(experiment_id, found.name, found.artifact_location, is_active)
        return self._experiments[experiment_id]

    def _send(
        self, path: str, experiment: Experiment, block: Sequence[Entry | Change], pieces: Sequence[Piece]
    ) -> None:
        """Sends a block, behind those files that the server does not keep."""
        if not is_served(experiment):
            for content in block:
                self._files(artifact_uri(experiment, content.run_id), content.files)
        self._post(path, experiment, parcel(pieces))

    def finished(
        self, experiment: Experiment, tag: str, values: Iterable[str], since: int = 0
    ) -> dict[str, list[Kept]]:
        """The FINISHED runs with one of these values of a tag that ended at `since` or later, in that order."""
        found: dict[str, list[Kept]] = {}
        for some in blocks(list(dict.fromkeys(values)), MOST_ASKED):
            body = json.dumps({"tag": tag, "values": some, "since": since}).encode()
            answer = self._post(FINISHED, experiment, body).json()
            found |= {value: [Kept(*one) for one in runs] for value, runs in answer.items()}
        return found

    def _post(self, path: str, experiment: Experiment, body: bytes) -> Any:
        endpoint = f"{path}?{EXPERIMENT}={experiment.experiment_id}"
        answer = asked(self.uri, endpoint, "POST", extra_headers={"Content-Type": MEDIA_TYPE}, data=body)
        return verify_rest_response(answer, path)


def with_id(entry: Entry) -> Entry:
    """The entry with a run id: a request that is not answered is sent again, and must be of the same run."""
    return entry if entry.run_id else replace(entry, run_id=new_run_id())


def in_blocks(contents: Iterable[Content], with_files: bool) -> Iterator[tuple[list[Content], list[Piece]]]:
    """As many as a request takes at a time, with their pieces; one that is too large for any comes alone."""
    block: list[Content] = []
    pieces: list[Piece] = []
    for content in contents:
        let_through()
        new = piece(content if with_files else replace(content, files={}))
        if pieces and (len(pieces) == MOST or not fits([*pieces, new])):
            yield block, pieces
            block, pieces = [], []
        block.append(content)
        pieces.append(new)
    if pieces:
        yield block, pieces
