"""Every command and snippet of README.md, docs/*.md and deploy/README.md is run, or in a list with the reason.

A training is planned (`--dry-run`): its words are composed, checked and counted, as the training itself would do first.
A command that would run for long has its options and names read; it has tests of its own.
"""

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from benchmarks.__main__ import main as bench
from pipeline.cli import cli
from pipeline.composing.experiment import experiment_files
from pipeline.findings.declared import findings
from pipeline.verbs.published import tutorials
from tests.conftest import NEEDS_DASK, copy_all, in_process
from tests.documents import PAGES, ROOT, blocks, commands, inline_commands
from tests.makefile import make

COMMANDS = {page: tuple(dict.fromkeys([*commands(text), *inline_commands(text)])) for page, text in PAGES.items()}
TRAINING = ("train", "sweep", "plan")
PARSED: dict[str, Callable[[], Collection[str]]] = {  # what runs for long, or until Ctrl-C, and the names that it takes
    "findings": findings,
    "published": tutorials,
    "recover": tutorials,
    "ui": tuple,
    "server": tuple,
}

# How commands begin that no test here runs, by page and reason; a test that has them with other words is named.
NOT_RUN: dict[str, dict[str, tuple[str, ...]]] = {
    "README.md": {
        "a cluster of several machines; test_dask.py and test_hosts.py start both": (".venv/bin/dask ",),
        "the shell's own": (". .venv/bin/activate",),
        "until Ctrl-C; test_models.py serves a model and asks it for James": (
            "mlflow models serve",
            "curl http://127",
        ),
        "needs the extra optuna; test_launchers.py has other sweepers": ("seedbed sweep hydra/sweeper=optuna",),
        "would install": ("pip install dask-jobqueue",),
    },
    "docs/SERVER.md": {
        "until Ctrl-C": ("setsid seedbed server",),
        "needs another machine": ("ssh ",),
        "the shell's own": ("read -rs", "export "),
        "needs PostgreSQL; test_server.py runs them as they are written": ("cp -a", "PGPASSFILE=", "tar "),
    },
    "docs/REPRODUCIBILITY.md": {
        "writes the bits anew that tests compare with": ("python -m tests.machines",),
        "is itself a test of minutes": ("python -m pytest",),
    },
    "docs/EXTENDING.md": {"test_extending.py runs all of the page in a copy": ("",)},
    "deploy/README.md": {
        "would install, as root": ("sudo apt-get", "apt-get", "/opt/seedbed/bin/pip", "pip install"),
        "would install": (".venv/bin/python -m pip", "python3 -m venv /opt"),
        "until Ctrl-C; test_deploy.py runs it": (".venv/bin/python deploy/try_it.py",),
        "changes a machine, as root; test_deploy.py has the files that they install": (
            *("adduser", "sudo -u postgres", "install ", "ln -s", "rm ", "nginx -t", "umask", "cp -a"),
        ),
        "test_the_secrets_are_made runs them, with another folder": ("for name in",),
        "needs systemd as the first process": ("systemctl", "journalctl"),
        "needs a public name": ("certbot", "curl https"),
        "the shell's own": ("export ", "read -rs", "set -a"),
        "needs a bucket, and Amazon's client": ("aws ",),
    },
}
# What is said of a command in running text, without the words it needs.
NAMED = (
    "seedbed predict",
    "seedbed predict model=",
    "seedbed show",
    "make sweep TRACKING_URI=...",
    "python -m pipeline",
)
SNIPPETS = {  # how they begin, and the test that runs them, or why none does
    "from pipeline import fit": "test_readme.py",
    "import numpy as np": "test_readme.py",
    "from getpass import": "test_server.py, and deploy/README.md's in test_deploy.py",
    "import os": "test_extending.py",
    "from dask_jobqueue import": "needs Slurm; the page says that it was not tried",
}
STANDS_FOR = {"tracking=server": "tracking=mlflow"}  # of trainings, as no server runs here
INSTEAD = {  # in the store of the tests
    "experiment=architectures": "experiment=small",
    "model=happiness@champion": "model=small@champion",
}
TABLES = {
    "my.csv": "hours,city,score,species\n" + "1,Bonn,10,aster\n2,Rome,12,briar\n3,Bonn,17,aster\n4,Rome,20,briar\n" * 6,
    "new.csv": "hours_studied,hours_slept\n4,8\n",
}


def reason(page: str, command: str) -> str | None:
    """Why a command is not run, if it is not."""
    listed = NOT_RUN.get(page, {})
    return next((why for why, starts in listed.items() for start in starts if command.startswith(start)), None)


