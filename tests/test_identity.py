"""What a run is: its fingerprint, its cell, its names; and the one direction in which the package imports."""

import ast
import functools
import graphlib
import sys
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.executor_config import ExecutorConfig
from pipeline.identity import NUMERICS_CODE, bare_source, code_digest, digest, is_secret, make_run
from pipeline.paths import PACKAGE
from tests.factory import config, run

# --- fingerprint and cell ---------------------------------------------------------------------------------------

GIVEN: dict[str, Any] = {"hidden": [], "scheme": "given", "weights": [[[1], [2], [3]]]}
PARTED: dict[str, Any] = {"validation": 0.25, "test": 0.25}
STRATIFIED: dict[str, Any] = {"test": 0.5, "stratify": True}
DRAWN: dict[str, Any] = {
    **{"draw": 9, "noise": 0.5, "draw_seed": 1, "training_rows": 4, "test": 0.25},
    **{"label_noise": 0.5, "outliers": 0.5},
}
UNIFORM: dict[str, Any] = {"scheme": "uniform"}
DIVIDED: dict[str, Any] = {"scaling": "divide", "divide_by": 2, "target_scaling": "divide", "target_divide_by": [2]}

# What decides a result: (other keywords, the change, the identity key that changes).
MOMENTUM = {"optimizer": "momentum"}
STEPS = {"schedule": "step"}
CHANGES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"X": [[1, 0, 1], [0, 1, 1], [0, 0, 1], [1, 1, 2]]}, "data.digest"),
    ({}, {"y": [[1], [1], [0], [0.5]]}, "data.digest"),
    ({}, {"features": ["a", "b", "c"]}, "data.digest"),
    ({}, {"targets": ["bought"]}, "data.digest"),
    ({}, {"rows": ["p", "q", "r", "s"]}, "data.digest"),
    ({}, {"name": "another"}, "data.name"),
    ({}, {"drop": ["x0"]}, "data.drop"),
    ({}, {"validation": 0.25}, "data.validation"),
    ({}, {"test": 0.25}, "data.test"),
    ({"test": 0.5}, {"stratify": True}, "data.stratify"),
    ({}, {"draw": 9}, "data.draw"),
    ({}, {"noise": 0.5}, "data.noise"),
    ({"draw": 9}, {"draw_seed": 1}, "data.draw_seed"),
    ({"draw": 9, "noise": 0.5}, {"training_rows": 5}, "data.training_rows"),
    ({"test": 0.5}, {"label_noise": 0.5}, "data.label_noise"),
    ({"test": 0.5}, {"outliers": 0.5}, "data.outliers"),
    ({}, {"scaling": "max"}, "data.scaling"),
    ({}, {"target_scaling": "max"}, "data.target_scaling"),
    (DIVIDED, {"divide_by": 3}, "data.divide_by"),
    (DIVIDED, {"target_divide_by": [3]}, "data.target_divide_by"),
    ({}, {"hidden": [5]}, "network.hidden"),
    ({}, {"hidden": [4, 4]}, "network.hidden"),
    ({}, {"hidden": []}, "network.hidden"),
    ({}, {"bias": True}, "network.bias"),
    ({}, {"scheme": "uniform"}, "init.scheme"),
    ({}, {"scale": 2.0}, "init.scale"),
    (UNIFORM, {"low": -2.0}, "init.low"),
    (UNIFORM, {"high": 2.0}, "init.high"),
    ({}, {"generator": "legacy"}, "init.generator"),
    ({}, {"skip_networks": 1}, "init.skip_networks"),
    (GIVEN, {"weights": [[[1], [2], [3.5]]]}, "init.weights"),
    ({}, {"learning_rate": 0.25}, "training.learning_rate"),
    ({}, {"epochs": 999}, "training.epochs"),
    ({}, {"loss": "sse"}, "training.loss"),
    ({}, {"metrics": ["mse"]}, "training.metrics"),
    ({"metrics": ["mse", "sse"]}, {"metrics": ["sse", "mse"]}, "training.metrics"),
    ({}, {"derivative": "of_activation"}, "training.derivative"),
    ({}, {"activation": "tanh"}, "network.activation"),
    ({"hidden": [4, 4]}, {"activation": ["tanh", "relu"]}, "network.activation"),
    ({}, {"output_activation": "tanh"}, "network.output_activation"),
    ({}, {"scheme": "he"}, "init.scheme"),
    ({}, {"scheme": "constant"}, "init.scheme"),
    ({}, {"batch_size": 2}, "training.batch_size"),
    ({}, {"optimizer": "adam"}, "training.optimizer"),
    ({}, {"l2": 0.1}, "training.l2"),
    ({}, {"patience": 3}, "training.patience"),
    ({}, {"schedule": "cosine"}, "training.schedule"),
    (MOMENTUM, {"momentum": 0.5}, "training.momentum"),
    (STEPS, {"decay": 0.25}, "training.decay"),
    (STEPS, {"decay_every": 7}, "training.decay_every"),
    ({}, {"seed": 1}, "seed"),
    ({}, {"numerics": "fast"}, "numerics"),
]


