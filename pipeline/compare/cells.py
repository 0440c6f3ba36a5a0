"""Cells: runs that differ in the seed only, summed up with an interval that says how far to trust the sum."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.compare.metric import NEGLIGIBLE, Array, Metric, Numbers, metric_of, scored

RESAMPLES = 2000
AT_ONCE = 1_000_000  # numbers in one batch of resamples: 8 MB
FEW = 10  # seeds; with fewer, an interval holds what it should less often than it says

# What a config says twice: a key is left out where it is a function of these others.
FOLLOWS: dict[str, tuple[str, ...]] = {
    "network.depth": ("network.hidden",),
    "network.width": ("network.hidden",),
    "data.digest": (
        *("data.name", "data.drop", "data.features", "data.target", "data.categorical", "data.groups"),
        *("data.draw", "data.noise", "data.draw_seed"),
    ),
    "network.n_params": ("network.hidden", "network.bias", "data.name", "data.digest"),
    "numerics": ("network.hidden", "network.bias", "data.name", "data.digest"),
}
LEADERS = {"data": "data.name", "init": "init.scheme"}  # the key that the others of its group may follow


def swept_keys(frame: pd.DataFrame) -> list[str]:
    """The params that differ between the runs, in the frame's order.

    Left out: the seed, and what follows from another key (a network's width from its layers, a data set's digest from
    its name, the settings of a scheme of initial weights from the scheme).
    """
    params = [str(key) for key in frame.columns if "." in str(key) or key == "numerics"]
    varied = [key for key in params if frame[key].nunique(dropna=False) > 1]
    return [key for key in varied if not follows(frame, key, varied)]


def follows(frame: pd.DataFrame, key: str, varied: Sequence[str]) -> bool:
    """Whether a param is a function of those that it may follow."""
    leader = LEADERS.get(key.partition(".")[0], key)
    leaders = [name for name in FOLLOWS.get(key, (leader,)) if name in varied and name != key]
    if not leaders:
        return False
    return bool(frame.groupby(leaders, dropna=False)[key].nunique(dropna=False).max() == 1)


def cell_table(
    frame: pd.DataFrame, metric: Metric | None = None, by: Sequence[str] | None = None, seed: int = 0
) -> pd.DataFrame:
    """A row a cell, or a group of runs alike in the columns `by`; the best median first, then the best iqm.

    Columns: the grouping keys (of cells: `cell` and the swept keys); n, diverged: counts of runs; median, mean, iqm
    (interquartile mean), low, high (95 % bootstrap interval of the iqm), lowest, highest; worst_seed; best_median,
    best_iqm, best_low, best_high: the same of the best loss; too_few: fewer than 10 seeds, so the interval is too
    narrow. A diverged run is worse than every other: infinite in the median, left out of mean, iqm and their kin.
    All are in the metric's own unit, without logarithms.

    A frame with a column `reached_at` (updates until the curve was low enough; nan: never) gets those of
    `speed_table`. In a group of several cells runs count alike, and its interval is that of the runs, not the seeds.
    Raises KeyError if a column is not there.
    """
    metric = metric or metric_of(frame)
    runs = scored(frame, metric)
    codes, table = grouped(runs, by)
    best = Metric("best_loss")
    columns = summary(runs["score"].to_numpy(), codes, len(table), metric, seed)
    extra = summary(scored(frame, best)["score"].to_numpy(), codes, len(table), best, seed)
    table = table.assign(**columns, worst_seed=worst_seeds(runs, codes, len(table)))
    table = table.assign(**{f"best_{name}": extra[name] for name in ("median", "iqm", "low", "high")})
    table["too_few"] = seeds_of(runs, codes, len(table)) < FEW
    if "reached_at" in runs:
        table = pd.concat([table, speed_table(runs, codes, len(table))], axis=1)
    return table.iloc[ranking(table, metric)].reset_index(drop=True)


def grouped(runs: pd.DataFrame, by: Sequence[str] | None) -> tuple[Numbers, pd.DataFrame]:
    """The number of each run's group, (runs,), and a row a group with its keys: `by`, or cell and swept keys."""
    groups = runs.groupby(list(by) if by else ["cell"], sort=False, dropna=False)
    keys = list(by) if by else ["cell", *swept_keys(runs)]
    codes = groups.ngroup().to_numpy(dtype=np.int64)
    first = np.unique(codes, return_index=True)[1]
    return np.asarray(codes, dtype=np.int64), runs.iloc[first][keys].reset_index(drop=True)


def ranking(table: pd.DataFrame, metric: Metric) -> Numbers:
    """The rows of a table of summaries, best first: by median, then by iqm; equals keep their order."""
    median, iqm = (metric.values(table[name].to_numpy(dtype=np.float64)) for name in ("median", "iqm"))
    return np.lexsort((iqm, median))


