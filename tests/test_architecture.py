"""docs/ARCHITECTURE.md is the code: its files, its rooms and their imports, and the functions on its walks."""

import ast
import graphlib
import os
import re
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from pipeline.composing.compose import register
from pipeline.identity import NUMERICS_CODE
from tests.conftest import in_process
from tests.modules import PACKAGE, ROOT, SOURCES, imported, module_imports, module_of, reached
from tests.stored import statuses
from tests.sweeps import in_folder, make_empty_store

PAGE = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
MOST_LINES = 400
STAYS = """
import time
from pipeline.store.track import Store
grow = Store.grow
def stay(*given):
    grow(*given)
    time.sleep(3600)
Store.grow = stay
"""  # a sweep that shows its first runs while they grow, and goes no further
Imports = Mapping[str, set[str]]


def sections(level: str, text: str) -> dict[str, str]:
    """The text below each heading of a level, by heading."""
    parts = re.split(rf"^{level} (.+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def files_in(text: str) -> list[str]:
    """The files that tables name, one a row."""
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


CHAPTERS = sections("##", PAGE)
ROOM_FILES = {room: files_in(text) for room, text in sections("###", CHAPTERS["Every file of pipeline/"]).items()}
ROOM_OF = {module_of(file): room for room, files in ROOM_FILES.items() for file in files if file.endswith(".py")}
TABLE = re.findall(r"^\| ([a-z]+) \|[^|]+\|([^|]*)\|([^|]*)\|$", CHAPTERS["Rooms"], re.MULTILINE)[1:]
ROOMS = [room for room, _, _ in TABLE]
FIRST_WALK, SECOND_WALK = (text for chapter, text in CHAPTERS.items() if chapter.startswith("A "))


def room_imports(of_functions: bool) -> dict[str, set[str]]:
    """The same, of rooms: which others each imports."""
    found: dict[str, set[str]] = defaultdict(set)
    for module, others in module_imports(of_functions).items():
        found[ROOM_OF[module]] |= {ROOM_OF[other] for other in others} - {ROOM_OF[module]}
    return found


def words(cell: str) -> list[str]:
    """The names in a cell of a table."""
    return [word.strip() for word in cell.split(",") if word.strip()]


def test_every_file_of_the_package_is_named_once_and_no_other() -> None:
    named = Counter(file for files in ROOM_FILES.values() for file in files)
    templates = {str(file.relative_to(PACKAGE)) for file in PACKAGE.rglob("*.j2")}
    assert set(named.values()) == {1}
    assert {module_of(file) for file in named if file.endswith(".py")} == set(SOURCES)
    assert {file for file in named if not file.endswith(".py")} == templates


@pytest.mark.parametrize("folder", ["conf", "benchmarks", "deploy"])
def test_every_file_of_other_folders_is_named_once_and_no_other(folder: str) -> None:
    files = [file for file in (ROOT / folder).rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert sorted(files_in(CHAPTERS[f"{folder}/"])) == sorted(str(file.relative_to(ROOT / folder)) for file in files)


@pytest.mark.parametrize("folder", ["pipeline", "tests", "benchmarks"])
def test_no_file_is_long(folder: str) -> None:
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in (ROOT / folder).rglob("*.py")}
    assert {str(file): length for file, length in lengths.items() if length > MOST_LINES} == {}


def test_the_table_of_rooms_is_their_imports() -> None:
    assert list(ROOM_FILES) == ROOMS
    at_once, later = room_imports(of_functions=False), room_imports(of_functions=True)
    for room, loaded, called in TABLE:
        assert words(loaded) == [other for other in ROOMS if other in at_once[room]], room
        assert words(called) == [other for other in ROOMS if other in later[room] - at_once[room]], room


def test_imports_go_one_way() -> None:
    place = {room: i for i, room in enumerate(ROOMS)}
    for of_functions in (False, True):
        found = room_imports(of_functions)
        assert not {(room, other) for room in found for other in found[room] if place[other] > place[room]}


@pytest.mark.parametrize("of_functions", [False, True], ids=["when loaded", "when called, too"])
def test_no_module_imports_itself_through_others(of_functions: bool) -> None:
    graph = module_imports(of_functions=False)
    if of_functions:
        graph = {module: graph[module] | others for module, others in module_imports(of_functions=True).items()}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(SOURCES)


def test_a_circle_is_found() -> None:
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())


def rooms_with(*libraries: str) -> set[str]:
    """The rooms that import one of these, anywhere."""
    return {
        ROOM_OF[module]
        for module, tree in SOURCES.items()
        for name, _ in imported(tree)
        if name.partition(".")[0] in libraries
    }


def test_libraries_are_imported_where_the_page_says() -> None:
    hydra, mlflow = re.findall(
        r"Hydra and OmegaConf are imported by (.+), MLflow by (.+)\. `numerics`", CHAPTERS["Rooms"]
    )[0]
    assert rooms_with("hydra", "omegaconf") == set(re.findall(r"`(\w+)`", hydra))
    assert rooms_with("mlflow") == set(re.findall(r"`(\w+)`", mlflow))
    outside = {
        (module, library)
        for module, tree in SOURCES.items()
        if ROOM_OF[module] == "numerics"
        for name, _ in imported(tree)
        if (library := name.partition(".")[0]) not in {*sys.stdlib_module_names, "numpy", "pipeline"}
    }
    assert outside == {("numerics.compiled", "numba"), ("numerics.compiled", "llvmlite")}


