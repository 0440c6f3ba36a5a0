"""Runs as one typed frame: a row a run.

Its columns are `run_id`, `name`, `status`, `fingerprint`, `cell`, `sweep`, `seed`, `diverged_at`, the params
under their dotted keys (numbers and truth values typed back, lists as text: `[4, 5]`) and the results without their
prefix: `final_loss`, `best_loss`, `log10_best_loss`, `updates`, ... A result that a run has not is nan; so is a param,
unless it is a number of the data's that a run has only where it is not the default.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import pandas as pd

from pipeline.config import DataConfig
from pipeline.planning.plan import Outcome
from pipeline.results.record import params as params_of
from pipeline.store.rows import RUN_COLUMNS, TAG_COLUMNS, Rows, long_table

RESULTS = "result/"
TEXT = ("name", "digest", "scaling", "weights")  # how keys end whose values are text, also those that look like numbers
USUAL = {f"data.{key.name}": key.default for key in fields(DataConfig) if isinstance(key.default, int | float)}
CONSTANTS = {"True": True, "False": False, "None": None}


def frame(rows: Rows, run_ids: Sequence[str]) -> pd.DataFrame:
    """The frame of the FINISHED runs, in the order of their ids given."""
    runs = rows.runs.set_index("run_id")
    runs["seconds"] = (runs.pop("end_time") - runs.pop("start_time")) / 1000
    runs["experiment_id"] = runs["experiment_id"].astype(str)
    tags = wide(rows.tags).reindex(columns=list(TAG_COLUMNS))
    tags["diverged_at"] = pd.to_numeric(tags["diverged_at"])
    params = wide(rows.params).apply(typed)
    metrics = wide(rows.metrics[rows.metrics["key"].str.startswith(RESULTS)]).astype(float)
    metrics.columns = [name.removeprefix(RESULTS) for name in metrics.columns]
    metrics = metrics.reindex(columns=list(dict.fromkeys(["final_loss", "best_loss", "updates", *metrics.columns])))
    found = runs.join([tags, params, metrics]).reindex(list(dict.fromkeys(run_ids)))
    found = found[found["status"] == "FINISHED"]
    return found.rename_axis("run_id").reset_index()


def wide(long: pd.DataFrame) -> pd.DataFrame:
    """A row a run, a column a key."""
    table = long.pivot(index="run_id", columns="key", values="value")
    return table.rename_axis(columns=None)


def typed(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """A param's values as what they were: whole numbers, floats, truth values; else text.

    Missing ones stay missing, but for those that a run is without where they are as usual (identity.py).
    """
    if str(column.name).endswith(TEXT):
        return column
    values: Mapping[str, Any] = {text: value_of(text) for text in column.dropna().unique()}
    found, usual = column.map(values), USUAL.get(str(column.name))
    return (found if usual is None else found.where(column.notna(), usual)).infer_objects()


def value_of(text: str) -> Any:
    """A param's value: lists stay text, as groups and tables want it."""
    if text in CONSTANTS:
        return CONSTANTS[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def frame_of(ended: Sequence[Outcome]) -> pd.DataFrame:
    """The frame of runs that have ended, as if read from a store. One without a store has its fingerprint as its id."""
    ids = [outcome.run_id or outcome.run.fingerprint for outcome in ended]
    heads = [(run_id, one.run.name, "FINISHED", 0, 0, 0) for run_id, one in zip(ids, ended, strict=True)]
    both = list(zip(ids, ended, strict=True))
    rows = Rows(
        runs=pd.DataFrame(heads, columns=RUN_COLUMNS),
        params=long_table((run_id, key, value) for run_id, one in both for key, value in params_of(one.run).items()),
        tags=long_table((run_id, key, value) for run_id, one in both for key, value in tags(one).items()),
        metrics=long_table((run_id, key, value) for run_id, one in both for key, value in one.metrics.items()),
    )
    return frame(rows, ids)


def tags(outcome: Outcome) -> dict[str, str]:
    """The tags that the frame has, of a run that has ended."""
    run = outcome.run
    found = {"fingerprint": run.fingerprint, "cell": run.cell}
    return found | ({"diverged_at": str(outcome.diverged_at)} if outcome.diverged else {})
