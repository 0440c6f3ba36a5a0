"""Courses: mini-batches, optimizers with memory, schedules and patience, alone and in a stack, whole and in part."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.random import PCG64, Generator, SeedSequence

from pipeline.identity import Run
from pipeline.numerics.course import shuffled
from pipeline.numerics.layout import Parameters, RunsLast
from pipeline.numerics.optimizer import Optimizer, OptimizerRule
from pipeline.numerics.program import execute
from pipeline.training.stack import Result, make_stacks, stack_key, train_stack
from tests.factory import bits, rows, run, shares

LAYOUTS = ["runs_last", "runs_first"]
COURSES: dict[str, dict[str, Any]] = {
    "mini-batches": {"batch_size": 5},
    "mini-batches as large as the data": {"batch_size": 40},
    "momentum": {"optimizer": "momentum", "batch_size": 4},
    "nesterov with weight decay": {"optimizer": "nesterov", "l2": 0.01},
    "adam": {"optimizer": "adam", "batch_size": 7},
    "steps": {"schedule": "step", "decay": 0.5, "decay_every": 2},
    "exponential": {"schedule": "exponential", "decay": 0.9, "batch_size": 6},
    "inverse time": {"schedule": "inverse_time", "decay": 0.1},
    "tanh and relu": {"hidden": [4, 3], "activation": ["tanh", "relu"], "output_activation": "identity"},
    "leaky relu, softmax": {
        "activation": "leaky_relu", "output_activation": "softmax", "loss": "cross_entropy", "metrics": ["accuracy"],
    },
    "bce": {"loss": "bce", "metrics": ["accuracy"]},
}  # fmt: skip


def trained(runs: list[Run]) -> list[Result]:
    """Results of one stack, however many lanes this machine would like it to have."""
    assert len({stack_key(one) for one in runs}) == 1, "these runs do not train together"
    return train_stack(runs)


def result(**values: Any) -> Result:
    """The result of a run alone."""
    return trained([run(**values)])[0]


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small networks in this layout."""
    monkeypatch.setattr("pipeline.identity.layout_of", lambda sizes, n: request.param)
    return str(request.param)


@pytest.mark.parametrize("name", COURSES)
def test_a_course_has_the_same_bits_alone_in_a_stack_and_as_a_part_of_a_longer_one(name: str, layout: str) -> None:
    """Others of the stack have other seeds and rates, and leave it after 3 epochs, or stay until 9."""
    base: dict[str, Any] = {"hidden": [4], "bias": True, "learning_rate": 0.1}
    changes = shares(12, 3, 3) | base | COURSES[name]
    alone = result(**changes, seed=3, epochs=6)
    others: list[dict[str, Any]] = [{"seed": seed, "epochs": epochs} for seed in (1, 2, 5) for epochs in (3, 9)]
    others.append({"seed": 3, "epochs": 6, "learning_rate": 0.2})
    for extra in (others, [{"seed": 3, "epochs": 9}, *others]):
        stack = [run(**(changes | change)) for change in (*extra[:4], {"seed": 3, "epochs": 6}, *extra[4:])]
        found = trained(stack)[4]
        assert bits(found) == bits(alone)
        assert found.updates == alone.updates == 6 * stack[4].updates_an_epoch


@pytest.mark.parametrize("size", [1, 5, 12, 40])
def test_an_epoch_of_mini_batches_counts_its_updates(size: int) -> None:
    found = run(**rows(12, 3, 1), batch_size=size, epochs=4)
    per_epoch = math.ceil(12 / size)
    (trained_run,) = trained([found])
    assert (found.updates_an_epoch, trained_run.every, trained_run.updates) == (per_epoch, per_epoch, 4 * per_epoch)
    assert len(trained_run.curves["loss"]) == 5


def test_one_batch_of_all_rows_is_gradient_descent_up_to_the_order_of_sums() -> None:
    changes = rows(12, 3, 1) | {"epochs": 20}
    whole, shuffled = result(**changes), result(**changes, batch_size=12)
    assert whole.curves["loss"] == pytest.approx(shuffled.curves["loss"], rel=1e-12)
    assert whole.curves["loss"].tobytes() != shuffled.curves["loss"].tobytes()


def test_seeds_order_the_rows() -> None:
    """From the same given weights."""
    changes = rows(12, 1, 1) | {"hidden": [], "scheme": "given", "weights": [[[0.5]]], "batch_size": 4, "epochs": 2}
    one, other, again = (result(**changes, seed=seed) for seed in (1, 2, 1))
    assert bits(one) == bits(again)
    assert bits(one) != bits(other)


