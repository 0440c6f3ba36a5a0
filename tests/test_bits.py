"""The same bits on every machine: portable trainings in processes with CPU features and BLAS kernels switched off.

Each process trains the same small sweep and prints digests of all weights, curves and predictions.
"""

import functools
import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.identity import Run
from pipeline.layout import LANES, MOST_BLAS_TERMS, matmul
from pipeline.network import Rule, Stack
from pipeline.program import Array
from pipeline.sigmoid import sigmoid
from pipeline.stack import make_stacks, train_stack
from tests.factory import EXAM, FIRST_COLUMN, HAPPINESS, rows, run, stacked

ROOT = Path(__file__).resolve().parents[1]
CORE: Any = np._core._multiarray_umath  # type: ignore[attr-defined]
KERNELS = {"SkylakeX": "AVX512F", "Zen": "AVX2", "Haswell": "AVX2", "Prescott": "SSE3"}  # and what each must have
PRINT_DIGESTS = "from tests.test_bits import print_digests; print_digests()"

# Computed once, on x86-64 (AVX-512) with NumPy 2.4 and Python 3.11. A change of these means that results which are
# stored no longer come out again: it must be meant, and be said in CHANGELOG.md.
GOLDEN = {
    "sigmoid": "91cc30f3c2a75420",
    "tutorials": "b83bd246381e8acb",
    "uniform": "56482b3e7b2620e0",
}


def sweeps() -> dict[str, list[Run]]:
    """Portable runs by what their initial weights come from; only `normal` draws with the help of libm."""
    shapes: list[dict[str, Any]] = [
        rows(3, 2, 1) | {"hidden": [3]},
        rows(4, 3, 1) | {"hidden": [4, 5]},
        rows(9, 1, 1) | {"hidden": []},
        rows(20, 1, 3) | {"hidden": [1], "target_scaling": "standard"},
        rows(17, 4, 2) | {"hidden": [3, 2, 3], "scaling": "standard"},
    ]
    kinds: list[dict[str, Any]] = [
        {"bias": False, "derivative": "exact", "loss": "half_sse"},
        {"bias": True, "derivative": "exact", "loss": "mse"},
        {"bias": True, "derivative": "of_activation", "loss": "sse"},
    ]
    common: dict[str, Any] = {"numerics": "portable", "epochs": 12, "metrics": ["mean_abs"]}
    small = [common | shape | kind for shape, kind in itertools.product(shapes, kinds)]
    drawn: list[dict[str, Any]] = [{"seed": 1, "generator": "legacy"}, {"seed": 2, "learning_rate": 7.0}]
    tutorials: list[dict[str, Any]] = [
        HAPPINESS,
        EXAM | {"scheme": "given", "weights": [[[-0.9, 0.3, -1.6], [0.6, 0.4, 0.6]], [[-0.2], [-1.8], [-0.9]]]},
        FIRST_COLUMN | {"scheme": "uniform"},
    ]
    return {
        "tutorials": [run(**({"epochs": 100} | tutorial | {"numerics": "portable"})) for tutorial in tutorials],
        "uniform": [run(**(base | draw | {"scheme": "uniform"})) for base in small for draw in drawn],
        "normal": [run(**(base | drawn[i % 2])) for i, base in enumerate(small)],
    }


def digest_of(runs: Sequence[Run]) -> str:
    """One digest for everything that training these runs gives."""
    digest = hashlib.sha256()
    for stack in make_stacks(runs):
        for found in train_stack(stack):
            assert found.diverged_at is None
            curves = [curve for _, curve in sorted(found.curves.items())]
            for array in (*found.initial, *found.final.matrices, *found.final.biases, found.final.prediction, *curves):
                digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    return digest.hexdigest()[:16]


def digests() -> dict[str, str]:
    """What must be the same everywhere."""
    points = np.concatenate([np.linspace(-700, 700, 20_001), np.linspace(-5, 5, 20_001)])
    bare = hashlib.sha256(sigmoid(points).astype("<f8").tobytes()).hexdigest()[:16]
    return {"sigmoid": bare} | {name: digest_of(runs) for name, runs in sweeps().items()}


def print_digests() -> None:
    """What a process of the tests runs: its digests, and the CPU features that NumPy may use beyond its baseline."""
    print(json.dumps({"digests": digests(), "features": dispatched(), "by width": products_that_depend_on_the_width()}))


