"""The config of one run: frozen dataclasses that are Hydra's schema and check their values.

OmegaConf checks types when a config is composed, the dataclasses check values when they are built, and TAKES says for
both what a key takes. Typed `Any` and checked here is what OmegaConf is too strict about (its `list[list[float]]`
refuses whole numbers) or too lax (it takes 5 for true).
"""

import itertools
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.checks import (
    BUNDLED,
    DERIVATIVES,
    GENERATORS,
    LOSS_OF,
    MISSING_RULES,
    MOST_EPOCHS,
    MOST_SKIPPED,
    MOST_WEIGHTS,
    NUMERICS,
    OUTPUTS,
    SCALINGS,
    SCHEMES,
    TAKES,
    TASKS,
    check,
    check_columns,
    check_divisor,
    check_drawing,
    check_matrix,
    check_model_name,
    check_names,
    check_parts,
    check_shapes,
    holds_out,
    is_name,
)
from pipeline.credentials import hidden, public_uri
from pipeline.errors import UserError
from pipeline.executor_config import ExecutorConfig
from pipeline.numerics.activations import HIDDEN, OUTPUT
from pipeline.numerics.losses import LOSSES, NEEDS, RAW_SUMS
from pipeline.numerics.optimizer import OPTIMIZERS, SCHEDULES

MOST_FILLED = 1000
FILLED: dict[tuple[int, str], tuple[Any, Any]] = {}  # sections as they were given, and with what suits the data


