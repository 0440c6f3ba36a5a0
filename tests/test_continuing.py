"""Going on with finished runs: the bits of a training from the beginning; where a start is not right, that training."""

import dataclasses
import random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.executor_config import ExecutorConfig
from pipeline.identity import Run, make_run
from pipeline.numerics import train as training
from pipeline.training import points
from pipeline.training import stack as stacks
from pipeline.training.continuing import Start, Starts, start_of, trajectory_digest
from pipeline.training.handing_out import rough_seconds, share_out, train_stacks
from pipeline.training.points import Glimpse, curve_steps
from pipeline.training.processes import make_executor
from pipeline.training.stack import Result, make_stacks, train_stack, updates_of
from tests.factory import EXAM, FIRST_COLUMN, GROWING, HAPPINESS, bits, rows, run

Array = NDArray[np.float64]

NUMERICS = ("portable", "fast")


def stored(result: Result) -> Start:
    """What a store has of a run."""
    return Start(result.updates, result.final.matrices, result.final.biases, result.curves)


def shorter(one: Run, epochs: int) -> Run:
    """The run's sibling of so many epochs."""
    config = dataclasses.replace(one.config, training=dataclasses.replace(one.config.training, epochs=epochs))
    return make_run(config)


def start_at(one: Run, epochs: int) -> Start:
    """A start for a run from its sibling of so many epochs, trained alone."""
    return stored(train_stack([shorter(one, epochs)])[0])


def assert_same(found: Result, wanted: Result) -> None:
    """All that does not depend on when it was trained."""
    assert bits(found) == bits(wanted)
    assert (found.updates, found.diverged_at) == (wanted.updates, wanted.diverged_at)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(found.initial, wanted.initial, strict=True))


def made(runs: list[Run], starts: Starts) -> tuple[list[Result], int]:
    """Results, and how many updates training took."""
    counts: list[int] = []
    return train_stack(runs, counts.append, starts=starts), sum(counts)


KINDS: dict[str, dict[str, Any]] = {
    "happiness": HAPPINESS,
    "exam": EXAM,
    "first column, legacy": FIRST_COLUMN,
    "biases": rows(9, 2, 2) | {"hidden": [3, 2], "bias": True, "loss": "mse", "metrics": ["sse", "mean_abs"]},
    "no hidden layer": rows(20, 3, 1) | {"hidden": [], "bias": True, "metrics": ["half_sum_abs", "sum_abs"]},
    "uniform, legacy, scaled": rows(5, 2, 1)
    | {"hidden": [8], "scheme": "uniform", "generator": "legacy", "scaling": "standard", "target_scaling": "standard"},
}


# --- the same bits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_continued_run_has_the_bits_of_one_from_the_beginning(kind: str, numerics: str) -> None:
    base = KINDS[kind] | {"numerics": numerics}
    one = run(**(base | {"epochs": 40}))
    for updates in (0, 1, 13, 39):
        (found,), count = made([one], {one.fingerprint: start_at(one, updates)})
        assert_same(found, train_stack([one])[0])
        assert count == 40 - updates


@pytest.mark.parametrize("numerics", NUMERICS)
def test_a_stack_of_continued_and_fresh_runs_of_any_lengths(numerics: str) -> None:
    """Lanes leave and go on at any update: each has the bits it has alone, whatever the others' counts are."""
    draw = random.Random(0)
    runs = [
        run(
            seed=seed, epochs=draw.randrange(60), learning_rate=0.1 * (seed + 1), numerics=numerics, metrics=["sum_abs"]
        )
        for seed in range(40)
    ]
    starts = {
        one.fingerprint: start_at(one, draw.randrange(one.config.training.epochs))
        for one in runs
        if one.config.training.epochs and draw.random() < 0.6
    }
    found, count = made(runs, starts)
    assert count == updates_of(runs, starts) == updates_of(runs) - sum(start.updates for start in starts.values())
    assert 10 < len(starts) < 35
    for one, result in zip(runs, found, strict=True):
        assert_same(result, train_stack([one])[0])


