"""One thread for NumPy's BLAS, wherever NumPy was imported.

More threads gain nothing on small products, and share large ones out by their width: then the bits of numerics=fast
would depend on how many runs train together. The command says so in its environment; a notebook has NumPy already.
"""

import functools
from contextlib import AbstractContextManager
from typing import Any


def one_thread() -> AbstractContextManager[Any]:
    """In the block, BLAS has one thread."""
    limit: AbstractContextManager[Any] = controller().limit(limits=1, user_api="blas")
    return limit


@functools.cache
def controller() -> Any:
    """What sets the threads of the libraries that are loaded, NumPy's among them."""
    import threadpoolctl  # 10 ms

    return threadpoolctl.ThreadpoolController()
