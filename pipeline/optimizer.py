"""From a gradient to a step: plain gradient descent, momentum, Adam, with weight decay and learning-rate schedules.

With gradient g, rate r, and updates t counted from 1:

    sgd        W -= r g
    momentum   v = m v + g;  W -= r v                                                       (Polyak 1964)
    nesterov   v = m v + g;  W -= r (g + m v)                        (Sutskever, Martens, Dahl, Hinton 2013)
    adam       v = b1 v + (1 - b1) g;  q = b2 q + (1 - b2) g^2
               W -= r / (1 - b1^t) * v / (sqrt(q / (1 - b2^t)) + eps)       (Kingma, Ba 2015, Algorithm 1)

Weight decay adds l2 * W to the gradient of a matrix, as a penalty of l2 / 2 * sum of W^2 would. The loss that is
reported is without it.

Schedules, with e the epoch that an update belongs to, from 0, of E in all:

    constant   r                       exponential   r * decay^e
    step       r * decay^(e // every)  inverse_time  r / (1 + decay e)
    cosine     r / 2 * (1 + cos(pi e / E))                                          (Loshchilov, Hutter 2017)

Powers are products made one after another and the cosine is its own series, which have the same bits on every machine.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.program import Array, Program, buffer

OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam")
SCHEDULES = ("constant", "step", "exponential", "inverse_time", "cosine")
REMEMBERED = {"sgd": 0, "momentum": 1, "nesterov": 1, "adam": 2}  # arrays a weight array
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class OptimizerRule:
    """What all runs of a stack share; `epochs` is E, for the cosine."""

    name: str = "sgd"
    momentum: float = 0.9
    l2: float = 0.0
    schedule: str = "constant"
    decay: float = 1.0
    every: int = 1
    epochs: int = 0

    @property
    def forgets(self) -> bool:
        """True if an update depends on the weights before it and on nothing else."""
        return self.name == "sgd" and self.schedule == "constant"


class Optimizer:
    """The steps of a stack's arrays, with what it remembers of each: `memory`, by array, zeros at first."""

    def __init__(self, rule: OptimizerRule, rates: Array, arrays: Sequence[Array]) -> None:
        """The rates, (lanes,) in a shape that broadcasts to the arrays, are changed in place."""
        self.rule = rule
        self.memory = [[zeros(*array.shape) for _ in range(REMEMBERED[rule.name])] for array in arrays]
        self._of = {id(array): memory for array, memory in zip(arrays, self.memory, strict=True)}
        self._base, self._rates = rates.copy(), rates
        self._factor = 1.0
        self._power1, self._power2 = 1.0, 1.0  # b1^t, b2^t
        self._second = np.array(1.0)  # 1 - b2^t

    @property
    def progress(self) -> tuple[float, float, float]:
        """What it counts, beside its memory: to go on from in another stack."""
        return self._factor, self._power1, self._power2

    @progress.setter
    def progress(self, counted: tuple[float, float, float]) -> None:
        self._factor, self._power1, self._power2 = counted

    def start_epoch(self, epoch: int) -> None:
        """Sets the learning rate of the updates of an epoch, counted from 0; epochs come one after another."""
        rule = self.rule
        if rule.schedule == "constant":
            return
        if rule.schedule == "step":
            self._factor *= rule.decay if epoch and epoch % rule.every == 0 else 1.0
        elif rule.schedule == "exponential":
            self._factor *= rule.decay if epoch else 1.0
        elif rule.schedule == "inverse_time":
            self._factor = 1.0 / (1.0 + rule.decay * epoch)
        else:
            self._factor = 0.5 * (1.0 + cosine(math.pi * epoch / rule.epochs))
        np.multiply(self._base, self._factor, self._rates)

    def tick(self) -> None:
        """Counts an update, before it is made."""
        if self.rule.name != "adam":
            return
        self._power1 *= BETA1
        self._power2 *= BETA2
        self._second[...] = 1.0 - self._power2
        np.multiply(self._base, self._factor / (1.0 - self._power1), self._rates)

    def step(self, weights: Array, gradient: Array, spare: Array, decays: bool) -> Program:
        """Calls that change weights along their gradient, which is overwritten; spare: flat, as large as they are."""
        rule, program = self.rule, Program()
        other = spare[: weights.size].reshape(weights.shape)
        if rule.l2 and decays:
            program = [
                partial(np.multiply, weights, np.array(rule.l2), other),
                partial(np.add, gradient, other, gradient),
            ]
        if rule.name == "adam":
            return program + self._adam(weights, gradient, other)
        if rule.name != "sgd":
            program += self._momentum(weights, gradient, other)
        return [
            *program,
            partial(np.multiply, gradient, self._rates, gradient),
            partial(np.subtract, weights, gradient, weights),
        ]

    def _momentum(self, weights: Array, gradient: Array, other: Array) -> Program:
        """Gradient becomes v, or g + m v."""
        (velocity,), momentum = self._of[id(weights)], np.array(self.rule.momentum)
        program: Program = [
            partial(np.multiply, velocity, momentum, velocity),
            partial(np.add, velocity, gradient, velocity),
        ]
        if self.rule.name == "momentum":
            return [*program, partial(np.copyto, gradient, velocity)]
        return [*program, partial(np.multiply, velocity, momentum, other), partial(np.add, gradient, other, gradient)]

    def _adam(self, weights: Array, gradient: Array, other: Array) -> Program:
        mean, square = self._of[id(weights)]
        return [
            partial(np.multiply, mean, np.array(BETA1), mean),
            partial(np.multiply, gradient, np.array(1.0 - BETA1), other),
            partial(np.add, mean, other, mean),
            partial(np.multiply, square, np.array(BETA2), square),
            partial(np.multiply, gradient, gradient, gradient),
            partial(np.multiply, gradient, np.array(1.0 - BETA2), gradient),
            partial(np.add, square, gradient, square),
            partial(np.divide, square, self._second, other),
            partial(np.sqrt, other, other),
            partial(np.add, other, np.array(EPSILON), other),
            partial(np.divide, mean, other, gradient),
            partial(np.multiply, gradient, self._rates, gradient),
            partial(np.subtract, weights, gradient, weights),
        ]


def cosine(x: float) -> float:
    """The cosine of x from 0 to pi, by its series up to x^22: multiply, add and divide only."""
    if x > math.pi / 2:
        return -cosine(math.pi - x)
    term = total = 1.0
    for power in range(2, 24, 2):
        term = -term * x * x / (power * (power - 1))
        total += term
    return total


def zeros(*shape: int) -> Array:
    """An array of zeros that starts on a cache line."""
    array = buffer(*shape)
    array[...] = 0.0
    return array
