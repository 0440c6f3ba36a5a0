"""The config of one run: frozen dataclasses that are Hydra's schema and check their values.

OmegaConf checks types when a config is composed, the dataclasses check values when they are built, and TAKES says for
both what a key takes. Typed `Any` and checked here is what OmegaConf is too strict about (its `list[list[float]]`
refuses whole numbers) or too lax (it takes 5 for true).
"""

import importlib.util
import itertools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pipeline.activations import HIDDEN, OUTPUT
from pipeline.credentials import hidden, public_text, public_uri
from pipeline.errors import UserError
from pipeline.losses import LOSSES, NEEDS, RAW_SUMS
from pipeline.optimizer import OPTIMIZERS, SCHEDULES

SCALINGS = ("none", "max", "divide", "standard")
SCHEMES = ("normal", "uniform", "xavier", "he", "given")
GENERATORS = ("pcg64", "legacy")
DERIVATIVES = ("exact", "of_activation")
NUMERICS = ("auto", "portable", "fast")
EXECUTORS = ("auto", "serial", "processes")
KERNELS = ("numpy", "numba")

MOST_EPOCHS = 100_000_000  # the curve of one run has a number for each: 800 MB
MOST_WEIGHTS = 10_000_000
MOST_SKIPPED = 100_000
MOST_WORKERS = 1024
LONGEST_NAME = 250  # of an experiment in MLflow (its tables have room for 256)
NOT_IN_A_MODEL = "/:@?#%"  # in an address like models:/NAME@ALIAS they mean something


def one_of(choices: Iterable[str]) -> str:
    """The choices in words."""
    names = list(choices)
    return names[0] if len(names) == 1 else f"one of {', '.join(names)}"


NAME = f"a name on one line, not blank, of at most {LONGEST_NAME} characters"
NAMES = "null or a list of names, all different and none empty"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
DIVISOR = "a number other than 0, or a list of such with one a column"
POSITIVE = "a finite number > 0"
TAKES = {
    "data.name": NAME,
    "data.X": "a list of rows, each a list of numbers, like [[0, 1], [1, 1]]",
    "data.y": "a list of rows, each a list of numbers, or a list with one number a row, like [0, 1]",
    "data.features": NAMES,
    "data.targets": NAMES,
    "data.rows": NAMES,
    "data.scaling": one_of(SCALINGS),
    "data.divide_by": DIVISOR,
    "data.target_scaling": one_of(SCALINGS),
    "data.target_divide_by": DIVISOR,
    "network": "set key by key, as in network.hidden=[4]",
    "network.hidden": "a list of whole numbers >= 1, like [4] or [4, 5] ([] for no hidden layer)",
    "network.activation": f"{one_of(HIDDEN)}, or a list with one for each hidden layer",
    "network.output_activation": one_of(OUTPUT),
    "network.bias": "true or false",
    "init.scheme": one_of(SCHEMES),
    "init.scale": POSITIVE,
    "init.low": "a finite number",
    "init.high": "a finite number above init.low",
    "init.generator": one_of(GENERATORS),
    "init.skip_networks": f"a whole number from 0 to {MOST_SKIPPED}",
    "init.weights": "a list with one matrix (inputs x outputs) a layer",
    "training": "set key by key, as in training.epochs=500",
    "training.learning_rate": POSITIVE,
    "training.epochs": f"a whole number from 0 to {MOST_EPOCHS}",
    "training.loss": one_of(LOSSES),
    "training.metrics": f"a list, without repetitions, of {', '.join(RAW_SUMS)}",
    "training.derivative": one_of(DERIVATIVES),
    "training.batch_size": "null (all rows an update) or a whole number >= 1",
    "training.optimizer": one_of(OPTIMIZERS),
    "training.momentum": "a number from 0 to below 1",
    "training.l2": "a finite number >= 0",
    "training.schedule": one_of(SCHEDULES),
    "training.decay": "a finite number > 0",
    "training.decay_every": "a whole number >= 1",
    "training.patience": "null or a whole number >= 1",
    "seed": f"a whole number from 0 to {2**32 - 1}",
    "numerics": one_of(NUMERICS),
    "register": "true or false",
    "tracking.uri": "like sqlite:///mlflow.db, postgresql://host/database or http://host:5000",
    "tracking.experiment": NAME,
    "tracking.artifacts": "null (beside the database file) or a folder",
    "tracking.curve_points": "a whole number >= 2",
    "tracking.report": "true or false",
    "executor.kind": one_of(EXECUTORS),
    "executor.workers": f"null (all cores) or a whole number from 1 to {MOST_WORKERS}",
    "executor.kernel": one_of(KERNELS),
}


def check(good: bool, key: str, given: object, want: str | None = None) -> None:
    """Raises UserError naming the key, what it was given and what it takes (see TAKES), unless `good`."""
    if not good:
        raise UserError(wrong_value(key, given, want))


def wrong_value(key: str, given: object, want: str | None = None) -> str:
    """The sentence for a value that a key, or a place in its list like `data.X[1]`, does not take."""
    base = re.sub(r"\[.*", "", key)
    subject = "it" if want or base == key else base
    return f"{key} is {shown(given)}, but {subject} must be {want or TAKES[base]}."


def shown(value: object, most: int = 60) -> str:
    """`value` as it would be typed, on one line and cut to a readable length; without passwords of addresses."""
    text = public_text(typed(value))
    if isinstance(value, str) and text.strip() != text:
        text = f'"{text}"'
    text = text or "empty"
    text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return text if len(text) <= most else text[: most - 3] + "..."


def typed(value: object) -> str:
    """`value` as it would be typed on the command line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(typed, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{typed(key)}: {typed(item)}" for key, item in value.items()) + "}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def is_number(value: object) -> bool:
    """True for an int or float that is finite as a float, and is not a bool."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def is_name(text: str) -> bool:
    """True for a text that can name a data set or an experiment: no control characters, which databases refuse."""
    return bool(text.strip()) and len(text) <= LONGEST_NAME and is_text(text) and CONTROL.search(text) is None


def is_text(text: str) -> bool:
    """False for a text with a half of a surrogate pair, which no file can hold: bytes of a shell that are no UTF-8."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def check_model_name(key: str, name: str) -> None:
    """Raises UserError, naming the key, for a name that MLflow's registry does not take or could not find again."""
    good = is_name(name) and name.strip() == name and name not in (".", "..") and not set(name) & set(NOT_IN_A_MODEL)
    check(good, key, name, f"a name on one line with none of {' '.join(NOT_IN_A_MODEL)} in it, to name a model")


def check_matrix(key: str, rows: Any) -> None:
    """Raises UserError unless `rows` is a non-empty list of equally long, non-empty lists of finite numbers."""
    check(isinstance(rows, list) and len(rows) > 0, key, rows, "a list of at least one row, like [[0, 1], [1, 1]]")
    for i, row in enumerate(rows):
        check(isinstance(row, list) and len(row) > 0, f"{key}[{i}]", row, "a row of at least one number, like [0, 1]")
        check(len(row) == len(rows[0]), f"{key}[{i}]", row, f"of length {len(rows[0])}, like the first row")
        check(all(map(is_number, row)), f"{key}[{i}]", row, "made of finite numbers only")


def check_names(key: str, names: Any) -> None:
    """Raises UserError unless `names` is null or a list of distinct, non-empty names."""
    if names is None:
        return
    check(isinstance(names, list) and not any(isinstance(name, list | dict | None) for name in names), key, names)
    texts = [str(name).strip() for name in names]
    check(all(texts) and len(set(texts)) == len(texts) and all(map(is_text, texts)), key, names)


def check_divisor(key: str, scaling: str, divisor: Any) -> None:
    """Raises UserError unless `divisor` suits: null, or for `divide` one number or one a column, none of them 0."""
    if scaling != "divide":
        check(divisor is None, key, divisor, f"null unless the scaling is divide (it is {scaling})")
        return
    values = divisor if isinstance(divisor, list) else [divisor]
    good = len(values) > 0 and all(is_number(value) and value != 0 for value in values)
    check(good, key, divisor, f"{DIVISOR}, as the scaling is divide")


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
        check(is_name(self.name), "data.name", self.name)
        check(isinstance(self.X, list), "data.X", self.X)
        check(isinstance(self.y, list), "data.y", self.y)
        if not any(isinstance(row, list) for row in self.y):
            object.__setattr__(self, "y", [[value] for value in self.y])
        check_matrix("data.X", self.X)
        check_matrix("data.y", self.y)
        if len(self.X) != len(self.y):
            raise UserError(f"data.y has {len(self.y)} rows, but it must have {len(self.X)}, as data.X has.")
        for key, names in (("features", self.features), ("targets", self.targets), ("rows", self.rows)):
            check_names(f"data.{key}", names)
        check(self.scaling in SCALINGS, "data.scaling", self.scaling)
        check(self.target_scaling in SCALINGS, "data.target_scaling", self.target_scaling)
        check_divisor("data.divide_by", self.scaling, self.divide_by)
        check_divisor("data.target_divide_by", self.target_scaling, self.target_divide_by)


@dataclass(frozen=True)
class NetworkConfig:
    """The architecture between the data's inputs and outputs."""

    hidden: list[int] = field(default_factory=lambda: [4])
    activation: Any = "sigmoid"
    output_activation: str = "sigmoid"
    bias: Any = False

    def __post_init__(self) -> None:
        good = isinstance(self.hidden, list) and all(type(units) is int and units >= 1 for units in self.hidden)
        check(good, "network.hidden", self.hidden)
        check(isinstance(self.bias, bool), "network.bias", self.bias)
        names = self.activation if isinstance(self.activation, list) else [self.activation]
        check(all(name in HIDDEN for name in names), "network.activation", self.activation)
        layers = len(self.hidden)
        fits = not isinstance(self.activation, list) or len(names) == layers
        if fits and len(set(names)) == 1:  # a list of the same names is the name
            object.__setattr__(self, "activation", names[0])
        check(fits, "network.activation", self.activation, f"one name, or a list of {layers}, one a hidden layer")
        check(self.output_activation in OUTPUT, "network.output_activation", self.output_activation)

    @property
    def activations(self) -> tuple[str, ...]:
        """One a layer, the output's last."""
        hidden = self.activation if isinstance(self.activation, list) else [self.activation] * len(self.hidden)
        return (*hidden, self.output_activation)


@dataclass(frozen=True)
class InitConfig:
    """How initial weights are made: normal, xavier, he (scaled), uniform (low to high), given (a matrix a layer)."""

    scheme: str = "normal"
    scale: float = 1.0
    low: float = -1.0
    high: float = 1.0
    generator: str = "pcg64"
    skip_networks: int = 0
    weights: Any = None

    def __post_init__(self) -> None:
        check(self.scheme in SCHEMES, "init.scheme", self.scheme)
        check(self.generator in GENERATORS, "init.generator", self.generator)
        check(math.isfinite(self.scale) and self.scale > 0, "init.scale", self.scale)
        check(math.isfinite(self.low), "init.low", self.low)
        above = math.isfinite(self.high - self.low) and self.high > self.low
        check(above, "init.high", self.high, f"a finite number above init.low, which is {self.low}")
        check(0 <= self.skip_networks <= MOST_SKIPPED, "init.skip_networks", self.skip_networks)
        if self.scheme != "given":
            check(self.weights is None, "init.weights", self.weights, f"null, as init.scheme is {self.scheme}")
            return
        good = isinstance(self.weights, list) and len(self.weights) > 0
        check(good, "init.weights", self.weights, f"{TAKES['init.weights']}, as init.scheme is given")
        for layer, matrix in enumerate(self.weights):
            check_matrix(f"init.weights[{layer}]", matrix)


@dataclass(frozen=True)
class TrainingConfig:
    """Gradient descent along the derivative of `loss`: `epochs` times over all rows. optimizer.py has the formulas."""

    learning_rate: float = 0.5
    epochs: int = 1000
    loss: str = "half_sse"
    metrics: list[str] = field(default_factory=list)
    derivative: str = "exact"
    batch_size: int | None = None
    optimizer: str = "sgd"
    momentum: float = 0.9
    l2: float = 0.0
    schedule: str = "constant"
    decay: float = 0.5
    decay_every: int = 1
    patience: int | None = None

    def __post_init__(self) -> None:
        good = math.isfinite(self.learning_rate) and self.learning_rate > 0
        check(good, "training.learning_rate", self.learning_rate)
        check(0 <= self.epochs <= MOST_EPOCHS, "training.epochs", self.epochs)
        check(self.loss in LOSSES, "training.loss", self.loss)
        names = isinstance(self.metrics, list) and all(metric in RAW_SUMS for metric in self.metrics)
        check(names and len(set(self.metrics)) == len(self.metrics), "training.metrics", self.metrics)
        check(self.derivative in DERIVATIVES, "training.derivative", self.derivative)
        check(self.batch_size is None or self.batch_size >= 1, "training.batch_size", self.batch_size)
        check(self.optimizer in OPTIMIZERS, "training.optimizer", self.optimizer)
        check(0 <= self.momentum < 1, "training.momentum", self.momentum)
        check(math.isfinite(self.l2) and self.l2 >= 0, "training.l2", self.l2)
        check(self.schedule in SCHEDULES, "training.schedule", self.schedule)
        check(math.isfinite(self.decay) and self.decay > 0, "training.decay", self.decay)
        check(self.decay_every >= 1, "training.decay_every", self.decay_every)
        check(self.patience is None or self.patience >= 1, "training.patience", self.patience)