@dataclass(frozen=True)
class DataConfig:
    """A data set: rows inline, or a table (a file at `path`, or one that is `bundled` with a library).

    X is n rows of d numbers, y n rows of k numbers (or n numbers, meaning k = 1). A table's columns are the `target`
    and, if `features` names none, all others as features. What is null is what suits the data.

    `digest` is the table's, once it was read. `draw` rows are drawn from those given by `draw_seed`, with `noise` on
    their features: they are the data set then. `validation` and `test` are shares of the rows, drawn by the run's seed;
    `training_rows` of the others are trained on, of which it spoils the shares `label_noise` and `outliers`.
    """

    name: str | None = None
    X: Any = None
    y: Any = None
    path: str | None = None
    bundled: str | None = None
    target: Any = None
    features: Any = None
    targets: Any = None
    rows: Any = None
    drop: Any = field(default_factory=list)
    categorical: Any = None
    missing: str = "error"
    task: str = "auto"
    groups: str | None = None
    digest: str | None = None
    scaling: str | None = None
    divide_by: Any = None
    target_scaling: str | None = None
    target_divide_by: Any = None
    validation: float = 0.0
    test: float = 0.0
    stratify: Any = False
    draw: int | None = None
    noise: float = 0.0
    draw_seed: int = 0
    training_rows: int | None = None
    label_noise: float = 0.0
    outliers: float = 0.0

    def __post_init__(self) -> None:
        check(self.path is None or bool(self.path.strip()), "data.path", self.path)
        check(self.bundled in (None, *BUNDLED), "data.bundled", self.bundled)
        if self.name is None:
            object.__setattr__(self, "name", self.bundled or (Path(self.path or "").stem or "data"))
        check(is_name(self.name or ""), "data.name", self.name)
        check(self.task in TASKS, "data.task", self.task)
        check(self.missing in MISSING_RULES, "data.missing", self.missing)
        check_names("data.features", self.features)
        check_columns("data.drop", self.drop)
        if self.is_table:
            self._check_table()
        else:
            self._check_rows()
        self._check_scaling()
        check_parts(self)
        check_drawing(self)

    @property
    def is_table(self) -> bool:
        """True for columns of a file and for what was given from Python, False for inline rows."""
        return self.path is not None or self.bundled is not None or self.is_given

    @property
    def is_given(self) -> bool:
        """True for what was given from Python: it has a digest, but no place. Arrays have no target either."""
        return self.X is None and self.digest is not None and self.path is None and self.bundled is None

    @property
    def kind(self) -> str | None:
        """`rows` (inline, or arrays), `regression` or `classes`; None for a table that is not read yet."""
        rows = not self.is_table or (self.is_given and self.target is None)
        return self.task if self.task != "auto" else "rows" if rows else None

    @property
    def shape(self) -> tuple[int, int] | None:
        """(d, k) of inline rows; None where it is not known before the data set is made."""
        return None if self.is_table or self.drop else (len(self.X[0]), len(self.y[0]))

    def _check_table(self) -> None:
        what = f"data.{'path' if self.path else 'bundled' if self.bundled else 'digest'} names a table"
        for key in ("X", "y", "targets"):
            check(getattr(self, key) is None, f"data.{key}", getattr(self, key), f"null, as {what} (see data=csv)")
        check(self.path is None or self.bundled is None, "data.path", self.path, "null, as data.bundled is given")
        if isinstance(self.target, str | int):
            object.__setattr__(self, "target", [str(self.target)])
        if self.kind != "rows":
            check(bool(self.target), "data.target", self.target)
            check_columns("data.target", self.target)
        if self.categorical is not None:
            check_columns("data.categorical", self.categorical)
        check(self.rows is None or isinstance(self.rows, str), "data.rows", self.rows, "null or the name of a column")

    def _check_rows(self) -> None:
        for key, usual in (("target", None), ("categorical", None), ("groups", None), ("digest", None)):
            given = getattr(self, key)
            check(given == usual, f"data.{key}", given, "null, as the rows are given inline and not by data.path")
        check(self.task == "auto", "data.task", self.task, "auto, as the rows are given inline and not by data.path")
        check(isinstance(self.X, list), "data.X", self.X)
        check(isinstance(self.y, list), "data.y", self.y)
        if not any(isinstance(row, list) for row in self.y):
            object.__setattr__(self, "y", [[value] for value in self.y])
        check_matrix("data.X", self.X)
        check_matrix("data.y", self.y)
        if len(self.X) != len(self.y):
            raise UserError(f"data.y has {len(self.y)} rows, but it must have {len(self.X)}, as data.X has.")
        check_names("data.targets", self.targets)
        check_names("data.rows", self.rows)

    def _check_scaling(self) -> None:
        """Rows are not scaled unless that is asked for; a table's targets are, if they are no classes."""
        if self.scaling is None:
            object.__setattr__(self, "scaling", "none" if self.kind == "rows" else "standard")
        if self.target_scaling is None and self.kind is not None:
            object.__setattr__(self, "target_scaling", "standard" if self.kind == "regression" else "none")
        check(self.scaling in SCALINGS, "data.scaling", self.scaling)
        check(self.target_scaling in (None, *SCALINGS), "data.target_scaling", self.target_scaling)
        good = self.kind != "classes" or self.target_scaling == "none"
        check(good, "data.target_scaling", self.target_scaling, "none (or null), as the targets are classes")
        check_divisor("data.divide_by", self.scaling, self.divide_by)
        check_divisor("data.target_divide_by", self.target_scaling, self.target_divide_by)


@dataclass(frozen=True)
class NetworkConfig:
    """The architecture between the data's inputs and outputs. `output_activation` null is the one that suits these."""

    hidden: list[int] = field(default_factory=lambda: [4])
    activation: Any = "sigmoid"
    output_activation: Any = None
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
        known = self.output_activation in (None, *OUTPUT)
        check(known, "network.output_activation", self.output_activation)

    @property
    def activations(self) -> tuple[str, ...]:
        """One a layer, the output's last."""
        hidden = self.activation if isinstance(self.activation, list) else [self.activation] * len(self.hidden)
        return (*hidden, self.output_activation)


