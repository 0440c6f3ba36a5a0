"""The whole comparison of some runs: their cells, the verdicts, the effects of the keys."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from pipeline.checks import shown
from pipeline.compare.cells import cell_table, swept_keys
from pipeline.compare.effects import Effects, effects
from pipeline.compare.metric import Metric, metric_of
from pipeline.compare.results import Results, Selection, read_results
from pipeline.compare.verdicts import Verdicts, verdicts
from pipeline.errors import UserError
from pipeline.store.address import store_uri

PARAMS = ("seed", "numerics", "cell")  # keys without a dot that one may group by
UNITS = ("data.name", "data.target_scaling", "data.target_divide_by", "training.loss")  # what a loss is measured in


@dataclass(frozen=True)
class Comparison:
    """Runs compared: `runs` a row a run, `cells` a row a cell (or group of `by`), `keys` those that were swept."""

    runs: pd.DataFrame
    metric: Metric
    by: tuple[str, ...]
    keys: tuple[str, ...]
    cells: pd.DataFrame
    verdicts: Verdicts
    effects: Effects

    @property
    def is_default(self) -> bool:
        """True if it is the comparison that a sweep ends with: of cells, by the usual metric, without a threshold."""
        return not self.by and self.metric.name == usual_metric(self.runs) and "reached_at" not in self.runs


def usual_metric(runs: pd.DataFrame) -> str:
    """What runs are compared by unless something else is asked for: rows held out to validate, if there are any."""
    return "val_loss" if "val_loss" in runs and runs["val_loss"].notna().any() else "final_loss"


def compare(runs: pd.DataFrame, metric: str | None = None, by: Sequence[str] = ()) -> Comparison:
    """Compares the runs of a frame (see frame.py) by a metric (None: usual_metric), by cell or grouped by keys.

    Raises UserError if no run has such a metric or such keys.
    """
    name = usual_metric(runs) if metric is None else metric.removeprefix("result/")
    check_column("metric", name, metrics_of(runs))
    for key in by:
        check_column("by", key, keys_to_choose(runs))
    measure = metric_of(runs, name)
    keys = swept_keys(runs)
    groups = list(dict.fromkeys(by)) or None
    told = verdicts(runs, measure, groups)
    return Comparison(
        runs=runs,
        metric=measure,
        by=tuple(groups or ()),
        keys=tuple(keys),
        cells=cell_table(runs, measure, groups),
        verdicts=replace(told, sentence=f"{caution(keys, measure)} {told.sentence}".strip()),
        effects=effects(runs, measure, keys),
    )


def compare_sweep(
    selection: Selection | None = None,
    uri: str | None = None,
    metric: str | None = None,
    by: Sequence[str] = (),
    threshold: float | None = None,
) -> Comparison:
    """Compares runs of a store: those selected, or the latest sweep's.

    `uri` is MLFLOW_TRACKING_URI or sqlite:///mlflow.db if it is None. With a `threshold` of the loss, the cells say how
    many updates it takes to get there. Raises UserError if there is nothing of the kind.
    """
    results = read_results(store_uri(uri), selection or Selection())
    return compare(runs_with(results, threshold), metric, by)


def runs_with(results: Results, threshold: float | None) -> pd.DataFrame:
    """The frame of results, with the updates to a threshold of the loss if one is given."""
    return results.runs if threshold is None else results.with_reached(threshold)


def metrics_of(runs: pd.DataFrame) -> list[str]:
    """The results that runs can be compared by."""
    after = list(runs.columns).index("final_loss")
    always = ("final_loss", "best_loss")  # also of runs that all diverged
    return [
        str(name)
        for name in runs.columns[after:]
        if name in always or (name != "reached_at" and runs[name].notna().any())
    ]


def caution(swept: Sequence[str], metric: Metric) -> str:
    """Why the best need not be better, if losses are measured in different units by the swept keys; else empty."""
    units = UNITS if metric.name.endswith("loss") else UNITS[:-1]
    mixed = [key for key in units if key in swept]
    if not mixed or metric.higher or metric.name == "updates":
        return ""
    way_out = " (with training.metrics=[mse], runs also have metric=final_mse)" if mixed == ["training.loss"] else ""
    return f"Careful: runs that differ in {' and '.join(mixed)} have losses in different units{way_out}."


def keys_to_choose(runs: pd.DataFrame) -> list[str]:
    """The keys that runs can be grouped by."""
    return [str(key) for key in runs.columns if "." in str(key) or key in PARAMS]


def check_column(word: str, name: str, known: Sequence[str]) -> None:
    """Raises UserError unless `name` is among the columns known."""
    if name not in known:
        raise UserError(f"{word}={shown(name)} is nothing that these runs have: choose from {', '.join(known)}.")
