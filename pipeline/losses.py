"""Losses and metrics by name: each a raw sum over all entries of the error, divided by what its convention says.

With error e = prediction - target, an array (n, k), every name here is `sum / divisor`:

    sse            sum of e^2                  half_sse      sum of e^2 / 2
    mse            sum of e^2 / (n k)
    sum_abs        sum of |e|                  half_sum_abs  sum of |e| / 2
    mean_abs       sum of |e| / (n k)

The tutorials disagree on the convention (and call half a sum a mean), which is why each name spells its own.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RAW_SUMS = {
    "sse": "squares",
    "half_sse": "squares",
    "mse": "squares",
    "sum_abs": "absolutes",
    "half_sum_abs": "absolutes",
    "mean_abs": "absolutes",
}
LOSSES = tuple(name for name, raw in RAW_SUMS.items() if raw == "squares")


def divisor(name: str, entries: int) -> float:
    """What the raw sum of `name` is divided by; `entries` is n k, the number of predicted values."""
    if name.startswith("half_"):
        return 2.0
    return float(entries) if name in ("mse", "mean_abs") else 1.0


def in_convention(name: str, raw: Array, entries: int) -> Array:
    """The curve `name` from the curve of its raw sums, (points,)."""
    return raw / divisor(name, entries)


def slope(name: str, entries: int) -> float:
    """C of d loss / d prediction = c e, for the losses made of squares: 2 / divisor."""
    return 2.0 / divisor(name, entries)
