"""Holds Ctrl-C and its like back while something must be done whole."""

import contextlib
import signal
import threading
from collections.abc import Iterator

KINDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

caught: list[int] = []


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Holds Ctrl-C, SIGTERM and SIGHUP back until the block has ended, then raises KeyboardInterrupt.

    Raised inside of a write it would leave a database locked, or be swallowed there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {kind: signal.signal(kind, lambda number, frame: caught.append(number)) for kind in KINDS}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler or signal.SIG_DFL)
        was_caught = bool(caught)
        caught.clear()
    if was_caught:
        raise KeyboardInterrupt


def let_through() -> None:
    """Raises KeyboardInterrupt if a signal is held back: called where work on a long write can end without harm.

    Only in the main thread: the signal is not for others.
    """
    if caught and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt
