"""From a gradient to a step: plain gradient descent, momentum, Adam, with weight decay and learning-rate schedules.

With gradient g, rate r, and updates t counted from 1:

    sgd        W -= r g
    momentum   v = m v + g;  W -= r v                                                       (Polyak 1964)
    nesterov   v = m v + g;  W -= r (g + m v)                        (Sutskever, Martens, Dahl, Hinton 2013)
    adam       v = b1 v + (1 - b1) g;  q = b2 q + (1 - b2) g^2
               W -= r / (1 - b1^t) * v / (sqrt(q / (1 - b2^t)) + eps)       (Kingma, Ba 2015, Algorithm 1)

Adam is computed in fewer steps, with V = v / (1 - b1), Q = q / (1 - b2) and c = sqrt((1 - b2^t) / (1 - b2)):

               V = b1 V + g;  Q = b2 Q + g^2;  W -= r c (1 - b1) / (1 - b1^t) * V / (sqrt(Q) + eps c)

Weight decay adds l2 * W to the gradient of a matrix, as a penalty of l2 / 2 * sum of W^2 would. The loss that is
reported is without it.

Schedules, with e the epoch that an update belongs to, from 0, of E in all:

    constant   r                       exponential   r * decay^e
    step       r * decay^(e // every)  inverse_time  r / (1 + decay e)
    cosine     r / 2 * (1 + cos(pi e / E))                                          (Loshchilov, Hutter 2017)

Powers are products made one after another and the cosine is its own series, which have the same bits on every machine.
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.numerics.layout import Parameters, view, zeros
from pipeline.numerics.program import Array, Program

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


class Optimizer:
    """The steps of a stack's weights, with what it remembers of each, `memory`: zeros at first."""

    def __init__(self, rule: OptimizerRule, rates: Array, flat: Array) -> None:
        """The rates, in a shape that broadcasts to the flat weights, are changed in place."""
        self.rule = rule
        self.memory = [zeros(*flat.shape) for _ in range(REMEMBERED[rule.name])]
        self._base, self._rates = rates.copy(), rates
        self._factor = 1.0
        self._power1, self._power2 = 1.0, 1.0  # b1^t, b2^t
        self._epsilon = np.array(EPSILON)

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
        c = math.sqrt((1.0 - self._power2) / (1.0 - BETA2))
        self._epsilon[...] = EPSILON * c
        np.multiply(self._base, self._factor * (1.0 - BETA1) / (1.0 - self._power1) * c, self._rates)

    def step(self, weights: Parameters, gradient: Parameters, spare: Array) -> Program:
        """Calls that change weights along their gradient, which is overwritten; spare: flat, as large as they are."""
        rule, program, other = self.rule, Program(), view(spare, weights.flat.shape)
        if rule.l2:
            penalty = view(spare, weights.decaying.shape)
            program = [
                partial(np.multiply, weights.decaying, np.array(rule.l2), penalty),
                partial(np.add, gradient.decaying, penalty, gradient.decaying),
            ]
        if rule.name == "adam":
            program += self._adam(gradient.flat, other)
        elif rule.name != "sgd":
            program += self._momentum(gradient.flat, other)
        return [
            *program,
            partial(np.multiply, gradient.flat, self._rates, gradient.flat),
            partial(np.subtract, weights.flat, gradient.flat, weights.flat),
        ]

    def _momentum(self, gradient: Array, other: Array) -> Program:
        """Gradient becomes v, or g + m v."""
        (velocity,), momentum = self.memory, np.array(self.rule.momentum)
        program: Program = [
            partial(np.multiply, velocity, momentum, velocity),
            partial(np.add, velocity, gradient, velocity),
        ]
        if self.rule.name == "momentum":
            return [*program, partial(np.copyto, gradient, velocity)]
        return [*program, partial(np.multiply, velocity, momentum, other), partial(np.add, gradient, other, gradient)]

    def _adam(self, gradient: Array, other: Array) -> Program:
        """Gradient becomes V / (sqrt(Q) + eps c)."""
        mean, square = self.memory
        return [
            partial(np.multiply, mean, np.array(BETA1), mean),
            partial(np.add, mean, gradient, mean),
            partial(np.multiply, square, np.array(BETA2), square),
            partial(np.multiply, gradient, gradient, gradient),
            partial(np.add, square, gradient, square),
            partial(np.sqrt, square, other),
            partial(np.add, other, self._epsilon, other),
            partial(np.divide, mean, other, gradient),
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