def test_what_trains_in_a_worker_does_not_reach_mlflow_or_hydra() -> None:
    for module in ("training.worker", "training.executor", "training.processes", "results.record"):
        assert not {ROOM_OF[one] for one in reached(module)} & rooms_with("hydra", "omegaconf", "mlflow")


def test_the_code_digest_covers_all_modules_that_decide_a_result() -> None:
    roots = {"numerics.train", "numerics.network", "initial", "data", "sample"}
    deciding = roots | set().union(*map(reached, roots))
    # Compiled code has the bits of these modules, or a test fails: it decides nothing.
    known = {one for one in deciding if ROOM_OF[one] in ("ground", "config")} | {"numerics.compiled", "identity"}
    assert {one.rpartition(".")[2] for one in deciding - known} == set(NUMERICS_CODE)


def test_scikit_learn_is_imported_by_the_estimators_only() -> None:
    users = {module for module, tree in SOURCES.items() for name, _ in imported(tree) if name.startswith("sklearn")}
    assert users == {"python.estimator"}


# --- the walks --------------------------------------------------------------------------------------------------


def named_functions(text: str) -> list[str]:
    """`plan.execute` and the like, in their order."""
    return re.findall(r"`([\w.]+)\(\)`", text)


def has(node: Any, path: list[str]) -> bool:
    """Whether there is such a class or function in a module."""
    if not path:
        return True
    kinds = (ast.FunctionDef, ast.ClassDef)
    return any(isinstance(one, kinds) and one.name == path[0] and has(one, path[1:]) for one in node.body)


@pytest.mark.parametrize("function", sorted({*named_functions(FIRST_WALK), *named_functions(SECOND_WALK)}))
def test_the_functions_on_the_walks_exist(function: str) -> None:
    parts = function.split(".")
    (module,) = (i for i in range(1, len(parts)) if ".".join(parts[:i]) in SOURCES and has_rest(parts, i))
    assert has(SOURCES[".".join(parts[:module])], parts[module:])


def has_rest(parts: list[str], i: int) -> bool:
    """Whether the rest of a dotted name is in the module that its first parts name."""
    return has(SOURCES[".".join(parts[:i])], parts[i:])


def called(command: Callable[[], int]) -> list[str]:
    """The package's functions that a command calls in this process and thread, in the order of their first call."""
    found: dict[str, None] = {}
    names: dict[str, str] = {}

    def watch(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(f"{PACKAGE}{os.sep}"):
            file = code.co_filename
            if file not in names:
                names[file] = module_of(Path(file).relative_to(PACKAGE))
            found[f"{names[file]}.{code.co_qualname}"] = None

    sys.setprofile(watch)
    try:
        assert command() == 0
    finally:
        sys.setprofile(None)
    return list(found)


def check_order(functions: list[str], found: list[str]) -> None:
    """Fails unless the functions of a walk were called, and for the first time in the walk's order."""
    assert [one for one in functions if one not in found] == []
    assert functions == sorted(functions, key=found.index)


@pytest.mark.slow
def test_the_first_walk_is_the_way_of_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEDBED_REPORT", "true")
    monkeypatch.setattr(sys, "argv", ["pytest"])
    (line,) = re.findall(r"^`seedbed ([^`]+)`, with", FIRST_WALK, re.MULTILINE)
    register.cache_clear()  # else it was another test that called it
    check_order(named_functions(FIRST_WALK), called(lambda: in_process(line.split(), tmp_path)))


@pytest.mark.slow
@pytest.mark.usefixtures("own_outbox")
def test_the_second_walk_is_the_way_of_a_sweep_after_a_kill(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while runs grow in the store, beside shorter ones that have ended."""
    monkeypatch.setattr(sys, "argv", ["pytest"])
    left, again = SECOND_WALK.split("*The same command again*")
    assert {"store.track.Store.grow", "process.this_process"} <= set(named_functions(left))
    command = in_folder(tmp_path, "executor=serial", "network.hidden=[2],[4,4]", "training.epochs=40,20000")
    command = replace(command, settings=command.settings + STAYS)
    make_empty_store(command, tmp_path_factory)
    shorter = [word if "epochs" not in word else "training.epochs=40" for word in command.words]
    assert in_process([*shorter, "network.hidden=[2]"], tmp_path) == 0
    with command.started() as process:
        while "RUNNING" not in statuses(command.database):
            assert process.poll() is None, command.said()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    check_order(named_functions(again), called(lambda: in_process(command.words, tmp_path)))
    kept = Counter(statuses(command.database))
    assert (kept["RUNNING"], kept["parent RUNNING"], kept["parent KILLED"]) == (0, 0, 1)
    assert kept["KILLED"] > 0
