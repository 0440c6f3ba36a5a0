"""The Makefile's targets, as from a fresh shell."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAKE = shutil.which("make") or "make"


def run_make(
    *words: str, folder: Path = ROOT, uri: str | None = None, path: str = os.environ["PATH"]
) -> subprocess.CompletedProcess[str]:
    """Runs make as from a fresh shell with MLFLOW_TRACKING_URI=uri; what a make around this test says stays outside."""
    variables = {"PATH": path} | ({"MLFLOW_TRACKING_URI": uri} if uri else {})
    return subprocess.run([MAKE, *words], cwd=folder, env=variables, capture_output=True, text=True, check=False)


def make(*words: str, folder: Path = ROOT, uri: str | None = None) -> str:
    """What make prints, when all goes well."""
    done = run_make(*words, folder=folder, uri=uri)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
