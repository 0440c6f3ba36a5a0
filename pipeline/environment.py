"""Where a run was trained: versions, processor, git commit. Kept with every run as environment.json."""

import functools
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pipeline.credentials import redacted
from pipeline.identity import code_digest, code_digests, is_secret
from pipeline.paths import PACKAGE

PACKAGES = ("seedbed", "numpy", "scipy", "hydra-core", "omegaconf", "mlflow", "pandas")
# Variables that may change what is computed, or how fast. No others are kept: they may hold secrets.
VARIABLES = (
    *("NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    *("OPENBLAS_CORETYPE", "MKL_NUM_THREADS", "MKL_CBWR", "PYTHONHASHSEED", "PYTHONOPTIMIZE"),
)
MULTIRUN = "--multirun"
TABLES = ("packages", "numerics_files", "git", "blas", "cpu_features", "variables")  # of an environment


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
    return {
        "command": command_line(),
        **machine(),
        "packages": {name: version(name) for name in PACKAGES},
        "lock": lock_digest(),
        "numerics_code": code_digest(),
        "numerics_files": code_digests(),
        "git": git_state(),
    }


@functools.cache
def machine() -> dict[str, Any]:
    """What of it may be another in a worker on another machine."""
    build: Any = np.show_config(mode="dicts")
    blas = build.get("Build Dependencies", {}).get("blas", {})
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "cpu_features": build.get("SIMD Extensions", {}),
        "blas": {key: blas.get(key) for key in ("name", "version")} | blas_in_use(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def read_environment(content: bytes) -> dict[str, Any]:
    """What an environment.json says; empty if somebody has made something else of it."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    if not (isinstance(found, dict) and isinstance(found.get("numerics_code", ""), str)):
        return {}
    return found if all(isinstance(found.get(name, {}), dict) for name in TABLES) else {}


def code_reasons(then: Mapping[str, Any]) -> Iterator[str]:
    """Whether the numerics code is another than in that environment, in which files, and how to get the old one."""
    now, before = code_digests(), then.get("numerics_files", {})
    if not then or then.get("numerics_code") == environment()["numerics_code"]:
        return
    changed = [f"{name}.py" for name in sorted({*now, *before}) if now.get(name) != before.get(name)]
    which = f" ({', '.join(changed)})" if before else ""
    git = then.get("git", {})
    commit = str(git.get("commit") or "")
    yield f"The numerics code has changed since{which}."
    if commit:
        dirty = " with changes that were not committed" if git.get("dirty") == "true" else ""
        yield f"The run was made at commit {commit[:12]}{dirty}: `git checkout {commit[:12]}` has that code."


def command_line() -> str:
    """The command that trains in this process, as Hydra was given it, without what may be a password.

    Empty for a call from Python: what a notebook was started with has paths of the machine.
    """
    if sys.argv[0] != "seedbed":
        return ""
    words = [word for word in sys.argv[1:] if not is_secret(word) and word != MULTIRUN]
    verb = "sweep" if MULTIRUN in sys.argv else "train"
    return redacted(shlex.join(["seedbed", verb, *words]))


def blas_in_use() -> dict[str, Any]:
    """The kernel that NumPy's BLAS has chosen for this processor, and its threads; empty where that is not known."""
    import threadpoolctl  # 10 ms

    for library in threadpoolctl.threadpool_info():
        if library.get("user_api") == "blas" and "numpy" in library.get("filepath", ""):
            return {"kernel": library.get("architecture"), "threads": library.get("num_threads")}
    return {}


def lock_digest() -> str | None:
    """16 hex digits of the checkout's requirements.lock; None where there is none."""
    lock = PACKAGE.parent / "requirements.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest()[:16] if lock.exists() else None


@functools.cache
def git_state() -> dict[str, str]:
    """`commit` and `dirty` (true or false) of the checkout this package runs from; empty if it is no checkout.

    A dirty one has the digest of its `diff` too, 16 hex digits; files that git does not know are not in it.
    """
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return {}
    try:
        commit, status, diff = (
            subprocess.run(["git", "-C", root, *words], capture_output=True, check=True, timeout=20).stdout
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain"), ("diff", "HEAD"))
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    if not status.strip():
        return {"commit": commit.decode().strip(), "dirty": "false"}
    return {"commit": commit.decode().strip(), "dirty": "true", "diff": hashlib.sha256(diff).hexdigest()[:16]}
