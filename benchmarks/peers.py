"""Other libraries at the same task, each used as its own manual would, in float64 on one core.

Compiling (JAX, C) is done while a task is made ready: it is not timed with the training but reported apart.
"""

import ctypes
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tasks import Array, Task, Training, last_point


def sklearn(task: Task) -> Training:
    """MLPRegressor, full batch, plain gradient descent; with biases, a linear output and weights of its own drawing."""
    from sklearn.neural_network import MLPRegressor

    hidden, rows = tuple(matrix.shape[2] for matrix in task.matrices[:-1]), len(task.X)

    def model(i: int) -> Any:
        return MLPRegressor(
            hidden_layer_sizes=hidden,
            activation="logistic",
            solver="sgd",
            alpha=0.0,
            batch_size=rows,
            learning_rate_init=task.rates[i],
            max_iter=task.updates,
            tol=0.0,
            n_iter_no_change=task.updates + 1,
            momentum=0.0,
            shuffle=False,
            random_state=i,
        )

    def run() -> list[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has not converged: nobody asked it to
            return [model(i).fit(task.X, task.y.squeeze()) for i in range(task.runs)]

    return Training(run, lambda models: np.array([model.loss_ for model in models]))


def torch_bmm(task: Task) -> Training:
    """The runs as the batch of torch.bmm, gradients by autograd."""
    import torch

    torch.set_num_threads(1)
    y, rates = torch.tensor(task.y), torch.tensor(task.rates)[:, None, None]
    X = torch.tensor(task.X).expand(task.runs, *task.X.shape)

    def run() -> Array:
        weights = [torch.tensor(matrix, requires_grad=True) for matrix in task.matrices]
        curve = torch.empty((task.updates + 1, task.runs), dtype=torch.float64)
        for update in range(task.updates + 1):
            h = X
            for matrix in weights:
                h = torch.sigmoid(torch.bmm(h, matrix))
            losses = 0.5 * ((h - y) ** 2).sum((1, 2))
            curve[update] = losses.detach()
            if update < task.updates:
                gradients = torch.autograd.grad(losses.sum(), weights)
                with torch.no_grad():
                    for matrix, gradient in zip(weights, gradients, strict=True):
                        matrix.sub_(rates * gradient)
        return np.asarray(curve.numpy())

    return Training(run, last_point)


def torch_vmap(task: Task) -> Training:
    """torch.func: the gradient of one network, vmapped over runs."""
    import torch

    torch.set_num_threads(1)
    X, y, rates = torch.tensor(task.X), torch.tensor(task.y), torch.tensor(task.rates)[:, None, None]

    def loss(weights: list[Any]) -> Any:
        h = X
        for matrix in weights:
            h = torch.sigmoid(h @ matrix)
        return 0.5 * ((h - y) ** 2).sum()

    step = torch.func.vmap(torch.func.grad_and_value(loss))

    def run() -> Array:
        weights = [torch.tensor(matrix) for matrix in task.matrices]
        curve = torch.empty((task.updates + 1, task.runs), dtype=torch.float64)
        for update in range(task.updates):
            gradients, curve[update] = step(weights)
            weights = [matrix - rates * gradient for matrix, gradient in zip(weights, gradients, strict=True)]
        curve[-1] = torch.func.vmap(loss)(weights)
        return np.asarray(curve.numpy())

    return Training(run, last_point)


def jax_vmap(task: Task) -> Training:
    """A network's whole training as lax.scan, vmapped over runs; the gradient by the tutorials' own algebra."""
    from jax import numpy as jnp

    X, y = task.X, task.y

    def step(weights: Any, rate: Any) -> Any:
        layers = [X]
        for matrix in weights:
            layers.append(1 / (1 + jnp.exp(-(layers[-1] @ matrix))))
        error = layers[-1] - y
        delta = error * layers[-1] * (1 - layers[-1])
        trained = []
        for h, matrix in zip(reversed(layers[:-1]), reversed(weights), strict=True):
            trained.append(matrix - rate * (h.T @ delta))
            delta = (delta @ matrix.T) * h * (1 - h)  # of the inputs, in the end: left out by the compiler
        return trained[::-1], 0.5 * (error**2).sum()

    return scanned(task, step)


def jax_grad(task: Task) -> Training:
    """The same with the gradient by jax.value_and_grad, as most people would write it."""
    import jax
    from jax import numpy as jnp

    def loss(weights: Any) -> Any:
        h = jnp.asarray(task.X)
        for matrix in weights:
            h = jax.nn.sigmoid(h @ matrix)
        return 0.5 * jnp.sum((h - task.y) ** 2)

    def step(weights: Any, rate: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(weights)
        return [matrix - rate * gradient for matrix, gradient in zip(weights, gradients, strict=True)], value

    return scanned(task, step)


def scanned(task: Task, step: Callable[[Any, Any], Any]) -> Training:
    """A training of `step` (weights, rate) -> (weights, loss before it), compiled for this many runs and updates."""
    import jax
    from jax import lax
    from jax import numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def train(weights: Any, rate: Any) -> Any:
        weights, curve = lax.scan(lambda weights, _: step(weights, rate), weights, None, length=task.updates)
        return jnp.append(curve, step(weights, rate)[1])

    weights, rates = [jnp.asarray(matrix) for matrix in task.matrices], jnp.asarray(task.rates)
    compiled = jax.jit(jax.vmap(train, out_axes=1)).lower(weights, rates).compile()
    return Training(lambda: compiled(weights, rates).block_until_ready(), last_point)


FLAGS = ("-Ofast", "-march=native", "-fPIC", "-c")


def c_program(task: Task) -> Training:
    """limit.c, compiled for this net and this machine: about what one core can do."""
    lanes = min(64, -(-task.runs // 8) * 8)
    library = compiled_c(task, lanes)
    weights = np.ascontiguousarray(np.concatenate([matrix.reshape(task.runs, -1).T for matrix in task.matrices]))
    curve = np.empty((task.updates + 1, task.runs))
    sizes = (ctypes.c_long(task.runs), ctypes.c_long(task.updates))
    arrays = [array.ctypes.data_as(ctypes.c_void_p) for array in (task.X, task.y, task.rates, weights, curve)]

    def run() -> Array:
        library.train(*sizes, *arrays)
        return curve

    return Training(run, last_point)


def compiled_c(task: Task, lanes: int) -> ctypes.CDLL:
    """The library of limit.c with the net's sizes as constants, which is what lets the compiler unroll its loops."""
    units = [matrix.shape[2] for matrix in task.matrices]
    named = {"LANES": lanes, "ROWS": len(task.X), "INPUTS": task.X.shape[1], "LAYERS": len(units)}
    named |= {f"UNITS{layer}": count for layer, count in enumerate(units)}
    words = [f"-D{name}={value}" for name, value in named.items()]
    source = Path(__file__).with_name("limit.c")
    with tempfile.TemporaryDirectory() as folder:
        built, library = Path(folder) / "limit.o", Path(folder) / "limit.so"
        subprocess.run(["cc", *FLAGS, *words, str(source), "-o", str(built)], check=True)
        # Linked without -Ofast: that would add code that has this whole process round the smallest numbers to 0.
        subprocess.run(["cc", "-shared", str(built), "-o", str(library), "-lm"], check=True)
        return ctypes.CDLL(str(library))