def summary(scores: Array, codes: Numbers, k: int, metric: Metric, seed: int | None) -> dict[str, Array | Numbers]:
    """The columns that sum up scores, (runs,), of k groups, each (k,). Without a seed there are no intervals."""
    counted = ~np.isnan(scores)
    scores, codes = scores[counted], codes[counted]
    n = np.bincount(codes, minlength=k)
    finite = np.bincount(codes[np.isfinite(scores)], minlength=k)
    ranked = scores[np.lexsort((scores, codes))]
    start = np.cumsum(n) - n
    found = {name: np.full(k, np.nan) for name in ("median", "mean", "iqm", "low", "high", "lowest", "highest")}
    some = n > 0
    middle = [ranked[(start + at)[some]] for at in ((n - 1) // 2, n // 2)]
    found["median"][some] = (middle[0] + middle[1]) / 2
    for size in np.unique(finite[finite > 0]):
        rows = np.flatnonzero(finite == size)
        block = ranked[start[rows][:, None] + np.arange(size)]
        found["mean"][rows], found["iqm"][rows] = block.mean(axis=1), iqm(block)
        found["lowest"][rows], found["highest"][rows] = block[:, 0], block[:, -1]
        if seed is not None:
            found["low"][rows], found["high"][rows] = interval((block,), iqm, seed)
    values = {name: metric.values(column) for name, column in found.items()}
    if metric.higher:
        values |= {"low": values["high"], "high": values["low"]}
        values |= {"lowest": values["highest"], "highest": values["lowest"]}
    return {"n": n, "diverged": n - finite, **values}


def iqm(values: Array, axis: int = -1) -> Array:
    """The interquartile mean along an axis: without a quarter of the values, rounded down, at either end."""
    ranked = np.moveaxis(np.sort(values, axis=axis), axis, -1)  # 3 times as fast as scipy's trim_mean
    n = ranked.shape[-1]
    mean: Array = ranked[..., n // 4 : n - n // 4].mean(axis=-1)
    return mean


def interval(samples: Sequence[Array], statistic: Callable[..., Array], seed: int) -> tuple[Array, Array]:
    """95 % bootstrap intervals, (r,) and (r,), of a statistic of samples (r, n), (r, m), ..., row by row.

    Percentiles of the resampled statistic, but wider ones for small n: a plain percentile interval of a mean is too
    narrow by sqrt((n - 1) / n) and by normal instead of t quantiles (Hesterberg 2015, "expanded percentiles").
    Rows share their resamples, so a row's interval does not depend on what other rows there are. One value in a
    sample: nan.
    """
    sizes = [sample.shape[1] for sample in samples]
    r, smallest = len(samples[0]), min(sizes)
    if smallest == 1:
        return np.full(r, np.nan), np.full(r, np.nan)
    result = stats.bootstrap(
        samples,
        statistic,
        axis=-1,
        method="percentile",
        confidence_level=expanded_level(smallest),
        n_resamples=RESAMPLES,
        batch=max(1, AT_ONCE // (r * max(sizes))),
        rng=np.random.default_rng([seed, *sizes]),
        vectorized=True,
    )
    return result.confidence_interval.low, result.confidence_interval.high


def expanded_level(n: int) -> float:
    """The level to ask of a percentile interval for 95 % with n values."""
    return float(1 - 2 * stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1)))


def worst_seeds(runs: pd.DataFrame, codes: Numbers, k: int) -> Numbers:
    """The seed of the worst run of each group, (k,): a diverged one if there is any, the lowest of equals."""
    scores, seeds = runs["score"].to_numpy(), runs["seed"].to_numpy(dtype=np.int64)
    measured = np.where(np.isnan(scores), -np.inf, scores)
    order = np.lexsort((seeds, -measured, codes))
    return seeds[order[np.searchsorted(codes[order], np.arange(k))]]


def seeds_of(runs: pd.DataFrame, codes: Numbers, k: int) -> Numbers:
    """How many seeds of each group have a finite score, (k,)."""
    kept = pd.DataFrame({"code": codes, "seed": runs["seed"]})[np.isfinite(runs["score"])].drop_duplicates()
    return np.bincount(kept["code"].to_numpy(dtype=np.int64), minlength=k)


def speed_table(runs: pd.DataFrame, codes: Numbers, k: int) -> pd.DataFrame:
    """Columns reached (count), updates_needed, updates_low, updates_high of each of k groups, from `reached_at`.

    updates_needed is the median of the updates that a run needs (Kaplan-Meier), with its 95 % interval. A run that was
    trained without reaching is censored at its last update: it might have, later. A diverged one never will.
    Infinite: more than half do not reach, as far as they were trained.
    """
    reached = runs["reached_at"].to_numpy(dtype=np.float64)
    trained = runs["updates"].fillna(0).to_numpy(dtype=np.float64)
    never = np.nanmax([*reached, *trained, 0.0]) + 1
    lasted = np.where(np.isinf(runs["score"]), never, trained)
    order = np.argsort(codes, kind="stable")
    groups = np.split(order, np.searchsorted(codes[order], np.arange(1, k)))
    rows = [median_updates(reached[group], lasted[group]) for group in groups]
    columns = ["updates_needed", "updates_low", "updates_high"]
    table = pd.DataFrame(rows, columns=columns, dtype=np.float64)
    table.insert(0, "reached", np.bincount(codes[~np.isnan(reached)], minlength=k))
    return table


def median_updates(reached: Array, lasted: Array) -> tuple[float, float, float]:
    """The median of `reached`, (n,), where nan is censored at `lasted`, (n,), and the 95 % interval of the median."""
    came = ~np.isnan(reached)
    if not came.any():
        return np.inf, np.inf, np.inf
    cdf = stats.ecdf(stats.CensoredData(uncensored=reached[came], right=lasted[~came])).cdf
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The confidence interval is undefined", RuntimeWarning)
        band = cdf.confidence_interval(0.95, method="log-log")
    # Undefined where all have reached: there the exact bounds of a share of n out of n.
    lowest = np.nan_to_num(band.low.probabilities, nan=0.025 ** (1 / len(reached)))
    highest = np.nan_to_num(band.high.probabilities, nan=1.0)
    return (
        first_half(cdf.quantiles, cdf.probabilities),
        first_half(cdf.quantiles, highest),
        first_half(cdf.quantiles, lowest),
    )


def first_half(updates: Array, shares: Array) -> float:
    """The first of the updates, (t,), by which a share, (t,), of at least half has reached; infinite if none."""
    half = np.flatnonzero(shares >= 0.5 - NEGLIGIBLE)
    return float(updates[half[0]]) if len(half) else np.inf