@pytest.mark.parametrize(
    ("rule", "factors"),
    [
        (OptimizerRule(), [1, 1, 1, 1, 1]),
        (OptimizerRule(schedule="step", decay=0.5, every=2), [1, 1, 0.5, 0.5, 0.25]),
        (OptimizerRule(schedule="exponential", decay=0.5), [1, 0.5, 0.25, 0.125, 0.0625]),
        (OptimizerRule(schedule="inverse_time", decay=1.0), [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]),
        (OptimizerRule(schedule="cosine", epochs=4), [1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0]),
    ],
    ids=lambda value: value.schedule if isinstance(value, OptimizerRule) else "",
)
def test_schedules_by_hand(rule: OptimizerRule, factors: list[float]) -> None:
    rates = np.array([2.0, 3.0])
    optimizer = Optimizer(rule, rates, np.zeros(2))
    for epoch, factor in enumerate(factors):
        optimizer.start_epoch(epoch)
        assert rates == pytest.approx([2 * factor, 3 * factor], abs=1e-15)


def test_adam_by_hand() -> None:
    """Two steps of one weight with gradients 1 and 3: m and q as in the paper, epsilon outside the root."""
    weights, slopes = (Parameters(RunsLast(with_blas=False), (1, 1), bias=False, lanes=1) for _ in range(2))
    optimizer = Optimizer(OptimizerRule("adam"), np.array([0.1]), weights.flat)
    wanted, m, q = 0.0, 0.0, 0.0
    for t, gradient in ((1, 1.0), (2, 3.0)):
        m, q = 0.9 * m + 0.1 * gradient, 0.999 * q + 0.001 * gradient**2
        wanted -= 0.1 * (m / (1 - 0.9**t)) / (math.sqrt(q / (1 - 0.999**t)) + 1e-8)
        optimizer.tick()
        slopes.flat[...] = gradient
        execute(optimizer.step(weights, slopes, np.empty(1)))
        assert weights.matrices[0].item() == pytest.approx(wanted, rel=1e-14)


def test_a_cosine_is_not_the_beginning_of_a_longer_one(layout: str) -> None:
    changes = rows(6, 2, 1) | {"schedule": "cosine"}
    short, long = run(**changes, epochs=4), run(**changes, epochs=8)
    assert len(make_stacks([short, long])) == 2
    assert result(**changes, epochs=4).curves["loss"][2] != result(**changes, epochs=8).curves["loss"][2]


# --- patience ---------------------------------------------------------------------------------------------------

RISING = rows(8, 2, 1) | {"hidden": [3], "learning_rate": 30.0, "epochs": 40}  # so large a rate that losses go up again


def test_patience_keeps_the_best_network_and_ends_there(layout: str) -> None:
    """Without it the same training goes on; it is the same up to where patience ends it."""
    free = [result(**RISING, seed=seed) for seed in range(12)]
    runs = [run(**RISING, seed=seed, patience=3) for seed in range(12)]
    stopped = 0
    for whole, found in zip(free, trained(runs), strict=True):
        losses = whole.curves["loss"]
        best = 0
        for epoch, loss in enumerate(losses):
            best = epoch if loss < losses[best] else best
            if epoch - best == 3:
                break
        assert (found.updates, found.stopped_at, found.diverged_at) == (best, epoch, None)
        assert found.curves["loss"].tobytes() == losses[: best + 1].tobytes()
        stopped += epoch < 40
    assert stopped > 3, "the example is one in which patience ends something"


def test_patience_alone_in_a_stack_and_for_other_epochs(layout: str) -> None:
    stack = [run(**(RISING | {"epochs": epochs}), seed=seed, patience=3) for seed in range(6) for epochs in (5, 40)]
    together = trained(stack)
    for one, found in zip(stack, together, strict=True):
        (alone,) = trained([one])
        assert bits(found) == bits(alone)
        assert found.stopped_at == alone.stopped_at
        kept = result(**(RISING | {"epochs": max(found.updates, 1)}), seed=one.config.seed)
        if found.updates:
            assert bits(kept) == bits(found)


def test_a_run_that_diverges_under_patience_says_so(layout: str) -> None:
    """The best network is kept; where a number was not finite is told as without patience."""
    growing: dict[str, Any] = {"X": [[1.0], [2.0]], "y": [[1.0], [0.5]], "hidden": [], "activation": "identity"}
    growing |= {"output_activation": "identity", "loss": "half_sse", "epochs": 2000, "learning_rate": 2.0}
    free, patient_ = result(**growing), result(**growing, patience=1500)
    assert free.diverged_at is not None
    assert patient_.diverged_at == free.diverged_at
    assert np.isfinite(patient_.curves["loss"]).all()
    assert patient_.stopped_at is not None


def test_patience_that_did_not_end_the_training_is_no_end() -> None:
    found = result(**rows(8, 2, 1), hidden=[3], epochs=5, patience=50)
    assert (found.stopped_at, found.diverged_at) == (None, None)


@pytest.mark.parametrize("n", [1, 2, 3, 1437, 2048, 2049, 100_000])
def test_rows_are_shuffled_in_the_order_of_random_numbers(n: int) -> None:
    order = Generator(PCG64(SeedSequence([7, 1]))).random(n).argsort(kind="stable")
    np.testing.assert_array_equal(shuffled(Generator(PCG64(SeedSequence([7, 1]))), n), order)
