"""A trained network as the folder of an MLflow model: code, numbers, signature, requirements; nothing is pickled."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import __version__
from pipeline.data import Dataset, Scale
from pipeline.environment import version
from pipeline.identity import code_digests, digest, source_of
from pipeline.paths import PACKAGE
from pipeline.results.kept import KeptRun
from pipeline.results.record import npz

if TYPE_CHECKING:
    from pipeline.store.api import LoggedModel

# The modules that a prediction takes.
NUMERICS = ("program", "sigmoid", "elementary", "activations", "layout", "losses", "optimizer", "network")
NUMBERS = "network.npz"
ARTIFACT = "network"  # what the code calls that file
REQUIREMENTS = ("numpy", "pandas", "mlflow")
EXAMPLE_ROWS = 3


def code_package() -> str:
    """The name of the package that ships the numerics: another one for other code, as a process may load two models."""
    return f"seedbed_{digest({name: code_digests()[name] for name in NUMERICS})[:8]}"


def write_code(folder: Path) -> Path:
    """Writes that package into a folder. Its modules import each other from wherever it lies, not from Seedbed."""
    package = folder / code_package()
    package.mkdir()
    (package / "__init__.py").write_text('"""Numerics of Seedbed, as they were when the model was made."""\n')
    for name in NUMERICS:
        source = source_of(name).replace("from pipeline.numerics.", "from .")
        (package / f"{name}.py").write_text(source, encoding="utf-8")
    return package


def numbers(kept: KeptRun) -> dict[str, NDArray[Any]]:
    """All that a prediction takes: weights, fills and scales (columns,), the training range of each feature, names."""
    dataset, sample, (matrices, biases) = kept.dataset, kept.sample, kept.weights
    low, high = kept.training_range
    fill = sample.input_scale.fill
    return {
        "code": np.array(code_package()),
        "numerics": np.array(kept.numerics),
        "activations": np.array(kept.mode.activations),
        "layout": np.array(kept.mode.layout),
        "features": np.array(dataset.features),
        "targets": np.array(dataset.targets),
        "low": low,
        "high": high,
        "input_fill": np.full_like(low, np.nan) if fill is None else fill,
        "input_offset": sample.input_scale.offset,
        "input_factor": sample.input_scale.factor,
        "target_offset": sample.target_scale.offset,
        "target_factor": sample.target_scale.factor,
        **{f"W{i}": matrix for i, matrix in enumerate(matrices)},
        **{f"b{i}": bias for i, bias in enumerate(biases)},
    }


def metadata(kept: KeptRun, cell: str) -> dict[str, Any]:
    """What the model says of itself, in its MLmodel file: where it comes from, and how its numbers are meant."""
    dataset, sample = kept.dataset, kept.sample
    low, high = (ends.tolist() for ends in kept.training_range)
    inputs = zip(dataset.features, told_scale(sample.input_scale), low, high, strict=True)
    targets = zip(dataset.targets, told_scale(sample.target_scale), strict=True)
    return {
        "seedbed": __version__,
        "run_id": kept.run_id,
        "fingerprint": kept.fingerprint,
        "cell": cell,
        "data": {"name": dataset.name, "digest": dataset.digest},
        "numerics": kept.numerics,
        "code": {name: code_digests()[name] for name in NUMERICS},
        "units": "inputs and outputs are in the data's own units: scaling is part of the model",
        "features": [{"name": n, "scaling": s, "trained from": a, "trained to": b} for n, s, a, b in inputs],
        "targets": [{"name": name, "scaling": scale} for name, scale in targets],
    }


def told_scale(scale: Scale) -> list[str]:
    """How each column is scaled for the network, in words."""
    pairs = zip(scale.offset.tolist(), scale.factor.tolist(), strict=True)
    return [
        ", then ".join([f"minus {offset!r}"] * (offset != 0) + [f"divided by {factor!r}"] * (factor != 1)) or "none"
        for offset, factor in pairs
    ]


def example(dataset: Dataset) -> pd.DataFrame:
    """Some rows that it was trained on, in the data's units."""
    return pd.DataFrame(dataset.raw_X[:EXAMPLE_ROWS], columns=list(dataset.features))


def write_model(place: Path, parts: Path, kept: KeptRun, cell: str, logged: "LoggedModel") -> None:
    """Writes the folder of a run's model, that will be `logged`, to `place`, which is made. Uses the folder `parts`.

    MLflow writes down where the parts came from: no path of the user's should stand there.
    """
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")  # else it copies a project file of the working directory
    dataset = kept.dataset
    code = parts / "model.py"
    code.write_text((PACKAGE / "model" / "saved.py").read_text(encoding="utf-8"), encoding="utf-8")
    (parts / NUMBERS).write_bytes(npz(numbers(kept)))
    inputs, outputs = (
        Schema([ColSpec(DataType.double, name) for name in names]) for names in (dataset.features, dataset.targets)
    )
    mlflow.pyfunc.save_model(
        path=place,
        mlflow_model=Model(logged.artifact_location, kept.run_id, model_id=logged.model_id),
        python_model=str(code),
        artifacts={ARTIFACT: str(parts / NUMBERS)},
        code_paths=[str(write_code(parts))],
        signature=ModelSignature(inputs, outputs),
        input_example=example(dataset),
        pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
        metadata=metadata(kept, cell),
    )
