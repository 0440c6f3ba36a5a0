"""Numbers and keys as people read them, in the terminal and in the report."""

import math
from collections.abc import Sequence


def digits(value: float, infinite: str = "diverged") -> str:
    """A result in three digits: `0.0123`, `3.6e-05`, `1,230`; nothing for nan."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return infinite
    return f"{float(f'{value:.3g}'):,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def span(low: float, high: float) -> str:
    """An interval: `0.01 to 0.02`."""
    return "-" if math.isnan(low) or math.isnan(high) else f"{digits(low)} to {digits(high)}"


def p_text(p: float) -> str:
    """A p value; nothing for one that could not be computed."""
    if math.isnan(p):
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def level(value: object) -> str:
    """A level of a key: `0.5`, `1000`, `[4, 5]`; `missing` where runs have no such key."""
    if isinstance(value, float):
        return "missing" if math.isnan(value) else f"{value:.12g}"
    return "missing" if value is None else str(value)


def short_keys(keys: Sequence[str]) -> list[str]:
    """Keys without their section where that leaves them different: `hidden` for `network.hidden`."""
    last = [key.rpartition(".")[2] for key in keys]
    return [short if last.count(short) == 1 else key for short, key in zip(last, keys, strict=True)]