def products_that_depend_on_the_width() -> list[str]:
    """Products as `fast` leaves to BLAS, (a, s) times (s, b * r), whose bits differ between numbers of runs r."""
    draw = np.random.default_rng(0)
    terms = (1, 2, 3, 4, 5, 8, 17, MOST_BLAS_TERMS)
    found: list[str] = []
    for a, s, b in itertools.product(terms, terms, (1, 3, 5)):
        left, right = draw.standard_normal((a, s)), draw.standard_normal((s, b, 1024))
        narrow = product(left, right[..., :LANES].copy())
        wide = {r: product(left, right[..., :r].copy())[..., :LANES] for r in (16, 40, 256, 1024)}
        found += [f"{a} x {s} x {b} at {r}" for r, same in wide.items() if same.tobytes() != narrow.tobytes()]
    return found


def product(left: Array, right: Array) -> Array:
    """What network.matmul computes."""
    out = np.empty((len(left), *right.shape[1:]))
    matmul(left, right, out)()
    return out.copy()


def dispatched() -> list[str]:
    """CPU features that this NumPy can choose at run time and this CPU has, weakest first."""
    return [name for name in CORE.__cpu_dispatch__ if CORE.__cpu_features__.get(name)]


def settings() -> dict[str, dict[str, str]]:
    """Environments to train in: fewer and fewer CPU features, each with one thread and another BLAS kernel."""
    features = dispatched()
    found: dict[str, dict[str, str]] = {"as it is": {}}
    for (kernel, needed), first in zip(KERNELS.items(), (len(features), len(features) - 1, 1, 0), strict=True):
        words = " ".join(features[max(first, 0) :])
        known = bool(CORE.__cpu_features__.get(needed))
        name = f"{kernel if known else 'own kernel'} without {words or 'nothing'}"
        found[name] = {"OPENBLAS_NUM_THREADS": "1"} | ({"OPENBLAS_CORETYPE": kernel} if known else {})
        if words:
            found[name]["NPY_DISABLE_CPU_FEATURES"] = words
    return found


SETTINGS = settings()
FEWEST = list(SETTINGS)[-1]
SOME_SETTINGS = [
    name if name in ("as it is", FEWEST) else pytest.param(name, marks=pytest.mark.slow) for name in SETTINGS
]
CHOSEN = ("NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS")


def in_a_process(environment: dict[str, str]) -> dict[str, Any]:
    """What a fresh process with these variables prints."""
    plain = {key: value for key, value in os.environ.items() if key not in CHOSEN}
    done = subprocess.run(
        [sys.executable, "-c", PRINT_DIGESTS],
        cwd=ROOT,
        env=plain | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


# NumPy operations whose every bit IEEE 754 fixes: one rounding each, or none; sums over the first axis are plain adds.
EXACT = {np.add, np.subtract, np.multiply, np.divide, np.minimum, np.maximum, np.left_shift, np.copyto, np.add.reduce}


@pytest.mark.parametrize("derivative", ["exact", "of_activation"])
@pytest.mark.parametrize(("n", "lanes"), [(2, 8), (40, 1024)], ids=["small products", "large products"])
def test_portable_programs_use_exactly_rounded_operations_only(n: int, lanes: int, derivative: str) -> None:
    """Einsum, for one, has the same bits here, but not where a compiler fuses its multiply and add."""
    network = [np.ones((3, 2)), np.ones((2, 1))], [np.ones(2), np.ones(1)]
    rule = Rule(1.0, derivative)
    stack = Stack(np.ones((n, 3)), np.ones((n, 1)), stacked([network] * lanes), np.ones(lanes), rule)
    for call in stack.full._forward_program() + stack.full._update_program():
        assert call.func in EXACT, call.func
        if call.func == np.add.reduce:
            assert call.args[1] == 0  # the first axis: whole arrays are added one after another


@functools.cache
def answer(setting: str) -> dict[str, Any]:
    """What a process prints in a setting."""
    return in_a_process(SETTINGS[setting])


@pytest.mark.parametrize("setting", SOME_SETTINGS)
def test_a_portable_sweep_has_the_same_bits(setting: str) -> None:
    found = answer(setting)["digests"]
    assert {name: found[name] for name in GOLDEN} == GOLDEN
    assert found == answer("as it is")["digests"]


@pytest.mark.parametrize("setting", SOME_SETTINGS)
def test_blas_adds_up_alike_for_any_number_of_runs(setting: str) -> None:
    """By observation, not by a promise of BLAS: hence this test, with each of its kernels that this CPU can run."""
    assert answer(setting)["by width"] == []


def test_the_same_bits_here_as_in_another_process() -> None:
    assert digests() == answer("as it is")["digests"]


@pytest.mark.parametrize("setting", SOME_SETTINGS)
def test_the_settings_do_switch_features_off(setting: str) -> None:
    """Else the tests above would compare a thing with itself."""
    words = SETTINGS[setting].get("NPY_DISABLE_CPU_FEATURES", "").split()
    assert not set(words) & set(answer(setting)["features"])
    assert words or answer(setting)["features"] == answer("as it is")["features"]
