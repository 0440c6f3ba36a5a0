"""Which points of a curve are shown, and those that become known while a stack trains."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.identity import Run
from pipeline.numerics.losses import RAW_SUMS, in_convention
from pipeline.numerics.train import Moment

Array = NDArray[np.float64]

LIVE_SECONDS = 5.0  # a stack that trains for less tells nothing before its results


@dataclass(frozen=True)
class Points:
    """Some points of a run's curves: steps (p,), rising update counts; values[name] (p,) of `loss` and every metric."""

    steps: NDArray[np.int64]
    values: dict[str, Array]

    def behind(self, step: int) -> "Points":
        """Those of a later step."""
        first = int(np.searchsorted(self.steps, step, side="right"))
        return Points(self.steps[first:], {name: values[first:] for name, values in self.values.items()})


@dataclass(frozen=True)
class Glimpse:
    """The points of a stack's runs, by fingerprint, that became known since the last glimpse of it.

    Each is one that the finished run will have.
    """

    points: dict[str, Points]


Live = Callable[[Glimpse], None]


@functools.lru_cache(maxsize=256)
def curve_steps(updates: int, planned: int, points: int) -> list[int]:
    """Which update counts of a curve to show: at most `points`, the same for all runs of `planned` updates.

    Half of them are spread evenly, half on a log scale, as a curve may be looked at on either; always 0 and the last.
    A run that ended early, after `updates`, has those it reached and its last.
    """
    if planned + 1 <= points:
        steps = set(range(planned + 1))
    else:
        half = points // 2
        even = np.linspace(0, planned, points - half)
        log = np.geomspace(1, planned, half) if half > 1 else [planned]
        steps = {round(step) for step in (*even, *log)}
    return sorted({step for step in steps if step < updates} | {updates})


@functools.cache
def planned_steps(planned: int, points: int) -> NDArray[np.int64]:
    """The steps of a run that gets as far as planned, as an array (p,)."""
    return np.array(curve_steps(planned, planned, points), dtype=np.int64)


@dataclass(frozen=True)
class Curve:
    """A curve of a run: its name, the key of its raw sums (course.Problem.curves), the loss or metric that it is.

    rows and outputs are n and k of what it is measured on.
    """

    name: str
    key: str
    convention: str
    rows: int
    outputs: int

    def of(self, raw: Array) -> Array:
        """The curve from its raw sums, (points,)."""
        return in_convention(self.convention, raw, self.rows, self.outputs)


def curves_of(run: Run) -> list[Curve]:
    """`loss` and every metric under its own name; the same of parts that are held out, as `val_loss`, ..."""
    training, sample = run.config.training, run.sample
    named = {"loss": training.loss} | {name: name for name in training.metrics}
    parts = {"": sample.training, **sample.held}
    return [
        Curve(
            name=f"{part}_{name}" if part else name,
            key=f"{part}/{RAW_SUMS[convention]}" if part else RAW_SUMS[convention],
            convention=convention,
            rows=len(rows.X),
            outputs=rows.y.shape[1],
        )
        for part, rows in parts.items()
        for name, convention in named.items()
    ]


class Watcher:
    """Looks at a stack every LIVE_SECONDS while it trains, and tells `live` what is new.

    `trajectories` are the runs of each network that is trained, `earlier` its curves up to where it goes on from, by
    name, each (updates + 1,); none for a network that trains from its beginning.
    """

    def __init__(
        self, trajectories: Sequence[Sequence[Run]], earlier: Sequence[Mapping[str, Array]], live: Live
    ) -> None:
        self._trajectories, self._earlier, self._live = trajectories, earlier, live
        self._told: dict[str, int] = {}
        self._due = time.monotonic() + LIVE_SECONDS

    def __call__(self, order: NDArray[np.intp], moment: Moment) -> None:
        """Takes a look if it is time to: `order` says which network is in which lane."""
        if time.monotonic() < self._due:
            return
        points: dict[str, Points] = {}
        for lane in np.flatnonzero(moment.finite()):
            network = int(order[lane])
            for run in self._trajectories[network]:
                if len((new := self._new_points(run, self._earlier[network], moment, int(lane))).steps):
                    points[run.fingerprint] = new
        if points:
            self._live(Glimpse(points))
        self._due = time.monotonic() + LIVE_SECONDS

    def _new_points(self, run: Run, earlier: Mapping[str, Array], moment: Moment, lane: int) -> Points:
        """The run's points that were not told yet."""
        begin = len(earlier["loss"]) - 1 if earlier else 0
        steps = planned_steps(run.config.training.epochs, run.config.tracking.curve_points)
        known = int(np.searchsorted(steps, begin + moment.ends[lane], side="right"))
        new = steps[self._told.get(run.fingerprint, 0) : known]
        self._told[run.fingerprint] = known
        before, now = new[new < begin], new[new >= begin] - begin

        def values(curve: Curve) -> Array:
            found = curve.of(moment.curves[curve.key][now, lane])
            return np.concatenate([earlier[curve.name][before], found]) if earlier else found

        return Points(new * run.updates_an_epoch, {curve.name: values(curve) for curve in curves_of(run)})
