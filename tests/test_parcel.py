"""Runs as the bytes of a request: what goes in comes out, and nothing else comes in."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.store.block import MOST, in_blocks
from pipeline.store.parcel import LARGEST, fits, parcel, piece, unpacked
from pipeline.store.sink import Change, Entry, Point
from tests.sinks import ENTRY as FULL

RUN_ID = "0123456789abcdef" * 2
ENTRY = replace(FULL, run_id=RUN_ID)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)
WHOLE = st.integers(-(2**63), 2**63 - 1)
POINTS = st.lists(st.tuples(st.sampled_from("abc") | TEXTS, st.floats(), WHOLE, WHOLE), max_size=9)
FILES = st.dictionaries(st.text("abc.ü ", min_size=1, max_size=5).filter(lambda name: name.strip("./")), st.binary())
GENEROUS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def exact(points: Any) -> list[tuple[Any, ...]]:
    """Points whose values can be compared: NaN is NaN, and -0 is not 0."""
    return [(key, "nan" if math.isnan(value) else value.hex(), *rest) for key, value, *rest in points]


@GENEROUS
@given(st.lists(st.tuples(POINTS, FILES, st.dictionaries(TEXTS, TEXTS, max_size=3)), max_size=4))
def test_what_is_packed_comes_out_as_it_was(runs: list[tuple[list[Point], dict[str, bytes], dict[str, str]]]) -> None:
    entries = [
        replace(ENTRY, run_id=f"{i:032x}", points=points, files=files, tags=tags, params=tags, dataset=None)
        for i, (points, files, tags) in enumerate(runs)
    ]
    found = unpacked(parcel([piece(entry) for entry in entries]), Entry)
    assert [exact(one.points) for one in found] == [exact(one.points) for one in entries]
    assert [replace(one, points=[]) for one in found] == [replace(one, points=[]) for one in entries]


def test_a_run_and_a_change_of_each_kind_come_out_as_they_were() -> None:
    bare = Entry("bare", "RUNNING", 1, run_id="f" * 32)
    (full, other) = unpacked(parcel([piece(ENTRY), piece(bare)]), Entry)
    assert (full.dataset, full.files, full.params) == (FULL.dataset, FULL.files, FULL.params)
    assert exact(full.points) == exact(FULL.points)
    assert other == replace(bare, points=[])
    changes = [Change(RUN_ID, [("a", 1.0, 2, 3)], {"t": "u"}, {"x": b"1"}, "KILLED", 99), Change("e" * 32, [])]
    assert unpacked(parcel([piece(one) for one in changes]), Change) == changes


def altered(about: Mapping[str, Any], body: bytes | None = None) -> bytes:
    """A request with a run whose object has other values, or lacks those that are None here."""
    whole = piece(ENTRY)
    head = {**json.loads(whole.head), **about}
    left = {key: value for key, value in head.items() if value is not ...}
    return framed(json.dumps([left]).encode(), whole.body if body is None else body)


def framed(head: bytes, body: bytes = b"") -> bytes:
    return len(head).to_bytes(4, "big") + head + body


BAD = {
    "empty": b"",
    "no JSON": framed(b"[{"),
    "no text": framed(b"\xff\xfe"),
    "nested": framed(b"[" * 100_000),
    "not a list": framed(b"{}"),
    "not an object": framed(b"[1]"),
    "longer": altered({}, piece(ENTRY).body + b"x"),
    "shorter": altered({}, piece(ENTRY).body[:-1]),
    "a key more": altered({"lifecycle_stage": "active"}),
    "a key less": altered({"name": ...}),
    "run id": altered({"run_id": "../" + "a" * 29}),
    "run id with a line": altered({"run_id": "a" * 32 + "\n"}),
    "no run id": altered({"run_id": ""}),
    "twice": parcel([piece(ENTRY), piece(ENTRY)]),
    "status": altered({"status": "DONE"}),
    "start": altered({"start": "1"}),
    "huge start": altered({"start": 2**63}),
    "true as end": altered({"end": True}),
    "number as param": altered({"params": {"a": 1}}),
    "half a character": altered({"params": {"a": "\ud800"}}),
    "zero": altered({"name": "a\0"}),
    "tags": altered({"tags": [["a", "b"]]}),
    "data set": altered({"dataset": {"name": "a"}}),
    "empty data set": altered({"dataset": {}}),
    "points": altered({"points": [["a"]]}),
    "points of no key": altered({"points": [[None, 1]]}),
    "points backwards": altered({"points": [["a", 5], ["b", -4]]}),
    "far too many points": altered({"points": [["a", 2**60]]}),
    "files": altered({"files": ["a"]}),
    "negative file": altered({"files": {"a": -1}}),
    "file above": altered({"files": {"../a": 1}}),
    "file below": altered({"files": {"a/b": 1}}),
    "absolute file": altered({"files": {"/etc/passwd": 1}}),
    "file of a dot": altered({"files": {"..": 1}}),
    "file with a zero": altered({"files": {"a\0": 1}}),
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_anything_else_is_one_sentence(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+\.$"):
        unpacked(body, Entry)


def test_a_change_is_no_new_run() -> None:
    with pytest.raises(ValueError, match=r"^A run must be an object with dataset, end"):
        unpacked(parcel([piece(Change(RUN_ID))]), Entry)


@GENEROUS
@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    for body in (noise, framed(noise)):
        with pytest.raises(ValueError, match=r"\.$"):
            unpacked(body, Entry)


def test_blocks_are_as_large_as_a_request_may_be() -> None:
    small = [Entry(str(i), "FINISHED", 1, 2, run_id=f"{i:032x}") for i in range(2 * MOST + 1)]
    assert [len(block) for block, _ in in_blocks(small, with_files=True)] == [MOST, MOST, 1]
    third = {"a": bytes(LARGEST // 3)}
    blocks = list(in_blocks([replace(one, files=third) for one in small[:5]], with_files=True))
    assert [len(block) for block, _ in blocks] == [2, 2, 1]
    assert all(fits(pieces) and len(parcel(pieces)) <= LARGEST for _, pieces in blocks)
    huge = replace(small[1], files={"a": bytes(LARGEST)})
    blocks = list(in_blocks([small[0], huge, small[2]], with_files=True))
    assert [[one.name for one in block] for block, _ in blocks] == [["0"], ["1"], ["2"]]
    assert [fits(pieces) for _, pieces in blocks] == [True, False, True]
    assert [len(block) for block, _ in in_blocks([small[0], huge], with_files=False)] == [2]


def test_300_points_take_7_kb() -> None:
    points = [("curve/loss", 1.0 / (step + 1), 1_700_000_000_000 + step, step) for step in range(300)]
    with_points = piece(Entry("a", "FINISHED", 1, 2, points=points)).size
    assert with_points - piece(Entry("a", "FINISHED", 1, 2)).size < 7300
