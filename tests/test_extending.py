"""docs/EXTENDING.md is done as it is written: its files and changes in a copy of the checkout, then its commands."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import in_process
from tests.documents import PAGES, ROOT, Block, blocks, commands

CHAPTERS = re.split(r"^## (.+)\n", PAGES["docs/EXTENDING.md"], flags=re.MULTILINE)[1:]
RECIPES = {title: text for title, text in zip(CHAPTERS[::2], CHAPTERS[1::2], strict=True) if blocks(text)}
COPIED = ("pipeline", "conf", "experiments", "tests", "pyproject.toml")
UNSTABLE = shutil.ignore_patterns("__pycache__")  # files there come and go while other tests run
MOST_LINES = 20
OLD = ("train", "data=cat_shop", "training.epochs=50", "tracking.experiment=before")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what the page changes."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=UNSTABLE)
        else:
            shutil.copy2(source, folder)
    return folder


def written(block: Block) -> list[str]:
    """The lines of a block that one has to write."""
    lines = block.body.splitlines()
    new = [line[1:] for line in lines if line.startswith("+")] if block.language == "diff" else lines
    return [line for line in new if line.strip()]


def apply(block: Block, folder: Path) -> None:
    """Makes a block's file, or its change: what each part of it shows must be there, once."""
    file = folder / block.file
    if block.language != "diff":
        file.write_text(block.body, encoding="utf-8")
        return
    text = file.read_text(encoding="utf-8")
    for part in re.split(r"^@@.*\n", block.body, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        before, after = ("".join(line[1:] for line in lines if line[0] in signs) for signs in (" -", " +"))
        assert text.count(before) == 1, f"{block.file} has not, or more than once:\n{before}"
        text = text.replace(before, after)
    file.write_text(text, encoding="utf-8")


def extended(recipe: str, folder: Path) -> Path:
    """The copy, with a recipe's files and changes."""
    for block in blocks(RECIPES[recipe]):
        if block.file:
            apply(block, folder)
    return folder


def run(command: str, folder: Path) -> str:
    """Runs a command of the page in the copy; returns what it printed."""
    words = shlex.split(command)
    variables = {"PATH": os.environ["PATH"], "SEEDBED_REPORT": "false", "SEEDBED_OUTBOX": str(folder / "outbox")}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    start = {"seedbed": [sys.executable, "-m", "pipeline"], "python": [sys.executable]}[words[0]]
    done = subprocess.run(
        [*start, *words[1:]], cwd=folder, env=variables, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_recipe_is_here() -> None:
    assert list(RECIPES) == [
        "A data set",
        "A data set that is a table",
        "An experiment",
        "An executor",
        "An activation",
        "A loss",
        "A metric",
    ]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_takes_less_than_twenty_lines(recipe: str) -> None:
    assert 0 < sum(len(written(block)) for block in blocks(RECIPES[recipe]) if block.file) < MOST_LINES


@pytest.mark.parametrize("recipe", ["An activation", "A loss", "A metric"])
def test_the_table_counts_the_places_that_change(recipe: str) -> None:
    counts = {1: "one place", 3: "three places"}
    changes = [block for block in blocks(RECIPES[recipe]) if block.language == "diff"]
    told = "; ".join(f"{block.file}, {counts[block.body.count('@@ ')]}" for block in changes)
    assert f"| {recipe.lower()} | {told} |" in PAGES["docs/EXTENDING.md"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe != "A data set"])
def test_a_recipe_works_as_it_is_written(recipe: str, copy: Path) -> None:
    """Its commands run; an activation's and a loss's are the check of the gradient, too."""
    extended(recipe, copy)
    for command in commands(RECIPES[recipe]):
        said = run(command, copy)
        assert "passed" in said if "pytest" in command else said


def test_a_data_set_of_a_folder_of_ones_own_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest"])
    (block,) = (block for block in blocks(RECIPES["A data set"]) if block.file)
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "majority.yaml").write_text(block.body, encoding="utf-8")
    (command,) = (one for one in commands(RECIPES["A data set"]) if "--config-dir" in one)
    assert in_process([*shlex.split(command)[1:], "tracking=none"], tmp_path) == 0


@pytest.mark.slow
def test_a_data_set_in_the_checkout_works_and_is_listed(copy: Path) -> None:
    extended("A data set", copy)
    command = next(one for one in commands(RECIPES["A data set"]) if "--config-dir" not in one)
    assert "half_sse" in run(command, copy)
    assert "majority" in run("seedbed list", copy)


@pytest.mark.slow
def test_what_the_page_says_of_changed_numerics_is_so(copy: Path) -> None:
    """Runs made before an activation was added are not found after it, and are the same to the bit."""
    (copy / "mlflow.db").unlink(missing_ok=True)
    train = shlex.join(["seedbed", *OLD])
    assert "Nothing to train" in run(train, copy) + run(train, copy)
    extended("An activation", copy)
    said = run("seedbed reproduce experiment=before", copy)
    assert "IDENTICAL" in said
    assert "The numerics code has changed since (activations.py)." in said
    assert "Nothing to train" not in run(train, copy)
    assert run("seedbed reproduce experiment=before --all", copy).count("IDENTICAL") >= 2
