"""Is a cell better than the others, by how much, and is it only the seed? Differences, tests, and words for both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from pipeline.compare.cells import interval
from pipeline.compare.metric import Array, Metric, Numbers, metric_of
from pipeline.compare.pairs import ENOUGH, Scores, all_pairs, divergences, from_group, matrix

LEVEL = 0.05  # of all comparisons together: the chance that any is told where there is nothing
POWER = 0.8
MOST_SEEDS = 10_000
ASSUMPTION = (
    "Seeds needed: for 80 % power at the level that is left after correcting for all comparisons, if the difference "
    "and the spread seen so far are the true ones (they are guesses themselves, the worse the fewer the seeds)."
)


@dataclass(frozen=True)
class Verdicts:
    """What can be told of the cells (or groups) of a frame.

    `best` is the label of the one with the best median, None if there is none; `table` compares every other one with
    it (columns: see `verdicts`); `alike` are the labels of those that cannot be told from it; `comparisons` is the
    number of pairs that the p values are corrected for; `assumption` is what the column seeds_needed rests on.
    """

    sentence: str
    best: str | None
    table: pd.DataFrame
    alike: tuple[str, ...] = ()
    comparisons: int = 0
    assumption: str = ASSUMPTION


def verdicts(
    frame: pd.DataFrame, metric: Metric | None = None, by: Sequence[str] | None = None, seed: int = 0
) -> Verdicts:
    """Which cell (or group of runs alike in the columns `by`) is best, and which others can be told from it.

    The best is the first of `cell_table`: it has the best median. A seed counts once: in a group of several cells,
    differences are taken setting by setting and averaged over a seed's. Pairs with a diverged run are left out of the
    differences; that one group diverges more often is tested apart (Fisher), and the smaller of the two p values,
    doubled, is the pair's. As the best is chosen after looking, Holm's correction is for all pairs of groups.

    Columns of the table, the next best first: the keys; label; n: seeds compared; paired: by seed, else Welch's
    test, for too few seeds in common; effect: how many times better the best is, or by how much (see Metric.log);
    low, high: its 95 % bootstrap interval, not corrected; p, p_corrected (nan: fewer than 5 seeds); told: the best is
    better; by_divergence: p is that of Fisher's test; reversed: the other is better, in the mean, though not in the
    median; seeds_needed: how many seeds each
    would have to have to be told (infinite: more than 10,000; nan: told); diverged: its seeds with a diverged run;
    diverges_more, diverges_less: than the best, and that is no chance; who diverges less is not told to be worse,
    whatever the differences of what is left. Raises KeyError if a column is not there.
    """
    metric = metric or metric_of(frame)
    scores = matrix(frame, metric, by)
    noun = "groups" if by else "cells"
    if len(scores.labels) < 2 or scores.no_best:
        best = None if scores.no_best else scores.labels[0]
        return Verdicts(no_comparison(scores, metric, noun), best, scores.table[:0])
    pairs = all_pairs(scores)
    table = against_best(scores, pairs, metric, seed)
    alike = tuple(table.loc[~table["told"], "label"])
    return Verdicts(sentence(scores, table, metric, noun), scores.labels[0], table, alike, int(pairs["p"].count()))


# --- against the best -------------------------------------------------------------------------------------------


def against_best(scores: Scores, pairs: pd.DataFrame, metric: Metric, seed: int) -> pd.DataFrame:
    """The table of `Verdicts`."""
    ours = pairs[pairs["i"] == 0].reset_index(drop=True)
    difference = ours["difference"].to_numpy()
    low, high = intervals(scores, ours["paired"].to_numpy(dtype=bool), seed)
    significant = ours["p_corrected"] < LEVEL
    diverged, sizes = divergences(scores)
    more = np.sign(diverged[1:] / sizes[1:] - diverged[0] / sizes[0]) * (ours["p_diverged_corrected"] < LEVEL)
    told = significant & (ours["better"] > 0) & (more >= 0)
    needed = seeds_needed(difference, ours["variance"].to_numpy(), ours["n"].to_numpy(), int(pairs["p"].count()))
    return (
        scores.table[1:]
        .reset_index(drop=True)
        .assign(
            label=scores.labels[1:],
            n=ours["n"],
            paired=ours["paired"],
            effect=metric.effect(difference),
            low=metric.effect(low),
            high=metric.effect(high),
            p=ours["p"],
            p_corrected=ours["p_corrected"],
            told=told,
            by_divergence=ours["by_divergence"],
            reversed=significant & (ours["better"] < 0),
            seeds_needed=np.where(told, np.nan, needed),
            diverged=diverged[1:],
            diverges_more=more > 0,
            diverges_less=more < 0,
        )
    )


def intervals(scores: Scores, paired: NDArray[np.bool_], seed: int) -> tuple[Array, Array]:
    """95 % bootstrap intervals of the mean difference of every other group from the best, scaled, (k - 1,) each."""
    low, high = np.full((2, len(paired)), np.nan)
    own = scores.by_seed
    values = np.where(paired[:, None], from_group(scores, 0), own[1:])
    n = np.isfinite(values).sum(axis=1)
    best = compact(own[:1])
    for together, size in {(bool(together), int(size)) for together, size in zip(paired, n, strict=True)}:
        chosen = np.flatnonzero((paired == together) & (n == size))
        if size > 1 and together:
            low[chosen], high[chosen] = interval((compact(values[chosen]),), np.mean, seed)
        elif size > 1:
            both = (compact(values[chosen]), np.repeat(best, len(chosen), axis=0))
            low[chosen], high[chosen] = interval(both, mean_difference, seed)
    return low, high


def mean_difference(one: Array, other: Array, axis: int) -> Array:
    """The difference of two means along an axis."""
    difference: Array = one.mean(axis=axis) - other.mean(axis=axis)
    return difference


def compact(values: Array) -> Array:
    """The finite values, (r, size), in ascending order, of rows that all have `size` of them."""
    return np.sort(values[np.isfinite(values)].reshape(len(values), -1), axis=1)


def seeds_needed(difference: Array, variance: Array, n: Numbers, comparisons: int) -> Array:
    """How many seeds a t test needs for 80 % power at LEVEL / comparisons, (r,): see ASSUMPTION; infinite: > 10,000.

    The normal approximation, (z_level + z_power)^2 variance / difference^2, with Guenther's z_level^2 / 2 for t. More
    than there are, n, as those were not enough.
    """
    z = stats.norm.isf(LEVEL / max(comparisons, 1) / 2)
    with np.errstate(all="ignore"):
        ideal = (z + stats.norm.ppf(POWER)) ** 2 * variance / difference**2 + z**2 / 2
    needed = np.where(difference == 0, np.inf, np.maximum(np.ceil(ideal), np.maximum(n + 1, ENOUGH)))
    return np.where(needed > MOST_SEEDS, np.inf, needed)


# --- in words ---------------------------------------------------------------------------------------------------


def sentence(scores: Scores, table: pd.DataFrame, metric: Metric, noun: str) -> str:
    """The verdict for people, in one or a few sentences."""
    if table["p"].isna().all():
        most = int(divergences(scores)[1].max())
        return f"Too few seeds to say anything: at most {most} a {noun[:-1]}, and at least {ENOUGH} are needed."
    if alike_throughout(scores):
        return f"All {len(scores.labels)} {noun} have the same {metric.words}, seed by seed: there is nothing to tell."
    parts = [verdict(scores.labels[0], table, metric, noun), *remarks(table, noun)]
    return " ".join(f"{part}." for part in parts)


def verdict(best: str, table: pd.DataFrame, metric: Metric, noun: str) -> str:
    """What the best is, what it is clear of, and what it is not clear of."""
    told = table[table["told"]]
    seeds = span(table.loc[table["p"].notna(), "n"])
    unclear = f"{cannot(len(table) - len(told), len(table), noun)} be told from it with {seeds} seeds"
    if told.empty:
        return f"Nothing can be told: {best} has the best {metric.words} (median), but {unclear}"
    if table["told"].iloc[0]:
        ahead = f"{best} is best: {gap(told.iloc[0], metric, 'the next')}"
        return ahead if len(told) == len(table) else f"{ahead}; {unclear}"
    ahead = gap(told.iloc[0], metric, f"{told['label'].iloc[0]}, the first that can")
    return f"{best} has the best {metric.words} (median), but {unclear}; {ahead}"


def cannot(unclear: int, others: int, noun: str) -> str:
    """How many of the others: `3 of the other 47 cells cannot`."""
    if others == 1:
        return f"the other {noun[:-1]} cannot"
    if unclear == others:
        return f"none of the other {others} {noun} can"
    return f"{unclear} of the other {others} {noun} cannot"


def gap(row: "pd.Series[Any]", metric: Metric, other: str) -> str:
    """How far the best is ahead of a row of the table that it can be told from."""
    if row["by_divergence"]:
        return f"it diverges less often than {other}"
    return f"{metric.told(row['effect'], row['low'], row['high'])} than {other}"


def span(numbers: "pd.Series[Any]") -> str:
    """The range of some counts: `10`, or `7 to 10`."""
    low, high = numbers.min(), numbers.max()
    return f"{low}" if low == high else f"{low} to {high}"


def remarks(table: pd.DataFrame, noun: str) -> list[str]:
    """Further sentences, where there is cause for them."""
    counts = {
        "on average, though not in the median, it is worse than": int(table["reversed"].sum()),
        "it diverges less often than": int(table["diverges_more"].sum()),
        "it diverges more often than": int(table["diverges_less"].sum()),
        "too few seeds to test": int(table["p"].isna().sum()),
    }
    found = [f"{what[0].upper()}{what[1:]} {count} of the {noun}" for what, count in counts.items() if count]
    unclear = table[~table["told"] & table["seeds_needed"].notna() & ~table["reversed"]]
    if len(unclear):
        seeds, label = unclear[["seeds_needed", "label"]].iloc[0]
        number = f"about {seeds:,.0f}" if np.isfinite(seeds) else f"more than {MOST_SEEDS:,}"
        found.append(f"To tell it from {label} would take {number} seeds")
    return found


def alike_throughout(scores: Scores) -> bool:
    """Whether nothing diverged, and every seed gives all groups that have it the same score; some must be in all."""
    same = np.nanmax(scores.blocks, axis=0) == np.nanmin(scores.blocks, axis=0)
    in_all = ~np.isnan(scores.blocks).any(axis=0)
    return bool(same.all() and in_all.any() and not np.isinf(scores.blocks).any())


def no_comparison(scores: Scores, metric: Metric, noun: str) -> str:
    """Why there is nothing to compare."""
    if not scores.labels:
        return f"No finished run has a {metric.words}."
    if not scores.no_best:
        return f"Only one {noun[:-1]}, {scores.labels[0]}: there is nothing to compare it with."
    if np.isfinite(scores.blocks).any():
        return f"In no {noun[:-1]} did most runs keep a finite {metric.words}: there is no best one."
    return f"All runs diverged: there is no best {noun[:-1]}."