@pytest.mark.parametrize(("base", "change", "key"), CHANGES, ids=str)
def test_what_decides_a_result_changes_the_fingerprint(base: dict[str, Any], change: dict[str, Any], key: str) -> None:
    one, other = run(**base), run(**(base | change))
    assert one.fingerprint != other.fingerprint
    assert one.identity.get(key) != other.identity.get(key)


@pytest.mark.parametrize(("base", "change", "key"), CHANGES, ids=str)
def test_the_cell_changes_with_everything_but_the_seed(base: dict[str, Any], change: dict[str, Any], key: str) -> None:
    one, other = run(**base), run(**(base | change))
    assert (one.cell_digest == other.cell_digest) == (key == "seed")
    assert (one.cell == other.cell) == (key == "seed")


def test_the_changes_above_cover_every_key_of_the_identity() -> None:
    keys = {
        key
        for base in ({}, GIVEN, UNIFORM, DIVIDED, PARTED, STRATIFIED, MOMENTUM, STEPS, DRAWN)
        for key in run(**base).identity
    }
    assert keys == {key for _, _, key in CHANGES}


@pytest.mark.parametrize(
    ("base", "change"),
    [
        ({}, {"uri": "sqlite:///other.db"}),
        ({}, {"experiment": "another"}),
        ({}, {"artifacts": "elsewhere"}),
        ({}, {"curve_points": 7}),
        ({}, {"executor": ExecutorConfig("serial")}),
        ({}, {"numerics": "portable"}),  # what auto becomes
        ({}, {"X": [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]}),  # the same numbers
        ({}, {"y": [1, 1, 0, 0]}),
        ({}, {"rows": ["1 0 1", "0 1 1", "0 0 1", "1 1 1"]}),  # the names that rows have without names
        ({}, {"low": -7.0, "high": 7.0}),
        ({}, {"draw": None, "noise": 0.0, "training_rows": None, "label_noise": 0.0, "outliers": 0.0}),
        ({}, {"draw_seed": 7}),  # where nothing is drawn
        ({"scheme": "constant"}, {"generator": "legacy", "skip_networks": 3, "low": -7.0}),
        ({}, {"momentum": 0.5, "decay": 0.25, "decay_every": 7}),
        ({"hidden": [4, 4]}, {"activation": ["sigmoid", "sigmoid"]}),
        (UNIFORM, {"scale": 7.0}),
        (GIVEN, {"scale": 7.0, "low": -7.0, "high": 7.0, "generator": "legacy", "skip_networks": 3}),
        (GIVEN, {"weights": [[[1.0], [2.0], [3.0]]]}),
    ],
    ids=str,
)
def test_what_decides_no_result_does_not_change_the_fingerprint(base: dict[str, Any], change: dict[str, Any]) -> None:
    one, other = run(**base), run(**(base | change))
    assert one.fingerprint == other.fingerprint
    assert one.cell == other.cell


def test_the_words_typed_do_not_change_the_fingerprint() -> None:
    assert make_run(config(), ["seed=0", "training.epochs=1000"]).fingerprint == run().fingerprint


def test_the_fingerprint_is_that_of_identity_and_code() -> None:
    one = run()
    assert one.fingerprint == digest({"config": one.identity, "code": code_digest()})
    assert one.fingerprint != digest({"config": one.identity, "code": "another"})
    assert len(one.fingerprint) == 32


def test_the_digest_of_a_value_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1})
    assert digest({"a": 1, "b": [2, 3]}) != digest({"a": 1, "b": [3, 2]})
    assert digest([]) == "4f53cda18c2baa0c0354bb5f9a3ecbe5"  # sha256 of "[]", 32 digits


# --- code -------------------------------------------------------------------------------------------------------

