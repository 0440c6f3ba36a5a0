"""What the axes of a sweep do: each key's main effect, the interactions that matter, and what is the seed's noise."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.compare.metric import NEGLIGIBLE, Array, Metric, Numbers, scored
from pipeline.compare.pairs import holm

LEVEL = 0.05
MATTERS = 0.01  # of the variance: less is not worth a sentence


@dataclass(frozen=True)
class Effects:
    """What the swept keys explain of a metric's variance, on its scale (log10, if it is compared by ratios).

    terms: a row a main effect or interaction, with columns term (`a`, `a x b`), interaction (bool), df, share of the
    variance, p, p_corrected (Holm, all terms), matters. levels: a row a key and level, with columns key, level, n,
    diverged, mean (geometric, if compared by ratios). noise: the share between seeds within cells; seed: the part of
    it that is common to all cells of a seed. blocked: whether seeds could be taken as blocks. runs, diverged: counts.
    """

    terms: pd.DataFrame
    levels: pd.DataFrame
    noise: float
    seed: float
    blocked: bool
    runs: int
    diverged: int

    @property
    def sentence(self) -> str:
        """What explains how much, for people."""
        if not len(self.terms) or self.terms["share"].isna().all():
            return "There is nothing to explain."
        ordered = self.terms[~self.terms["interaction"] | self.terms["matters"]].sort_values("share", ascending=False)
        parts = [f"{term} {share:.0%}" for term, share in zip(ordered["term"], ordered["share"], strict=True)]
        return f"Of the variance, {', '.join(parts)}; the seed {self.noise:.0%}."


@dataclass(frozen=True)
class HeatMap:
    """A table each of the median, the number and the number diverged of the runs by two keys, levels in order.

    A median of mostly diverged runs is infinite; where there is no run it is nan.
    """

    medians: pd.DataFrame
    counts: pd.DataFrame
    diverged: pd.DataFrame


def effects(frame: pd.DataFrame, metric: Metric, keys: Sequence[str]) -> Effects:
    """Analysis of variance of the runs that did not diverge, with keys as categories and the seed as a block.

    Sums of squares are of type II, by nested least squares: a main effect is what its key adds to all the others, an
    interaction what a pair adds to all main effects; they need not sum to the whole if the sweep is not balanced. The
    error is what is left beside all pairs and blocks; without runs enough for that, beside the main effects, and
    interactions have no p. Where seeds are not shared between cells they are no blocks. Raises KeyError.
    """
    every = scored(frame, metric)
    every = every[every["score"].notna()]
    runs = every[np.isfinite(every["score"])].reset_index(drop=True)
    y = metric.scaled(runs["score"].to_numpy(dtype=np.float64))
    model = Model(runs, keys, y)
    cells = model.residual([tuple(keys)], blocked=False)[0] if keys else model.total
    main = model.residual(model.mains, blocked=False)[0] - model.residual(model.mains, blocked=True)[0]
    return Effects(
        terms=model.terms(),
        levels=pd.concat([level_means(every, metric, key) for key in keys], ignore_index=True) if keys else every[:0],
        noise=model.share(cells),
        seed=model.share(main) if model.blocked else 0.0,
        blocked=model.blocked,
        runs=len(runs),
        diverged=len(every) - len(runs),
    )


Term = tuple[str, ...]  # the keys of a main effect (one) or an interaction


class Model:
    """Least squares of y, (runs,), on categories: what models of some terms leave, and the tests of each term."""

    def __init__(self, runs: pd.DataFrame, keys: Sequence[str], y: Array) -> None:
        self.runs, self.y = runs, y - y.mean() if len(y) else y
        self.total = float(self.y @ self.y)
        self.mains: list[Term] = [(key,) for key in keys]
        self.pairs: list[Term] = list(itertools.combinations(keys, 2))
        self.seeds = codes_of(runs, ("seed",))
        ranks = [self.residual(self.mains, blocked)[1] for blocked in (True, False)]
        self.blocked = ranks[0] == ranks[1]

    def residual(self, terms: Sequence[Term], blocked: bool) -> tuple[float, int]:
        """The squares that a model of terms and blocks (or one mean) leaves, and the rank of its terms.

        With blocks swept out of both sides, the normal equations are G b = Z'y with G = Z'Z - Z'S (S'S)^-1 S'Z: Z has
        a column of 0 and 1 for every level of every term, S one for every block.
        """
        block = self.seeds if blocked else np.zeros_like(self.seeds)
        sizes = np.maximum(np.bincount(block), 1)
        y = self.y - (np.bincount(block, weights=self.y) / sizes)[block]
        left = float(y @ y)
        if not terms or not len(y):
            return left, 0
        columns = [codes_of(self.runs, term) for term in terms]
        within = np.vstack([crossed(codes, block) for codes in columns])
        together = np.block([[crossed(one, other) for other in columns] for one in columns])
        right = np.concatenate([np.bincount(codes, weights=y) for codes in columns])
        values, vectors = np.linalg.eigh(together - (within / sizes) @ within.T)
        kept = values > values[-1] * len(values) * 1e-12
        explained = (vectors[:, kept].T @ right) ** 2 / values[kept]
        return left - float(explained.sum()), int(kept.sum())

    def share(self, squares: float) -> float:
        """Squares as a share of the whole; nan if there is no variance at all."""
        return max(squares, 0.0) / self.total if self.total > 0 else np.nan

    def error(self) -> tuple[float, int, bool]:
        """The squares and degrees of freedom left to test against, and whether interactions can be tested."""
        blocks = len(np.unique(self.seeds)) if self.blocked else 1
        for terms in ([*self.mains, *self.pairs], self.mains):
            left, rank = self.residual(terms, self.blocked)
            if len(self.y) - blocks - rank > 0:
                return left, len(self.y) - blocks - rank, terms is not self.mains
        return np.nan, 0, False

    def terms(self) -> pd.DataFrame:
        """The table of `Effects`."""
        left, freedom, all_tested = self.error()
        whole, rank = self.residual(self.mains, self.blocked)
        rows = []
        for term in [*self.mains, *self.pairs]:
            pair = len(term) > 1
            others = [main for main in self.mains if main != term]
            squares, size = self.residual([*self.mains, term] if pair else others, self.blocked)
            gained, df = (whole - squares, size - rank) if pair else (squares - whole, rank - size)
            p = self.p_value(gained, df, left, freedom) if all_tested or not pair else np.nan
            rows.append((" x ".join(term), pair, df, self.share(gained), p))
        table = pd.DataFrame(rows, columns=["term", "interaction", "df", "share", "p"])
        table["p_corrected"] = holm(table["p"].to_numpy(dtype=np.float64))
        return table.assign(matters=(table["p_corrected"] < LEVEL) & (table["share"] >= MATTERS))

    def p_value(self, squares: float, df: int, left: float, freedom: int) -> float:
        """P of the F test of squares with df degrees against what is left; nan where there is nothing to test."""
        if df == 0 or freedom == 0 or self.total == 0:
            return np.nan
        none = self.total * NEGLIGIBLE
        if left <= none:
            return 0.0 if squares > none else 1.0
        return float(stats.f.sf(max(squares, 0.0) / df / (left / freedom), df, freedom))


def codes_of(runs: pd.DataFrame, keys: Term) -> Numbers:
    """The number of each run's combination of levels, (runs,); a missing value is a level too."""
    codes = runs.groupby(list(keys), sort=False, dropna=False).ngroup()
    return np.asarray(codes, dtype=np.int64)


