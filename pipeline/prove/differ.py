"""What two kept runs differ in: config, data, code, environment, results."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.prove.again import FILES, differing
from pipeline.prove.reasons import environment_of
from pipeline.results.kept import KeptRun
from pipeline.results.record import read_npz

APART = ("tracking", "executor")  # sections of a config that decide no result
ASIDE = ("files", "command")  # of an environment: one follows from the results, the other from the config


@dataclass(frozen=True)
class Line:
    """Something that two runs differ in: which part, what, and what each has."""

    part: str
    what: str
    one: str
    other: str


def differences(one: KeptRun, other: KeptRun) -> list[Line]:
    """All that differs; data and code by their digests."""
    found = list(dict_lines("config", flat(plain_config(one)), flat(plain_config(other))))
    if one.dataset.digest != other.dataset.digest:
        found.append(Line("data", "digest", one.dataset.digest, other.dataset.digest))
    kept = [told_apart(environment_of(run)) for run in (one, other)]
    codes = [environment.pop("numerics_files", {}) for environment in kept]
    found += dict_lines("code", codes[0], codes[1])
    found += dict_lines("environment", flat(kept[0]), flat(kept[1]))
    return found + list(result_lines(one, other))


def plain_config(run: KeptRun) -> dict[str, Any]:
    """The sections of a config that decide the result; the data's rows by the data set's digest only."""
    config = {key: value for key, value in run.config.items() if key not in APART}
    return config | {"data": {key: value for key, value in config["data"].items() if key not in ("X", "y")}}


def told_apart(environment: Mapping[str, Any]) -> dict[str, Any]:
    """An environment without what says nothing more than the rest of a comparison."""
    return {key: value for key, value in environment.items() if key not in ASIDE}


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested values under dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = value
    return found


def dict_lines(part: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Line]:
    """A line for every key whose values differ."""
    for key in dict.fromkeys([*one, *other]):
        if one.get(key) != other.get(key):
            yield Line(part, key, told(one, key), told(other, key))


def told(values: Mapping[str, Any], key: str) -> str:
    """A value as text; nothing where it is missing."""
    return str(values[key]) if key in values else ""


def result_lines(one: KeptRun, other: KeptRun) -> Iterator[Line]:
    """Final losses, and where each array first differs."""
    arrays = [{name: read_npz(run.read(name), f"{name} of run {run.run_id}") for name in FILES} for run in (one, other)]
    ends = [float(found["loss.npz"]["loss"][-1]) if found["loss.npz"]["loss"].size else np.nan for found in arrays]
    if ends[0] != ends[1]:
        yield Line("result", "final loss", repr(ends[0]), repr(ends[1]))
    for name in FILES:
        for difference in differing(name, arrays[0][name], arrays[1][name]):
            what = f"{name}: {difference.array}, first at {difference.place}"
            yield Line("result", what, difference.kept, difference.now)


def parts_alike(lines: Sequence[Line]) -> list[str]:
    """The parts in which nothing differs."""
    return [
        part for part in ("config", "data", "code", "environment", "result") if part not in {one.part for one in lines}
    ]
