"""Networks side by side in a stack: lanes that are filled up, rows in blocks, one network taken out."""

import numpy as np
import pytest

from pipeline.numerics.layout import LANES
from pipeline.numerics.network import Blocks, Mode, Rule, Stack, predict
from tests.factory import drawn

NUMERICS = ("portable", "fast")


@pytest.mark.parametrize("runs", [1, 7, 8, 9, 16, 17])
def test_a_stack_is_filled_up_with_zero_networks_to_a_multiple_of_lanes(runs: int) -> None:
    weights = drawn((2, 3, 1), True, runs, 0)
    full = Stack(np.ones((1, 2)), np.ones((1, 1)), weights, np.ones(runs), Rule("half_sse")).weights
    assert full.runs == -(-runs // LANES) * LANES
    for array, original in zip(full.matrices + full.biases, weights.matrices + weights.biases, strict=True):
        np.testing.assert_array_equal(array[..., :runs], original)
        assert not array[..., runs:].any()


def test_training_a_stack_leaves_the_weights_it_was_given_alone() -> None:
    weights = drawn((2, 3, 1), True, LANES, 0)
    copies = [array.copy() for array in weights.matrices + weights.biases]
    stack = Stack(np.ones((2, 2)), np.zeros((2, 1)), weights, np.ones(LANES), Rule("half_sse"))
    stack.forward()
    stack.update()
    for array, copy in zip(weights.matrices + weights.biases, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_take_copies_the_chosen_networks() -> None:
    weights = drawn((2, 3, 1), True, 5, 0)
    for lanes in (np.array([4, 1]), slice(1, 3)):
        taken = weights.take(lanes)
        assert taken.runs == 2
        for array, original in zip(taken.matrices + taken.biases, weights.matrices + weights.biases, strict=True):
            np.testing.assert_array_equal(array, original[..., lanes])
            assert not np.shares_memory(array, original)


def test_padding_lanes_stay_zero_networks() -> None:
    stack = Stack(np.ones((2, 2)), np.zeros((2, 1)), drawn((2, 3, 1), True, 3, 0), np.ones(3), Rule("half_sse"))
    for _ in range(3):
        stack.forward()
        stack.update()
    assert not any(array[..., 3:].any() for array in stack.weights.matrices + stack.weights.biases)


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("bias", [False, True])
def test_predict_is_the_forward_pass_of_one_network(bias: bool, numerics: str) -> None:
    weights = drawn((3, 4, 2), bias, 3, 0)
    X = np.random.default_rng(0).standard_normal((6, 3))
    stack = Stack(X, np.zeros((6, 2)), weights, np.zeros(3), Rule("half_sse", numerics=numerics))
    stack.forward()
    for lane in range(3):
        one = weights.take(slice(lane, lane + 1))
        found = predict(X, [m[..., 0] for m in one.matrices], [b[..., 0] for b in one.biases], Mode(numerics))
        np.testing.assert_array_equal(found, stack.prediction[..., lane])


@pytest.mark.parametrize("numerics", NUMERICS)
def test_saturated_units_give_no_warning_in_predict(numerics: str) -> None:
    assert predict(np.array([[-1e6], [1e6]]), [np.array([[1e6]])], mode=Mode(numerics))[1, 0] == 1.0


@pytest.mark.parametrize("n", [129, 300, 384])
@pytest.mark.parametrize("own", [False, True], ids=["shared rows", "own rows"])
def test_rows_in_blocks_have_the_gradient_of_all_rows(n: int, own: bool) -> None:
    """Runs first, more than BLOCK_ROWS go in blocks; runs last they are in one piece."""
    runs, sizes = 3, (4, 6, 3)
    draw = np.random.default_rng(n)
    shape = (runs,) if own else ()
    X, y = draw.uniform(-2, 2, (n, 4, *shape)), draw.uniform(0, 1, (n, 3, *shape))
    weights = drawn(sizes, True, runs, 1)
    found = {}
    for layout in ("runs_last", "runs_first"):
        stack = Stack(X, y, weights, np.ones(runs), Rule("mse", "exact", "fast", ("tanh", "sigmoid"), layout=layout))
        assert isinstance(stack.full, Blocks) == (layout == "runs_first")
        sums = np.empty(runs)
        stack.forward()
        stack.measure("squares", sums)
        stack.full.differentiate()
        to_last = stack.layout.to_last
        arrays = [*stack.gradient.matrices, *stack.gradient.biases, stack.prediction, stack.error]
        found[layout] = [sums, *(to_last(array)[..., :runs] for array in arrays)]
    for last, first in zip(*found.values(), strict=True):
        np.testing.assert_allclose(first, last, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("n", [100, 128, 129, 500])
@pytest.mark.parametrize("layout", ["runs_last", "runs_first"])
def test_rows_that_are_looked_at_are_predicted_as_those_learnt_from(layout: str, n: int) -> None:
    """In little memory, with the same bits; nothing can be learnt from them."""
    X = np.random.default_rng(n).uniform(-2, 2, (n, 4))
    y, weights, rule = np.zeros((n, 3)), drawn((4, 6, 3), True, 5, 1), Rule("mse", numerics="fast", layout=layout)
    learnt, looked = (Stack(X, y, weights, np.ones(5), rule, updates_all=learns) for learns in (True, False))
    for stack in (learnt, looked):
        stack.forward()
    assert looked.prediction.tobytes() == learnt.prediction.tobytes()
    assert looked.error.tobytes() == learnt.error.tobytes()
    if isinstance(looked.full, Blocks):
        with pytest.raises(TypeError, match="only looked at"):
            looked.update()
