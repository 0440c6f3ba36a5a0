"""What tests share: the command line in this process and in a real one, and a small store with real runs."""

import contextlib
import fcntl
import functools
import gc
import importlib.util
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pipeline.__main__ import exit_code
from pipeline.store.database import ENGINES
from tests.postgres import postgres  # noqa: F401  # a fixture: all tests find it here

SWEEP = ("data=cat_shop", "network.hidden=[2],[4]", "seed=range(0,3)", "training.epochs=5,40", "training.metrics=[mse]")


os.environ.pop("MLFLOW_TRACKING_URI", None)  # no test may write to a store of the user's
os.environ["SEEDBED_REPORT"] = "false"  # it takes seconds to draw: tests of it ask for it


NEEDS_DASK = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="needs the extra dask")
LONGEST = ("trouble", "dask", "bench", "kills", "hosts", "claims", "scaling", "deploy", "server")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes begin first: else one process ends long after the other."""
    place = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def pytest_collection_finish() -> None:
    """What the tests have imported stays: nobody need look through it for garbage again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _own_outbox(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test may leave anything in the user's outbox, or send what waits there."""
    os.environ["SEEDBED_OUTBOX"] = str(tmp_path_factory.getbasetemp() / "outbox")


@pytest.fixture
def own_outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty outbox for one test."""
    monkeypatch.setenv("SEEDBED_OUTBOX", str(tmp_path / "outbox"))


@pytest.fixture(autouse=True)
def _no_store_is_left_in_the_environment() -> Iterator[None]:
    """`mlflow.set_tracking_uri`, which the benchmark's peers call, puts its address there for every later test."""
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user can reach, as pytest's own cannot: where root tests, PostgreSQL is another user's."""
    with tempfile.TemporaryDirectory(prefix="seedbed test ") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


def seedbed(*words: str, cwd: Path, memory: int | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the real command in a process of its own, with at most `memory` bytes of address space."""
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_AS, (memory, memory)) if memory else None
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *words],
        cwd=cwd,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def in_process(words: Sequence[str], folder: Path) -> int:
    """Runs a command in this process, in `folder`; returns its exit code."""
    before = Path.cwd()
    os.chdir(folder)
    for engine in list(ENGINES):  # MLflow keeps stores by address: sqlite:///mlflow.db may be open in another folder
        if not Path(engine.url.database or "/").is_absolute():
            engine.dispose()
    try:
        return exit_code(list(words))
    finally:
        os.chdir(before)


def shared(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` fills once for all worker processes of this test session."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            make(folder)
    return folder


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with mlflow.db, to read: a sweep of 12 runs made by a real process, and the runs happiness and exam."""

    def make(folder: Path) -> None:
        done = seedbed("sweep", *SWEEP, "tracking.experiment=small", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert in_process(["train", "experiment=happiness"], folder) == 0
        assert in_process(["train", "experiment=exam", "training.epochs=200"], folder) == 0

    return shared(tmp_path_factory, "store", make)


def copy_store(store: Path, folder: Path) -> Path:
    """Copies a store's file into a folder. Others may be using it: a plain copy could be torn."""
    copy = folder / "mlflow.db"
    with (
        contextlib.closing(sqlite3.connect(store / "mlflow.db")) as source,
        contextlib.closing(sqlite3.connect(copy)) as to,
    ):
        source.backup(to)
    return copy


def copy_all(store: Path, folder: Path) -> None:
    """Copies a store with its files into a folder, which is made if it is not there."""
    shutil.copytree(store, folder, ignore=shutil.ignore_patterns("mlflow.db*"), dirs_exist_ok=True)
    copy_store(store, folder)


@pytest.fixture
def empty_store(store: Path, tmp_path: Path) -> Path:
    """A folder with a store that has no runs: its file is copied, as MLflow takes seconds to make one."""
    from mlflow import MlflowClient  # seconds, which most tests need not spend

    client = MlflowClient(f"sqlite:///{copy_store(store, tmp_path)}")
    for experiment in client.search_experiments():
        if experiment.name != "Default":
            client.rename_experiment(experiment.experiment_id, f"not in use: {experiment.name}")
    return tmp_path
