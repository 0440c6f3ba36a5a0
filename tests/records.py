"""Records of runs that are trained for them, and the arrays of their files."""

import io
from typing import Any

import numpy as np

from pipeline.identity import Run
from pipeline.results.record import Record, make_record
from pipeline.training.stack import Result
from tests.factory import run, trained

ENVIRONMENT = {"python": "3.11"}


def both(**changes: Any) -> tuple[Run, Result]:
    """A run and its result."""
    one = run(**changes)
    return one, trained([one])[0]


def record(**changes: Any) -> Record:
    """The record of a run."""
    return make_record(*both(**changes), ENVIRONMENT, {"mlflow.runColor": "#0072b2"})


def arrays(content: bytes) -> dict[str, Any]:
    """An npz file's arrays, read without pickle."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return dict(archive)
