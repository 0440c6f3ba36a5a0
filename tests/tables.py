"""A small table: as a file, as a data set, in a run."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import DataConfig, RunConfig
from pipeline.data import Dataset
from pipeline.identity import Run, make_run
from pipeline.tables import load_dataset

SHOP = """\
hours,slept,city,member,who,score
2,9,Bonn,True,a,92
1,5,Ulm,False,b,86
3.5,6,Bonn,True,a,89
4,7,Aalen,False,c,95.25
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """SHOP as a file."""
    path = tmp_path / "shop.csv"
    path.write_text(SHOP, encoding="utf-8")
    return path


def table(path: Path, **keys: Any) -> Dataset:
    return load_dataset(DataConfig(**({"path": str(path), "target": ["score"]} | keys)))


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def run_on(path: Path, **keys: Any) -> Run:
    config = RunConfig(data=DataConfig(path=str(path), **({"target": ["score"]} | keys)))
    return make_run(config, dataset=load_dataset(config.data))
