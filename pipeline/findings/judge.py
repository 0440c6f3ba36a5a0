"""The verdict of a finding: which arm is better, by how much, and whether that is only the seed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from pipeline.compare.metric import Metric, metric_of, short
from pipeline.compare.verdicts import LEVEL, verdicts
from pipeline.compare.wording import p_text
from pipeline.errors import UserError
from pipeline.findings.arms import ARM, fact_of
from pipeline.findings.declared import Finding

UNCLEAR = "no difference beyond the seed"


@dataclass(frozen=True)
class Found:
    """What was measured: the verdict (an arm's name, or None), and the numbers behind it.

    arms: the names of both, the one ahead in the mean first, as all pairs here; effect: how many times better it is, or
    by how much if not `ratio`; low, high: its 95 % bootstrap interval (nan: one arm has no finite value); p: of the
    paired test, or of how often the arms diverge if `by_divergence`; seeds: how many were compared; medians; diverged:
    shares of the runs; facts: as text.
    """

    verdict: str | None
    arms: tuple[str, str]
    metric: str
    better: str
    ratio: bool
    effect: float
    low: float
    high: float
    p: float
    seeds: int
    by_divergence: bool
    medians: tuple[float, float]
    diverged: tuple[float, float]
    facts: Mapping[str, str]

    @property
    def texts(self) -> dict[str, str]:
        """What fills the places of an answer: the facts, seeds; effect, low, high; better, worse (the medians)."""
        numbers = {"effect": self.effect, "low": self.low, "high": self.high}
        numbers |= dict(zip(("better", "worse"), self.medians, strict=True))
        return {**self.facts, "seeds": str(self.seeds), **{name: short(value) for name, value in numbers.items()}}

    @property
    def winner(self) -> str:
        """The verdict in words."""
        return self.verdict or (UNCLEAR if self.p >= LEVEL else "too small a difference to count")

    @property
    def told(self) -> str:
        """The comparison in words: `a against b: final loss 2.3 times lower (1.8 to 3.0), p < 0.001, 50 seeds`."""
        if self.by_divergence:
            gap = "diverges in {:.0f} % of the runs instead of {:.0f} %".format(
                *(100 * share for share in self.diverged)
            )
        else:
            effect, span = short(self.effect), f"({short(self.low)} to {short(self.high)})"
            size = f"{effect} times {self.better}" if self.ratio else f"{self.better} by {effect}"
            gap = f"{self.metric} {size} {span}"
        p = p_text(self.p)
        return f"{' against '.join(self.arms)}: {gap}, p {p if p[0] == '<' else f'= {p}'}, {self.seeds} seeds"


def judge(finding: Finding, runs: pd.DataFrame, table: pd.DataFrame) -> Found:
    """Compares the two arms of a finding, whose runs are `table` (see table_of); its facts are about all `runs`.

    Raises UserError if there are too few runs to say anything.
    """
    metric = metric_for(finding, table)
    compared = verdicts(table, metric, by=[ARM])
    if compared.table.empty or compared.table["p"].isna().any():
        raise UserError(f"The finding {finding.name} cannot be judged: {compared.sentence}")
    row = compared.table.iloc[0]  # of the arm with the worse median, which may be ahead all the same
    effect, low, high = (float(row[name]) for name in ("effect", "low", "high"))
    is_lower = effect < (1 if metric.log else 0)
    if is_lower:
        effect, low, high = (1 / effect, 1 / high, 1 / low) if metric.log else (-effect, -high, -low)
    is_turned = bool(row["reversed"] or (is_lower and not row["by_divergence"]))
    ahead, behind = sorted(finding.names, key=lambda name: (name == row[ARM]) != is_turned)
    arms = [table[table[ARM] == name] for name in (ahead, behind)]
    counts = finding.least is None or effect >= finding.least
    return Found(
        verdict=ahead if counts and (row["told"] or row["reversed"]) else None,
        arms=(ahead, behind),
        metric=metric.words,
        better=metric.better,
        ratio=metric.log,
        effect=effect,
        low=low,
        high=high,
        p=float(row["p"]),
        seeds=int(row["n"]) or table["seed"].nunique(),
        by_divergence=bool(row["by_divergence"]),
        medians=pair(float(arm[metric.name].median()) for arm in arms),
        diverged=pair(float(arm["diverged_at"].notna().mean()) for arm in arms),
        facts={name: fact_of(fact, finding, runs) for name, fact in finding.facts.items()},
    )


def metric_for(finding: Finding, table: pd.DataFrame) -> Metric:
    """The metric of a finding, which may say itself which way it is better."""
    metric = metric_of(table, finding.metric)
    return metric if finding.higher is None else replace(metric, higher=finding.higher, log=False)


def pair(values: Iterable[float]) -> tuple[float, float]:
    """The two values of two arms."""
    first, second = values
    return first, second
