"""What runs are compared by: which way a metric is better, on which scale, and what counts as diverged."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

BETTER_HIGHER = {"accuracy", "acc", "precision", "recall", "f1", "r2", "auc", "score"}
NEGLIGIBLE = 1e-12  # shares this near to a half are one but for rounding


@dataclass(frozen=True)
class Metric:
    """A column of the frame to compare by.

    `higher`: a higher value is better. `log`: differences are taken of log10, and told as ratios.
    """

    name: str = "final_loss"
    higher: bool = False
    log: bool = True

    @property
    def words(self) -> str:
        """The name as people say it: `final loss`."""
        return self.name.replace("_", " ")

    @property
    def better(self) -> str:
        """`lower` or `higher`."""
        return "higher" if self.higher else "lower"

    def values(self, scores: Array) -> Array:
        """The metric's values of scores (lower is better), any shape; and the other way round."""
        return -scores if self.higher else scores

    def scaled(self, scores: Array) -> Array:
        """Scores, any shape, on the scale on which differences are taken; what diverged stays infinite."""
        return np.log10(scores) if self.log else scores

    def unscaled(self, scaled: Array) -> Array:
        """The metric's values of scaled scores, any shape."""
        return self.values(10.0**scaled if self.log else scaled)

    def effect(self, differences: Array) -> Array:
        """How much better, of differences of scaled scores, any shape: a ratio (1: alike), or the difference."""
        return 10.0**differences if self.log else differences

    def told(self, effect: float, low: float, high: float) -> str:
        """An effect with its interval in words: `final loss 2.3 times lower (1.8 to 3.0)`."""
        if self.log:
            return f"{self.words} {short(effect)} times {self.better} ({short(low)} to {short(high)})"
        return f"{self.words} {self.better} by {short(effect)} ({short(low)} to {short(high)})"


def short(number: float) -> str:
    """A number of three digits for people: 2.31, 0.00123, 12,300."""
    return f"{number:,.0f}" if 1000 <= abs(number) < 1e7 else f"{number:.3g}"


def metric_of(frame: pd.DataFrame, name: str = "final_loss") -> Metric:
    """The metric of a column, its direction guessed from its name.

    A metric that is better lower and positive in all runs is compared on a log scale; one value of 0 or below, and
    plain differences are taken. Raises KeyError if there is no such column.
    """
    higher = not BETTER_HIGHER.isdisjoint(name.split("_"))
    plain = Metric(name, higher, log=False)
    scores = scored(frame, plain)["score"]
    positive = bool((scores > 0).all()) and not name.startswith("log10_")
    return Metric(name, higher, log=positive and not higher)


def scored(frame: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """The finished runs in an order of their own (cell, seed, run id), with a column `score`: lower is better.

    A run that diverged (`diverged_at` is set, or it has no finite final loss) has an infinite score in every metric.
    One that did not, but has no value of this metric, was not measured and has nan: it counts nowhere.
    Raises KeyError if there is no such column.
    """
    runs = frame[frame["status"] == "FINISHED"]
    runs = runs.sort_values(["cell", "seed", "run_id"], ignore_index=True)
    scores = metric.values(runs[metric.name].to_numpy(dtype=np.float64))
    lost = ~np.isfinite(runs["final_loss"].to_numpy(dtype=np.float64))
    diverged = runs["diverged_at"].notna().to_numpy() | lost | np.isinf(scores)
    return runs.assign(score=np.where(diverged, np.inf, scores))
