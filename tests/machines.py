"""Machines to train on: this one with CPU features, threads and its C library's FMA switched off, and other Pythons.

`python -m tests.machines > tests/digests.json` computes anew what all of them must give.
"""

import functools
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.composing.experiment import compose_run, swept, swept_values
from pipeline.identity import Run, make_run
from pipeline.verbs.published import tutorials
from tests.digests import CORE, Digests, answer, dispatched
from tests.factory import rows, run

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path(__file__).with_name("digests.json")
ABOUT = [
    "What portable numerics give on every machine: 16 hex digits of the SHA-256 of float64 bits.",
    "tests/test_any_machine.py compares. `python -m tests.machines > tests/digests.json` makes this file anew.",
    "If one changes, results that are stored no longer come out again: it must be meant, and be said in CHANGELOG.md.",
]

SHORT, LONG = 100, 1000  # updates of the published experiments; all of them where there is time
Groups = dict[str, list[Run]]

KERNELS = {"SkylakeX": "AVX512F", "Zen": "AVX2", "Haswell": "AVX2", "Prescott": "SSE3"}  # and what each must have
# What is switched off, by how the weakest feature is called with which it begins (NumPy 2.4 has other names than 2.2).
SETS: dict[str, tuple[str, ...]] = {
    "AVX-512": ("AVX512", "X86_V4"),
    "AVX2 and FMA": ("AVX2", "FMA3", "X86_V3"),
}
WAYS = {"1 thread": (1, 0), "2 threads": (2, 0), "1 worker": (1, 1), "2 workers": (2, 2)}  # BLAS threads, workers
# glibc's logarithm, which legacy normals take, uses FMA where it can: without, it is that of a CPU before 2013.
NO_FMA = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F"}
HAS_FMA = platform.libc_ver()[0] == "glibc" and CORE.__cpu_features__.get("FMA3")
LACKS_FMA = "" if HAS_FMA else "the C library is not glibc, or the CPU has no FMA to switch off in it"
CHOSEN = ("NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "GLIBC_TUNABLES")
MINORS = range(11, 20)
PLACES = tuple(
    f"{place}{{}}*/bin/python3"
    for place in (".pyenv/versions/", ".asdf/installs/python/", ".local/share/uv/python/cpython-")
)


@dataclass(frozen=True)
class Machine:
    """A Python, environment variables and numbers of threads and worker processes to train with."""

    python: str = sys.executable
    variables: dict[str, str] = field(default_factory=dict)
    workers: int = 0


# --- what is trained -----------------------------------------------------------------------------------------------


def published(most: int | None, but: int = 0) -> Groups:
    """The experiments whose figures are compared with what is printed, each cut to `most` updates.

    Those that `but` updates would not have cut are left out. An experiment that is a sweep over seeds has all of them.
    """
    found: Groups = {}
    for name in published_names():
        first = composed(name)
        epochs = first.config.training.epochs
        seeds = [int(seed) for seed in swept_values(name, "seed")] if swept(name) else [first.config.seed]
        training = replace(first.config.training, epochs=min(most or epochs, epochs))
        if epochs > but:
            of = f" of {len(seeds)} runs" if len(seeds) > 1 else ""
            found[f"{name}, {training.epochs:,} updates{of}"] = [
                make_run(replace(first.config, training=training, seed=seed)) for seed in seeds
            ]
    return found


@functools.cache
def composed(name: str) -> Run:
    """An experiment's run; of one that is a sweep over seeds, that of seed 0."""
    return compose_run([f"experiment={name}", *(["seed=0"] if swept(name) else [])])


def published_names() -> list[str]:
    """The experiments that experiments/published/ names."""
    contents = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in tutorials().values()]
    items = [item for content in contents for item in [*content["figures"], content.get("long_run", {})]]
    return list(dict.fromkeys(item["experiment"] for item in items if "experiment" in item))


def made_up(**changes: Any) -> list[Run]:
    """Short runs of several shapes, losses and generators; shapes are such that NumPy drops axes or adds in pairs."""
    shapes: list[dict[str, Any]] = [
        rows(3, 2, 1) | {"hidden": [3]},
        rows(4, 3, 1) | {"hidden": [4, 5]},
        rows(9, 1, 1) | {"hidden": []},
        rows(200, 1, 3) | {"hidden": [1], "scaling": "standard", "target_scaling": "standard"},
        rows(17, 4, 2) | {"hidden": [3, 2, 3], "scaling": "standard"},
    ]
    kinds: list[dict[str, Any]] = [
        {"bias": False, "derivative": "exact", "loss": "half_sse"},
        {"bias": True, "derivative": "exact", "loss": "mse"},
        {"bias": True, "derivative": "of_activation", "loss": "sse"},
    ]
    drawn: list[dict[str, Any]] = [{"seed": 1, "generator": "legacy"}, {"seed": 2, "learning_rate": 7.0}]
    common: dict[str, Any] = {"numerics": "portable", "epochs": 12, "metrics": ["mean_abs"]} | changes
    return [run(**(common | shape | kind | draw)) for shape, kind, draw in itertools.product(shapes, kinds, drawn)]


