"""A table as it was trained on, as a file that all runs on it share: runs can be made again when the user's is gone.

It lies beside the runs' folders, in `datasets/`, under its digest. Inline rows are in each run's config.yaml instead.
"""

from typing import Any

import numpy as np

from pipeline.config import DataConfig
from pipeline.data import Dataset, build_dataset
from pipeline.errors import UserError
from pipeline.results.record import npz, read_npz

FOLDER = "datasets"


def file_name(digest: str) -> str:
    """The name of a data set's file."""
    return f"{digest}.npz"


def packed(dataset: Dataset) -> bytes:
    """A data set as an npz file: values, unscaled, and names; the same for the same data."""
    names = {"features": dataset.features, "targets": dataset.targets, "rows": dataset.rows, "groups": dataset.groups}
    texts = {key: np.array(value, dtype=np.str_) for key, value in names.items() if value}
    return npz({"X": dataset.raw_X, "y": dataset.raw_y, **texts})


def unpacked(content: bytes, config: DataConfig) -> Dataset:
    """The data set of such a file, for the config of a run on it. Raises UserError if it is not what was trained on."""
    what = f"{FOLDER}/{file_name(config.digest or '')}, which the run was trained on,"
    arrays = read_npz(content, what)
    try:
        names: dict[str, Any] = {key: arrays[key].tolist() for key in ("features", "targets", "rows")}
        names["groups"] = arrays["groups"].tolist() if "groups" in arrays else ()
        dataset = build_dataset(config, arrays["X"], arrays["y"], **names, is_classes=config.task == "classes")
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise UserError(f"{what} lacks arrays: it is not what was written.") from error
    if dataset.digest != config.digest:
        raise UserError(f"{what} is not what was written: its digest is {dataset.digest}.")
    return dataset
