"""Compiled code (the extra `numba`) gives the bits of NumPy: weights, curves and predictions, of runs that diverge too.

Slow, as numba compiles for ten seconds where it has not before. CI installs the extra.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.executor_config import ExecutorConfig
from pipeline.identity import Run, make_run
from pipeline.numerics.network import Stack
from pipeline.training.stack import make_stacks, train_stack
from tests.conftest import seedbed
from tests.factory import EXAM, FIRST_COLUMN, HAPPINESS, bits, config, rows, run

pytestmark = pytest.mark.slow

SHAPES: list[dict[str, Any]] = [
    rows(3, 2, 1) | {"hidden": [3]},
    rows(1, 1, 1) | {"hidden": [1]},
    rows(9, 1, 1) | {"hidden": []},
    rows(20, 1, 3) | {"hidden": [1], "target_scaling": "standard"},
    rows(17, 4, 2) | {"hidden": [3, 2, 3], "scaling": "standard"},
]
KINDS: list[dict[str, Any]] = [
    {"bias": False, "derivative": "exact", "loss": "half_sse"},
    {"bias": True, "derivative": "exact", "loss": "mse", "metrics": ["mean_abs"]},
    {"bias": True, "derivative": "of_activation", "loss": "sse"},
]


def compiled(one: Run) -> Run:
    """The same run, to be trained by compiled code."""
    pytest.importorskip("numba")
    return make_run(replace(one.config, executor=ExecutorConfig(kernel="numba")))


def assert_same_bits(runs: list[Run]) -> None:
    """Trains the runs in both ways, all that can together."""
    for stack in make_stacks(runs):
        by_numpy = [bits(result) for result in train_stack(stack)]
        assert [bits(result) for result in train_stack([compiled(one) for one in stack])] == by_numpy


@pytest.mark.parametrize("runs", [1, 260])  # 260: more than a block
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: str(shape["hidden"]))
def test_the_same_bits(shape: dict[str, Any], kind: dict[str, Any], runs: int) -> None:
    assert_same_bits([run(**(shape | kind), seed=seed, epochs=20 + seed % 3) for seed in range(runs)])


@pytest.mark.parametrize("tutorial", [HAPPINESS, EXAM, FIRST_COLUMN], ids=["happiness", "exam", "first_column"])
def test_the_tutorials(tutorial: dict[str, Any]) -> None:
    assert_same_bits([run(**(tutorial | {"epochs": 1200}))])


def test_runs_that_diverge_or_saturate() -> None:
    huge = [[1e308, -1e308], [1e308, 1.0]]
    assert_same_bits([run(X=huge, y=[[0], [1e160]], seed=seed, learning_rate=1e150, epochs=30) for seed in range(9)])


def test_epochs_are_nested() -> None:
    assert_same_bits([run(epochs=epochs, seed=seed) for epochs in (0, 1, 499, 500, 501, 1300) for seed in range(3)])


def test_the_fingerprint_is_the_same() -> None:
    assert compiled(run()).fingerprint == run().fingerprint


def test_fast_numerics_are_not_compiled() -> None:
    pytest.importorskip("numba")
    with pytest.raises(UserError, match=r"^executor\.kernel is numba, but .* must be numpy, as numerics is fast\.$"):
        replace(config(), numerics="fast", executor=ExecutorConfig(kernel="numba"))


def test_held_out_rows_are_not_compiled() -> None:
    with pytest.raises(UserError, match="over all rows and none held out"):
        compiled(run(X=[[0], [1], [2]], y=[[0], [1], [0]], validation=0.34))


def test_a_sweep_from_the_command_line(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    done = seedbed("sweep", "seed=range(0,3)", "tracking=none", "executor.kernel=numba", cwd=tmp_path)
    assert (done.returncode, "3 runs: 3 trained" in done.stdout) == (0, True), done.stderr


def test_compiled_code_is_what_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    one = compiled(run(epochs=20))
    monkeypatch.setattr(Stack, "update", None)
    assert train_stack([one])[0].updates == 20
