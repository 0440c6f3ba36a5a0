"""Every cell beside every other: scores by seed, tests of all pairs, corrected for how many they are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.compare.cells import grouped, ranking, summary, swept_keys
from pipeline.compare.metric import Array, Metric, Numbers, scored
from pipeline.compare.wording import level, short_keys

ENOUGH = 5  # common seeds; with fewer nothing is tested


@dataclass(frozen=True)
class Scores:
    """Scaled scores (lower is better) of k groups, (k, blocks): nan is no run, infinity a diverged one.

    A block is a seed with the settings of the swept keys that the groups are not made by; `seeds`, (blocks,), ascends.
    Groups come best first, each with its label; `no_best`: even of the first, most runs diverged.
    """

    table: pd.DataFrame
    labels: list[str]
    blocks: Array
    seeds: Numbers
    no_best: bool

    @property
    def by_seed(self) -> Array:
        """The mean of each group's finite scores of each seed, (k, seeds); nan where there is none."""
        return mean_by_seed(self.blocks, self.seeds)


def matrix(frame: pd.DataFrame, metric: Metric, by: Sequence[str] | None) -> Scores:
    """The scores of a frame's groups, best first. Runs of the same config and seed are averaged."""
    runs = scored(frame, metric)
    runs = runs[runs["score"].notna()].reset_index(drop=True)
    codes, table = grouped(runs, by)
    centres = summary(runs["score"].to_numpy(), codes, len(table), metric, seed=None)
    order = ranking(pd.DataFrame(centres), metric)
    table = table.iloc[order].reset_index(drop=True)
    places = np.argsort(order)[codes]
    rest = [key for key in swept_keys(runs) if key not in by] if by and "cell" not in by else []
    blocks = runs.sort_values("seed", kind="stable").groupby(["seed", *rest], sort=False, dropna=False)
    seeds = blocks["seed"].first().to_numpy(dtype=np.int64)
    at = (places, blocks.ngroup().sort_index().to_numpy(dtype=np.int64))
    sums, counts = np.zeros((2, len(table), len(seeds)))
    np.add.at(sums, at, metric.scaled(runs["score"].to_numpy()))
    np.add.at(counts, at, 1)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    no_best = not np.isfinite(centres["median"][order[:1]]).any()
    return Scores(table, labels(table, by), means, seeds, no_best)


def labels(table: pd.DataFrame, by: Sequence[str] | None) -> list[str]:
    """What people call each row: `hidden=[4, 5] epochs=100`; a cell's name, if that is not enough."""
    keys = list(by) if by else [key for key in table.columns if key != "cell"]
    rows = table[keys].itertuples(index=False, name=None)
    named = [
        " ".join(
            f"{key}={level(value)}" for key, value in zip(short_keys(keys), row, strict=True) if by or pd.notna(value)
        )
        for row in rows
    ]
    if not by and (len(set(named)) < len(named) or "" in named):
        return [str(name) for name in table["cell"]]
    return named


def mean_by_seed(blocks: Array, seeds: Numbers) -> Array:
    """The mean of the finite values of each seed, (k, seeds), of (k, blocks) with ascending seeds, (blocks,)."""
    finite = np.isfinite(blocks)
    starts = first_blocks(seeds)
    if len(starts) == len(seeds):
        return np.where(finite, blocks, np.nan)
    sums = np.add.reduceat(np.where(finite, blocks, 0.0), starts, axis=1)
    counts = np.add.reduceat(finite, starts, axis=1, dtype=np.float64)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def first_blocks(seeds: Numbers) -> Numbers:
    """The place of the first block of each seed, (seeds,), of ascending ones, (blocks,)."""
    return np.flatnonzero(np.r_[True, seeds[1:] != seeds[:-1]])


# --- tests of all pairs -----------------------------------------------------------------------------------------


def all_pairs(scores: Scores) -> pd.DataFrame:
    """A row a pair of groups, i before j.

    Columns: i, j; n: seeds compared; paired; difference of the means (j - i, scaled: above 0, i is better); variance
    of one seed's difference; p_difference, nan where there are too few seeds; p of it and of divergence;
    p_corrected, p_diverged_corrected; by_divergence: which of the two gave p; better: above 0 if i is, by that test.
    """
    pairs = pd.concat([differences(scores, i) for i in range(len(scores.labels) - 1)], ignore_index=True)
    i, j, common = (pairs[name].to_numpy() for name in ("i", "j", "n"))
    unpaired = welch(scores, i, j)
    enough = unpaired["n"] >= ENOUGH
    paired = np.where(enough, (common >= ENOUGH) & (2 * common >= unpaired["n"]), common > 1)
    pairs["p_difference"] = paired_p(pairs)
    pairs = pd.DataFrame({name: np.where(paired, pairs[name], unpaired[name]) for name in unpaired})
    pairs.loc[pairs["n"] < ENOUGH, "p_difference"] = np.nan
    return with_divergence(pairs.assign(paired=paired), scores)


