"""What a worker elsewhere does: it checks that it is one that gives the same bits, and trains a stack.

What travels to it are a stack's configs and, once a worker, the rows by their digest; what it sends back are arrays.
"""

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.data import Dataset
from pipeline.environment import machine, version
from pipeline.errors import UserError
from pipeline.identity import Run, code_digest
from pipeline.training.continuing import Starts
from pipeline.training.stack import Result, train_stack


def passport() -> dict[str, str]:
    """What a worker must have as this process has it, for the same bits."""
    return {
        "numerics code": code_digest()[:16],
        "Seedbed": str(version("seedbed")),
        "NumPy": np.__version__,
        "Python": platform.python_version(),
    }


def check_passport(wanted: Mapping[str, str]) -> None:
    """In a worker. Raises UserError unless it has what is wanted."""
    mine = passport()
    others = [f"{name} {mine[name]} instead of {want}" for name, want in wanted.items() if mine[name] != want]
    if others:
        raise UserError(
            f"The worker on {platform.node()} has {' and '.join(others)}: install there what is installed here."
        )


def received(dataset: Dataset) -> Dataset:
    """In a worker: the rows it was sent, for the stacks that it trains."""
    return dataset


def aligned(dataset: Dataset) -> Dataset:
    """The same rows where NumPy computes with them fast: Dask leaves them at odd addresses, which cost a third more."""
    arrays = {name: value for name, value in vars(dataset).items() if isinstance(value, np.ndarray)}
    put_right: dict[str, Any] = {name: np.require(array, requirements="A") for name, array in arrays.items()}
    return dataclasses.replace(dataset, **put_right)


def train_there(
    wanted: Mapping[str, str], runs: Sequence[Run], dataset: Dataset, starts: Starts
) -> tuple[list[Result], dict[str, Any]]:
    """In a worker: trains a stack, whose runs come without their rows. Returns what it was trained on, too.

    Raises UserError in a worker with other code or versions.
    """
    import threadpoolctl

    check_passport(wanted)
    with threadpoolctl.threadpool_limits(1):  # with more `fast` has other bits in a stack than alone
        rows = aligned(dataset)
        stack = [dataclasses.replace(run, dataset=rows) for run in runs]
        return train_stack(stack, starts=starts), machine()
