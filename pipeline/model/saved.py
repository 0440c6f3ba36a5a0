"""A trained network as an MLflow model. MLflow runs a copy of this file where the model is loaded, without Seedbed.

Beside it lie `network.npz` and the modules of Seedbed's numerics that a prediction takes, as a package of their own.
"""

import importlib
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class Network(PythonModel):
    """Predicts rows in the data's own units."""

    def load_context(self, context: PythonModelContext) -> None:
        """Reads the numbers, and imports the numerics that came with them."""
        with np.load(context.artifacts["network"], allow_pickle=False) as archive:
            self.kept = dict(archive)
        self.numerics = importlib.import_module(f"{self.kept['code']}.network")

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """A column a target, a row a row of the input, whose columns are the features."""
        kept = self.kept
        matrices, biases = ([kept[f"{kind}{i}"] for i in range(len(kept)) if f"{kind}{i}" in kept] for kind in "Wb")
        rows = model_input[kept["features"].tolist()].to_numpy(dtype=np.float64)
        rows = np.where(np.isnan(rows), kept["input_fill"], rows)
        scaled = (rows - kept["input_offset"]) / kept["input_factor"]
        mode = self.numerics.Mode(str(kept["numerics"]), tuple(map(str, kept["activations"])), str(kept["layout"]))
        outputs = self.numerics.predict(scaled, matrices, biases, mode)
        unscaled = outputs * kept["target_factor"] + kept["target_offset"]
        return pd.DataFrame(unscaled, index=model_input.index, columns=kept["targets"].tolist())


set_model(Network())
