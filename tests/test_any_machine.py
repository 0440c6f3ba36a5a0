"""The same bits on every machine: trainings on other machines (machines.py) have the digests in digests.json.

Fast tests train here and in one process with everything switched off; slow ones on all machines there are.
"""

import functools
import re
from dataclasses import replace
from typing import Any

import pytest

from pipeline.identity import code_digest
from tests.digests import INITS, Digests, answer, dispatched
from tests.machines import (
    LACKS_FMA,
    LONG,
    NO_FMA,
    ROOT,
    SHORT,
    WAYS,
    Groups,
    Machine,
    ask,
    fast,
    feature_sets,
    in_a_process,
    interpreters,
    kept,
    kernels,
    machine,
    named_interpreters,
    portable,
    published,
    published_names,
    request,
    why_not,
)

PROBE = "import platform, numpy; print(f'Python {platform.python_version()} with NumPy {numpy.__version__}')"
LEGACY_NORMALS = "normal legacy"
NO_PYTHON = "there is no other Python on PATH, from pyenv, asdf or uv, or in SEEDBED_PYTHONS"
PYTHONS: list[Any] = list(dict.fromkeys(interpreters()))


def on_all_machines() -> list[Any]:
    """Sets of CPU features and ways to train, as test parameters; those that are none here are skipped, and say why."""
    found = []
    for name in feature_sets():
        ways = WAYS if name == "everything" else list(WAYS)[:2]  # workers cost seconds
        skips = [pytest.mark.skip(reason=why_not(name))] if why_not(name) else []
        found += [pytest.param(name, way, marks=[pytest.mark.slow, *skips], id=f"{name} off, {way}") for way in ways]
    return found


def assert_kept(found: Digests, groups: Groups) -> None:
    """The digests of these groups, of draws and of the sigmoid are those in the repo."""
    wanted = {name: digests for name, digests in kept().items() if name in found}
    assert {name: found[name] for name in wanted} == wanted
    assert wanted.keys() >= groups.keys() | {"sigmoid", *(f"{kind} draws" for kind in INITS)}


@functools.cache
def here() -> dict[str, Any]:
    """What this process answers."""
    return answer(request(portable() | fast()))


@functools.cache
def with_everything_off() -> dict[str, Any]:
    """What a process in which no CPU feature can be chosen answers; two workers train there."""
    return ask(machine("everything", "2 workers"), portable() | fast())


def test_the_published_experiments_are_trained() -> None:
    assert set(published_names()) >= {"happiness", "exam_notebook", "exam_long", "first_column", "cat_shop"}
    assert {len(runs) for runs in published(SHORT).values()} == {1, 100}
    assert len(published(SHORT)) == len(published(LONG)) == len(published_names())


def test_kept_digests_come_out_here() -> None:
    assert_kept(here()["digests"], portable())


def test_kept_digests_come_out_with_everything_off() -> None:
    found = with_everything_off()
    assert found["features"] == []
    assert_kept(found["digests"], portable())


def test_uniforms_and_new_normals_are_the_same_without_fma() -> None:
    found, wanted = with_everything_off()["many draws"], here()["many draws"]
    assert {kind: found[kind] for kind in INITS if kind != LEGACY_NORMALS} == {
        kind: wanted[kind] for kind in INITS if kind != LEGACY_NORMALS
    }


@pytest.mark.skipif(bool(LACKS_FMA), reason=LACKS_FMA)
def test_legacy_normals_are_those_of_the_c_librarys_logarithm() -> None:
    """No promise, but a limit of one: if this fails, docs/REPRODUCIBILITY.md can promise more."""
    assert with_everything_off()["many draws"][LEGACY_NORMALS] != here()["many draws"][LEGACY_NORMALS]


@pytest.mark.skipif(bool(why_not("AVX-512")), reason=why_not("AVX-512"))
def test_fast_has_other_bits_there() -> None:
    """Else these machines might be one, and the tests compare a thing with itself."""
    assert with_everything_off()["digests"]["fast"]["weights"] != here()["digests"]["fast"]["weights"]


@pytest.mark.parametrize(("name", "way"), on_all_machines())
def test_kept_digests_come_out_on_every_machine(name: str, way: str) -> None:
    groups = portable(LONG)
    found = ask(machine(name, way), groups)
    off = feature_sets()[name]
    assert found["features"] == [feature for feature in dispatched() if feature not in off]
    assert_kept(found["digests"], groups)


@pytest.mark.slow
def test_the_published_experiments_to_their_ends() -> None:
    groups = published(None, but=LONG)
    assert "cat_shop, 60,000 updates" in groups
    assert_kept(ask(machine("everything", "2 workers"), groups)["digests"], groups)


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS or [pytest.param("", marks=pytest.mark.skip(reason=NO_PYTHON))])
def test_kept_digests_come_out_of_another_python(python: str) -> None:
    """SEEDBED_PYTHONS names more of them; one that is named must work."""
    other = Machine(python=python)
    probe = in_a_process(other, "-c", PROBE)
    if probe.returncode and python not in named_interpreters():
        pytest.skip(f"{python}: {probe.stderr.strip().splitlines()[-1]}")
    if probe.stdout == in_a_process(Machine(), "-c", PROBE).stdout:
        pytest.skip(f"{python} is {probe.stdout.strip()}, which the other tests have")
    groups = portable(LONG)
    found = ask(other, groups)
    assert_kept(found["digests"], groups)
    assert found["code"] == code_digest()  # else its runs had other fingerprints
    off = {"NPY_DISABLE_CPU_FEATURES": " ".join(found["features"])} if found["features"] else {}
    found = ask(replace(other, variables=off | NO_FMA), portable())
    assert found["features"] == []
    assert_kept(found["digests"], portable())


@pytest.mark.parametrize("kernel", [None, *(pytest.param(name, marks=pytest.mark.slow) for name in kernels())])
def test_blas_adds_up_alike_for_any_number_of_runs(kernel: str | None) -> None:
    """By observation, not by a promise of BLAS: hence this test, with each of its kernels that this CPU can run.

    With one thread, that is: several share large products out by width, which moves sums from one loop to another.
    """
    variables = {"OPENBLAS_NUM_THREADS": "1"} | ({"OPENBLAS_CORETYPE": kernel} if kernel else {})
    assert ask(Machine(variables=variables), {}, widths=True)["by width"] == []


def test_the_page_of_promises_names_tests_that_are_there() -> None:
    page = (ROOT / "docs" / "REPRODUCIBILITY.md").read_text(encoding="utf-8")
    promises = re.search(r"\| promise .*?\n\n", page, re.DOTALL)
    assert promises is not None
    for row in promises.group().splitlines()[2:-1]:
        files = re.findall(r"tests/\w+\.py", row)
        assert files, row
        assert all((ROOT / file).is_file() for file in files), row