def with_divergence(pairs: pd.DataFrame, scores: Scores) -> pd.DataFrame:
    """The pairs with the test of divergence, the p value of both tests, and the corrections for all pairs."""
    i, j = pairs["i"].to_numpy(), pairs["j"].to_numpy()
    diverged, sizes = divergences(scores)
    p_difference, p_diverged = pairs["p_difference"].to_numpy(), diverged_p(diverged, sizes, i, j)
    both = np.minimum(1.0, 2 * np.fmin(p_difference, p_diverged))
    p = np.where(diverged[i] + diverged[j] > 0, both, p_difference)
    by_divergence = (p == both) & (np.fmin(p_difference, p_diverged) != p_difference)
    more = diverged[j] / sizes[j] - diverged[i] / sizes[i]
    return pairs.assign(
        p_diverged_corrected=holm(p_diverged),
        p=p,
        p_corrected=holm(p),
        by_divergence=by_divergence,
        better=np.where(by_divergence, np.sign(more), np.sign(pairs["difference"])),
    )


def differences(scores: Scores, i: int) -> pd.DataFrame:
    """The differences of all groups after the i-th from it, by seed: their number, mean and variance."""
    mean, variance, n = moments(from_group(scores, i))
    j = np.arange(i + 1, len(scores.labels))
    return pd.DataFrame({"i": i, "j": j, "n": n, "difference": mean, "variance": variance})


def from_group(scores: Scores, i: int) -> Array:
    """The differences of every group after the i-th from it, by seed, (k - i - 1, seeds); nan where one is missing."""
    with np.errstate(invalid="ignore"):  # infinity - infinity
        return mean_by_seed(scores.blocks[i + 1 :] - scores.blocks[i], scores.seeds)


def moments(values: Array) -> tuple[Array, Array, Numbers]:
    """Mean, variance and number of the finite values of each row of (k, n), each (k,); nan where there are too few."""
    finite = np.isfinite(values)
    n = finite.sum(axis=1)
    with np.errstate(all="ignore"):
        mean = np.where(finite, values, 0.0).sum(axis=1) / n
        off = np.where(finite, values - mean[:, None], 0.0)
        variance = (off**2).sum(axis=1) / np.where(n > 1, n - 1, np.nan)
    return mean, variance, n


def paired_p(pairs: pd.DataFrame) -> Array:
    """Two-sided p values of t tests of the mean differences, (pairs,). Differences that are all 0 have 1."""
    difference, variance, n = (pairs[name].to_numpy() for name in ("difference", "variance", "n"))
    with np.errstate(all="ignore"):
        t = np.abs(difference) / np.sqrt(variance / n)
    p: Array = 2 * stats.t.sf(t, np.maximum(n - 1, 1))
    return np.where(difference == 0, 1.0, p)


def welch(scores: Scores, i: Numbers, j: Numbers) -> pd.DataFrame:
    """The columns of `all_pairs` up to p_difference, by Welch's test of the groups i and j, (pairs,) each.

    n is the smaller number of seeds; the variance is n times the squared standard error, so it counts as one of n.
    """
    mean, variance, sizes = moments(scores.by_seed)
    n = np.minimum(sizes[i], sizes[j])
    difference = mean[j] - mean[i]
    with np.errstate(all="ignore"):
        spread = np.sqrt(variance)
        test = stats.ttest_ind_from_stats(mean[i], spread[i], sizes[i], mean[j], spread[j], sizes[j], equal_var=False)
        per_seed = n * (variance[i] / sizes[i] + variance[j] / sizes[j])
    p = np.where(difference == 0, 1.0, test.pvalue)
    columns = {"i": i, "j": j, "n": n, "difference": difference, "variance": per_seed, "p_difference": p}
    return pd.DataFrame(columns)


def diverged_p(diverged: Numbers, sizes: Numbers, i: Numbers, j: Numbers) -> Array:
    """P values of Fisher's test that the groups i and j diverge alike often, (pairs,); nan for too few seeds.

    `diverged` of `sizes` seeds of each group did, both (k,).
    """
    kinds, kind = np.unique(np.stack([diverged, sizes], axis=1), axis=0, return_inverse=True)
    p = np.ones((len(kinds), len(kinds)))
    for a, (bad, n) in enumerate(kinds):
        for b, (other_bad, other_n) in enumerate(kinds[:a]):
            if bad + other_bad:
                test = stats.fisher_exact([[bad, n - bad], [other_bad, other_n - other_bad]])
                p[a, b] = p[b, a] = test.pvalue
    few = np.minimum(sizes[i], sizes[j]) < ENOUGH
    return np.where(few, np.nan, p[kind.reshape(-1)[i], kind.reshape(-1)[j]])


def divergences(scores: Scores) -> tuple[Numbers, Numbers]:
    """How many seeds of each group have a diverged run, and how many it has, both (k,)."""
    starts = first_blocks(scores.seeds)
    diverged, there = (
        np.add.reduceat(kind, starts, axis=1, dtype=np.int64) > 0
        for kind in (np.isinf(scores.blocks), ~np.isnan(scores.blocks))
    )
    return diverged.sum(axis=1), there.sum(axis=1)


def holm(p: Array) -> Array:
    """P values corrected by Holm's method for as many tests as there are, (m,); nan is no test.

    The smallest is multiplied by m, the next by m - 1, ..., and none may be smaller than one before it.
    """
    order = np.argsort(p)  # nan comes last
    m = int(np.sum(~np.isnan(p)))
    raised = p[order] * np.maximum(m - np.arange(len(p)), 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return adjusted
