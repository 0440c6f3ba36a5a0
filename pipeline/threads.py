"""One thread for NumPy's BLAS, wherever NumPy was imported.

More threads gain nothing on small products, and share large ones out by their width: then the bits of numerics=fast
would depend on how many runs train together. The command says so in its environment; a notebook has NumPy already.
"""

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """In the block, BLAS has one thread. Blocks of several threads may overlap: the last to end restores."""
    LIMIT.enter()
    try:
        yield
    finally:
        LIMIT.leave()


class Limit:
    """The limit on BLAS's threads, which are the process's: kept as long as anyone is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limiter: Any = None

    def enter(self) -> None:
        """The first sets it."""
        with self._lock:
            if not self._inside:
                release()
                self._limiter = controller().limit(limits=1, user_api="blas")
            self._inside += 1

    def leave(self) -> None:
        """The last takes it back."""
        with self._lock:
            self._inside -= 1
            if not self._inside:
                release()
                self._limiter.restore_original_limits()
                release()


LIMIT = Limit()


def release() -> None:
    """Lets this thread set the limit: threadpoolctl may ignore all threads but the first that did so."""
    for library in controller().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


@functools.cache
def controller() -> Any:
    """What sets the threads of the libraries that are loaded, NumPy's among them."""
    import threadpoolctl  # 10 ms

    return threadpoolctl.ThreadpoolController()