@dataclass(frozen=True)
class InitConfig:
    """How initial weights are made: normal, xavier, he (scaled), uniform (low to high), constant, given (matrices)."""

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
    """Gradient descent along the derivative of `loss` (null: what suits the data): `epochs` times over all rows.

    optimizer.py has the formulas.
    """

    learning_rate: float = 0.5
    epochs: int = 1000
    loss: Any = None
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
        check(self.loss in (None, *LOSSES), "training.loss", self.loss)
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
    """Where runs are kept. `uri` null means nowhere; `artifacts` null means a folder beside the database file.

    `experiment` null means the data set's name.
    """

    uri: str | None = None
    experiment: str | None = "seedbed"
    artifacts: str | None = None
    curve_points: int = 300
    report: Any = True

    def __post_init__(self) -> None:
        check(self.uri is None or bool(self.uri.strip()), "tracking.uri", self.uri)
        if public_uri(self.uri) != self.uri:
            hidden(self.uri or "")  # so that this process knows what its messages must not repeat
        check(self.experiment is None or is_name(self.experiment), "tracking.experiment", self.experiment)
        folder = self.artifacts is None or (bool(self.artifacts.strip()) and "://" not in self.artifacts)
        check(folder, "tracking.artifacts", self.artifacts)
        check(self.curve_points >= 2, "tracking.curve_points", self.curve_points)
        words = {"true": True, "false": False}  # an environment variable is text
        object.__setattr__(self, "report", words.get(str(self.report).lower(), self.report))
        check(isinstance(self.report, bool), "tracking.report", self.report)


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
        self._fill_in()
        check(isinstance(self.register, bool), "register", self.register)
        if self.register and self.tracking.uri is None:
            raise UserError("register is true, but nothing is kept: leave out tracking=none, or register=true.")
        if self.register:
            check_model_name("tracking.experiment", self.tracking.experiment or "")
        portable = self.executor.kernel == "numpy" or self.numerics != "fast"
        check(portable, "executor.kernel", self.executor.kernel, "numpy, as numerics is fast")
        if self.data.shape:
            self.check_sizes(*self.data.shape)
        if self.data.kind:
            self._check_together()

    def _fill_in(self) -> None:
        """Puts what suits the data where a key is null, as far as the kind of data is known."""
        if self.tracking.experiment is None:
            object.__setattr__(self, "tracking", with_value(self.tracking, "experiment", str(self.data.name)))
        kind, output, loss = self.data.kind, self.network.output_activation, self.training.loss
        if kind and output is None:
            output = OUTPUTS[kind]
            object.__setattr__(self, "network", with_value(self.network, "output_activation", output))
        if kind and loss is None:
            usual = "cross_entropy" if output == "softmax" else LOSS_OF[kind]
            object.__setattr__(self, "training", with_value(self.training, "loss", usual))

    def check_sizes(self, d: int, k: int) -> None:
        """Raises UserError unless the network suits data of d features and k targets."""
        shapes = list(itertools.pairwise([d, *self.network.hidden, k]))
        weights = sum(inputs * outputs for inputs, outputs in shapes)
        fits = f"of at most {MOST_WEIGHTS} weights in all, and these layers have {weights}"
        check(weights <= MOST_WEIGHTS, "network.hidden", self.network.hidden, fits)
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
        simple = simple and training.batch_size is None and training.patience is None and not holds_out(self.data)
        takes = "numpy: numba has sigmoids, squared errors and plain gradient descent, over all rows and none held out"
        compiles = simple and plain and {RAW_SUMS[one] for one in (loss, *training.metrics)} <= {"squares", "absolutes"}
        check(self.executor.kernel == "numpy" or compiles, "executor.kernel", self.executor.kernel, takes)


def with_value(section: Any, key: str, value: str) -> Any:
    """A section with another value: runs of a sweep that share the one share the other, as there may be many."""
    place = id(section), value
    if place not in FILLED:
        if len(FILLED) >= MOST_FILLED:
            FILLED.clear()
        FILLED[place] = section, replace(section, **{key: value})  # the section stays, and so its id stays its own
    return FILLED[place][1]
