"""Processes of the benchmark: one core for each contender, no threads, and an environment that favours nobody."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.worker import CORE
from pipeline.servers.ports import HOST

ROOT = Path(__file__).resolve().parents[1]
THREADS = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM")
XLA = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "HYDRA_FULL_ERROR")


class CrashError(Exception):
    """A contender's process ended or did not answer; the text is its last words."""


def environment(one_core: bool = False) -> dict[str, str]:
    """The environment of every process that is timed; one_core adds what libraries need to keep to one thread."""
    variables = {name: value for name, value in os.environ.items() if name not in UNSET}
    variables["PYTHONPATH"] = str(ROOT)
    variables["GIT_PYTHON_REFRESH"] = "quiet"
    variables["SEEDBED_REPORT"] = "false"  # which the others do not draw
    if one_core:
        variables |= {f"{name}_NUM_THREADS": "1" for name in THREADS} | {"XLA_FLAGS": XLA, "JAX_PLATFORMS": "cpu"}
        variables[CORE] = str(max(cores()))
    return variables


def cores() -> set[int]:
    """The cores this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def any_port() -> int:
    """A free port, not the first one: that may be what others who start a server at this moment are given, too."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Worker:
    """A contender's process, `python -m module name`. `ask` sends a request and waits for the answer."""

    def __init__(self, name: str, module: str = "benchmarks.worker") -> None:
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        words = [sys.executable, "-m", module, name]
        self.process = subprocess.Popen(
            words, env=environment(one_core=True), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said
        )

    def ask(self, request: Mapping[str, Any], timeout: float = 600) -> dict[str, Any]:
        """The answer to one request; CrashError if there is none."""
        assert self.process.stdin  # noqa: S101 - a pipe, see __init__
        assert self.process.stdout  # noqa: S101
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            ready, _, _ = select.select([self.process.stdout], [], [], timeout)
            line = self.process.stdout.readline() if ready else b""
        except OSError:
            line = b""
        if not line:
            raise CrashError(self.last_words() or "no answer")
        return dict(json.loads(line))

    def last_words(self) -> str:
        """The last line that the process wrote to standard error."""
        self.close()
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()


def run(words: list[str], folder: Path, timeout: float = 900, **variables: str) -> str:
    """Standard output of a command that must succeed. Its children end with it, also when it is interrupted."""
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=environment() | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, said = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise CrashError(f"took more than {timeout:.0f} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        lines = (said or printed).strip().splitlines()
        raise CrashError(lines[-1] if lines else f"exit code {process.returncode}")
    return printed
