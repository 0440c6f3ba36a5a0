"""The package's modules, and what they import."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pipeline"


def module_of(file: str | Path) -> str:
    """`store.rows` of store/rows.py, `cli` of cli/__init__.py; empty for the package itself."""
    return ".".join(part for part in Path(file).with_suffix("").parts if part != "__init__")


def sources() -> dict[str, ast.Module]:
    """Every module of the package, by its name in it; not what makes a folder a package and is empty otherwise."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if file.name != "__init__.py" or len(tree.body) > 1:
            found[module_of(file.relative_to(PACKAGE))] = tree
    return found


SOURCES = sources()


def imported(node: ast.AST, in_function: bool = False) -> Iterator[tuple[str, bool]]:
    """What a module imports, by full name, and whether a function does so. Not what is for types alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from ((name.name, in_function) for name in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from ((f"{child.module}.{name.name}", in_function) for name in child.names)
        else:
            yield from imported(child, in_function or isinstance(child, ast.FunctionDef))


def own(name: str) -> str | None:
    """The module of the package that an imported name is or comes from; None for those of others."""
    first, _, rest = name.partition(".")
    if first != "pipeline":
        return None
    return next((one for one in (rest, rest.rpartition(".")[0]) if one in SOURCES), "")


@functools.cache
def module_imports(of_functions: bool) -> dict[str, set[str]]:
    """What the modules import of the package: when they are loaded, or when their functions are called."""
    found = {}
    for module, tree in SOURCES.items():
        names = [own(name) for name, in_function in imported(tree) if in_function == of_functions]
        found[module] = {name for name in names if name is not None}
    return found


def reached(module: str) -> set[str]:
    """The modules of the package that a module imports, also in functions; what they import; and so on."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        some = waiting.pop()
        fresh = (module_imports(False)[some] | module_imports(True)[some]) - found
        found |= fresh
        waiting.extend(fresh)
    return found
