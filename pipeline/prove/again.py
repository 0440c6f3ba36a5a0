"""Trains kept runs again and compares every number with what was kept."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.environment import code_reasons
from pipeline.errors import UserError
from pipeline.identity import Run
from pipeline.numerics.train import Progress
from pipeline.prove.reasons import environment_of, reasons
from pipeline.results.kept import KeptRun
from pipeline.results.record import file_digest, prediction_arrays, prediction_columns, read_npz, weight_arrays
from pipeline.terminal import counted
from pipeline.training.stack import Result, make_stacks, train_stack

Arrays = Mapping[str, NDArray[Any]]
FILES = ("loss.npz", "weights.npz", "predictions.npz")


@dataclass(frozen=True)
class Difference:
    """Where an array of a file first differs from what training gives: `kept` and `now` are what is there, as text.

    `ulps` is how many float64 lie between them, None where one is no number; `count` of `size` numbers differ.
    """

    file: str
    array: str
    place: str
    kept: str
    now: str
    ulps: int | None
    count: int
    size: int

    def __str__(self) -> str:
        apart = "" if self.ulps is None else f", {counted(self.ulps, 'ulp')} apart"
        many = f" ({self.count:,} of {self.size:,} differ)" if self.size else ""
        where = f"{self.file}: {self.array} first differs at {self.place}"
        return f"{where}: kept {self.kept}, now {self.now}{apart}{many}"


@dataclass(frozen=True)
class Proof:
    """What came of training a run again: `digest`, 16 hex digits, is that of all its numbers now, if it was trained.

    `faults` are files that are not what was written; `differences` are in the order of FILES; `why` says what is
    another than it was when the run was kept; of an identical run, the numerics code only.
    """

    run_id: str
    name: str
    digest: str
    faults: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    why: tuple[str, ...] = ()

    @property
    def is_identical(self) -> bool:
        """True if every number is the same, to the bit, and every file is as it was written."""
        return not (self.faults or self.differences)


def prove(kept: Sequence[KeptRun], stacked: bool, progress: Progress) -> list[Proof]:
    """Trains runs again, each alone or all in stacks, and compares; `progress` is called with updates made.

    A run that cannot be rebuilt has a proof that says why.
    """
    runs: dict[str, Run] = {}
    proofs: dict[str, Proof] = {}
    for one in kept:
        try:
            runs[one.run_id] = one.run()
        except UserError as error:
            proofs[one.run_id] = Proof(one.run_id, one.run_id, "", faults=(str(error),))
    of = {id(run): run_id for run_id, run in runs.items()}
    stacks = make_stacks(runs.values()) if stacked else [[run] for run in runs.values()]
    by_id = {one.run_id: one for one in kept}
    for stack in stacks:
        for run, result in zip(stack, train_stack(stack, progress), strict=True):
            run_id = of[id(run)]
            proofs[run_id] = compare(by_id[run_id], run, result)
    return [proofs[one.run_id] for one in kept]


def compare(kept: KeptRun, run: Run, result: Result) -> Proof:
    """What a run's files hold beside what training gave now."""
    now = arrays_of(run, result)
    written = digests_of(kept)
    faults: list[str] = []
    differences: list[Difference] = []
    for name in FILES:
        try:
            content = kept.read(name)
            if name in written and file_digest(content) != written[name]:
                faults.append(
                    f"{name} is not what was written: its digest is {file_digest(content)}, and was {written[name]}."
                )
            differences += differing(name, read_npz(content, f"{name} of run {kept.run_id}"), now[name])
        except UserError as error:
            faults.append(str(error))
    why = reasons(kept, run) if faults or differences else code_reasons(environment_of(kept))
    return Proof(kept.run_id, run.name, digest_of(now), tuple(faults), tuple(differences), tuple(why))


def arrays_of(run: Run, result: Result) -> dict[str, Arrays]:
    """The arrays of a run's files, by file."""
    curves = {**result.curves, "updates": np.arange(len(result.curves["loss"])) * result.every}
    columns = prediction_arrays(prediction_columns(run, result))
    return {"loss.npz": curves, "weights.npz": weight_arrays(result), "predictions.npz": columns}


def differing(file: str, kept: Arrays, now: Arrays) -> list[Difference]:
    """The arrays that differ, each with its first place."""
    found = []
    for name in dict.fromkeys([*now, *kept]):
        if name not in kept or name not in now or kept[name].shape != now[name].shape:
            before, after = (str(arrays[name].shape) if name in arrays else "missing" for arrays in (kept, now))
            found.append(Difference(file, name, "its shape", before, after, None, 0, 0))
        elif kept[name].dtype != now[name].dtype or kept[name].tobytes() != now[name].tobytes():
            found.append(first_difference(file, name, kept[name], now[name]))
    return found


def first_difference(file: str, name: str, kept: NDArray[Any], now: NDArray[Any]) -> Difference:
    """Where two arrays of one shape first differ."""
    if kept.dtype.kind != "f" or now.dtype != kept.dtype:
        if now.dtype != kept.dtype:
            return Difference(file, name, "its type", str(kept.dtype), str(now.dtype), None, 0, 0)
        unlike = np.flatnonzero((kept != now).ravel())
        at = int(unlike[0])
        before, after = str(kept.ravel()[at]), str(now.ravel()[at])
        return Difference(file, name, f"place {at}", before, after, None, len(unlike), kept.size)
    unequal = kept.view(np.int64) != now.view(np.int64)
    place = tuple(int(axis) for axis in np.argwhere(unequal)[0])
    values = float(kept[place]), float(now[place])
    where, count = told_place(file, name, place), int(unequal.sum())
    return Difference(file, name, where, repr(values[0]), repr(values[1]), ulps(*values), count, kept.size)


def told_place(file: str, name: str, place: tuple[int, ...]) -> str:
    """A place in an array, in words."""
    if file == "loss.npz":
        return f"update {place[0]}"
    if file == "predictions.npz":
        return f"row {place[0] + 1}"
    layer = name.removeprefix("initial_")[1:]
    return f"layer {layer}, element {list(place)}"


def ulps(one: float, other: float) -> int | None:
    """How many float64 lie from one number to another; None for NaN and infinity."""
    if not np.isfinite([one, other]).all():
        return None
    places = [int(np.float64(value).view(np.int64)) for value in (one, other)]
    ordered = [place if place >= 0 else -(place & 0x7FFFFFFFFFFFFFFF) for place in places]
    return abs(ordered[0] - ordered[1])


def digest_of(arrays: Mapping[str, Arrays]) -> str:
    """16 hex digits of all numbers of a run."""
    total = hashlib.sha256()
    for file in FILES:
        for name, array in arrays[file].items():
            total.update(f"{file}/{name}{array.dtype.str}{array.shape}".encode())
            total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]


def digests_of(kept: KeptRun) -> dict[str, str]:
    """The digests of a run's files when they were written; none for runs of older versions, or unreadable."""
    found: dict[str, str] = environment_of(kept).get("files", {})
    return found
