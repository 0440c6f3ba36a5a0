"""A real sweep, tracked: 8x8 digits, architectures x seeds x learning rates, mini-batches of 64, against scikit-learn.

The peer is what people write: MLPClassifier in joblib's workers, one a core, with a validation score an epoch, and
MLflow's client with one log_batch a run and the weights as an artifact. Both write into a store that is not there yet.
`python -m benchmarks.digits JSON` is the peer; the JSON says what is swept.
"""

import io
import itertools
import json
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.commands import SEEDBED
from benchmarks.processes import CrashError, run

ARCHITECTURES = [
    *([16], [32], [64], [128], [16, 16], [32, 16], [32, 32], [64, 16], [64, 32], [64, 64], [128, 32], [32, 32, 32]),
]
RATES = [0.001, 0.003, 0.01]
FULL, QUICK = (12, 10, 3, 50), (2, 2, 1, 5)  # architectures, seeds, learning rates, epochs
BATCH = 64


def measure(quick: bool, report: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of both whole commands; what cannot be measured says why."""
    sizes = QUICK if quick else FULL
    architectures, seeds, rates, epochs = ARCHITECTURES[: sizes[0]], sizes[1], RATES[: sizes[2]], sizes[3]
    count = len(architectures) * seeds * len(rates)
    words = [
        *("sweep", "experiment=digits", f"training.epochs={epochs}", f"training.batch_size={BATCH}"),
        "network.hidden=" + ",".join(str(hidden).replace(" ", "") for hidden in architectures),
        f"seed=range(0,{seeds})",
        "training.learning_rate=" + ",".join(map(str, rates)),
    ]
    asked = {"architectures": architectures, "seeds": seeds, "rates": rates, "epochs": epochs}
    found: dict[str, Any] = {"runs": count, "epochs": epochs}
    peer_words = [sys.executable, "-m", __name__, json.dumps(asked)]
    for name, command in (("seedbed", [*SEEDBED, *words]), ("sklearn", peer_words)):
        report(f"digits, {count} runs of {epochs} epochs: {name}")
        with TemporaryDirectory() as folder:
            started = time.perf_counter()
            try:
                run(command, Path(folder), MLFLOW_TRACKING_URI="sqlite:///mlflow.db")
            except CrashError as crash:
                return found | {"left_out": f"{shlex.join(command[:4])}: {crash}"}
            found[name] = time.perf_counter() - started
    return found | {"ratio": found["sklearn"] / found["seedbed"]}


Kept = tuple[dict[str, Any], dict[str, list[float]], bytes]


def train(hidden: list[int], seed: int, rate: float, epochs: int) -> Kept:
    """Params, curves and weights of one of the peer's runs."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    X, y = load_digits(return_X_y=True)
    model = MLPClassifier(
        hidden,
        batch_size=BATCH,
        learning_rate_init=rate,
        alpha=0.0,
        max_iter=epochs,
        tol=0.0,
        n_iter_no_change=epochs + 1,
        early_stopping=True,  # for its validation scores: with this patience it never stops
        validation_fraction=0.2,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged: nobody asked it to
        model.fit(X / 16, y)
    weights = io.BytesIO()
    np.savez(weights, **{f"W{i}": matrix for i, matrix in enumerate(model.coefs_)})
    params = {"hidden": hidden, "seed": seed, "learning_rate": rate, "epochs": epochs, "batch_size": BATCH}
    return params, {"loss": model.loss_curve_, "val_accuracy": model.validation_scores_}, weights.getvalue()


def peer(asked: dict[str, Any]) -> None:
    """The peer's sweep."""
    import mlflow
    from joblib import Parallel, delayed
    from mlflow.entities import Metric, Param

    mlflow.set_experiment("digits")
    client = mlflow.MlflowClient()
    grid = itertools.product(asked["architectures"], range(asked["seeds"]), asked["rates"])
    jobs = (delayed(train)(*one, asked["epochs"]) for one in grid)
    results: Iterator[Any] = Parallel(n_jobs=os.cpu_count(), return_as="generator")(jobs)
    for params, curves, weights in results:
        with mlflow.start_run() as active, TemporaryDirectory() as folder:
            points = [(name, value, step) for name, curve in curves.items() for step, value in enumerate(curve)]
            metrics = [Metric(name, float(value), 0, step) for name, value, step in points]
            client.log_batch(active.info.run_id, metrics, [Param(key, str(value)) for key, value in params.items()])
            file = Path(folder) / "weights.npz"
            file.write_bytes(weights)
            mlflow.log_artifact(str(file))


if __name__ == "__main__":
    peer(json.loads(sys.argv[1]))