def crossed(one: Numbers, other: Numbers) -> Array:
    """How often each pair of codes, (runs,) both, occurs: (codes of one, codes of the other)."""
    shape = (int(one.max()) + 1, int(other.max()) + 1)
    counts = np.bincount(one * shape[1] + other, minlength=shape[0] * shape[1])
    return counts.reshape(shape).astype(np.float64)


def level_means(runs: pd.DataFrame, metric: Metric, key: str) -> pd.DataFrame:
    """A row a level of a key, in order: key, level, n, diverged, mean (on the metric's scale, told in its unit)."""
    finite = np.isfinite(runs["score"])
    scaled = metric.scaled(runs["score"].where(finite).to_numpy(dtype=np.float64))
    groups = pd.DataFrame({"level": runs[key], "scaled": scaled}).groupby("level", sort=False, dropna=False)["scaled"]
    table = pd.DataFrame({"n": groups.size(), "diverged": groups.size() - groups.count(), "mean": groups.mean()})
    table["mean"] = metric.unscaled(table["mean"].to_numpy(dtype=np.float64))
    table = table.reset_index()
    table.insert(0, "key", key)
    return table.iloc[in_order(table["level"].tolist())]


def heat_map(frame: pd.DataFrame, metric: Metric, row_key: str, column_key: str) -> HeatMap:
    """Medians and counts by two keys (rows, columns). Raises KeyError if a column is not there."""
    runs = scored(frame, metric)
    runs = runs[runs["score"].notna()]
    groups = runs.assign(diverged=np.isinf(runs["score"])).groupby([row_key, column_key], dropna=False)
    medians = ordered(groups["score"].median().unstack())
    return HeatMap(
        medians=-medians if metric.higher else medians,
        counts=ordered(groups.size().unstack(fill_value=0)),
        diverged=ordered(groups["diverged"].sum().unstack(fill_value=0)),
    )


def ordered(table: pd.DataFrame) -> pd.DataFrame:
    """A table with rows and columns in the order of their levels."""
    return table.iloc[in_order(table.index.tolist()), in_order(table.columns.tolist())]


def in_order(levels: Sequence[object]) -> list[int]:
    """The places of levels in an order for people: numbers, then texts, with the numbers in them as numbers.

    [3] comes before [10] and [3, 4] before [3, 10], but short lists before long ones; a missing level is last.
    """
    return sorted(range(len(levels)), key=lambda at: level_key(levels[at]))


def level_key(level: object) -> tuple[int, int, list[float], str]:
    """What a level is sorted by."""
    if level is None or (isinstance(level, float) and np.isnan(level)):
        return 2, 0, [], ""
    if isinstance(level, (bool, int, float, np.number, np.bool_)):
        return 0, 0, [float(level)], ""
    numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", str(level))]
    return 1, len(numbers), numbers, str(level)
