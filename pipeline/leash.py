"""Runs a command that ends when the process that asked for it does, however that one ends (SIGKILL included).

The asking process holds the write end of this process's standard input. When that closes, the command is sent a signal,
and SIGKILL if it is still there 10 s later. Run as a file of its own, so that nothing else needs to be imported.
"""

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

PATIENCE = 10.0  # seconds


def on_leash(
    words: Sequence[str],
    end: signal.Signals,
    log: IO[Any] | int,
    *,
    user: str = "",
    variables: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a command on a leash, as `user` (this one if empty), with further environment variables, in `folder`.

    `end` is the signal that the command takes as a wish to end; what it prints goes to `log`.
    """
    return subprocess.Popen(
        [sys.executable, "-I", __file__, str(int(end)), user, *words],
        env={**os.environ, **(variables or {})},
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        cwd=folder,
        start_new_session=True,  # Ctrl-C at a terminal is for the asking process
    )


def let_go(process: subprocess.Popen[bytes]) -> None:
    """Ends a command on a leash and waits until it has ended."""
    if process.stdin is not None:
        process.stdin.close()
    process.wait()


def main(end: int, user: str, words: Sequence[str]) -> int:
    """Runs the command until it ends or standard input does; returns its exit code."""
    for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(kind, lambda number, frame: None)  # not SIG_IGN, which the command would inherit
    command = subprocess.Popen(words, stdin=subprocess.DEVNULL, process_group=0, **identity(user))
    threading.Thread(target=end_after_input, args=(command, end), daemon=True).start()
    code = command.wait()
    return code if code >= 0 else 128 - code  # as shells tell a signal


def identity(user: str) -> dict[str, Any]:
    """What makes `subprocess` run a command as this user, with no group but its own; nothing if `user` is empty."""
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}


def end_after_input(command: subprocess.Popen[bytes], end: int) -> None:
    """Waits for the end of standard input, then ends the command and what it started."""
    while os.read(0, 1):  # not sys.stdin, whose lock a thread holds to the end: the interpreter would abort
        pass
    for kind in (end, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, kind)
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.wait(PATIENCE)
            return


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
