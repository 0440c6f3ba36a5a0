"""What a process of test_any_machine.py runs: trains the configs that it is given and prints digests of all it gets.

It runs under other Pythons too, which have NumPy and nothing else: hence no import of pytest, Hydra or tests.factory.
"""

import hashlib
import itertools
import json
import platform
import sys
from collections.abc import Iterable, Sequence
from typing import Any, get_type_hints

import numpy as np

from pipeline.config import InitConfig, RunConfig
from pipeline.identity import Run, code_digest, make_run
from pipeline.initial import initial_weights
from pipeline.numerics.layout import LANES, MOST_BLAS_TERMS, matmul
from pipeline.numerics.program import Array
from pipeline.numerics.sigmoid import sigmoid
from pipeline.training.handing_out import train_stacks
from pipeline.training.processes import make_executor
from pipeline.training.stack import Result, make_stacks

Digests = dict[str, dict[str, str]]  # what was computed, its parts, their digests

CORE: Any = np._core._multiarray_umath  # type: ignore[attr-defined]
INITS = {
    f"{scheme} {generator}": InitConfig(scheme=scheme, generator=generator)
    for scheme, generator in itertools.product(("normal", "uniform"), ("pcg64", "legacy"))
}
SEEDS = (0, 1, 12345, 2**32 - 1)
SIZES = ((4, 1, 1), (2, 3, 1), (3, 4, 5, 1), (8, 16, 2))


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Digests of the configs in request["groups"], trained here or by so many `workers`, and what computed them.

    `widths` asks for the products by BLAS whose bits depend on the number of runs.
    """
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "features": dispatched(),
        "code": code_digest(),
        "digests": bare() | draws() | trained(request["groups"], request["workers"]),
        "many draws": many_draws(),
        "by width": products_that_depend_on_the_width() if request["widths"] else [],
    }


def sha(arrays: Iterable[Array]) -> str:
    """16 hex digits of the bits of float64 arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    return digest.hexdigest()[:16]


def bare() -> Digests:
    """The sigmoid alone."""
    return {"sigmoid": {"values": sha([sigmoid(np.linspace(-end, end, 20_001)) for end in (5, 700)])}}


def draws() -> Digests:
    """Initial weights of several networks from each seed."""
    return {
        f"{kind} draws": {
            f"seed {seed}": sha(matrix for sizes in SIZES for matrix in initial_weights(init, seed, sizes))
            for seed in SEEDS
        }
        for kind, init in INITS.items()
    }


def many_draws() -> dict[str, str]:
    """Digests of 500,000 numbers of each kind: enough to find one in a hundred thousand that is another."""
    return {kind: sha(initial_weights(init, 0, (1000, 500))) for kind, init in INITS.items()}


def trained(groups: dict[str, list[dict[str, Any]]], workers: int) -> Digests:
    """Digests of each group of runs, all trained together: here for 0 workers."""
    runs = {name: [make_run(config_of(values)) for values in group] for name, group in groups.items()}
    everything = [run for group in runs.values() for run in group]
    results: dict[int, Result] = {}
    stacks = make_stacks(everything, max(workers, 1))
    with make_executor(workers, lambda _: None) as executor:
        for stack, future in train_stacks(executor, stacks, lambda _: None):
            results |= {id(run): result for run, result in zip(stack, future.result(), strict=True)}
    return {name: digests_of(group, [results[id(run)] for run in group]) for name, group in runs.items()}


def config_of(values: dict[str, Any]) -> RunConfig:
    """A config from what `dataclasses.asdict` made of it."""
    kinds = get_type_hints(RunConfig)
    sections = {key: kinds[key](**value) for key, value in values.items() if isinstance(value, dict)}
    return RunConfig(**(values | sections))


def digests_of(runs: Sequence[Run], results: Sequence[Result]) -> dict[str, str]:
    """One digest each for the weights, curves and predictions of some runs, none of which may diverge."""
    assert [result.diverged_at for result in results] == [None] * len(runs)
    ends = [result.final for result in results]
    return {
        "initial weights": sha(matrix for result in results for matrix in result.initial),
        "weights": sha(array for end in ends for array in (*end.matrices, *end.biases)),
        "curves": sha(curve for result in results for _, curve in sorted(result.curves.items())),
        "predictions": sha(
            array
            for run, end in zip(runs, ends, strict=True)
            for array in (end.prediction, run.dataset.target_scale.invert(end.prediction))
        ),
    }


def dispatched() -> list[str]:
    """CPU features that this NumPy can choose at run time, may use and has here, weakest first."""
    return [name for name in CORE.__cpu_dispatch__ if CORE.__cpu_features__.get(name)]


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


if __name__ == "__main__":
    print(json.dumps(answer(json.load(sys.stdin))))
