"""Seedbed: trains families of small NumPy networks from Hydra configs and keeps every run in MLflow.

`from pipeline import fit, sweep` for notebooks; SeedbedRegressor and SeedbedClassifier are scikit-learn's estimators.
"""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.errors import UserError
    from pipeline.python.estimator import SeedbedClassifier, SeedbedRegressor
    from pipeline.python.notebook import fit, sweep

__version__ = "0.1.0"
__all__ = ["SeedbedClassifier", "SeedbedRegressor", "UserError", "fit", "sweep"]

ROOMS = {  # of what is imported when it is asked for: nothing else is, as workers and the command start with this
    "UserError": "errors",
    "SeedbedClassifier": "python.estimator",
    "SeedbedRegressor": "python.estimator",
    "fit": "python.notebook",
    "sweep": "python.notebook",
}

# Hydra 1.3 finds launchers and sweepers only below the namespace package `hydra_plugins`, by walking sys.path.
_PLUGINS = str(Path(__file__).parent / "_plugins")
if _PLUGINS not in sys.path:
    sys.path.append(_PLUGINS)


def __getattr__(name: str) -> Any:
    """What the package offers, from its room."""
    if name not in ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{ROOMS[name]}"), name)