RUN = dict.fromkeys(
    command
    for page, found in COMMANDS.items()
    for command in found
    if reason(page, command) is None and command not in NAMED
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tables that commands name."""
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    for name, text in TABLES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def check(folder: Path, request: pytest.FixtureRequest) -> Callable[[str], None]:
    """What makes sure of a command of ours."""

    def run(words: list[str]) -> int:
        store = request.getfixturevalue("store")
        copy_all(store, folder)
        return run_here(words, folder)

    return lambda command: check_ours(command, folder, run)


def words_of(command: str) -> list[str]:
    """The words behind `seedbed`, as typed or as make would run it, or behind `-m pipeline`."""
    words = shlex.split(re.split(r" [|>] ", command)[0])
    while "=" in words[0]:  # a variable of the environment
        words.pop(0)
    if "pipeline" in words:
        return words[words.index("pipeline") + 1 :]
    assert words[0] in ("seedbed", ".venv/bin/seedbed"), f"neither run nor listed: {command}"
    return words[1:]


def check_make(command: str, check: Callable[[str], None]) -> None:
    """What a target runs is a command of ours with words that it takes, or make's own."""
    words = shlex.split(command)
    last = make("-n", *words[1:]).rstrip().splitlines()[-1].strip()
    if words[1] == "setup":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        asked = [name for word in words[2:] for name in word.removeprefix("EXTRAS=").split(",")]
        assert set(asked) <= set(project["optional-dependencies"])
    elif last.startswith(".venv/bin/seedbed"):
        check(last)
    elif "-m benchmarks" in last:
        bench.make_context("bench", shlex.split(last)[3:])
    else:
        assert words[1] in ("test", "check", "lock"), command


def check_ours(command: str, folder: Path, run: Callable[[list[str]], int]) -> None:
    """A command of ours does its work, or where that would take long, what comes before."""
    verb, *words = words_of(command)
    context = cli.make_context("seedbed", [verb])
    known = cli.get_command(context, verb)
    assert known, f"no verb is called {verb}"
    if is_experiment(words):
        return
    if verb in TRAINING:
        options = [] if verb == "plan" or "--cfg" in words else ["--dry-run"]
        assert in_process([verb, *(STANDS_FOR.get(word, word) for word in words), *options], folder) == 0
    elif verb in PARSED:
        given = known.make_context(verb, list(words), parent=context).params  # click keeps the parent's -h for good
        names = [name for found in given.values() if isinstance(found, tuple) for name in found if "=" not in name]
        assert set(names) <= {*PARSED[verb]()}
    else:
        assert run([verb, *words]) == 0


def is_experiment(words: list[str]) -> bool:
    """True for nothing but an experiment that there is: test_experiments.py trains each, shrunk."""
    return len(words) == 1 and words[0] in {f"experiment={name}" for name in experiment_files()}


def run_here(words: list[str], folder: Path) -> int:
    """Runs a verb on the store of the tests, with what that has in place of what the page asks for."""
    if any(word.startswith("model=") for word in words):
        assert in_process(["register"], folder) == 0
        words = [word.replace("[0.2, 1.0, 0.4, 0.3]", "[1, 0, 1]") for word in words]
    ids = run_ids(folder)
    words = [INSTEAD.get(word, word) for word in words]
    return in_process([re.sub("RUN_ID", lambda _: ids.pop(), word) for word in words], folder)


def run_ids(folder: Path) -> list[str]:
    """Ids of two runs in the store, the last one exam's, whose columns new.csv has."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = [client.get_experiment_by_name(name) for name in ("happiness", "exam")]
    return [run.info.run_id for one in found if one for run in client.search_runs([one.experiment_id])]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [pytest.param(one, marks=NEEDS_DASK if "executor=dask" in one else ()) for one in RUN]
)
def test_a_command_of_the_documents_works(
    command: str, check: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        if command.startswith("make "):
            check_make(command, check)
        else:
            check(command)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{capsys.readouterr().err}") from error


def test_the_secrets_are_made(tmp_path: Path) -> None:
    """Of deploy/README.md: names with 48 hex digits each."""
    loops = [one for one in COMMANDS["deploy/README.md"] if one.startswith("for name in")]
    for loop in loops:
        subprocess.run(["bash", "-c", loop.replace("/etc/seedbed", str(tmp_path))], check=True)
    lines = [line for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    assert len(lines) == 2 * len(loops) == 4
    assert all(re.fullmatch(r"[A-Z_]+=[0-9a-f]{48}", line) for line in lines)


def test_nothing_is_listed_that_is_not_there() -> None:
    listed = [(page, start) for page, reasons in NOT_RUN.items() for starts in reasons.values() for start in starts]
    every = [command for found in COMMANDS.values() for command in found]
    assert [one for one in listed if not any(command.startswith(one[1]) for command in COMMANDS[one[0]])] == []
    assert [one for one in NAMED if one not in every] == []
    assert [word for word in STANDS_FOR | INSTEAD if not any(word in command.split() for command in every)] == []
    tests = {name for reasons in NOT_RUN.values() for why in reasons for name in re.findall(r"test_\w+\.py", why)}
    assert [name for name in tests if not (ROOT / "tests" / name).is_file()] == []


def test_every_snippet_is_run_or_listed() -> None:
    snippets = [block.body for page in PAGES.values() for block in blocks(page) if block.language == "python"]
    assert [one for one in snippets if not one.startswith(tuple(SNIPPETS))] == []
    assert [start for start in SNIPPETS if not any(one.startswith(start) for one in snippets)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file(page: str) -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", PAGES[page]):
        assert ((ROOT / page).parent / link).exists(), link
