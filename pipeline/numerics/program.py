"""A tensor program: NumPy calls on buffers that are made once, to be repeated every update.

Choosing views, shapes and outputs once leaves one C call an operation. Three facts about NumPy make the rest of the
speed (measured, docs/DECISIONS.md): buffers that start on a cache line, constants and outputs passed as arrays by
position, and a small ufunc buffer, as broadcast operands otherwise pass through NumPy's buffered iterator row by row.
"""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Program = list[partial[Any]]

CACHE_LINE = 64  # bytes; also what the widest vector registers hold
UFUNC_BUFFER = 16  # elements, the least that NumPy takes


def execute(program: Program) -> None:
    """Makes the calls of a program, one after another."""
    for call in program:
        call()


def buffer(*shape: int) -> Array:
    """An array of this shape, not initialised, that starts on a cache line."""
    size = int(np.prod(shape))
    spare = CACHE_LINE // 8
    memory = np.empty(size + spare)
    start = -memory.ctypes.data % CACHE_LINE // 8
    return memory[start : start + size].reshape(shape)


@contextlib.contextmanager
def numeric_state(ufunc_buffer: int = UFUNC_BUFFER) -> Iterator[None]:
    """NumPy's state while programs run: no warnings for numbers that overflow, and the ufunc buffer's size."""
    with np.errstate(all="ignore"):  # restores the buffer's size too
        np.setbufsize(ufunc_buffer)
        yield
