"""Portable trainings are made of operations that IEEE 754 rounds exactly: all others raise while these train."""

import ast
import math
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
import pytest

from pipeline.identity import NUMERICS_CODE, source_of
from pipeline.numerics.network import Pass, Rule, Stack, predict
from pipeline.numerics.optimizer import OptimizerRule
from pipeline.numerics.sigmoid import sigmoid
from pipeline.results.record import prediction_arrays, prediction_columns, weight_arrays
from pipeline.training.stack import make_stacks, train_stack
from tests.factory import CAT_SHOP, EXAM, FIRST_COLUMN, HAPPINESS, rows, run, shares, stacked

# NumPy operations whose every bit IEEE 754 fixes: one rounding each, or none; sums over the first axis are plain adds.
EXACT = {
    *(np.add, np.subtract, np.multiply, np.divide, np.minimum, np.maximum, np.left_shift, np.copyto, np.add.reduce),
    *(np.negative, np.sqrt, np.sign, np.maximum.reduce),
}

ALSO_EXACT = {np.absolute, np.frexp}  # not in programs
FLOATS = ("d->d", "dd->d")  # kinds of loops that give float64
BY_SUMS = ("dot", "vdot", "inner", "einsum", "einsum_path", "tensordot", "kron", "convolve", "correlate", "interp")
OF_MATH = ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "pow", "tanh", "sinh", "cosh", "tan", "sin", "cos")
RUNS: dict[str, dict[str, Any]] = {
    "happiness": HAPPINESS,
    "exam": EXAM,
    "first_column": FIRST_COLUMN,
    "cat_shop": CAT_SHOP,
    "several outputs": rows(17, 4, 2) | {"hidden": [3, 2], "scaling": "standard", "bias": True, "metrics": ["mse"]},
    "tanh and relu, adam": rows(12, 3, 1)
    | {"hidden": [3, 2], "activation": ["tanh", "relu"], "output_activation": "identity", "batch_size": 5}
    | {"optimizer": "adam", "schedule": "cosine", "scheme": "xavier"},
    "softmax, nesterov": shares(12, 3, 3)
    | {"output_activation": "softmax", "loss": "cross_entropy", "metrics": ["accuracy"], "optimizer": "nesterov"}
    | {"activation": "leaky_relu", "l2": 0.1, "scheme": "he", "patience": 2},
    "bce, momentum": rows(9, 2, 1) | {"loss": "bce", "optimizer": "momentum", "schedule": "exponential"},
    "no hidden layer": rows(70, 3, 1) | {"hidden": [], "target_scaling": "standard", "loss": "mse"},
}


RULES = [
    Rule("half_sse"),
    Rule("half_sse", "of_activation"),
    Rule("mse", activations=("relu", "tanh"), optimizer=OptimizerRule("adam", l2=0.1)),
    Rule("cross_entropy", activations=("leaky_relu", "softmax"), optimizer=OptimizerRule("nesterov")),
    Rule("bce", activations=("identity", "sigmoid"), optimizer=OptimizerRule("momentum")),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.loss} {rule.derivative}")
@pytest.mark.parametrize(("n", "lanes"), [(2, 8), (40, 1024)], ids=["small products", "large products"])
def test_portable_programs_use_exactly_rounded_operations_only(n: int, lanes: int, rule: Rule) -> None:
    """Einsum, for one, has the same bits here, but not where a compiler fuses its multiply and add."""
    network = [np.ones((3, 2)), np.ones((2, 1))], [np.ones(2), np.ones(1)]
    stack = Stack(np.ones((n, 3)), np.ones((n, 1)), stacked([network] * lanes), np.ones(lanes), rule)
    rows = stack.full
    assert isinstance(rows, Pass)
    step = stack.optimizer.step(stack.parameters, stack.gradient, stack.spare[0])
    for call in [*rows._forward_program(), *rows._gradient_program(), *step]:
        assert call.func in EXACT, call.func
        if call.func == np.add.reduce:  # not the last axis: whole arrays, or rows of lanes, are added one after another
            assert call.args[1] < call.args[0].ndim - 1


def inexact() -> Iterator[tuple[Any, str]]:
    """Places and names of what may round otherwise on another machine: most of NumPy's float functions, and math's."""
    for name, function in vars(np).items():
        if isinstance(function, np.ufunc) and function not in EXACT | ALSO_EXACT and {*FLOATS} & {*function.types}:
            yield np, name
    yield from ((np, name) for name in BY_SUMS)
    yield from ((np.linalg, name) for name in np.linalg.__all__ if not isinstance(getattr(np.linalg, name), type))
    yield from ((math, name) for name in OF_MATH if hasattr(math, name))


def raising(name: str) -> Callable[..., NoReturn]:
    """A function that says that it was called."""

    def call(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError(f"{name} was called")

    return call


def make_raise(patch: pytest.MonkeyPatch, *only: str) -> None:
    """Makes all inexact functions raise, or only those of these names."""
    for module, name in list(inexact()):
        if not only or name in only:
            patch.setattr(module, name, raising(name))


def train_and_predict(changes: dict[str, Any]) -> None:
    """All that a run goes through: data, draws, training, snapshots, its files' numbers, predictions of new rows."""
    runs = [run(**(changes | {"epochs": 3, "seed": seed})) for seed in range(1, 10)]
    for stack in make_stacks(runs, workers=2):
        for one, result in zip(stack, train_stack(stack, snapshots=[1]), strict=True):
            weight_arrays(result)
            prediction_arrays(prediction_columns(one, result))
            fresh = one.dataset.input_scale.apply(one.dataset.X + 0.25)
            outputs = predict(fresh, result.final.matrices, result.final.biases, one.mode)
            one.dataset.target_scale.invert(outputs)
            sigmoid(outputs, one.numerics)


@pytest.mark.parametrize("name", RUNS)
def test_portable_runs_call_nothing_inexact(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        make_raise(patch)
        train_and_predict(RUNS[name])


def test_what_raises_is_what_is_meant() -> None:
    names = {name for _, name in inexact()}
    assert names >= {"exp", "log", "tanh", "power", "matmul", "dot", "einsum", "tensordot", "inner", "vdot", "solve"}


@pytest.mark.parametrize("function", ["exp", "matmul"])
def test_fast_runs_do_call_what_raises(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above could not fail."""
    with monkeypatch.context() as patch:
        make_raise(patch, function)
        with pytest.raises(AssertionError, match=f"{function} was called"):
            train_and_predict(RUNS["cat_shop"] | {"numerics": "fast"})


@pytest.mark.parametrize("function", ["dot", "einsum", "tensordot", "inner", "vdot", "tanh", "log", "power"])
def test_a_use_in_training_would_be_caught(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        make_raise(patch)
        patch.setattr(Stack, "update", lambda stack: getattr(np, function)(stack.error, stack.error))
        with pytest.raises(AssertionError, match=f"{function} was called"):
            train_and_predict(RUNS["cat_shop"])


@pytest.mark.parametrize("name", NUMERICS_CODE)
def test_no_module_has_them_by_another_way(name: str) -> None:
    """By operators, by methods of arrays, or imported by name, where the test above would not see them."""
    tree = ast.parse(source_of(name))
    for node in ast.walk(tree):
        assert not isinstance(node, ast.MatMult)
        if isinstance(node, ast.Attribute) and node.attr == "dot":
            assert isinstance(node.value, ast.Name)
            assert node.value.id == "np"
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):  # of a number, or a square, which multiplies
            assert isinstance(node.left, ast.Constant) or ast.unparse(node.right) == "2"
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("numpy", "math"):
            assert node.module in ("numpy.typing", "numpy.random")
