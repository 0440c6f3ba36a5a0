"""Why a run trained again may have other bits: what is another than it was when the run was kept."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.environment import code_reasons, environment, read_environment
from pipeline.errors import UserError
from pipeline.identity import Run, fingerprint_of
from pipeline.results.kept import KeptRun

ANYWHERE = "should make no difference to numerics=portable"


def reasons(kept: KeptRun, run: Run) -> Iterator[str]:
    """What may have made the difference, the most likely first; one sentence each."""
    then = environment_of(kept)
    if not then:
        yield "environment.json cannot be read, so what the run was trained with is not known."
        return
    if fingerprint_of(run.identity, then.get("numerics_code", "")) != kept.fingerprint:
        yield "config.yaml is not the config that the run's fingerprint names: it was changed."
    yield from code_reasons(then)
    yield from machine_reasons(then, environment(), run.numerics)


def environment_of(kept: KeptRun) -> dict[str, Any]:
    """What a run was trained with; empty if that cannot be read."""
    try:
        return read_environment(kept.read("environment.json"))
    except UserError:
        return {}


def machine_reasons(then: Mapping[str, Any], now: Mapping[str, Any], numerics: str) -> Iterator[str]:
    """What differs in libraries and processor."""
    pairs = [
        ("NumPy", then.get("packages", {}).get("numpy"), now["packages"]["numpy"]),
        ("BLAS", blas_of(then), blas_of(now)),
        ("The set of CPU features in use", features_of(then), features_of(now)),
        ("Python", then.get("python"), now["python"]),
        ("The machine", then.get("machine"), now["machine"]),
    ]
    for what, before, after in pairs:
        if before != after:
            matters = f", which {ANYWHERE}" if numerics == "portable" else ""
            yield f"{what} was {before} and is {after}{matters}."


def blas_of(environment: Mapping[str, Any]) -> str:
    """Name, version and kernel of the BLAS."""
    blas = environment.get("blas", {})
    return " ".join(str(blas[key]) for key in ("name", "version", "kernel") if blas.get(key))


def features_of(environment: Mapping[str, Any]) -> str:
    """The CPU features that NumPy uses."""
    features = environment.get("cpu_features", {})
    return " ".join(features.get("found", [])) or "none beyond the baseline"
