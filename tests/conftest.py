"""What tests share: the command line in this process and in a real one, and a small store with real runs."""

import functools
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.__main__ import exit_code

SWEEP = ("data=cat_shop", "network.hidden=[2],[4]", "seed=range(0,3)", "training.epochs=5,40", "training.metrics=[mse]")


@pytest.fixture(autouse=True)
def _no_store_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def seedbed(*words: str, cwd: Path, memory: int | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the real command in a process of its own, with at most `memory` bytes of address space."""
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_AS, (memory, memory)) if memory else None
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *words],
        cwd=cwd,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def in_process(words: Sequence[str], folder: Path) -> int:
    """Runs a command in this process, in `folder`; returns its exit code."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return exit_code(list(words))
    finally:
        os.chdir(before)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with mlflow.db: a sweep of 12 runs made by a real process, and the runs happiness and exam."""
    folder = tmp_path_factory.mktemp("store")
    done = seedbed("sweep", *SWEEP, "tracking.experiment=small", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert in_process(["train", "experiment=happiness"], folder) == 0
    assert in_process(["train", "experiment=exam", "training.epochs=200"], folder) == 0
    return folder
