"""The README is true: its code runs, its commands exist."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import click
import pytest

from pipeline.cli import cli
from pipeline.composing.experiment import experiment_files
from pipeline.config import RunConfig

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_twenty_lines_print_what_they_say() -> None:
    (code,) = (block for block in BLOCKS if "np.random.seed(1)" in block)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    (said,) = re.findall(r"print\(.*# (\[.*\])", code)
    assert done.stdout.strip() == said
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 20


def test_the_calls_from_python_print_what_they_say(tmp_path: Path) -> None:
    (code,) = (block for block in BLOCKS if "from pipeline import" in block)
    path = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600, cwd=tmp_path,
        env=os.environ | path,
    )  # fmt: skip
    said = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    printed = done.stdout.splitlines()
    assert len(said) == len(printed) == 4
    assert all(line.startswith(start) for line, start in zip(printed, said, strict=True)), printed
    assert not list(tmp_path.iterdir())


def test_every_verb_and_target_named_exists_and_every_verb_is_named() -> None:
    context = click.Context(cli)
    verbs = set(cli.list_commands(context))
    assert set(re.findall(r"`?seedbed (\w+)", README)) == verbs
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make (\w+)", README, re.MULTILINE)) <= targets


def test_every_experiment_named_exists() -> None:
    named = set(re.findall(r"experiment=(\w+)", README)) | set(re.findall(r"`((?:exam|first|happiness)_\w+)`", README))
    assert named <= set(experiment_files())


@pytest.mark.parametrize("key", re.findall(r"`((?:training|init|network|data|tracking)\.\w+)[`=]", README))
def test_every_key_named_exists(key: str) -> None:
    section, name = key.split(".")
    assert name in get_type_hints(RunConfig)[section].__dataclass_fields__