def test_it_does_not_matter_where_reports_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    one = run(epochs=1700)
    whole, start = train_stack([one])[0], start_at(one, 617)
    for every in (1, 7, 500, 10_000):
        monkeypatch.setattr(training, "REPORT_EVERY", every)
        assert_same(made([one], {one.fingerprint: start})[0][0], whole)


def test_continued_again_and_again() -> None:
    one = run(epochs=50, bias=True)
    start = start_at(one, 10)
    for epochs in (11, 30, 49):
        longer = shorter(one, epochs)
        start = stored(made([longer], {longer.fingerprint: start})[0][0])
    assert_same(made([one], {one.fingerprint: start})[0][0], train_stack([one])[0])


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("hidden", [[], [2]], ids=str)
def test_a_run_that_diverges_in_the_continued_part(hidden: list[int], numerics: str) -> None:
    one = run(**(GROWING | {"hidden": hidden, "learning_rate": 1e307, "epochs": 90, "numerics": numerics}))
    calm = run(**(GROWING | {"hidden": hidden, "learning_rate": 0.1, "epochs": 90, "numerics": numerics}))
    whole = train_stack([one])[0]
    assert whole.diverged_at
    for updates in {0, whole.updates // 2, whole.updates}:
        starts = {one.fingerprint: start_at(one, updates), calm.fingerprint: start_at(calm, 70)}
        (found, beside), count = made([one, calm], starts)
        assert_same(found, whole)
        assert_same(beside, train_stack([calm])[0])
        assert count == 90 - updates + 20


def test_a_sibling_that_diverged_is_a_start_too() -> None:
    one = run(**(GROWING | {"learning_rate": 1e307, "epochs": 90}))
    start = start_at(one, 80)
    assert start.updates < 80
    assert_same(made([one], {one.fingerprint: start})[0][0], train_stack([one])[0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["first column, legacy", "biases"])
def test_compiled_code_goes_on_with_what_numpy_began(kind: str) -> None:
    pytest.importorskip("numba")
    runs = [run(**(KINDS[kind] | {"seed": seed, "epochs": 600 + seed})) for seed in range(9)]
    compiled = [make_run(dataclasses.replace(one.config, executor=ExecutorConfig(kernel="numba"))) for one in runs]
    for began, going_on in ((runs, compiled), (compiled, runs), (compiled, compiled)):
        starts = {one.fingerprint: start_at(one, 17 * place) for place, one in enumerate(began) if place % 3}
        for one, found in zip(runs, made(going_on, starts)[0], strict=True):
            assert_same(found, train_stack([one])[0])


# --- runs of one trajectory -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "starts", "begin"),
    [
        ((20, 40), {20: 10}, 10),
        ((20, 40), {20: 10, 40: 15}, 15),  # the latest
        ((20, 40), {40: 19}, 19),
        ((20, 40), {40: 20}, 0),  # the shorter one has nothing left to train
        ((20, 40), {20: 10, 40: 30}, 10),
        ((0, 40), {40: 0}, 0),
        ((20,), {20: 25}, 0),
    ],
    ids=str,
)
def test_runs_of_a_trajectory_go_on_together(epochs: tuple[int, ...], starts: dict[int, int], begin: int) -> None:
    runs = [run(epochs=last) for last in epochs]
    given = {shorter(runs[0], last).fingerprint: start_at(runs[0], updates) for last, updates in starts.items()}
    found, count = made(runs, given)
    assert count == updates_of(runs, given) == max(epochs) - begin
    for one, result in zip(runs, found, strict=True):
        assert_same(result, train_stack([one])[0])


def test_a_start_has_the_curves_of_every_run_of_its_trajectory() -> None:
    """Metrics are no reason not to train together, but a start without one of them is no start."""
    plain, more = run(epochs=20), run(epochs=30, metrics=["mse"])
    for given, begin in ((plain, 0), (more, 10)):
        starts = {plain.fingerprint: start_at(given, 10)}
        found, count = made([plain, more], starts)
        assert count == updates_of([plain, more], starts) == 30 - begin
        for one, result in zip((plain, more), found, strict=True):
            assert_same(result, train_stack([one])[0])


def test_snapshots_behind_the_start_are_kept() -> None:
    one = run(epochs=30)
    whole = train_stack([one], snapshots=[5, 10, 20])[0]
    (found,) = train_stack([one], snapshots=[5, 10, 20], starts={one.fingerprint: start_at(one, 10)})
    assert sorted(found.snapshots) == [10, 20, 30]
    for updates, state in found.snapshots.items():
        assert state.prediction.tobytes() == whole.snapshots[updates].prediction.tobytes()


# --- starts that are not right ----------------------------------------------------------------------------------

ORIGINAL = run(hidden=[3], bias=True, epochs=30, metrics=["mean_abs"])


def nudged(array: Array, place: int = 0) -> Array:
    """The curve with the last bit of one of its points changed."""
    changed = array.copy()
    changed[place] = np.nextafter(changed[place], np.inf)
    return changed


def with_curve(start: Start, name: str, curve: Array) -> Start:
    return dataclasses.replace(start, curves=start.curves | {name: curve})


def wrong_starts() -> dict[str, Start]:
    """What a store should not have, but may."""
    start, replace = start_at(ORIGINAL, 10), dataclasses.replace
    loss, matrices, biases = start.curves["loss"], start.matrices, start.biases
    not_finite = loss.copy()
    not_finite[5] = np.nan
    return {
        "a weight": replace(start, matrices=(matrices[0] + 1e-9, matrices[1])),
        "not a number": replace(start, matrices=(matrices[0] * np.nan, matrices[1])),
        "a bias": replace(start, biases=(biases[0], biases[1] + 1e-9)),
        "no biases": replace(start, biases=()),
        "a layer less": replace(start, matrices=matrices[:1]),
        "another layer": replace(start, matrices=(matrices[0][:, :2], matrices[1][:2])),
        "the transpose": replace(start, matrices=(matrices[0], matrices[1].T)),
        "single precision": replace(start, matrices=tuple(matrix.astype(np.float32) for matrix in matrices)),
        "the first loss": with_curve(start, "loss", nudged(loss)),
        "the last loss": with_curve(start, "loss", nudged(loss, -1)),
        "the last of a metric": with_curve(start, "mean_abs", nudged(start.curves["mean_abs"], -1)),
        "a loss between": with_curve(start, "loss", not_finite),
        "a point less": with_curve(start, "loss", loss[:-1]),
        "no loss": replace(start, curves={"mean_abs": start.curves["mean_abs"]}),
        "no metric": replace(start, curves={"loss": loss}),
        "a count": replace(start, updates=11),
        "no count": replace(start, updates=-1, curves={name: curve[:0] for name, curve in start.curves.items()}),
        "another seed": start_at(run(hidden=[3], bias=True, metrics=["mean_abs"], seed=1), 10),
        "another rate": start_at(run(hidden=[3], bias=True, metrics=["mean_abs"], learning_rate=0.1, scale=2.0), 10),
    }


@pytest.mark.parametrize("wrong", wrong_starts())
def test_a_start_that_is_not_right_is_not_used(wrong: str) -> None:
    """The run trains from its beginning, and its neighbour goes on."""
    beside = run(hidden=[3], bias=True, epochs=30, metrics=["mean_abs"], seed=7)
    starts = {ORIGINAL.fingerprint: wrong_starts()[wrong], beside.fingerprint: start_at(beside, 12)}
    found, count = made([ORIGINAL, beside], starts)
    assert count == 30 + 18
    for one, result in zip((ORIGINAL, beside), found, strict=True):
        assert_same(result, train_stack([one])[0])


def test_the_right_start_is_used() -> None:
    """Else the test above would be worth nothing."""
    assert made([ORIGINAL], {ORIGINAL.fingerprint: start_at(ORIGINAL, 10)})[1] == 20


def test_training_leaves_a_start_as_it_is() -> None:
    start = start_at(ORIGINAL, 10)
    before = [array.tobytes() for array in (*start.matrices, *start.biases, *start.curves.values())]
    made([ORIGINAL], {ORIGINAL.fingerprint: start})
    assert [array.tobytes() for array in (*start.matrices, *start.biases, *start.curves.values())] == before


# --- siblings ---------------------------------------------------------------------------------------------------


def test_the_digest_of_a_trajectory_leaves_the_epochs_out_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    one = run(epochs=10)
    assert len(trajectory_digest(one)) == 32
    assert trajectory_digest(one) == trajectory_digest(run(epochs=2000)) != one.fingerprint
    for change in ({"seed": 1}, {"learning_rate": 0.1}, {"metrics": ["mse"]}, {"numerics": "fast"}, {"hidden": [5]}):
        assert trajectory_digest(run(**change)) != trajectory_digest(one)
    before = trajectory_digest(one)
    monkeypatch.setattr("pipeline.training.continuing.code_digest", lambda: "other code")
    assert trajectory_digest(one) != before


# --- who trains, and how much there is to do --------------------------------------------------------------------


def test_stacks_are_cut_by_the_work_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "best_width", lambda *network: 1024)
    runs = [run(seed=seed, epochs=1000) for seed in range(200)]
    nothing = Start(990, tuple(np.zeros(shape) for shape in ((3, 4), (4, 1))), (), {"loss": np.zeros(991)})
    starts = {one.fingerprint: nothing for one in runs[:100]}
    assert start_of(runs[:1], starts) is nothing
    found = make_stacks(runs, 2, starts)
    assert [updates_of(stack, starts) for stack in found] == [50 * 1000 + 50 * 10] * 2
    assert rough_seconds(runs[:100], starts) < rough_seconds(runs[:100]) / 50
    auto = ExecutorConfig(kind="auto", workers=2)
    long = [run(seed=seed, epochs=100_000) for seed in range(200)]
    starts = {one.fingerprint: dataclasses.replace(nothing, updates=99_990) for one in long}
    assert share_out(long, auto, starts)[1] == 2, "curves that do not fit are no start"
    curve = {"loss": np.zeros(99_991)}
    starts = {one.fingerprint: dataclasses.replace(nothing, updates=99_990, curves=curve) for one in long}
    assert share_out(long, auto, starts)[1] == 0