@dataclass(frozen=True)
class TrackingConfig:
    """Where runs are kept. `uri` null means nowhere; `artifacts` null means a folder beside the database file."""

    uri: str | None = None
    experiment: str = "seedbed"
    artifacts: str | None = None
    curve_points: int = 300
    report: Any = True

    def __post_init__(self) -> None:
        check(self.uri is None or bool(self.uri.strip()), "tracking.uri", self.uri)
        if public_uri(self.uri) != self.uri:
            hidden(self.uri or "")  # so that this process knows what its messages must not repeat
        check(is_name(self.experiment), "tracking.experiment", self.experiment)
        folder = self.artifacts is None or (bool(self.artifacts.strip()) and "://" not in self.artifacts)
        check(folder, "tracking.artifacts", self.artifacts)
        check(self.curve_points >= 2, "tracking.curve_points", self.curve_points)
        words = {"true": True, "false": False}  # an environment variable is text
        object.__setattr__(self, "report", words.get(str(self.report).lower(), self.report))
        check(isinstance(self.report, bool), "tracking.report", self.report)


@dataclass(frozen=True)
class ExecutorConfig:
    """Who trains the stacks: `serial` is this process, `processes` are workers; `auto` leaves the choice to Seedbed.

    `workers` null means as many as there are cores. `kernel` is what computes: NumPy, or with the extra `numba`
    compiled code that gives the same bits.
    """

    kind: str = "auto"
    workers: int | None = None
    kernel: str = "numpy"

    def __post_init__(self) -> None:
        check(self.kind in EXECUTORS, "executor.kind", self.kind)
        check(self.workers is None or 1 <= self.workers <= MOST_WORKERS, "executor.workers", self.workers)
        check(self.kernel in KERNELS, "executor.kernel", self.kernel)
        if self.kernel == "numba" and importlib.util.find_spec("numba") is None:
            raise UserError("executor.kernel is numba, which is not installed: `make setup EXTRAS=numba` adds it.")


@dataclass(frozen=True)
class RunConfig:
    """One run: one resolved config, one seed. `register` makes its winner a model, and decides nothing about it."""

    data: DataConfig = field(default_factory=lambda: DataConfig(X=[[0]], y=[[0]]))
    network: NetworkConfig = field(default_factory=NetworkConfig)
    init: InitConfig = field(default_factory=InitConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    seed: int = 0
    numerics: str = "auto"
    register: Any = False
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)

    def __post_init__(self) -> None:
        check(0 <= self.seed < 2**32, "seed", self.seed)
        check(self.numerics in NUMERICS, "numerics", self.numerics)
        check(isinstance(self.register, bool), "register", self.register)
        if self.register and self.tracking.uri is None:
            raise UserError("register is true, but nothing is kept: leave out tracking=none, or register=true.")
        if self.register:
            check_model_name("tracking.experiment", self.tracking.experiment)
        shapes = list(itertools.pairwise([len(self.data.X[0]), *self.network.hidden, len(self.data.y[0])]))
        weights = sum(inputs * outputs for inputs, outputs in shapes)
        fits = f"of at most {MOST_WEIGHTS} weights in all, and these layers have {weights}"
        check(weights <= MOST_WEIGHTS, "network.hidden", self.network.hidden, fits)
        self._check_together()
        portable = self.executor.kernel == "numpy" or self.numerics != "fast"
        check(portable, "executor.kernel", self.executor.kernel, "numpy, as numerics is fast")
        if self.init.scheme == "given":
            check_shapes(self.init.weights, shapes)

    def _check_together(self) -> None:
        """Raises UserError where a loss, an output, a slip and a compiled kernel do not go together."""
        network, training = self.network, self.training
        loss, output = training.loss, network.output_activation
        wanted = NEEDS.get(loss)
        takes = f"{wanted}, as training.loss is {loss}"
        check(wanted is None or output == wanted, "network.output_activation", output, takes)
        takes = f"cross_entropy, as network.output_activation is {output}"
        check(output != "softmax" or loss == "cross_entropy", "training.loss", loss, takes)
        plain = set(network.activations) == {"sigmoid"} and wanted is None
        takes = "exact: of_activation is a slip with sigmoids and squared errors"
        check(training.derivative == "exact" or plain, "training.derivative", training.derivative, takes)
        simple = training.optimizer == "sgd" and training.schedule == "constant" and not training.l2
        simple = simple and training.batch_size is None and training.patience is None
        raw = {RAW_SUMS[name] for name in (loss, *training.metrics)}
        takes = "numpy: numba has sigmoids, squared errors and plain gradient descent over all rows"
        compiles = simple and plain and raw <= {"squares", "absolutes"}
        check(self.executor.kernel == "numpy" or compiles, "executor.kernel", self.executor.kernel, takes)


def check_shapes(weights: Any, shapes: list[tuple[int, int]]) -> None:
    """Raises UserError unless the given matrices have the network's shapes, (inputs, outputs) of each layer."""
    given = [(len(matrix), len(matrix[0])) for matrix in weights]
    if given != shapes:
        raise UserError(
            f"init.weights has the shapes {shown(given)}, but it must have {shown(shapes)}, [inputs, outputs] of each "
            "layer, as data and network.hidden say."
        )
