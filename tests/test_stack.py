"""Stacks: what trains together, in chunks of which size, and that a run's bits do not depend on its company."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.identity import Run
from pipeline.numerics.layout import LANES
from pipeline.training import stack as stacks
from pipeline.training.stack import CURVE_BYTES, Result, make_stacks, train_stack, updates_of
from tests.factory import PROPERTY, bits, rows, run, trained

NUMERICS = ("portable", "fast")


def company(others: int, **changes: Any) -> list[Run]:
    """So many runs of other seeds and learning rates, to train beside a run of seed 0."""
    return [run(**(changes | {"seed": 1000 + i, "learning_rate": 0.01 * (i % 300 + 1)})) for i in range(others)]


def bits_at(place: int, size: int, **changes: Any) -> tuple[bytes, ...]:
    """The bits of the run that `changes` make, trained at a place of a stack of `size` runs."""
    runs = company(size - 1, **changes)
    runs.insert(place, run(**changes))
    return bits(trained(runs)[place])


# name: rows, inputs, hidden, outputs. From n = 8 on NumPy may add in pairs; sizes of 1 let NumPy drop axes.
SHAPES = {
    "4 rows, 3-4-5-1": (4, 3, [4, 5], 1),
    "1 row, 1-1": (1, 1, [], 1),
    "1 row, 1-1-1": (1, 1, [1], 1),
    "9 rows, 1-1-1-1": (9, 1, [1, 1], 1),
    "8 rows, 3-1": (8, 3, [], 1),
    "20 rows, 2-4, no hidden layer": (20, 2, [], 4),
    "16 rows, 9-1-8": (16, 9, [1], 8),
    "17 rows, 1-9-3": (17, 1, [9], 3),
    "20 rows, 8-16-2": (20, 8, [16], 2),
}


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_bits_alone_in_a_stack_of_2_and_of_9_and_at_another_place(shape: str, bias: bool, numerics: str) -> None:
    n, d, hidden, k = SHAPES[shape]
    changes = rows(n, d, k) | {"hidden": hidden, "bias": bias, "numerics": numerics, "epochs": 8}
    changes |= {"metrics": ["mean_abs"]}
    alone = bits_at(0, 1, **changes)
    for place, size in ((0, 2), (1, 2), (0, 9), (7, 9), (8, 9), (4, 17)):
        assert bits_at(place, size, **changes) == alone, f"place {place} of {size}"


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize(("n", "k", "bias"), [(4, 1, False), (20, 2, True)])
def test_bits_in_a_stack_of_500(n: int, k: int, bias: bool, numerics: str) -> None:
    changes = rows(n, 3, k) | {"hidden": [4, 5], "bias": bias, "numerics": numerics, "epochs": 12}
    alone = bits_at(0, 1, **changes)
    runs = company(498, **changes)
    runs = [run(**changes), *runs[:250], run(**(changes | {"epochs": 11})), *runs[250:], run(**changes)]
    found = trained(runs)
    assert bits(found[0]) == bits(found[-1]) == alone
    assert found[251].curves["loss"].tobytes() == found[0].curves["loss"][:12].tobytes()
    for place in (1, 333, 498):
        assert bits(found[place]) == bits(trained([runs[place]])[0])


EXAMPLES = st.fixed_dictionaries(
    {
        "shape": st.tuples(st.integers(1, 20), st.integers(1, 5), st.integers(1, 4)),
        "hidden": st.lists(st.integers(1, 5), max_size=3),
        "bias": st.booleans(),
        "derivative": st.sampled_from(["exact", "of_activation"]),
        "loss": st.sampled_from(["sse", "half_sse", "mse"]),
    }
)


@pytest.mark.parametrize("numerics", NUMERICS)
@PROPERTY
@given(example=EXAMPLES, size=st.integers(2, 20), data=st.data())
def test_bits_do_not_depend_on_the_stack(
    numerics: str, example: dict[str, Any], size: int, data: st.DataObject
) -> None:
    """A random net on random data: n x d -> k, at a random place of a stack of `size`."""
    n, d, k = example["shape"]
    changes = rows(n, d, k) | {key: value for key, value in example.items() if key != "shape"}
    changes |= {"numerics": numerics, "epochs": 6, "metrics": ["sum_abs"]}
    place = data.draw(st.integers(0, size - 1))
    assert bits_at(place, size, **changes) == bits_at(0, 1, **changes)


@pytest.mark.parametrize("numerics", NUMERICS)
def test_bits_do_not_depend_on_the_order_of_the_stack(numerics: str) -> None:
    runs = company(21, numerics=numerics, epochs=12, bias=True)
    order = np.random.default_rng(0).permutation(len(runs))
    straight, shuffled = trained(runs), trained([runs[i] for i in order])
    for place, i in enumerate(order):
        assert bits(shuffled[place]) == bits(straight[i])


def test_bits_do_not_depend_on_the_metrics_asked_for() -> None:
    plain = trained([run(epochs=9)])[0]
    more = trained([run(epochs=9, metrics=["mse", "mean_abs"])])[0]
    assert more.curves["loss"].tobytes() == plain.curves["loss"].tobytes()
    assert bits(more)[0] == bits(plain)[0]


def test_bits_do_not_depend_on_snapshots() -> None:
    plain, looked_at = trained([run(epochs=9)])[0], trained([run(epochs=9)], [0, 3, 4, 9])[0]
    assert bits(looked_at) == bits(plain)
    assert sorted(looked_at.snapshots) == [0, 3, 4, 9]


def test_results_come_in_the_order_of_the_runs() -> None:
    runs = [run(seed=seed, epochs=epochs) for seed, epochs in ((2, 4), (1, 9), (2, 2), (1, 4), (2, 4))]
    for one, found in zip(runs, train_stack(runs), strict=True):
        assert found.updates == one.config.training.epochs
        np.testing.assert_array_equal(found.initial[0], trained([one])[0].initial[0])


def test_snapshots_at_chosen_updates_of_every_run_that_gets_so_far() -> None:
    runs = [run(epochs=20), run(epochs=5, seed=1), run(epochs=8, seed=2)]
    found = trained(runs, [0, 6, 7, 30])
    assert [sorted(one.snapshots) for one in found] == [[0, 6, 7, 20], [0, 5], [0, 6, 7, 8]]
    for one, its in zip(runs, found, strict=True):
        assert its.final is its.snapshots[its.updates]
        for updates, state in its.snapshots.items():
            short = run(epochs=updates, seed=one.config.seed)
            assert state.prediction.tobytes() == trained([short])[0].final.prediction.tobytes()


def test_progress_counts_each_trajectory_once_and_no_snapshot_makes_it_longer() -> None:
    runs = [run(epochs=20), run(epochs=5), run(epochs=8, seed=2)]
    reports: list[int] = []
    train_stack(runs, reports.append, snapshots=[3, 30])
    assert sum(reports) == updates_of(runs) == 20 + 8


def test_a_run_carries_its_share_of_the_time() -> None:
    found = train_stack(company(4, epochs=3))
    assert len({one.seconds for one in found}) == 1
    assert 0 < found[0].seconds < 60


# --- what trains together ---------------------------------------------------------------------------------------

TOGETHER = [
    {"seed": 7},
    {"learning_rate": 2.0},
    {"epochs": 3},
    {"scheme": "uniform"},
    {"generator": "legacy"},
    {"scale": 0.1},
    {"metrics": ["mse"]},  # made of squares, as the loss is
    {"name": "another"},
    {"features": ["a", "b", "c"]},
    {"X": [[2, 0, 2], [0, 2, 2], [0, 0, 2], [2, 2, 2]], "scaling": "max"},  # the same numbers once scaled
]
APART = [
    {"y": [[1], [1], [0], [0.5]]},
    {"X": [[1, 0, 1], [0, 1, 1], [0, 0, 1], [1, 1, 2]]},
    {"scaling": "standard"},
    {"hidden": [4, 1]},
    {"hidden": []},
    {"bias": True},
    {"loss": "mse"},
    {"derivative": "of_activation"},
    {"numerics": "fast"},
    {"metrics": ["mean_abs"]},
]


@pytest.mark.parametrize("change", TOGETHER, ids=str)
def test_runs_train_together_though_they_differ_in(change: dict[str, Any]) -> None:
    runs = [run(epochs=5), run(**({"epochs": 5} | change))]
    assert make_stacks(runs) == [runs]
    for one, found in zip(runs, trained(runs), strict=True):
        assert bits(found)[0] == bits(trained([one])[0])[0]


@pytest.mark.parametrize("change", APART, ids=str)
def test_runs_do_not_train_together_if_they_differ_in(change: dict[str, Any]) -> None:
    runs = [run(), run(**change), run(seed=1)]
    assert make_stacks(runs) == [[runs[0], runs[2]], [runs[1]]]


def test_every_run_is_in_exactly_one_stack() -> None:
    runs = [run(seed=seed, hidden=[2 + seed % 3], epochs=1 + seed % 2) for seed in range(30)]
    placed = [id(one) for stack in make_stacks(runs) for one in stack]
    assert sorted(placed) == sorted(id(one) for one in runs)
    assert len(make_stacks(runs)) == 3


def test_no_runs_make_no_stacks() -> None:
    assert make_stacks([]) == []


def test_a_stack_holds_at_most_as_many_trajectories_as_the_machine_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "best_width", lambda *network: 100)
    runs = [run(seed=seed, epochs=0) for seed in range(203)]
    assert [len(stack) for stack in make_stacks(runs)] == [68, 68, 67]


@pytest.mark.parametrize(
    ("trajectories", "workers", "lengths"),
    [
        (40, 2, [40]),  # too few to be worth two stacks
        (128, 2, [64, 64]),
        (129, 2, [65, 64]),
        (100, 4, [50, 50]),
        (2500, 2, [625] * 4),  # three would keep one of two workers idle at the end
        (300, 3, [100] * 3),
    ],
)
def test_groups_are_cut_for_workers(
    trajectories: int, workers: int, lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stacks, "best_width", lambda *network: 1024)
    runs = [run(seed=seed, epochs=0) for seed in range(trajectories)]
    found = make_stacks(runs, workers)
    assert [len(stack) for stack in found] == lengths
    assert sorted(one.config.seed for stack in found for one in stack) == list(range(trajectories))


def test_workers_have_like_amounts_of_work() -> None:
    runs = [run(seed=seed, learning_rate=rate, epochs=1 + 10 * seed) for rate in (0.1, 0.2) for seed in range(100)]
    work = [updates_of(stack) for stack in make_stacks(runs, 3)]
    assert len(work) == 3
    assert max(work) - min(work) < 0.03 * sum(work)


def test_runs_that_differ_in_epochs_only_count_once_and_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "best_width", lambda *network: LANES)
    runs = [run(seed=seed, epochs=epochs) for epochs in (3, 9, 5) for seed in range(10)]
    found = make_stacks(runs)
    assert [sorted({one.config.seed for one in stack}) for stack in found] == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
    assert [len(stack) for stack in found] == [15, 15]
    assert [updates_of(stack) for stack in found] == [5 * 9, 5 * 9]


def test_workers_get_like_work_however_many_epochs_the_runs_have() -> None:
    runs = [run(seed=seed, epochs=1000 if seed < 100 else 10) for seed in range(200)]
    found = make_stacks(runs, workers=2)
    assert [len(stack) for stack in found] == [100, 100]
    assert [updates_of(stack) for stack in found] == [50_500, 50_500]


def test_a_group_is_cut_into_its_share_of_the_workers() -> None:
    """Groups of 300 and 100 like trajectories, 4 workers: three quarters of the work and one quarter."""
    runs = [run(seed=seed, hidden=[5 if seed < 300 else 4, 4], X=[[1.0]], y=[[1.0]], epochs=1) for seed in range(400)]
    assert [len(stack) for stack in make_stacks(runs, workers=4)] == [75] * 4 + [100]


def test_wide_groups_are_cut_for_all_workers() -> None:
    """So that no worker is idle at the end: 512 and 700 trajectories on two."""
    runs = [run(seed=seed, hidden=[2 if seed < 512 else 8], epochs=1) for seed in range(1212)]
    assert [len(stack) for stack in make_stacks(runs, workers=2)] == [256, 256, 350, 350]


def test_narrow_groups_are_not_cut() -> None:
    assert [len(stack) for stack in make_stacks([run(seed=seed) for seed in range(60)], workers=8)] == [60]


@pytest.mark.parametrize("metrics", [[], ["mean_abs"]])
@pytest.mark.parametrize("epochs", [50_000, 1_000_000])
def test_curves_of_a_stack_stay_within_their_memory(epochs: int, metrics: list[str]) -> None:
    """Unless even LANES, the fewest, need more."""
    runs = [run(seed=seed, epochs=epochs if seed == 3 else 1, metrics=metrics) for seed in range(400)]
    largest = max(len(stack) for stack in make_stacks(runs))
    taken = 8 * (epochs + 1) * largest * (1 + len(metrics))
    assert taken <= CURVE_BYTES or largest == LANES
    assert largest == len(runs) or taken > CURVE_BYTES / 2 or largest == LANES


def pairs(stack: list[Run]) -> Iterator[tuple[Run, Result]]:
    """The runs of a stack with their results."""
    return zip(stack, train_stack(stack), strict=True)


def test_chunks_do_not_change_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [run(seed=seed, epochs=8) for seed in range(20)]
    whole = trained(runs)
    monkeypatch.setattr(stacks, "best_width", lambda *network: LANES)
    found = {one.config.seed: bits(result) for stack in make_stacks(runs) for one, result in pairs(stack)}
    assert [found[seed] for seed in range(20)] == [bits(one) for one in whole]
