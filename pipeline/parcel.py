"""New runs and changes of runs as the bytes of an HTTP request, and back.

    4 bytes: length of the head | the head: JSON, an object a run | for each run: its points, its files

A run's points are three arrays of 8 bytes a point: values (float64), times and steps (int64), all little-endian. Its
object says which keys they have, and the length of each file. So every number arrives as it is, NaN too, and nothing
but plain data can be in it.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from pipeline.errors import UserError
from pipeline.files import check_file_name
from pipeline.sink import Change, Described, Entry, Experiment, Point

Content = TypeVar("Content", Entry, Change)

PROTOCOL = 1
ABOUT = "/api/seedbed"  # where a server says which protocol it speaks
CREATE, CHANGE, FINISHED = f"{ABOUT}/runs", f"{ABOUT}/changes", f"{ABOUT}/finished"
EXPERIMENT = "experiment_id"  # the parameter of each
MEDIA_TYPE = "application/x-seedbed"
LARGEST = 4 * 2**20  # bytes of a request
LENGTH = 4  # bytes of the head's length
COLUMNS = ("<f8", "<i8", "<i8")  # values, times, steps
RUN_ID = re.compile("[0-9a-f]{32}")
STATUSES = ("RUNNING", "FINISHED", "FAILED", "KILLED")
NUMBERS = range(-(2**63), 2**63)  # what a column of whole numbers takes


def is_served(experiment: Experiment) -> bool:
    """True if the files of an experiment's runs are the server's own, in the folder that it chooses itself."""
    return experiment.location.rstrip("/") == f"mlflow-artifacts:/{experiment.experiment_id}"


@dataclass(frozen=True)
class Piece:
    """A run's part of a request."""

    head: bytes
    body: bytes

    @property
    def size(self) -> int:
        """Bytes that it adds to a request."""
        return len(self.head) + 1 + len(self.body)


def piece(content: Entry | Change) -> Piece:
    """A new run or a change as its part of a request."""
    names, *columns = zip(*content.points, strict=True) if content.points else ((), (), (), ())
    keys = [(key, len(list(group))) for key, group in itertools.groupby(names)]
    arrays = [bytes(np.array(column, kind)) for column, kind in zip(columns, COLUMNS, strict=True)]
    sizes = {name: len(file) for name, file in content.files.items()}
    about: dict[str, Any] = {**vars(content), "points": keys, "files": sizes}
    if isinstance(content, Entry) and content.dataset:
        about["dataset"] = vars(content.dataset)
    return Piece(json.dumps(about).encode(), b"".join([*arrays, *content.files.values()]))


def parcel(pieces: Sequence[Piece]) -> bytes:
    """The bytes of a request."""
    head = b"[" + b",".join(one.head for one in pieces) + b"]"
    return b"".join([len(head).to_bytes(LENGTH, "big"), head, *(one.body for one in pieces)])


def fits(pieces: Sequence[Piece]) -> bool:
    """True if they are not too large for one request."""
    return LENGTH + 2 + sum(one.size for one in pieces) <= LARGEST


def unpacked(parcel: bytes, kind: type[Content]) -> list[Content]:
    """What `parcel` was made of. Raises ValueError, with a sentence, for anything else."""
    end = LENGTH + int.from_bytes(parcel[:LENGTH], "big")
    try:
        heads = json.loads(parcel[LENGTH:end])
    except (ValueError, RecursionError) as error:
        raise ValueError("The head of the request is no JSON.") from error
    check(isinstance(heads, list), "The head of the request", "a list")
    body = Body(memoryview(parcel)[end:])
    contents = [content_of(kind, head, body) for head in heads]
    check(not body.rest, "The request", "as long as its head says")
    ids = [content.run_id for content in contents]
    check(len(set(ids)) == len(ids), "A run id", "in a request once")
    return contents


class Body:
    """The bytes behind the head, taken from the front."""

    def __init__(self, rest: memoryview) -> None:
        self.rest = rest

    def take(self, size: object) -> memoryview:
        """The next bytes. Raises ValueError if there are not so many."""
        if not isinstance(size, int) or not 0 <= size <= len(self.rest):
            raise ValueError("The request is shorter than its head says.")
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken


def content_of(kind: type[Content], about: Any, body: Body) -> Content:
    """A new run or a change from its object and the next bytes."""
    known = {one.name for one in fields(kind)}
    check(isinstance(about, dict) and set(about) == known, "A run", f"an object with {', '.join(sorted(known))}")
    check(isinstance(about["run_id"], str) and RUN_ID.fullmatch(about["run_id"]), "run_id", "32 hex digits")
    check(about["status"] in STATUSES or (kind is Change and about["status"] is None), "status", "that of a run")
    check(about["end"] is None or is_whole(about["end"]), "end", "a time in ms, or null")
    check(is_texts(about["tags"]), "tags", "texts by name")
    if kind is Entry:
        check_new(about)
        about["dataset"] = about["dataset"] and Described(**about["dataset"])
    points = list(points_of(about["points"], body))
    return kind(**{**about, "points": points, "files": dict(files_of(about["files"], body))})


def check_new(about: Mapping[str, Any]) -> None:
    """Raises ValueError unless what only a new run has is as it must be."""
    check(is_text(about["name"]), "name", "a text")
    check(is_whole(about["start"]), "start", "a time in ms")
    check(is_texts(about["params"]), "params", "texts by name")
    known = {one.name for one in fields(Described)}
    dataset = about["dataset"]
    check(dataset is None or (is_texts(dataset) and set(dataset) == known), "dataset", "null, or texts by name")


def points_of(keys: Any, body: Body) -> Iterator[Point]:
    """The points of a run, from their keys, each with how many follow each other."""
    pairs = isinstance(keys, list) and all(isinstance(one, list) and len(one) == 2 for one in keys)
    check(pairs and all(isinstance(key, str) and is_whole(n) and n > 0 for key, n in keys), "points", "keys, counted")
    count = sum(n for _, n in keys)
    columns = (np.frombuffer(body.take(8 * count), kind).tolist() for kind in COLUMNS)
    names = itertools.chain.from_iterable(itertools.repeat(key, n) for key, n in keys)
    return zip(names, *columns, strict=True)


def files_of(sizes: Any, body: Body) -> Iterator[tuple[str, bytes]]:
    """The files of a run, with their names."""
    check(isinstance(sizes, dict), "files", "lengths by name")
    for name, size in sizes.items():
        try:
            yield check_file_name(name), bytes(body.take(size))
        except UserError as error:
            raise ValueError(str(error)) from error


def is_whole(value: object) -> bool:
    """True for a whole number that a database takes."""
    return isinstance(value, int) and not isinstance(value, bool) and value in NUMBERS


def is_texts(value: object) -> bool:
    """True for texts by name."""
    return isinstance(value, dict) and all(map(is_text, value.values()))


def is_text(value: object) -> bool:
    """True for a text that a database takes: without zeros and halves of characters."""
    return isinstance(value, str) and "\0" not in value and value.encode(errors="ignore").decode() == value


def check(holds: object, what: str, must: str) -> None:
    """Raises ValueError unless it holds."""
    if not holds:
        raise ValueError(f"{what} must be {must}.")
