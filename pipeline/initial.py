"""Initial weights: drawn from a seeded generator in the tutorials' order (layer by layer, row by row), or given.

Biases start at 0 and are never drawn, so switching them on does not change the weights a seed gives.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.random import PCG64, Generator, RandomState  # here: Ctrl-C while NumPy loads them is lost
from numpy.typing import NDArray

from pipeline.config import InitConfig
from pipeline.numerics.network import Weights

Array = NDArray[np.float64]


def initial_weights(init: InitConfig, seed: int, sizes: tuple[int, ...]) -> list[Array]:
    """One matrix (inputs, outputs) a layer, for units `sizes` (d, h1, ..., k).

    normal: standard normals times `scale`; uniform: from `low` to `high`; given: `init.weights`; constant: all `scale`;
    xavier: normals times scale * sqrt(2 / (inputs + outputs))   (Glorot, Bengio 2010), for sigmoid and tanh;
    he: normals times scale * sqrt(2 / inputs)                   (He, Zhang, Ren, Sun 2015), for relu.
    `skip_networks` networks are drawn and dropped first, as by a program that goes on without seeding again.
    """
    if init.scheme == "given":
        return [np.array(matrix, dtype=np.float64) for matrix in init.weights]
    shapes = list(itertools.pairwise(sizes))
    if init.scheme == "constant":
        return [np.full(shape, init.scale) for shape in shapes]
    draw = Draw(init, seed)
    with np.errstate(over="ignore"):  # a huge scale gives infinite weights: a run that is diverged from the start
        for _ in range(init.skip_networks):
            for shape in shapes:
                draw(shape)
        return [draw(shape) for shape in shapes]


class Draw:
    """Draws matrices one after another from the generator that `seed` starts.

    legacy is numpy.random.seed's Mersenne twister, whose stream NumPy has frozen; pcg64 is numpy.random.default_rng.
    """

    def __init__(self, init: InitConfig, seed: int) -> None:
        self.init = init
        self.legacy = RandomState(seed) if init.generator == "legacy" else None
        self.modern = Generator(PCG64(seed))

    def __call__(self, shape: tuple[int, int]) -> Array:
        """The next matrix of this shape."""
        init = self.init
        if init.scheme != "uniform":
            normals = self.modern.standard_normal(shape) if self.legacy is None else self.legacy.standard_normal(shape)
            return normals * deviation(init, *shape)
        uniforms = self.modern.random(shape) if self.legacy is None else self.legacy.random_sample(shape)
        return (init.high - init.low) * uniforms + init.low


def deviation(init: InitConfig, inputs: int, outputs: int) -> float:
    """The standard deviation of a matrix's numbers."""
    if init.scheme == "normal":
        return init.scale
    return init.scale * math.sqrt(2.0 / (inputs + outputs if init.scheme == "xavier" else inputs))


def stack_weights(drawn: Sequence[Sequence[Array]], bias: bool) -> Weights:
    """Matrices of r networks, each a list by layer, as one stack, runs last; with biases of 0 if `bias`."""
    matrices = tuple(np.stack(layer, axis=-1) for layer in zip(*drawn, strict=True))
    return Weights(matrices, tuple(np.zeros(matrix.shape[1:]) for matrix in matrices) if bias else ())