def portable(most: int | None = SHORT) -> Groups:
    """Runs that must have the kept digests, the experiments cut to `most` updates."""
    return published(most) | {"made-up normal": made_up(), "made-up uniform": made_up(scheme="uniform")}


def fast() -> Groups:
    """Runs whose digests depend on the machine."""
    return {"fast": made_up(scheme="uniform", numerics="fast")}


# --- where it is trained -------------------------------------------------------------------------------------------


def feature_sets() -> dict[str, list[str]]:
    """The CPU features of each set that are there to switch off, weakest first, for this Python's NumPy."""
    there = dispatched()
    places = {name: [i for i, feature in enumerate(there) if feature.startswith(begin)] for name, begin in SETS.items()}
    some = {name: there[found[0] :] if found else [] for name, found in places.items()}
    return {"nothing": [], "everything": there, "the newest": there[-1:]} | some


def why_not(name: str) -> str:
    """Why a set of features makes no machine of its own here; empty if it does."""
    sets = feature_sets()
    if name != "nothing" and not sets[name]:
        return f"this CPU, or this NumPy, has no {name} to switch off: {' '.join(dispatched()) or 'none'}"
    same = next(other for other, words in sets.items() if words == sets[name])
    return f"on this CPU {name} is the same as {same}" if same != name else ""


def machine(name: str, way: str) -> Machine:
    """The machine that this one is with a set of features off, and so many threads or workers."""
    words = feature_sets()[name]
    threads, workers = WAYS[way]
    variables = {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    if words:
        variables["NPY_DISABLE_CPU_FEATURES"] = " ".join(words)
    if name == "everything":
        variables |= NO_FMA
    return Machine(variables=variables, workers=workers)


def kernels() -> list[str]:
    """The BLAS kernels that this CPU can run."""
    return [name for name, needed in KERNELS.items() if CORE.__cpu_features__.get(needed)]


def named_interpreters() -> list[str]:
    """The Pythons that the environment variable SEEDBED_PYTHONS names, separated by colons: all must work."""
    return [path for path in os.environ.get("SEEDBED_PYTHONS", "").split(":") if path]


def interpreters() -> Iterator[str]:
    """Other Pythons: those that are named, on PATH, and where pyenv, asdf and uv put them."""
    yield from named_interpreters()
    for minor in MINORS:
        path = shutil.which(f"python3.{minor}")
        if path and "shims" not in Path(path).parts:  # of pyenv: found where they point to
            yield path
        for place in PLACES:
            yield from sorted(map(str, Path.home().glob(place.format(f"3.{minor}"))))


# --- asking --------------------------------------------------------------------------------------------------------


def request(groups: Groups, workers: int = 0, widths: bool = False) -> dict[str, Any]:
    """What tests.digests is asked."""
    configs = {name: [asdict(run.config) for run in runs] for name, runs in groups.items()}
    return {"groups": configs, "workers": workers, "widths": widths}


def ask(machine: Machine, groups: Groups, widths: bool = False) -> dict[str, Any]:
    """What a fresh process on this machine answers."""
    asked = json.dumps(request(groups, machine.workers, widths))
    done = in_a_process(machine, "-m", "tests.digests", text=asked)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def in_a_process(machine: Machine, *words: str, text: str = "") -> "subprocess.CompletedProcess[str]":
    """Runs Python on this machine, on this checkout."""
    plain = {key: value for key, value in os.environ.items() if key not in CHOSEN}
    ours = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [machine.python, *words],
        cwd=ROOT,
        env=plain | ours | machine.variables,
        input=text,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )


def kept() -> Digests:
    """The digests in the repo."""
    found: Digests = json.loads(KEPT.read_text(encoding="utf-8"))["digests"]
    return found


def content() -> str:
    """What tests/digests.json should hold, computed here."""
    groups = portable(SHORT) | portable(LONG) | published(None)
    python, processor = platform.python_version(), platform.machine()
    libc = " ".join(platform.libc_ver())
    where = f"{processor} ({' '.join(dispatched())}), NumPy {np.__version__}, Python {python}, {libc}"
    found = {"about": ABOUT, "computed on": where, "digests": answer(request(groups))["digests"]}
    return json.dumps(found, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(content())