SAMPLE = '''"""A module."""
# a comment
from x import (a,
               b)

class C:
    """A class."""

    size: int = 3   # units


def f(x: int) -> str:
    """A function.

    With a long story.
    """
    def inner() -> None:
        "Only a docstring."
    text = """not a docstring"""
    return text + 'a' + "b"
'''
BARE = """from x import a, b

class C:
    size: int = 3

def f(x: int) -> str:

    def inner() -> None:
        pass
    text = 'not a docstring'
    return text + 'a' + 'b'"""


def test_bare_source_leaves_out_comments_docstrings_and_layout() -> None:
    assert bare_source(SAMPLE) == BARE
    assert bare_source(BARE) == BARE


@pytest.mark.parametrize(
    ("was", "becomes"), [("3", "4"), ("not a", "no"), ("b)", "c)"), ("int) -> str", "int) -> int")]
)
def test_bare_source_keeps_what_counts(was: str, becomes: str) -> None:
    assert bare_source(SAMPLE.replace(was, becomes)) != BARE


def source(module: str) -> str:
    """The source of a module of the package, by its dotted name below it."""
    return (PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", NUMERICS_CODE)
def test_comments_and_docstrings_of_the_numerics_do_not_count(module: str) -> None:
    text = source(module)
    assert text.startswith('"""')
    changed = '"""Another docstring.' + text.removeprefix('"""') + "\n# a comment\n"
    assert bare_source(changed) == bare_source(text)
    assert bare_source(text + "\nx = 1\n") != bare_source(text)


def test_the_code_digest_is_that_of_the_bare_sources() -> None:
    assert code_digest() == digest({module: bare_source(source(module)) for module in NUMERICS_CODE})


@pytest.mark.parametrize("module", NUMERICS_CODE)
def test_python_3_11_to_3_13_write_the_numerics_alike(module: str) -> None:
    """From 3.12 on, `ast.unparse` quotes strings inside the braces of an f-string differently: there must be none."""
    for text in ast.walk(ast.parse(source(module))):
        if isinstance(text, ast.FormattedValue):
            inside = [node for node in ast.walk(text.value) if isinstance(node, ast.Constant)]
            assert not any(isinstance(node.value, str) for node in inside), ast.unparse(text)


# --- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"hidden": [4, 5], "seed": 7}, "4-5 lr0.5 s7"),
        ({"hidden": [], "learning_rate": 3.0}, "none lr3 s0"),
        ({"hidden": [10] * 9}, "10-10-10-1… lr0.5 s0"),
        ({"hidden": [4], "seed": 4294967295, "learning_rate": 1.23457e-05}, "lr1.23457e-05 s42949"),
    ],
    ids=str,
)
def test_a_run_has_a_name_of_at_most_20_characters(changes: dict[str, Any], name: str) -> None:
    assert run(**changes).name == name
    assert len(name) <= 20


def test_the_name_of_a_cell_says_architecture_rate_and_epochs() -> None:
    one = run(hidden=[4, 5], learning_rate=0.1, epochs=500)
    assert one.cell == f"4-5 lr0.1 e500 {one.cell_digest[:6]}"


@pytest.mark.parametrize(
    ("changes", "sizes", "parameters"),
    [
        ({"hidden": [4, 5]}, (3, 4, 5, 1), 12 + 20 + 5),
        ({"hidden": [4, 5], "bias": True}, (3, 4, 5, 1), 12 + 20 + 5 + 4 + 5 + 1),
        ({"hidden": []}, (3, 1), 3),
        ({"hidden": [2], "bias": True, "X": [[1]], "y": [[1, 2]]}, (1, 2, 2), 2 + 2 + 4 + 2),
    ],
    ids=str,
)
def test_sizes_and_number_of_parameters(changes: dict[str, Any], sizes: tuple[int, ...], parameters: int) -> None:
    one = run(**changes)
    assert one.sizes == sizes
    assert one.parameters == parameters


def test_the_command_repeats_the_words_but_no_address_of_a_store() -> None:
    words = ["experiment=exam", "network.hidden=[4, 5]", "tracking.uri=postgresql://me:secret@host/db"]
    one = make_run(config(), words)
    assert one.command == "seedbed train experiment=exam 'network.hidden=[4, 5]'"


@pytest.mark.parametrize("word", ["tracking.uri=pg://me:pw@host", "+tracking.uri=pg://me:pw@host", "tracking={uri:x}"])
def test_an_address_with_a_password_is_a_secret(word: str) -> None:
    assert is_secret(word)


@pytest.mark.parametrize("word", ["tracking.uri=sqlite:///x.db", "tracking.experiment=a@b", "tracking=none"])
def test_other_words_on_tracking_are_no_secret(word: str) -> None:
    assert not is_secret(word)


