"""Which runs are in an arm, and what is measured of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.compare.cells import swept_keys
from pipeline.compare.frame import USUAL, value_of
from pipeline.compare.metric import short
from pipeline.compare.results import Results
from pipeline.compare.wording import level
from pipeline.errors import UserError
from pipeline.findings.declared import Arm, Fact, Finding
from pipeline.results.kept import KeptRun
from pipeline.results.predict import run_predictor

ARM = "arm"
ALWAYS = ("run_id", "status", "cell", "seed", "diverged_at", "final_loss")


@dataclass(frozen=True)
class Evidence:
    """The runs that a finding is about, a row a run, and `store`, where they are kept, if they are."""

    runs: pd.DataFrame
    store: Results | None = None

    @property
    def kept(self) -> Results:
        """The runs as they are kept. Raises UserError if they are not."""
        if self.store is None:
            raise UserError("Of these runs nothing is kept: choose a metric and a picture that need no more than runs.")
        return self.store


def runs_of(runs: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    """The runs of a frame whose keys have these values."""
    chosen = np.ones(len(runs), dtype=bool)
    for key, wanted in where.items():
        chosen &= levels_of(runs, key).eq(told(value_of(str(wanted)))).to_numpy()
    return runs[chosen]


def levels_of(runs: pd.DataFrame, key: str) -> "pd.Series[str]":
    """The values of a key as text, a row a run."""
    values = runs[key] if key in runs else [None] * len(runs)
    return pd.Series([told(value, USUAL.get(key)) for value in values], runs.index, dtype=str)


def told(value: object, usual: object = None) -> str:
    """A value as text: the usual one, or `none`, where a run has none."""
    text = level(value)
    if text != "missing":
        return text
    return "none" if usual is None else level(usual)


def table_of(finding: Finding, evidence: Evidence) -> pd.DataFrame:
    """The runs of both arms, a row a run and arm: `arm`, the metric, what is always needed, the keys that both vary.

    Raises UserError if an arm has no run, or no run has the metric.
    """
    if finding.metric not in (*MEASURES, *evidence.runs.columns):
        raise UserError(f"The finding {finding.name} is about {finding.metric}, which its runs do not have.")
    arms = [runs_of(evidence.runs, arm.where) for arm in finding.arms]
    for arm, runs in zip(finding.arms, arms, strict=True):
        if runs.empty:
            raise UserError(f"The finding {finding.name} finds no run for {arm.name}.")
    keys = [key for key in swept_keys(arms[0]) if key in swept_keys(arms[1])]
    columns = [*dict.fromkeys([*ALWAYS, ARM, finding.metric, *keys])]
    measured = [
        runs.assign(cell=arm.name, arm=arm.name, **{finding.metric: measures(finding.metric, arm, runs, evidence)})
        for arm, runs in zip(finding.arms, arms, strict=True)
    ]
    return pd.concat([runs[columns] for runs in measured], ignore_index=True)


def fact_of(fact: Fact, finding: Finding, runs: pd.DataFrame) -> str:
    """A fact in words: a number of three digits, or per cent. Raises UserError if no run has such keys."""
    chosen = runs_of(runs, fact.where)
    if chosen.empty:
        raise UserError(f"The finding {finding.name} finds no run for its fact of {dict(fact.where)}.")
    values = chosen[fact.metric or finding.metric].to_numpy(dtype=np.float64)
    if fact.kind == "median":
        return short(float(np.median(values)))
    share = np.mean(chosen["diverged_at"].notna() if fact.kind == "diverged" else values > fact.value)
    return f"{100 * share:.0f} %"


def measures(metric: str, arm: Arm, runs: pd.DataFrame, evidence: Evidence) -> "pd.Series[float]":
    """The metric of each run: a column of the frame, or read from what was kept of it."""
    if metric not in MEASURES:
        return runs[metric].astype(float)
    found = [MEASURES[metric](evidence.kept.kept(run_id), arm) for run_id in runs["run_id"]]
    return pd.Series(found, runs.index, dtype=float)


def distinct_units(run: KeptRun, _: Arm) -> float:
    """How many units of the first hidden layer differ from all before them, in any bit of a weight."""
    matrices, biases = run.weights
    parts = [matrices[0], *(bias[None, :] for bias in biases[:1]), matrices[1].T]
    return float(len({unit.tobytes() for unit in np.concatenate(parts).T}))


def rms_error(run: KeptRun, arm: Arm) -> float:
    """The root of the mean squared error of the predictions of the arm's rows."""
    X, y = (np.array((arm.at or {})[name], dtype=np.float64) for name in ("X", "y"))
    error = run_predictor(run).outputs(X) - y
    return float(np.sqrt(np.mean(error**2)))


MEASURES: dict[str, Callable[[KeptRun, Arm], float]] = {"distinct_units": distinct_units, "rms_error": rms_error}
