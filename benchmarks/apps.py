"""Sweeps as people write them: a Hydra app that trains one network and logs it to MLflow; with HydraFlow; to Trackio.

`python -m benchmarks.apps hydra --multirun seed=0,1 logging=each` trains a run per seed in the tutorials' loop, and
keeps its params, loss curve, weights and predictions. logging=each calls log_metric for every update, as tutorials and
MLflow's documentation do; logging=batch makes one log_batch of the curve.
"""

import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import plain
from benchmarks.tasks import NETS, Array

NET = NETS["3-4-5-1"]


@dataclass
class Config:
    """Config of a run."""

    seed: int = 0
    rate: float = 0.5
    updates: int = 500
    logging: str = "each"


def train_and_log(config: Config, folder: Path) -> None:
    """Trains a run and logs it to the active MLflow run; its files go through folder."""
    import mlflow

    weights = drawn(config)
    mlflow.log_params(params(config))
    losses = plain.losses(NET.X, NET.y, weights, config.rate, config.updates)
    if config.logging == "each":
        for update, loss in enumerate(losses):
            mlflow.log_metric("loss", loss, step=update)
    else:
        log_together(losses)
    for file in write_files(weights, folder):
        mlflow.log_artifact(str(file))


def train_and_log_to_trackio(config: Config, folder: Path) -> None:
    """Trains a run and logs it to Trackio; its files stay in folder."""
    import trackio

    weights = drawn(config)
    trackio.init("sweep", name=f"s{config.seed}", config=params(config), embed=False)
    for update, loss in enumerate(plain.losses(NET.X, NET.y, weights, config.rate, config.updates)):
        trackio.log({"loss": loss}, step=update)
    write_files(weights, folder)
    trackio.finish()


def drawn(config: Config) -> list[Array]:
    """A run's initial weights."""
    generator = np.random.default_rng(config.seed)
    return [generator.standard_normal(shape) for shape in zip(NET.sizes, NET.sizes[1:], strict=False)]


def params(config: Config) -> dict[str, Any]:
    """A run's params."""
    return asdict(config) | {"architecture": "3-4-5-1", "loss": "half_sse"}


def write_files(weights: Sequence[Array], folder: Path) -> list[Path]:
    """Writes a trained run's weights and predictions, and returns the files."""
    prediction = NET.X
    for layer, matrix in enumerate(weights):
        prediction = plain.sigmoid(prediction @ matrix)
        np.savetxt(folder / f"W{layer}.csv", matrix, delimiter=",")
    np.savetxt(folder / "predictions.csv", np.hstack([NET.X, NET.y, prediction]), delimiter=",")
    return [folder / name for name in [*(f"W{layer}.csv" for layer in range(len(weights))), "predictions.csv"]]


def log_together(losses: Iterable[float]) -> None:
    """Logs a curve in as few requests as MLflow's limit of 1,000 metrics allows."""
    import mlflow
    from mlflow.entities import Metric

    now = time.time_ns() // 1_000_000
    points = [Metric("loss", loss, now, update) for update, loss in enumerate(losses)]
    active = mlflow.active_run()
    assert active  # noqa: S101 - the app has started one
    for start in range(0, len(points), 1000):
        mlflow.MlflowClient().log_batch(active.info.run_id, metrics=points[start : start + 1000])


def config_of(composed: object) -> Config:
    """The plain config behind OmegaConf's."""
    from omegaconf import OmegaConf

    values = OmegaConf.to_container(composed)
    return Config(**values)  # type: ignore[arg-type]


def output_folder() -> Path:
    """Hydra's folder for this job."""
    from hydra.core.hydra_config import HydraConfig

    return Path(HydraConfig.get().runtime.output_dir)


def with_hydra() -> None:
    """The usual app."""
    import hydra
    import mlflow
    from hydra.core.config_store import ConfigStore

    def job(composed: object) -> None:
        mlflow.set_experiment("sweep")
        with mlflow.start_run():
            train_and_log(config_of(composed), output_folder())

    ConfigStore.instance().store(name="config", node=Config)
    hydra.main(version_base="1.3", config_path=None, config_name="config")(job)()


def with_hydraflow() -> None:
    """The same under HydraFlow, which opens the MLflow run and skips what is there already."""
    import hydraflow

    def app(run: object, composed: object) -> None:
        train_and_log(config_of(composed), output_folder())

    hydraflow.main(Config)(app)()


def with_trackio() -> None:
    """The usual app, to Trackio."""
    import hydra
    from hydra.core.config_store import ConfigStore

    os.environ["TRACKIO_DIR"] = str(Path("trackio").absolute())

    def job(composed: object) -> None:
        train_and_log_to_trackio(config_of(composed), output_folder())

    ConfigStore.instance().store(name="config", node=Config)
    hydra.main(version_base="1.3", config_path=None, config_name="config")(job)()


if __name__ == "__main__":
    chosen = {"hydra": with_hydra, "hydraflow": with_hydraflow, "trackio": with_trackio}[sys.argv.pop(1)]
    chosen()
