"""Cells: runs that differ in the seed only, summed up for the terminal and for the sweep's parent run."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.sweep import FAILED, Outcome


@dataclass(frozen=True)
class Cell:
    """Final losses over the seeds of a cell: n runs, `finite` of them with a loss; nan where there is none."""

    name: str
    hidden: tuple[int, ...]
    learning_rate: float
    epochs: int
    n: int
    finite: int
    diverged: int
    median: float
    best: float
    worst: float


def summarize(outcomes: Sequence[Outcome]) -> list[Cell]:
    """The cells of a sweep, the lowest median final loss first; cells in which most seeds gave no loss come last."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.status != FAILED:
            groups.setdefault(outcome.run.cell_digest, []).append(outcome)
    cells = [summarize_cell(group) for group in groups.values()]
    return sorted(cells, key=lambda cell: (np.isnan(cell.median), cell.median, cell.name))


def summarize_cell(group: Sequence[Outcome]) -> Cell:
    """One cell. A diverged run counts as worse than every other: its loss is taken as infinite in the median."""
    run = group[0].run
    losses = [outcome.metrics.get("result/final_loss") for outcome in group if not outcome.diverged]
    finite = [loss for loss in losses if loss is not None]
    ranked = np.sort([*finite, *[np.inf] * (len(group) - len(finite))])
    middle = float(np.median(ranked)) if np.isfinite(ranked[len(ranked) // 2]) else float("nan")
    return Cell(
        name=run.cell,
        hidden=tuple(run.config.network.hidden),
        learning_rate=run.config.training.learning_rate,
        epochs=run.config.training.epochs,
        n=len(group),
        finite=len(finite),
        diverged=sum(outcome.diverged for outcome in group),
        median=middle,
        best=min(finite, default=float("nan")),
        worst=max(finite, default=float("nan")),
    )
