"""Points that become known while a stack trains: each is one of the finished run's, and each is told once."""

import time

import numpy as np
import pytest

from pipeline.identity import Run
from pipeline.numerics import train as training
from pipeline.numerics.course import Course, Problem
from pipeline.numerics.network import Rule
from pipeline.numerics.train import report_every
from pipeline.results.record import curve_points
from pipeline.training import points
from pipeline.training.points import Glimpse, Points
from pipeline.training.stack import Result, train_stack
from tests.factory import GROWING, bits, run, stacked, trained

Told = list[tuple[str, float, int]]


def merged(glimpses: list[Glimpse]) -> dict[str, Told]:
    """All points that were told, by fingerprint, in the order of telling, as the metrics of a record."""
    found: dict[str, Told] = {}
    for glimpse in glimpses:
        for fingerprint, some in glimpse.points.items():
            told = found.setdefault(fingerprint, [])
            assert len(some.steps) > 0
            for name, values in some.values.items():
                pairs = zip(values, some.steps, strict=True)
                told += [(f"curve/{name}", float(value), int(step)) for value, step in pairs]
    return found


def watched(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> tuple[list[Result], dict[str, Told]]:
    """Trains a stack with a look at every report, of which there are many."""
    monkeypatch.setattr(points, "LIVE_SECONDS", 0.0)
    monkeypatch.setattr(training, "REPORT_EVERY", 7)
    glimpses: list[Glimpse] = []
    return train_stack(runs, live=glimpses.append), merged(glimpses)


def kept(one: Run, result: Result) -> Told:
    """The points of the finished run."""
    return curve_points(result.curves, one.config)


def test_all_points_are_told_once_with_the_values_they_will_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds, rates, runs that share a trajectory, runs that are done early, thinned curves, several metrics."""
    runs = [
        run(seed=seed, epochs=epochs, learning_rate=rate, metrics=["mse", "mean_abs"], curve_points=limit)
        for limit, seed, epochs, rate in (
            (300, 0, 50, 0.5), (300, 0, 20, 0.5), (300, 1, 700, 0.5), (40, 2, 700, 0.1), (300, 3, 0, 0.5),
            (2, 4, 701, 3.0), (300, 1, 3, 0.5),
        )
    ]  # fmt: skip
    results, told = watched(runs, monkeypatch)
    for one, result in zip(runs, results, strict=True):
        assert sorted(told[one.fingerprint]) == sorted(kept(one, result))
        assert bits(result) == bits(trained([one])[0])


@pytest.mark.parametrize("numerics", ["portable", "fast"])
@pytest.mark.parametrize("hidden", [[], [2]], ids=str)
def test_a_run_that_diverges_has_told_no_point_that_it_will_not_have(
    hidden: list[int], numerics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the loss is finite behind weights that are not, and of runs that are done; others tell all."""
    base = GROWING | {"hidden": hidden, "numerics": numerics}
    kinds = [(seed, epochs, rate) for seed in (0, 1) for epochs in (6, 100) for rate in (0.1, 1e307, 3e307, 1e308)]
    runs = [run(**base, learning_rate=rate, seed=seed, epochs=epochs) for seed, epochs, rate in kinds]
    results, told = watched(runs, monkeypatch)
    assert 0 < sum(result.diverged_at is not None for result in results) < len(runs)
    for one, result in zip(runs, results, strict=True):
        wanted = kept(one, result)
        assert set(told.get(one.fingerprint, [])) <= set(wanted)
        if result.diverged_at is None:
            assert sorted(told[one.fingerprint]) == sorted(wanted)


def test_a_loss_that_was_never_finite_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [run(X=[[1], [2]], y=[[1e200], [0]], hidden=[2], epochs=50), run(epochs=50)]
    assert watched(runs[:1], monkeypatch)[1] == {}
    assert list(watched(runs[1:], monkeypatch)[1]) == [runs[1].fingerprint]


def looks(epochs: int, monkeypatch: pytest.MonkeyPatch, each: float = 0.7) -> list[float]:
    """After how many seconds a training tells, of which each 500 updates take so many, on whatever machine."""
    clock, told = [0.0], []

    def make_500(*_: object) -> None:
        clock[0] += each

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    train_stack([run(epochs=epochs)], make_500, live=lambda _: told.append(clock[0]))
    return told


def test_a_short_training_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looks(3000, monkeypatch) == []


def test_looks_are_some_time_apart_and_the_first_one_is_not_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = looks(20_000, monkeypatch)
    assert len(found) >= 2
    assert min(np.diff([0.0, *found])) >= points.LIVE_SECONDS
    assert max(np.diff([0.0, *found])) < points.LIVE_SECONDS + 2 * 0.7


def test_points_behind_a_step() -> None:
    some = Points(np.array([0, 3, 9]), {"loss": np.array([3.0, 2.0, 1.0])})
    for step, left in ((-1, [0, 3, 9]), (0, [3, 9]), (5, [9]), (9, [])):
        assert some.behind(step).steps.tolist() == left
        assert some.behind(step).values["loss"].tolist() == [3.0, 2.0, 1.0][3 - len(left) :]


@pytest.mark.parametrize(("rows", "units", "every"), [(4, 4, 500), (1000, 1000, 33)])
def test_reports_of_large_stacks_come_as_often(rows: int, units: int, every: int) -> None:
    """8 lanes of `units` weights for each of the rows: 2^28 / (8 rows units), at most 500."""
    weights = stacked([([np.zeros((units, 1))], [])])
    problem = Problem(np.zeros((rows, units)), np.zeros((rows, 1)), Rule("half_sse"))
    assert report_every(Course(problem, weights, np.ones(1))) == every
