"""Where a run was trained: versions, processor, git commit. Kept with every run as environment.json."""

import functools
import os
import platform
import subprocess
from typing import Any

import numpy as np

from pipeline.identity import code_digest
from pipeline.paths import PACKAGE

PACKAGES = ("seedbed", "numpy", "hydra-core", "omegaconf", "mlflow", "pandas")


def version(package: str) -> str | None:
    """The installed version of a distribution, or None."""
    import importlib.metadata  # 20 ms, which a run without a store need not spend

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def environment() -> dict[str, Any]:
    """Plain values that say what computed a run. Knows no user name, host name or path."""
    build: Any = np.show_config(mode="dicts")
    blas = build.get("Build Dependencies", {}).get("blas", {})
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "packages": {name: version(name) for name in PACKAGES},
        "cpu_features": build.get("SIMD Extensions", {}),
        "blas": {key: blas.get(key) for key in ("name", "version")},
        "numerics_code": code_digest(),
        "git": git_state(),
    }


@functools.cache
def git_state() -> dict[str, str]:
    """`commit` and `dirty` (true or false) of the checkout this package runs from; empty if it is no checkout."""
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return {}
    try:
        commit, status = (
            subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=True, timeout=20).stdout
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": commit.strip(), "dirty": "true" if status.strip() else "false"}