def test_starts_travel_to_workers() -> None:
    runs = [run(seed=seed, epochs=600, hidden=[units]) for units in (1, 2) for seed in range(3)]
    starts = {one.fingerprint: start_at(one, 550) for one in runs[::2]}
    for workers in (0, 2):
        counts: list[int] = []
        executor = make_executor(workers, counts.append)
        found: dict[str, Result] = {}
        with executor:
            for stack, future in train_stacks(executor, make_stacks(runs), counts.append, starts=starts):
                found |= {one.fingerprint: result for one, result in zip(stack, future.result(), strict=True)}
        assert sum(counts) == 3 * 600 + 3 * 50
        for one in runs:
            assert_same(found[one.fingerprint], train_stack([one])[0])


def test_what_is_told_of_a_continued_run_has_its_beginning_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "LIVE_SECONDS", 0.0)
    monkeypatch.setattr(training, "REPORT_EVERY", 9)
    runs = [
        run(epochs=1000, metrics=["mse"]),
        run(epochs=990, seed=1, metrics=["mse"]),
        run(epochs=995, metrics=["mse"]),
    ]
    starts = {runs[0].fingerprint: start_at(runs[0], 950)}
    glimpses: list[Glimpse] = []
    results = train_stack(runs, starts=starts, live=glimpses.append)
    for one, result in zip(runs, results, strict=True):
        some = [glimpse.points[one.fingerprint] for glimpse in glimpses if one.fingerprint in glimpse.points]
        steps = np.concatenate([part.steps for part in some])
        epochs = one.config.training.epochs
        assert steps.tolist() == curve_steps(epochs, epochs, 300)
        assert len(some) > 3
        for name, curve in result.curves.items():
            assert np.concatenate([part.values[name] for part in some]).tobytes() == curve[steps].tobytes()
