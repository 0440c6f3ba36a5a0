"""How long an update of a stack takes on this machine: measured, not modelled. Never changes a bit of any result."""

import functools
import itertools
import time
from dataclasses import dataclass

import numpy as np

from pipeline.numerics.layout import LANES, UFUNC_BUFFERS
from pipeline.numerics.network import Rule, Stack, Weights
from pipeline.numerics.program import numeric_state

ENOUGH = 0.02  # seconds of updates make a measurement
REPETITIONS = 3
WIDTHS = {"runs_last": (1024, 2048, 4096, 8192), "runs_first": (1, 2, 4, 8, 16, 32)}
STACK_BYTES = 64 * 2**20  # far more than a cache


@dataclass(frozen=True)
class Pace:
    """What decides how long an update takes: layers `sizes` (d, h1, ..., k), n rows an update, how it is computed."""

    sizes: tuple[int, ...]
    n: int
    bias: bool
    numerics: str
    layout: str = "runs_last"


@functools.cache
def seconds_per_update(pace: Pace, lanes: int) -> float:
    """Seconds that one update of `lanes` networks takes: the best of three.

    The numbers trained on are random: no operation's time depends on them.
    """
    sizes, n = pace.sizes, pace.n
    draw = np.random.default_rng(0)
    matrices = tuple(draw.standard_normal((*shape, lanes)) for shape in itertools.pairwise(sizes))
    biases = tuple(np.zeros(matrix.shape[1:]) for matrix in matrices) if pace.bias else ()
    X, y = draw.random((n, sizes[0])), draw.random((n, sizes[-1]))
    rule = Rule("mse", numerics=pace.numerics, layout=pace.layout)
    stack = Stack(X, y, Weights(matrices, biases), np.full(lanes, 0.1), rule)
    losses = np.empty(lanes)
    with numeric_state(UFUNC_BUFFERS[pace.layout]):
        stack.forward()
        first = timed(stack, losses, 1)  # the buffers' first use is slow
        updates = max(1, round(ENOUGH / REPETITIONS / max(first, 1e-6)))
        return min(timed(stack, losses, updates) for _ in range(REPETITIONS))


def timed(stack: Stack, losses: np.ndarray[tuple[int], np.dtype[np.float64]], updates: int) -> float:
    """Seconds an update, over some updates."""
    started = time.perf_counter()
    for _ in range(updates):
        stack.update()
        stack.forward()
        stack.measure("squares", losses)
    return (time.perf_counter() - started) / updates


def best_width(pace: Pace, most: int) -> int:
    """The number of lanes, at most `most`, at which an update of a network takes least time.

    More lanes share the cost of a call, until the stack's buffers outgrow the cache. Costs 0.1 s for a network. A wide
    network has no choice: its stack has the few lanes that STACK_BYTES can hold.
    """
    least = LANES if pace.layout == "runs_last" else 1
    most = min(most, max(least, STACK_BYTES // bytes_per_lane(pace.sizes, pace.n)))
    widths = [lanes for lanes in WIDTHS[pace.layout] if lanes <= most]
    if len(widths) <= 1:
        return min(most, WIDTHS[pace.layout][0])
    return min(widths, key=lambda lanes: seconds_per_update(pace, lanes) / lanes)


def bytes_per_lane(sizes: tuple[int, ...], n: int) -> int:
    """About what a network takes in a stack's buffers: its weights, and activations, slopes and deltas of n rows."""
    weights = sum(inputs * outputs for inputs, outputs in itertools.pairwise(sizes))
    return 8 * (2 * weights + 4 * n * sum(sizes[1:]))
