"""Who takes part in the training benchmark. A contender is a function: it makes a task ready, unseen by the clock.

To add one: write the function (here or in peers.py) and a line in CONTENDERS.
"""

import importlib.util
import itertools
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks import peers, plain
from benchmarks.plain import sigmoid
from benchmarks.tasks import Array, Task, Training, last_point
from pipeline.numerics.layout import layout_of
from pipeline.numerics.network import Rule, Weights
from pipeline.numerics.pace import Pace, best_width
from pipeline.numerics.train import Problem, Trajectory, train


@dataclass(frozen=True)
class Contender:
    """A way to train. `needs` is the module, or with a slash the program, without which it is left out.

    `most_runs` bounds how many networks are timed where they train one after another and each takes the same time.
    `checked` is False for those that cannot start from given weights.
    """

    title: str
    prepare: Callable[[Task], Training]
    needs: str = "numpy"
    most_runs: int | None = None
    checked: bool = True

    @property
    def missing(self) -> str | None:
        """What is not installed, or None."""
        if self.needs.startswith("/"):
            return None if shutil.which(self.needs[1:]) else self.needs[1:]
        return None if importlib.util.find_spec(self.needs) else self.needs


def seedbed(numerics: str, kernel: str = "numpy") -> Callable[[Task], Training]:
    """Seedbed's own training path, as a sweep calls it: curves, snapshots and the search for divergence included."""

    def prepare(task: Task) -> Training:
        sizes = (task.X.shape[1], *(matrix.shape[2] for matrix in task.matrices))
        layout = "runs_last" if numerics == "portable" else layout_of(sizes, len(task.X))
        weights = Weights(tuple(np.ascontiguousarray(np.moveaxis(matrix, 0, -1)) for matrix in task.matrices))
        problem = Problem(task.X, task.y, Rule("half_sse", numerics=numerics, layout=layout), kernel=kernel)
        pace = Pace(sizes, len(task.X), False, numerics, layout)
        width = best_width(pace, task.runs) if layout == "runs_first" else task.runs
        lanes = [slice(start, start + width) for start in range(0, task.runs, width)]

        def run() -> list[Trajectory]:
            stacks = ((weights.take(part), task.rates[part]) for part in lanes)
            found = (train(problem, some, rates, [[task.updates]] * len(rates)) for some, rates in stacks)
            return list(itertools.chain.from_iterable(found))

        def losses(trajectories: list[Trajectory]) -> Array:
            return np.array([trajectory.curves["squares"][-1] / 2 for trajectory in trajectories])

        return Training(run, losses)

    return prepare


def loop(task: Task) -> Training:
    """The tutorials' way: one network after another, a few plain NumPy lines an update."""

    def run() -> Array:
        curves = np.empty((task.updates + 1, task.runs))
        for i in range(task.runs):
            weights = [matrix[i].copy() for matrix in task.matrices]
            for update, loss in enumerate(plain.losses(task.X, task.y, weights, task.rates[i], task.updates)):
                curves[update, i] = loss
        return curves

    return Training(run, last_point)


def matmul(task: Task) -> Training:
    """The first idea for many networks: the runs as the first axis, and np.matmul over it."""
    transposed, rates = task.X.T, task.rates[:, None, None]

    def run() -> Array:
        weights = [matrix.copy() for matrix in task.matrices]
        curves = np.empty((task.updates + 1, task.runs))
        for update in range(task.updates + 1):
            layers: list[Array] = []
            for matrix in weights:
                layers.append(sigmoid(np.matmul(layers[-1] if layers else task.X, matrix)))
            error = layers[-1] - task.y
            curves[update] = 0.5 * np.sum(error**2, axis=(1, 2))
            if update == task.updates:
                break
            delta = error * layers[-1] * (1 - layers[-1])
            for layer in range(len(weights) - 1, 0, -1):
                below = layers[layer - 1]
                gradient = np.matmul(below.swapaxes(1, 2), delta)
                delta = np.matmul(delta, weights[layer].swapaxes(1, 2)) * below * (1 - below)
                weights[layer] -= rates * gradient
            weights[0] -= rates * np.matmul(transposed, delta)
        return curves

    return Training(run, last_point)


LOOP, FAST, PORTABLE, COMPILED, JAX, C = "loop", "seedbed-fast", "seedbed-portable", "seedbed-compiled", "jax-vmap", "c"

CONTENDERS = {
    PORTABLE: Contender("Seedbed portable", seedbed("portable")),
    FAST: Contender("Seedbed fast", seedbed("fast")),
    COMPILED: Contender("Seedbed portable, compiled", seedbed("portable", "numba"), "numba"),
    LOOP: Contender("tutorials' loop", loop, most_runs=4),
    "matmul": Contender("NumPy matmul", matmul),
    "sklearn": Contender("scikit-learn", peers.sklearn, "sklearn", most_runs=2, checked=False),
    "torch-bmm": Contender("PyTorch bmm", peers.torch_bmm, "torch"),
    "torch-vmap": Contender("PyTorch vmap", peers.torch_vmap, "torch"),
    JAX: Contender("JAX vmap+scan", peers.jax_vmap, "jax"),
    "jax-grad": Contender("JAX vmap+scan, grad", peers.jax_grad, "jax"),
    C: Contender("C by hand", peers.c_program, "/cc"),
}
