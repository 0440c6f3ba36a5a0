"""The config of one run: frozen dataclasses that are Hydra's schema and check their values.

Types are checked by OmegaConf when a config is composed, values here, when the dataclasses are built. Rows and
weights are typed loosely, because OmegaConf's `list[list[float]]` refuses whole numbers; they are checked here too.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import UserError
from pipeline.losses import LOSSES, RAW_SUMS

ACTIVATIONS = ("sigmoid",)
SCALINGS = ("none", "max", "divide", "standard")
SCHEMES = ("normal", "uniform", "given")
GENERATORS = ("pcg64", "legacy")
DERIVATIVES = ("exact", "of_activation")
NUMERICS = ("auto", "portable", "fast")
EXECUTORS = ("auto", "serial")


def check(good: bool, key: str, given: object, want: str) -> None:
    """Raises UserError naming the key, what it was given and what it takes, unless `good`."""
    if not good:
        raise UserError(f"{key} is {shown(given)}, but it must be {want}.")


def shown(value: object) -> str:
    """`value` as it would be typed, cut to a readable length."""
    text = "null" if value is None else str(value) if not isinstance(value, str) else value or "empty"
    return text if len(text) <= 60 else text[:57] + "..."


def check_choice(key: str, given: str, choices: Iterable[str]) -> None:
    """Raises UserError unless `given` is one of `choices`."""
    check(given in choices, key, given, "one of " + ", ".join(choices))


def is_number(value: object) -> bool:
    """True for a finite int or float that is not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_matrix(key: str, rows: Any) -> None:
    """Raises UserError unless `rows` is a non-empty list of equally long, non-empty lists of finite numbers."""
    check(isinstance(rows, list) and len(rows) > 0, key, rows, "a list of at least one row, like [[0, 1], [1, 1]]")
    for i, row in enumerate(rows):
        check(isinstance(row, list) and len(row) > 0, f"{key}[{i}]", row, "a list of at least one number")
        check(len(row) == len(rows[0]), f"{key}[{i}]", row, f"{len(rows[0])} numbers long, like the first row")
        for value in row:
            check(is_number(value), f"{key}[{i}]", row, "made of finite numbers only")


def check_names(key: str, names: Any) -> None:
    """Raises UserError unless `names` is null or a list of distinct, non-empty names."""
    if names is None:
        return
    check(isinstance(names, list), key, names, "null or a list of names")
    texts = [str(name).strip() for name in names]
    check(all(texts), key, names, "made of names that are not empty")
    check(len(set(texts)) == len(texts), key, names, "made of names that differ from each other")


def check_divisor(key: str, scaling: str, divisor: Any) -> None:
    """Raises UserError unless `divisor` suits: null, or for `divide` one number or one a column, none of them 0."""
    if scaling != "divide":
        check(divisor is None, key, divisor, f"null unless the scaling is divide (it is {scaling})")
        return
    values = divisor if isinstance(divisor, list) else [divisor]
    good = len(values) > 0 and all(is_number(value) and value != 0 for value in values)
    check(good, key, divisor, "a number other than 0, or a list of such with one a column, as the scaling is divide")


@dataclass(frozen=True)
class DataConfig:
    """Rows of a data set, inline. X is n rows of d numbers, y n rows of k numbers (or n numbers, meaning k = 1)."""

    name: str = "data"
    X: Any = None
    y: Any = None
    features: Any = None
    targets: Any = None
    rows: Any = None
    scaling: str = "none"
    divide_by: Any = None
    target_scaling: str = "none"
    target_divide_by: Any = None

    def __post_init__(self) -> None:
        check(bool(self.name.strip()), "data.name", self.name, "a name that is not empty")
        if isinstance(self.y, list) and all(is_number(value) for value in self.y):
            object.__setattr__(self, "y", [[value] for value in self.y])
        check_matrix("data.X", self.X)
        check_matrix("data.y", self.y)
        check(
            len(self.X) == len(self.y),
            "data.y",
            f"{len(self.y)} rows long",
            f"as long as data.X, which has {len(self.X)} rows",
        )
        for key, names in (("features", self.features), ("targets", self.targets), ("rows", self.rows)):
            check_names(f"data.{key}", names)
        check_choice("data.scaling", self.scaling, SCALINGS)
        check_choice("data.target_scaling", self.target_scaling, SCALINGS)
        check_divisor("data.divide_by", self.scaling, self.divide_by)
        check_divisor("data.target_divide_by", self.target_scaling, self.target_divide_by)


@dataclass(frozen=True)
class NetworkConfig:
    """The architecture between the data's inputs and outputs."""

    hidden: list[int] = field(default_factory=lambda: [4])
    activation: str = "sigmoid"
    output_activation: str = "sigmoid"
    bias: bool = False

    def __post_init__(self) -> None:
        check(all(units >= 1 for units in self.hidden), "network.hidden", self.hidden, "a list of whole numbers >= 1")
        check_choice("network.activation", self.activation, ACTIVATIONS)
        check_choice("network.output_activation", self.output_activation, ACTIVATIONS)


