"""Frames made by hand: of runs, a row a run, with the columns that runs read from a store have; and a table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.compare.metric import Array

Losses = Sequence[float] | Array
SHOP = pd.DataFrame({"hours": [1.0, 2, 3, 4, 5, 6], "city": ["Bonn", "Ulm"] * 3, "score": [3.0, 4, 6, 8, 9, 12]})


def frame(cells: Mapping[str, Losses], first_seed: int = 0, **columns: Any) -> pd.DataFrame:
    """Runs of cells by name with their final losses, seeds counted from `first_seed`; nan is a diverged run."""
    rows = [
        {"cell": cell, "seed": first_seed + at, "final_loss": loss}
        for cell, losses in cells.items()
        for at, loss in enumerate(losses)
    ]
    return completed(
        pd.DataFrame(rows, columns=["cell", "seed", "final_loss"]).astype({"seed": "int64", "final_loss": "float64"}),
        **columns,
    )


def completed(runs: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    """Runs with the columns that are missing; `columns` are further ones, (runs,) or one value for all."""
    ids = [f"{cell}/{seed}" for cell, seed in zip(runs["cell"], runs["seed"], strict=True)]
    names: dict[str, Any] = {"run_id": ids, "name": ids, "fingerprint": ids}
    diverged = np.where(np.isfinite(runs["final_loss"]), np.nan, 7.0)
    rest: dict[str, Any] = {
        "status": "FINISHED",
        "diverged_at": diverged,
        "best_loss": runs["final_loss"],
        "updates": 100.0,
    }
    return runs.assign(**(names | rest | columns))


def grid(
    losses: Mapping[tuple[str, float], Losses],
    row: str = "network.hidden",
    column: str = "training.learning_rate",
) -> pd.DataFrame:
    """Runs of cells by two params, with their final losses, seeds counted from 0."""
    rows = [
        {"cell": f"{a} lr{b:g}", row: a, column: b, "seed": seed, "final_loss": loss}
        for (a, b), values in losses.items()
        for seed, loss in enumerate(values)
    ]
    return completed(pd.DataFrame(rows))


def simulated(
    rng: np.random.Generator, cells: int, seeds: int, planted: float = 0.0, by_seed: float = 0.5
) -> pd.DataFrame:
    """Runs whose log10 final losses spread by 1 over the seeds, a share `by_seed` of the variance common to a seed.

    The first cell is better by `planted`.
    """
    common = rng.normal(size=seeds) * np.sqrt(by_seed)
    own = rng.normal(size=(cells, seeds)) * np.sqrt(1 - by_seed)
    losses = 10.0 ** (common + own - planted * (np.arange(cells) == 0)[:, None])
    return frame({f"c{at}": list(row) for at, row in enumerate(losses)})


def shuffled(runs: pd.DataFrame) -> pd.DataFrame:
    """The same rows in another order."""
    return runs.sample(frac=1.0, random_state=3)
