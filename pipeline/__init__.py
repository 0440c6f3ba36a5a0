"""Seedbed: trains families of small NumPy networks from Hydra configs and keeps every run in MLflow."""

import sys
from pathlib import Path

__version__ = "0.1.0"

# Hydra 1.3 finds launchers and sweepers only below the namespace package `hydra_plugins`, by walking sys.path.
_PLUGINS = str(Path(__file__).parent / "_plugins")
if _PLUGINS not in sys.path:
    sys.path.append(_PLUGINS)
