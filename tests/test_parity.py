"""The same training as scikit-learn, over 100 updates: activations, losses, optimizers, weight decay, batches."""

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier

from pipeline.config import InitConfig
from pipeline.initial import initial_weights
from pipeline.numerics import optimizer
from pipeline.numerics.course import shuffles
from pipeline.training.stack import Result
from tests.factory import result

Array = NDArray[np.float64]
UPDATES = 100
THEIRS = {"sigmoid": "logistic", "tanh": "tanh", "relu": "relu", "identity": "identity"}
HIDDEN = [5, 4]
RATE = 0.05


class Peer(MLPClassifier):  # type: ignore[misc]
    """Scikit-learn's network, from given initial weights and biases of 0."""

    def __init__(self, matrices: list[Array] | None = None, **options: Any) -> None:
        self.matrices = matrices
        super().__init__(**options)

    def _init_coef(self, fan_in: int, fan_out: int, dtype: Any) -> tuple[Array, Array]:
        (matrix,) = (matrix for matrix in self.matrices or () if matrix.shape == (fan_in, fan_out))
        return matrix.copy(), np.zeros(fan_out)


def data(classes: int) -> tuple[Array, NDArray[np.intp]]:
    """30 rows of 3 features, and a class each."""
    draw = np.random.default_rng(classes)
    X = draw.uniform(-2, 2, (30, 3))
    return X, np.arange(30) % classes


def ours(X: Array, labels: NDArray[np.intp], **changes: Any) -> Result:
    """Our training of these rows: bce for two classes, cross_entropy for more."""
    classes = int(labels.max()) + 1
    two = classes == 2
    y = labels[:, None] if two else np.eye(classes)[labels]
    loss = {"loss": "bce", "output_activation": "sigmoid"}
    if not two:
        loss = {"loss": "cross_entropy", "output_activation": "softmax"}
    fixed = {"hidden": HIDDEN, "bias": True, "scale": 0.5, "learning_rate": RATE, "metrics": ["accuracy"]}
    return result(X=X.tolist(), y=y.tolist(), **fixed, **loss, **changes)


def theirs(X: Array, labels: NDArray[np.intp], batches: list[NDArray[np.intp]], **options: Any) -> Peer:
    """Their training: an update a batch."""
    outputs = 1 if labels.max() == 1 else int(labels.max()) + 1
    sizes = (X.shape[1], *HIDDEN, outputs)
    matrices = initial_weights(InitConfig(scale=0.5), 0, sizes)
    assert len({matrix.shape for matrix in matrices}) == len(matrices), "the peer finds its matrices by shape"
    peer = Peer(matrices, hidden_layer_sizes=HIDDEN, learning_rate_init=RATE, **options)
    for batch in batches:
        peer.partial_fit(X[batch], labels[batch], classes=np.unique(labels))
    return peer


def assert_same(found: Result, peer: Peer, X: Array, labels: NDArray[np.intp]) -> None:
    """Weights, biases, predictions and the share of right rows are the same to 1e-10."""
    for mine, their in zip(found.final.matrices, peer.coefs_, strict=True):
        np.testing.assert_allclose(mine, their, rtol=0, atol=1e-10)
    for mine, their in zip(found.final.biases, peer.intercepts_, strict=True):
        np.testing.assert_allclose(mine, their, rtol=0, atol=1e-10)
    probabilities = peer.predict_proba(X)
    expected = probabilities[:, 1:] if labels.max() == 1 else probabilities
    np.testing.assert_allclose(found.final.prediction, expected, rtol=0, atol=1e-10)
    assert found.curves["accuracy"][-1] == pytest.approx(peer.score(X, labels), abs=1e-12)


ALL = [np.arange(30)] * UPDATES
SGD = {"solver": "sgd", "momentum": 0.0, "nesterovs_momentum": False, "alpha": 0.0}


@pytest.mark.parametrize("layout", ["runs_last", "runs_first"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("activation", THEIRS)
def test_activations_and_losses(activation: str, classes: int, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.identity.layout_of", lambda sizes, n: layout)
    X, labels = data(classes)
    found = ours(X, labels, activation=activation, epochs=UPDATES)
    assert_same(found, theirs(X, labels, ALL, activation=THEIRS[activation], **SGD), X, labels)


@pytest.mark.parametrize("layout", ["runs_last", "runs_first"])
@pytest.mark.parametrize(
    ("mine", "their"),
    [
        ({"optimizer": "momentum", "momentum": 0.8}, {"momentum": 0.8, "nesterovs_momentum": False}),
        ({"optimizer": "nesterov"}, {"momentum": 0.9, "nesterovs_momentum": True}),
        ({"optimizer": "adam"}, {"solver": "adam", "epsilon": 0.0}),
        ({"l2": 0.1}, {"alpha": 3.0}),  # theirs is divided by the rows
        ({"optimizer": "adam", "l2": 0.1}, {"solver": "adam", "epsilon": 0.0, "alpha": 3.0}),
    ],
    ids=str,
)
def test_optimizers_and_weight_decay(
    mine: dict[str, Any], their: dict[str, Any], layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adam without epsilon, which they add before the bias of the second moment is corrected."""
    monkeypatch.setattr(optimizer, "EPSILON", 0.0)
    monkeypatch.setattr("pipeline.identity.layout_of", lambda sizes, n: layout)
    X, labels = data(3)
    found = ours(X, labels, activation="tanh", epochs=UPDATES, **mine)
    assert_same(found, theirs(X, labels, ALL, activation="tanh", **(SGD | their)), X, labels)


@pytest.mark.parametrize("layout", ["runs_last", "runs_first"])
def test_mini_batches_in_the_order_that_the_seed_gives(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """30 rows in batches of 8, 8, 8 and 6: 25 epochs are 100 updates."""
    monkeypatch.setattr("pipeline.identity.layout_of", lambda sizes, n: layout)
    X, labels = data(3)
    found = ours(X, labels, activation="tanh", epochs=25, batch_size=8, optimizer="momentum")
    assert found.updates == UPDATES
    (order,) = shuffles([0])
    epochs = [order.random(30).argsort(kind="stable") for _ in range(25)]
    batches = [rows[start : start + 8] for rows, start in itertools.product(epochs, range(0, 30, 8))]
    peer = theirs(X, labels, batches, activation="tanh", **(SGD | {"momentum": 0.9}))
    assert_same(found, peer, X, labels)
