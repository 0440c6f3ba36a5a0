"""The wheel holds all that a run needs and works from any folder; the lock is exact and satisfies pyproject.toml."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import pipeline

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
PIN = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[\w.]+)(?: ; (?P<marker>[^\\]+))? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?P<more> \\)?")


def run(*words: str, folder: Path, **variables: str) -> str:
    """Standard output of a Python command that must succeed."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built the long way: from a source distribution, which so must hold everything too."""
    folder = tmp_path_factory.mktemp("dist")
    run("-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT), folder=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed in it; what it depends on is found in this test's environment."""
    folder = tmp_path_factory.mktemp("installed")
    run(
        "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder), str(wheel), folder=folder
    )
    return folder


def shipped() -> Iterator[str]:
    """Where every source and config file of the checkout belongs in the wheel."""
    for folder, inside in (
        ("pipeline", "pipeline"),
        ("conf", "pipeline/conf"),
        ("experiments", "pipeline/experiments"),
    ):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and file.parent.name != "__pycache__":
                yield f"{inside}/{file.relative_to(ROOT / folder).as_posix()}"


def test_the_wheel_holds_every_source_config_and_experiment_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"seedbed-{pipeline.__version__}.dist-info/"
    assert {name for name in names if not name.startswith(info)} == set(shipped())
    assert {
        "pipeline/conf/config.yaml",
        "pipeline/experiments/architectures.yaml",
        "pipeline/_plugins/hydra_plugins/seedbed_stacked.py",
        f"{info}licenses/LICENSE",
    } <= names


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["checkout", "installed"])
def test_it_runs_from_any_folder(kind: str, installed: Path, tmp_path: Path) -> None:
    home = installed if kind == "installed" else ROOT
    path = {"PYTHONPATH": str(home)}
    where = run("-c", "import pipeline; print(pipeline.__file__)", folder=tmp_path, **path)
    assert Path(where.strip()) == home / "pipeline" / "__init__.py"
    words = ("tracking=none", "training.epochs=10")
    assert "after 10 updates" in run("-m", "pipeline", "train", *words, folder=tmp_path, **path)
    assert "2 runs: 2 trained" in run("-m", "pipeline", "sweep", *words, "seed=0,1", folder=tmp_path, **path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_is_called_seedbed(installed: Path, tmp_path: Path) -> None:
    said = run(str(installed / "bin" / "seedbed"), "--version", folder=tmp_path, PYTHONPATH=str(installed))
    assert said == f"seedbed, version {pipeline.__version__}\n"


def pins() -> dict[str, list[str]]:
    """The versions that requirements.lock has of each package (several where they depend on the Python)."""
    found: dict[str, list[str]] = {}
    for match in filter(None, map(PIN.fullmatch, LOCK.splitlines())):
        found.setdefault(match["name"], []).append(match["version"])
    return found


def test_the_lock_is_exact_versions_with_hashes_and_nothing_else() -> None:
    """No index address, no local file, no option: after a backslash comes a hash, else a pin."""
    continued = False
    for line in LOCK.splitlines():
        match = (HASH if continued else PIN).fullmatch(line)
        assert match, line
        continued = match.re is PIN or bool(match["more"])
    assert not continued


@pytest.mark.parametrize(
    "wanted",
    PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"] + PROJECT["build-system"]["requires"],
)
def test_the_lock_satisfies_pyproject(wanted: str) -> None:
    """If not: `make lock`."""
    requirement = Requirement(wanted)
    versions = pins().get(canonicalize_name(requirement.name), [])
    assert versions, f"{wanted} is not in requirements.lock"
    assert all(version in requirement.specifier for version in versions), versions


@pytest.mark.slow
def test_every_extra_can_be_installed_beside_the_lock(tmp_path: Path) -> None:
    """As `make setup EXTRAS=...` does; nothing is downloaded but what packages say of themselves.

    If not: bound what stands in the way in pyproject.toml, [tool.uv], and `make lock`.
    """
    run("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), "uv", folder=tmp_path)
    locked, found = tmp_path / "locked.txt", tmp_path / "found.txt"
    pinned = [match[0].removesuffix("\\") for match in map(PIN.fullmatch, LOCK.splitlines()) if match]
    locked.write_text("\n".join(pinned))
    uv = [str(tmp_path / "bin" / "uv"), "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    words = [
        *uv,
        "--all-extras",
        "--constraint",
        str(locked),
        "--output-file",
        str(found),
        str(ROOT / "pyproject.toml"),
    ]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = {line.partition("==")[0] for line in found.read_text().splitlines()}
    assert {"trackio", "torch", "distributed", "hydra-optuna-sweeper"} <= names
