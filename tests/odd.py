"""A store of odd runs: that diverge, were never finite, have names full of markup, or nothing hidden."""

from pathlib import Path

import pytest

from pipeline.results.kept import KeptRun
from pipeline.store.reader import Reader
from tests.conftest import in_process, shared

DIVERGING = (
    *("data.X=[[1,0.5],[0.5,1]]", "data.y=[2,2]", "data.features=null", "data.rows=null", "network.hidden=[2]"),
    *("training.derivative=of_activation", "training.learning_rate=1e307", "training.epochs=3000"),
)
EXPERIMENTS = {
    "diverging": DIVERGING,  # on its way
    "lost": ("data.X=[[1]]", "data.y=[1e200]", "data.features=null", "data.rows=null", "training.epochs=3"),
    "fast": ("data=exam", "numerics=fast"),
    "odd": (
        f"data.X={[[i, 20 - i * i] for i in range(20)]}",
        f"data.y={[[i / 20, 0.5, 0.1, 0.2, 0.3] for i in range(20)]}",
        *("data.rows=null", """data.features=['<b>&"$x$','$2^{1}$']""", "data.targets=['</svg>',b,c,d,e]"),
        *("data.scaling=standard", "network.hidden=[30]", "network.bias=true", "training.epochs=20"),
    ),
    "flat": (
        *("data.X=[[1,2],[1,3]]", "data.y=[0,1]", "data.features=null", "data.rows=null", "network.hidden=[]"),
        "training.epochs=0",
    ),
}


@pytest.fixture(scope="session")
def odd_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with mlflow.db: one run in each of EXPERIMENTS, made once."""

    def make(folder: Path) -> None:
        for experiment, words in EXPERIMENTS.items():
            assert in_process(["train", *words, f"tracking.experiment={experiment}", "--quiet"], folder) == 0

    return shared(tmp_path_factory, "odd_runs", make)


def kept_run(folder: Path, experiment: str) -> KeptRun:
    """The best run of an experiment in the store of that folder."""
    return Reader(f"sqlite:///{folder}/mlflow.db").best(experiment)
