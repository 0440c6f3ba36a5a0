"""Predicts with a registered model: reads its numbers from the registry, and runs none of its code.

Whoever can write to a store is trusted with what is predicted, not with code (docs/SECURITY.md). Ours gives the same
bits as the model's, or says that it is another.
"""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.checks import shown
from pipeline.data import Scale
from pipeline.errors import UserError
from pipeline.model.folder import NUMBERS, code_package
from pipeline.numerics.network import Mode, predict
from pipeline.results.predict import Array, Predictor
from pipeline.results.record import layers, read_npz
from pipeline.store.address import absolute
from pipeline.store.api import MlflowException, get_artifact_repository
from pipeline.store.reader import Reader
from pipeline.store.sinks import translated
from pipeline.terminal import warn

REFERENCE = re.compile(r"(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))")
MOST_NAMED = 10


def registered_predictor(reader: Reader, text: str) -> Predictor:
    """What predicts, of NAME@ALIAS or NAME/VERSION. Raises UserError if there is none, or it is not of Seedbed's."""
    name, version = resolved(reader, text)
    arrays = read_numbers(reader, name, version)
    if str(arrays["code"]) != code_package():
        warn(f"Model {name}, version {version}, has other code than this Seedbed: last bits may differ from its own.")
    return predictor_of(arrays)


def predictor_of(arrays: Mapping[str, NDArray[Any]]) -> Predictor:
    """What predicts with the numbers of a model."""
    fill = arrays["input_fill"]  # nan where nothing may be missing
    inputs = Scale(arrays["input_offset"], arrays["input_factor"], fill)
    targets = Scale(arrays["target_offset"], arrays["target_factor"])
    matrices, biases, mode = layers(arrays, "W"), layers(arrays, "b"), mode_of(arrays)

    def outputs(rows: Array) -> Array:
        return targets.invert(predict(inputs.apply(rows), matrices, biases, mode))

    features, predicted = (tuple(map(str, arrays[kind])) for kind in ("features", "targets"))
    return Predictor(features, predicted, arrays["low"], arrays["high"], outputs, fills=bool(np.isfinite(fill).any()))


def mode_of(arrays: Mapping[str, NDArray[Any]]) -> Mode:
    """How the network of a model computes."""
    return Mode(str(arrays["numerics"]), tuple(map(str, arrays["activations"])), str(arrays["layout"]))


def resolved(reader: Reader, text: str) -> tuple[str, str]:
    """The name and version that are meant. Raises UserError, with what there is, if it is not there."""
    parts = REFERENCE.fullmatch(text)
    if parts is None:
        raise UserError(f"model is {shown(text)}, but it must be NAME@ALIAS, like happiness@champion, or NAME/VERSION.")
    client, name = reader.client, parts["name"]
    with translated(reader.uri):
        try:
            model = client.get_registered_model(name)
        except MlflowException as error:
            known = ", ".join(one.name for one in client.search_registered_models(max_results=MOST_NAMED)) or "none"
            raise UserError(
                f"There is no model {shown(name)} in {reader.shown_uri} (there are: {known}): `seedbed register` "
                "makes one."
            ) from error
        try:
            if parts["alias"]:
                return name, str(client.get_model_version_by_alias(name, parts["alias"]).version)
            return name, str(client.get_model_version(name, parts["version"]).version)
        except MlflowException as error:
            aliases = ", ".join(f"{name}@{key} (version {of})" for key, of in model.aliases.items()) or "no alias"
            raise UserError(f"There is no model {shown(text)} in {reader.shown_uri}: it has {aliases}.") from error


def read_numbers(reader: Reader, name: str, version: str) -> dict[str, NDArray[Any]]:
    """The numbers of a version. Raises UserError if it is not of Seedbed's."""
    what = f"Model {name}, version {version},"
    with translated(reader.uri, about=what), tempfile.TemporaryDirectory(prefix="seedbed-") as folder:
        place = reader.client.get_model_version_download_uri(name, version)
        files: Any = get_artifact_repository(place, tracking_uri=absolute(reader.uri))
        about = yaml.safe_load(Path(files.download_artifacts("MLmodel", folder)).read_text(encoding="utf-8"))
        if "seedbed" not in (about.get("metadata") or {}):
            raise UserError(f"{what} was not made by Seedbed: predict with MLflow, `mlflow models predict`.")
        content = Path(files.download_artifacts(f"artifacts/{NUMBERS}", folder)).read_bytes()
    return read_npz(content, f"{NUMBERS} of model {name}, version {version},")