@dataclass(frozen=True)
class InitConfig:
    """How initial weights are made: normal (times scale), uniform (low to high) or given (one matrix a layer)."""

    scheme: str = "normal"
    scale: float = 1.0
    low: float = -1.0
    high: float = 1.0
    generator: str = "pcg64"
    skip_networks: int = 0
    weights: Any = None

    def __post_init__(self) -> None:
        check_choice("init.scheme", self.scheme, SCHEMES)
        check_choice("init.generator", self.generator, GENERATORS)
        check(math.isfinite(self.scale) and self.scale > 0, "init.scale", self.scale, "a finite number > 0")
        check(math.isfinite(self.low), "init.low", self.low, "a finite number")
        check(
            math.isfinite(self.high) and self.high > self.low,
            "init.high",
            self.high,
            f"a finite number above init.low, which is {self.low}",
        )
        check(0 <= self.skip_networks <= 100_000, "init.skip_networks", self.skip_networks, "from 0 to 100000")
        if self.scheme == "given":
            check(
                isinstance(self.weights, list) and len(self.weights) > 0,
                "init.weights",
                self.weights,
                "a list with one matrix a layer, as init.scheme is given",
            )
            for layer, matrix in enumerate(self.weights):
                check_matrix(f"init.weights[{layer}]", matrix)
        else:
            check(
                self.weights is None, "init.weights", self.weights, f"null as init.scheme is {self.scheme}, not given"
            )


@dataclass(frozen=True)
class TrainingConfig:
    """Gradient descent: `epochs` updates over all rows, along the derivative of `loss`."""

    learning_rate: float = 0.5
    epochs: int = 1000
    loss: str = "half_sse"
    metrics: list[str] = field(default_factory=list)
    derivative: str = "exact"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        good = math.isfinite(self.learning_rate) and self.learning_rate > 0
        check(good, "training.learning_rate", self.learning_rate, "a finite number > 0")
        check(0 <= self.epochs <= 1_000_000_000, "training.epochs", self.epochs, "a whole number >= 0 (at most 10^9)")
        check_choice("training.loss", self.loss, LOSSES)
        for metric in self.metrics:
            check_choice("training.metrics", metric, RAW_SUMS)
        check(len(set(self.metrics)) == len(self.metrics), "training.metrics", self.metrics, "without repetitions")
        check_choice("training.derivative", self.derivative, DERIVATIVES)
        check(self.batch_size is None, "training.batch_size", self.batch_size, "null (training uses all rows at once)")


@dataclass(frozen=True)
class TrackingConfig:
    """Where runs are kept. `uri` null means nowhere; `artifacts` null means a folder beside the database file."""

    uri: str | None = None
    experiment: str = "seedbed"
    artifacts: str | None = None
    curve_points: int = 300

    def __post_init__(self) -> None:
        check(self.uri is None or bool(self.uri.strip()), "tracking.uri", self.uri, "an MLflow tracking URI")
        check(bool(self.experiment.strip()), "tracking.experiment", self.experiment, "a name that is not empty")
        check(
            self.artifacts is None or bool(self.artifacts.strip()),
            "tracking.artifacts",
            self.artifacts,
            "null or a folder",
        )
        check(self.curve_points >= 2, "tracking.curve_points", self.curve_points, "a whole number >= 2")


@dataclass(frozen=True)
class ExecutorConfig:
    """Who trains the stacks: `serial` is this process; `auto` leaves the choice to Seedbed."""

    kind: str = "auto"

    def __post_init__(self) -> None:
        check_choice("executor.kind", self.kind, EXECUTORS)


@dataclass(frozen=True)
class RunConfig:
    """One run: one resolved config, one seed."""

    data: DataConfig = field(default_factory=lambda: DataConfig(X=[[0]], y=[[0]]))
    network: NetworkConfig = field(default_factory=NetworkConfig)
    init: InitConfig = field(default_factory=InitConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    seed: int = 0
    numerics: str = "auto"
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)

    def __post_init__(self) -> None:
        check(0 <= self.seed < 2**32, "seed", self.seed, "a whole number from 0 to 4294967295")
        check_choice("numerics", self.numerics, NUMERICS)
        if self.init.scheme == "given":
            self._check_given_weights()

    def _check_given_weights(self) -> None:
        sizes = [len(self.data.X[0]), *self.network.hidden, len(self.data.y[0])]
        want = [list(pair) for pair in itertools.pairwise(sizes)]
        given = [[len(matrix), len(matrix[0])] for matrix in self.init.weights]
        check(
            given == want,
            "init.weights",
            f"of shapes {given}",
            f"of shapes {want} (inputs x outputs of each layer, from data and network.hidden)",
        )
