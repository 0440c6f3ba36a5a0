"""Both kinds of sink that write into a database, and a run with all that one may have."""

import math
from collections.abc import Callable

import sqlalchemy as sa

from pipeline.store.bulk import BulkSink, is_known
from pipeline.store.client import ClientSink
from pipeline.store.sink import Described, Entry, Sink

DATASET = Described("XOR ü'\"", "0123abcd", "code", '{"tags": {}}', '{"mlflow_colspec": []}', '{"num_rows": 4}')
ENTRY = Entry(
    name="4-5 lr0.5 s7",
    status="FINISHED",
    start=1_700_000_000_000,
    end=1_700_000_009_000,
    params={"network.hidden": "[4, 5]", "data.name": "é'\"\n\\ %_", "long": "x" * 6000},
    points=[("curve/loss", 1.0 / (step + 1), 1_700_000_000_000 + step, step) for step in range(1200)]
    + [
        ("nan", math.nan, 1, 0),
        ("last is nan", 1.0, 1, 0),
        ("last is nan", math.nan, 2, 1),
        ("first is nan", math.nan, 1, 0),
        ("first is nan", 2.0, 2, 1),
        ("inf", math.inf, 1, 0),
        ("-inf", -math.inf, 1, 0),
        ("tiny", 5e-324, 1, 0),
        ("-0", -0.0, 1, 0),
        ("twice", 1.0, 1, 0),
        ("twice", 1.0, 1, 0),
        ("out of order", 3.0, 5, 9),
        ("out of order", 4.0, 9, 5),
        ("same step", 5.0, 1, 3),
        ("same step", 6.0, 2, 3),
        ("same step and time", 7.0, 2, 3),
        ("same step and time", 6.0, 2, 3),
    ],
    tags={"fingerprint": "f" * 32, "cell": "c", "mlflow.user": "somebody", "note": "z" * 8000, "empty": ""},
    dataset=DATASET,
    files={"weights.npz": b"\0\1", "a b ü.json": b"{}", "empty": b""},
)


def bulk_sink(uri: str) -> BulkSink:
    engine = sa.create_engine(uri)
    assert is_known(engine)
    return BulkSink(engine)


SINKS: list[Callable[[str], Sink]] = [bulk_sink, lambda uri: ClientSink(uri, threads=1)]
