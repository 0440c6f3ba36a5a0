"""Processes that tests start, wait for and look for, as /proc and `ps` have them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

TWO = ("executor=processes", "executor.workers=2")  # a command's words for two workers


def alive(pid: int) -> bool:
    """True for a process that runs (one that ended and waits for its parent to notice does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def session(leader: int) -> list[int]:
    """The living processes of a session."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3]) == leader and alive(pid):
                found.append(pid)
    return found


def workers_of(leader: int) -> list[int]:
    """The worker processes of a session, by their command line."""
    found = []
    for pid in session(leader):
        with contextlib.suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def parents() -> dict[int, int]:
    """The parent of every living process; a zombie does not live."""
    said = subprocess.run(["ps", "-eo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in said.splitlines()]
    return {int(pid): int(parent) for pid, parent, state in rows if not state.startswith("Z")}


def descendants(pid: int) -> set[int]:
    """The processes below one."""
    table = parents()
    found = {pid}
    while fresh := {child for child, parent in table.items() if parent in found} - found:
        found |= fresh
    return found - {pid}


def left_after(seconds: float, family: set[int]) -> set[int]:
    """Those of the processes that live on for so long."""
    deadline = time.monotonic() + seconds
    while (left := family & set(parents())) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def eventually(good: Callable[[], bool], seconds: float = 60.0) -> float:
    """Waits until something is so, and returns how long that took."""
    started = time.monotonic()
    while not good():
        assert time.monotonic() - started < seconds, "it never came so"
        time.sleep(0.02)
    return time.monotonic() - started


@contextlib.contextmanager
def started(
    *words: str,
    cwd: Path,
    out: int | IO[bytes] = subprocess.PIPE,
    err: int = subprocess.STDOUT,
    variables: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A Python module's command as a terminal starts it: Ctrl-C is not ignored.

    It leads a session of its own, of which nothing is left.
    """
    with subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-m", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(variables or {})},
        stdout=out,
        stderr=err,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            for pid in session(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def until_ctrl_c(command: Sequence[str], cwd: Path | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A command that serves, and what it has printed when it says that Ctrl-C ends it; SIGKILLed if it is left."""
    with subprocess.Popen(
        ["env", "--default-signal=INT", *command], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            told = ""
            while "Ctrl-C ends it" not in told:
                line = process.stdout.readline()
                assert line, told
                told += line
            yield process, told
        finally:
            process.kill()
