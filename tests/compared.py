"""A store of one sweep, to compare its runs."""

from pathlib import Path

import pytest

from tests.conftest import seedbed, shared

SWEEP = ("data=cat_shop", "network.hidden=[2],[4],[8]", "seed=range(0,10)", "training.epochs=20,200")


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of one sweep, 6 cells of 10 seeds, to read; `said` is what the sweep printed."""

    def make(folder: Path) -> None:
        done = seedbed("sweep", *SWEEP, "training.learning_rate=3", "tracking.experiment=widths", cwd=folder)
        assert done.returncode == 0, done.stderr
        (folder / "said").write_text(done.stdout, encoding="utf-8")

    return shared(tmp_path_factory, "swept", make)


def uri(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"