def test_a_run_whose_data_cannot_be_scaled_is_refused() -> None:
    with pytest.raises(UserError, match=r"^data\.scaling is max, but it must be none, divide or standard"):
        run(X=[[0, 1, 1]] * 4, scaling="max")


# --- imports ----------------------------------------------------------------------------------------------------

NUMERICS = {
    "activations", "continuing", "course", "data", "elementary", "initial", "layout", "losses", "network", "optimizer",
    "pace", "points", "program", "sample", "sigmoid", "stack", "train",
}  # fmt: skip
COMPILERS = {"numba", "llvmlite"}  # an extra: imported when it is asked for
WITH_MLFLOW = {"api", "database", "model.folder", "model.saved", "moved", "prune", "received", "route"}
SHIM = "_plugins.hydra_plugins.seedbed_stacked"
WITH_HYDRA = {"app", "compose", "composer", "experiment", "launcher", "sentences", "words", SHIM}


@functools.cache
def modules() -> frozenset[str]:
    """Every module of the package, by its dotted name below it."""
    return frozenset(".".join(file.relative_to(PACKAGE).with_suffix("").parts) for file in PACKAGE.rglob("*.py"))


@functools.cache
def imports(module: str) -> frozenset[str]:
    """What a module imports anywhere, also inside functions: `numpy`, `pipeline.train`, ..."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source(module))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            name = node.module or ""
            names |= {f"pipeline.{alias.name}" for alias in node.names} if name == "pipeline" else {name}
    return frozenset(names)


def inner(module: str) -> frozenset[str]:
    """The modules of the package that a module imports."""
    return modules() & {name.removeprefix("pipeline.") for name in imports(module) if name.startswith("pipeline.")}


def outer(module: str) -> set[str]:
    """The packages from outside that a module imports, without the standard library."""
    return {name.partition(".")[0] for name in imports(module)} - {"pipeline"} - set(sys.stdlib_module_names)


def reached(module: str) -> set[str]:
    """The modules of the package that a module imports, they import, and so on."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        fresh = inner(waiting.pop()) - found
        found |= fresh
        waiting.extend(fresh)
    return found


def test_the_walk_sees_the_modules() -> None:
    assert set(modules()) >= NUMERICS | WITH_MLFLOW | WITH_HYDRA
    assert {"network", "sigmoid"} <= reached("stack")
    assert outer("network") == {"numpy"}


def test_imports_point_one_way() -> None:
    """No module is imported, over others or directly, by one that it imports itself."""
    graph = {module: inner(module) for module in modules()}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert set(order) == set(modules())


@pytest.mark.parametrize("module", sorted(NUMERICS))
def test_numerics_import_numpy_and_the_standard_library_only(module: str) -> None:
    for name in {module} | reached(module):
        assert outer(name) <= {"numpy"} | (COMPILERS if name == "compiled" else set()), name


@pytest.mark.parametrize("module", sorted(NUMERICS))
def test_numerics_import_nothing_that_trains_compares_or_tracks(module: str) -> None:
    assert reached(module) <= NUMERICS | {
        "checks",
        "compiled",
        "config",
        "credentials",
        "errors",
        "executor_config",
        "identity",
        "paths",
    }


@pytest.mark.parametrize("module", sorted(modules()))
def test_mlflow_and_hydra_are_imported_at_the_edge_only(module: str) -> None:
    assert "mlflow" not in outer(module) or module in WITH_MLFLOW
    assert not {"hydra", "omegaconf"} & outer(module) or module in WITH_HYDRA


@pytest.mark.parametrize("module", sorted(modules()))
def test_scikit_learn_is_imported_by_the_estimators_only(module: str) -> None:
    assert "sklearn" not in outer(module) or module == "estimator"


def test_what_trains_in_a_worker_does_not_reach_mlflow_or_hydra() -> None:
    assert not reached("stack") & (WITH_MLFLOW | WITH_HYDRA)
    assert not reached("record") & (WITH_MLFLOW | WITH_HYDRA)


def test_the_code_digest_covers_all_modules_that_decide_a_result() -> None:
    roots = {"train", "network", "initial", "data", "sample"}
    deciding = roots | set().union(*map(reached, roots))
    # Compiled code has the bits of these modules, or a test fails: it decides nothing.
    assert set(NUMERICS_CODE) == deciding - {
        "checks",
        "compiled",
        "config",
        "credentials",
        "errors",
        "executor_config",
        "paths",
        "identity",
    }
