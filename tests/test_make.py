"""The Makefile: help names every target, words pass through to the commands, and `clean` leaves every store alone."""

import re
import sys
from pathlib import Path

import pytest

from tests.makefile import make, run_make

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^([a-z]+):", TEXT, re.MULTILINE)
PROBE = ["--eval", "probe: ; @echo $$MLFLOW_TRACKING_URI", "probe"]  # a target that shows what a command would see


def test_make_alone_prints_help_on_every_target() -> None:
    printed = make()
    assert printed == make("help")
    assert {"setup", "test", "check", "sweep", "plan", "ui", "server", "published", "predict", "lock", "clean"} <= set(
        TARGETS
    )
    for target in TARGETS:
        assert re.search(rf"^  {target} +\w", printed, re.MULTILINE), target


def test_every_target_is_phony() -> None:
    """A file called `test` must not stop `make test`."""
    listed = re.search(r"^\.PHONY: (.*)$", TEXT, re.MULTILINE)
    assert listed
    assert sorted(listed[1].split()) == sorted(TARGETS)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["sweep"], "sweep experiment=architectures"),
        (["sweep", "EXPERIMENT=exam", "ARGS='seed=range(0,50)'"], "sweep experiment=exam 'seed=range(0,50)'"),
        (["sweep", "ARGS='seed=${training.epochs}'"], "sweep experiment=architectures 'seed=${training.epochs}'"),
        (["plan"], "plan experiment=architectures"),
        (["plan", "EXPERIMENT=exam", "ARGS='seed=range(0,50)'"], "plan experiment=exam 'seed=range(0,50)'"),
        (["predict", "ARGS=--input 'my rows.csv'"], "predict --input 'my rows.csv'"),
        (["published"], "published"),
        (["ui", "ARGS=--port 5001"], "ui --port 5001"),
        (["server", "ARGS=--folder 'a b'"], "server --folder 'a b'"),
    ],
)
def test_words_pass_through(words: list[str], command: str) -> None:
    """The last command that make would run; the setup comes before it where there is no .venv yet."""
    assert make("-n", *words).rstrip().splitlines()[-1].rstrip() == f".venv/bin/seedbed {command}"


def test_the_store_can_be_named() -> None:
    assert make(*PROBE, "TRACKING_URI=postgresql://me:pa$word@host/db") == "postgresql://me:pa$word@host/db\n"
    assert make(*PROBE, uri="sqlite:///a$b.db") == "sqlite:///a$b.db\n"
    assert make(*PROBE, "TRACKING_URI=sqlite:///word.db", uri="sqlite:///environment.db") == "sqlite:///word.db\n"


def test_clean_leaves_stores_alone(tmp_path: Path) -> None:
    kept = [
        "mlflow.db",
        "mlflow-artifacts/1/weights.npz",
        "mlruns/x",
        "outputs/x",
        "multirun/x",
        "seedbed-server/x",
        "pipeline/data.py",
    ]
    kept.append("seedbed-server/postgres/PG_VERSION")
    gone = [".venv/.ready", ".mypy_cache/x", ".pytest_cache/x", "dist/x", "build/x", "pipeline/__pycache__/x.pyc"]
    gone.append("benchmarks/__pycache__/x.pyc")
    for name in [*kept, *gone, "tests/x.db"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "Makefile").write_text(TEXT)
    make("clean", folder=tmp_path)
    left = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()}
    assert left == {"Makefile", "tests/x.db", *kept}


def test_a_python_is_used_only_if_it_runs_and_makes_environments(tmp_path: Path) -> None:
    """A shim of pyenv fails, a python3 of Debian may lack venv: neither must end the search."""
    probe = ["--eval", "probe: ; @$(find_python); echo $$found", "probe"]
    scripts = {"python3.13": "exit 127", "python3.12": "echo 3.12; exit 1", "python3": f'exec "{sys.executable}" "$@"'}
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    assert run_make(*probe, path=str(tmp_path)).stdout == "python3\n"
    (tmp_path / "python3").unlink()
    done = run_make(*probe, path=str(tmp_path))
    assert done.stderr.startswith("error: python3.12 has no venv module: install it")


def test_without_a_suitable_python_it_ends_with_one_sentence(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    done = run_make("setup", "PYTHON=no-such-python", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        "error: no Python 3.11 to 3.13 that runs (tried no-such-python): install one, or name yours with PYTHON=."
    )
    assert not (tmp_path / ".venv").exists()
