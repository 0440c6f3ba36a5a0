"""Ports of servers on this machine, which only it can reach."""

import contextlib
import socket
import subprocess
from collections.abc import Callable, Iterator

from pipeline.errors import UserError

HOST = "127.0.0.1"
TRIES = 10


class PortTakenError(UserError):
    """A server did not start, as another one has taken its port meanwhile."""


def free_port(port: int | None, first: int) -> int:
    """The port asked for, else the first free one from `first` on. Raises UserError if the one asked for is taken."""
    for candidate in range(first, first + 100) if port is None else [port]:
        if is_free(candidate):
            return candidate
    raise UserError(f"--port {port or first} is taken: choose another.")


def is_free(port: int) -> bool:
    """True if a server can have the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError, OverflowError):
            probe.bind((HOST, port))
            return True
    return False


@contextlib.contextmanager
def on_free_port(
    start: Callable[[int], contextlib.AbstractContextManager[subprocess.Popen[bytes]]],
    port: int | None,
    first: int,
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A server that `start` starts, and its port: the one asked for, else the first free one from `first` on.

    If none was asked for and another server takes it meanwhile, the next one. Raises what `start` raises.
    """
    with contextlib.ExitStack() as stack:
        for left in reversed(range(TRIES)):
            found = free_port(port, first)
            try:
                process = stack.enter_context(start(found))
                break
            except PortTakenError:
                if port is not None or not left:
                    raise
        yield found, process
