"""Which run becomes the model: the best seed of the cell with the best median, or the run that is asked for."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.compare.cells import cell_table, swept_keys
from pipeline.compare.comparison import caution, check_column, metrics_of, usual_metric
from pipeline.compare.metric import Metric, metric_of, scored
from pipeline.compare.results import Results
from pipeline.errors import UserError
from pipeline.results.kept import KeptRun
from pipeline.store.reader import Reader
from pipeline.store.sinks import translated
from pipeline.terminal import counted


@dataclass(frozen=True)
class Choice:
    """A run to register, its name and cell, and in words why it is this one; `caution` is what to mind about that."""

    kept: KeptRun
    name: str
    cell: str
    why: str
    caution: str = ""


def named_run(reader: Reader, run_id: str) -> Choice:
    """The run with this id. Raises UserError if it is no finished run, or diverged."""
    kept = reader.run(run_id)
    if kept.diverged_at is not None:
        raise UserError(
            f"run={run_id} diverged after {kept.diverged_at} updates, so it predicts nothing: name another."
        )
    with translated(reader.uri):
        stored = reader.client.get_run(run_id)
    loss = stored.data.metrics["result/final_loss"]
    return Choice(
        kept, stored.info.run_name, stored.data.tags["cell"], f"it was asked for; its final loss is {loss:.6g}"
    )


def best_run(results: Results, by: str | None = None) -> Choice:
    """The run that wins: of the cell with the best median over its seeds, the best seed. Diverged runs never win.

    `by` is a result of the runs, None the usual one. Raises UserError if they have no such result, or all diverged.
    """
    name = usual_metric(results.runs) if by is None else by.removeprefix("result/")
    check_column("metric", name, metrics_of(results.runs))
    metric = metric_of(results.runs, name)
    runs = scored(results.runs, metric)
    if not np.isfinite(runs["score"]).any():
        raise UserError(
            f"{results.title} in {results.shown_uri} has no run to register, as all diverged: train others, for "
            "example with a lower training.learning_rate."
        )
    cells = cell_table(results.runs, metric)
    best = winner(runs, cells)
    return Choice(
        kept=results.kept(str(best["run_id"])),
        name=str(best["name"]),
        cell=str(best["cell"]),
        why=reason(cells, best, metric),
        caution=caution(swept_keys(results.runs), metric),
    )


def winner(runs: pd.DataFrame, cells: pd.DataFrame) -> "pd.Series[Any]":
    """The row of the best seed of the best cell: of scored runs, and of cells with the best first."""
    seeds = runs[runs["cell"] == cells["cell"].iloc[0]]
    first: pd.Series[Any] = seeds.sort_values("score", kind="stable").iloc[0]
    return first


def reason(cells: pd.DataFrame, winner: "pd.Series[Any]", metric: Metric) -> str:
    """Why this run wins."""
    best, value = cells.iloc[0], f"{winner[metric.name]:.6g}"
    if len(cells) == 1 and best["n"] == 1:
        return f"it is the only run; its {metric.words} is {value}"
    first = "its cell is the only one" if len(cells) == 1 else f"its cell has the best median of {len(cells):,} cells"
    seeds = counted(int(best["n"]), "seed")
    return f"{first}, {metric.words} {best['median']:.6g} over {seeds}; seed {winner['seed']} is its best, with {value}"
