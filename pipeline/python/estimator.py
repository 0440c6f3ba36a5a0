"""The engine as scikit-learn's estimators: for its pipelines, searches and scores.

The defaults are of today, not the tutorials': inputs and targets scaled to mean 0 and deviation 1, relu, He's initial
weights, biases, Adam in mini-batches. What decides the result is the parameters and `random_state` alone.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from pipeline.data import build_dataset
from pipeline.errors import UserError
from pipeline.identity import Run, make_run
from pipeline.numerics.network import predict
from pipeline.python.settings import Configs, Values, data_config, named, of_section
from pipeline.threads import one_thread
from pipeline.training.stack import Result, train_stack

Array = NDArray[np.float64]

SCALES = ("scaling", "divide_by", "target_scaling", "target_divide_by")
PARTS = ("validation", "test", "stratify", "training_rows", "label_noise", "outliers")
TAKEN = {f"data.{key}" for key in (*SCALES, *PARTS)} | {"numerics", "executor.kernel"}  # besides the sections':
SECTIONS = ("network.", "init.", "training.")


class SeedbedNetwork(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What both estimators share: the parameters, the training and the outputs.

    hidden: units of each hidden layer; activation: one for all of them, or one each; l2: weight decay; validation: the
    share of the rows held out, whose loss `patience` (epochs without a lower one) watches, else it watches the training
    rows'; settings: further keys of a config, of scaling, parts and training; random_state: an int is the run's seed.

    Fitted: coefs_ (a matrix (inputs, outputs) a layer), intercepts_ ((outputs,) each), loss_curve_ (E + 1,), loss_,
    n_iter_ (epochs made, of the network that was kept), n_features_in_, feature_names_in_ (of a frame).
    """

    def __init__(
        self,
        hidden: Sequence[int] = (32,),
        *,
        activation: str | Sequence[str] = "relu",
        learning_rate: float = 0.01,
        epochs: int = 200,
        batch_size: int | None = 200,
        optimizer: str = "adam",
        l2: float = 0.001,
        init: str = "he",
        validation: float = 0.0,
        patience: int | None = None,
        settings: dict[str, Any] | None = None,
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.l2 = l2
        self.init = init
        self.validation = validation
        self.patience = patience
        self.settings = settings
        self.random_state = random_state

    def _train(self, X: Array, y: Array, targets: Sequence[str], is_classes: bool) -> None:
        """Trains on X (n, d) and y (n, k) and keeps what predictions take. Raises ValueError for a bad parameter."""
        try:
            run = self._run(X, y, targets, is_classes)
        except UserError as error:
            raise ValueError(str(error)) from error
        with one_thread():
            (result,) = train_stack([run])
        if result.diverged_at is not None:
            warnings.warn(
                f"The training diverged after {result.diverged_at} updates, and the network before is kept: choose a "
                "lower learning_rate.",
                ConvergenceWarning,
                stacklevel=3,
            )
        self._keep(run, result)

    def _run(self, X: Array, y: Array, targets: Sequence[str], is_classes: bool) -> Run:
        """The run of the parameters. Raises UserError."""
        taken = ("hidden", "activation", "learning_rate", "epochs", "batch_size", "optimizer", "l2", "init")
        own = {key: getattr(self, key) for key in (*taken, "validation", "patience")}
        values = {**named(None, {"bias": True, **own, "seed": self._seed()}), **further(self.settings)}
        task = "classes" if is_classes else "regression"
        stratify = is_classes and self.validation > 0
        about: Values = {"name": "data", "target": ["y"], "task": task, "stratify": stratify, "digest": "not known"}
        data = data_config(about | of_section("data", values))
        features = [f"x{j}" for j in range(X.shape[1])]
        rows = [f"row {i}" for i in range(1, len(X) + 1)]
        dataset = build_dataset(data, X, y, features=features, targets=targets, rows=rows, is_classes=is_classes)
        return make_run(Configs()(replace(data, digest=dataset.digest), values), dataset=dataset)

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            check_random_state(self.random_state)
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**32, dtype=np.uint32))

    def _keep(self, run: Run, result: Result) -> None:
        sample, final = run.sample, result.final
        self.coefs_, self.intercepts_ = list(final.matrices), list(final.biases)
        self.loss_curve_ = result.curves["loss"]
        self.loss_ = float(self.loss_curve_[-1]) if len(self.loss_curve_) else float("nan")
        self.n_iter_ = result.updates // result.every
        self._mode, self._scales = run.mode, (sample.input_scale, sample.target_scale)

    def _outputs(self, X: Any) -> Array:
        """The network's outputs for rows X (m, d), in the data's units, (m, k)."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        inputs, targets = self._scales
        with one_thread():
            return targets.invert(predict(inputs.apply(rows), self.coefs_, self.intercepts_, self._mode))


def further(settings: Any) -> Values:
    """The settings by dotted key. Raises UserError for a key that would change nothing here, and an unknown one."""
    values = named(settings, {})
    for key in values:
        if key not in TAKEN and not key.startswith(SECTIONS):
            instead = "the parameter random_state" if key == "seed" else "fit or sweep"
            raise UserError(f"{key} is no setting of an estimator: it is for {instead}.")
    return values


class SeedbedRegressor(MultiOutputMixin, RegressorMixin, SeedbedNetwork):  # type: ignore[misc]
    """A network for numbers, one or several a row, trained for the mean squared error of the scaled targets."""

    def fit(self, X: Any, y: Any) -> Self:
        """Trains on X (n, d) and y (n,) or (n, k)."""
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64)
        columns = np.asarray(y, dtype=np.float64).reshape(len(X), -1)
        names = ["y"] if columns.shape[1] == 1 else [f"y{j}" for j in range(columns.shape[1])]
        self._is_flat = y.ndim == 1
        self._train(X, columns, names, is_classes=False)
        return self

    def predict(self, X: Any) -> Array:
        """Predictions for X (m, d): (m,), or (m, k) if y was (n, k)."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self._is_flat else outputs


class SeedbedClassifier(ClassifierMixin, SeedbedNetwork):  # type: ignore[misc]
    """A network for classes: an output for each, softmax and cross-entropy. Fitted: classes_ (k,), sorted."""

    def fit(self, X: Any, y: Any) -> Self:
        """Trains on X (n, d) and labels y (n,)."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, places = np.unique(y, return_inverse=True)
        names = [f"class {k}" for k in range(len(self.classes_))]
        self._train(X, np.eye(len(names))[places], names, is_classes=True)
        return self

    def predict_proba(self, X: Any) -> Array:
        """How probable each class is for X (m, d): (m, k), in the order of classes_."""
        return self._outputs(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class for each row of X (m, d), (m,)."""
        best = self._outputs(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        return labels
