"""Every experiment and every choice of a config group composes and runs, shrunk, through the real command."""

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.composing.experiment import data_files, experiment_files, opening, swept, swept_values
from pipeline.composing.sentences import GROUPS
from tests.conftest import NEEDS_DASK, in_process, seedbed
from tests.progress import complaints

SHRUNK = ("training.epochs=3", "tracking=none")
NEEDS = {
    ("init", "given"): ["network.hidden=[]", "init.weights=[[[1],[2],[3],[4]]]"],
    ("data", "csv"): ["data.path=TABLE", "data.target=[score]"],
}
CHOICES = [(group, name) for group, names in GROUPS.items() for name in names if group != "experiment"]


@pytest.fixture(autouse=True)
def _command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest"])


@pytest.fixture
def needs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], list[str]]:
    """The words that a choice needs beside itself; a table of one's own is made for them."""
    table = tmp_path_factory.mktemp("table") / "my.csv"
    table.write_text("hours,score\n1,10\n2,12\n3,17\n", encoding="utf-8")
    return lambda group, name: [word.replace("TABLE", str(table)) for word in NEEDS.get((group, name), ())]


def one_job(experiment: str) -> list[str]:
    """Words that take the first value of every key that an experiment sweeps over."""
    return [f"{key}={swept_values(experiment, key)[0]}" for key in swept(experiment) if key != "training.epochs"]


@pytest.mark.parametrize("experiment", experiment_files())
def test_an_experiment_runs_shrunk(experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", f"experiment={experiment}", *one_job(experiment), *SHRUNK]
    assert in_process(words, tmp_path) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert re.search(r"after \d+ updates", said.out)
    assert complaints(said.err) == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("experiment", [name for name in experiment_files() if swept(name)])
def test_a_sweep_runs_shrunk(experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", f"experiment={experiment}", *one_job(experiment), *SHRUNK]
    assert in_process(words, tmp_path) == 0, capsys.readouterr().err
    assert "1 runs: 1 trained" in capsys.readouterr().out


@pytest.mark.parametrize("experiment", [name for name in experiment_files() if swept(name)])
def test_train_says_that_a_sweep_is_one(experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process(["train", f"experiment={experiment}"], tmp_path) == 1
    keys = ", ".join(swept(experiment))
    assert capsys.readouterr().err == (
        f"error: experiment={experiment} is a sweep over {keys}: use `seedbed sweep experiment={experiment}`, "
        "or give each of these keys one value.\n"
    )


def test_an_experiment_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = seedbed("train", "experiment=happiness", *SHRUNK, cwd=tmp_path)
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    assert "Alejandra" in done.stdout


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_of_a_group_composes(
    group: str,
    name: str,
    needs: Callable[[str, str], list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["train", f"{group}={name}", *needs(group, name), "--cfg", "job", "--resolve"]
    assert in_process(words, tmp_path) == 0
    assert f"\n{group}:\n" in "\n" + capsys.readouterr().out


RUNNING = [
    pytest.param(*choice, marks=NEEDS_DASK if choice == ("executor", "dask") else ())
    for choice in CHOICES
    if choice[0] != "tracking"
]


@pytest.mark.parametrize(("group", "name"), RUNNING)
def test_every_choice_of_a_group_runs(
    group: str,
    name: str,
    needs: Callable[[str, str], list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["train", f"{group}={name}", *needs(group, name), *SHRUNK]
    assert in_process(words, tmp_path) == 0, capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("experiment", "file"), experiment_files().items())
def test_an_experiment_opens_with_question_command_time_and_result(experiment: str, file: Path) -> None:
    said = opening(file)
    assert [key for key in ("Question", "Command", "Time", "Expected") if not said.get(key)] == []
    assert "?" in said["Question"]
    verb = "sweep" if swept(experiment) else "train"
    assert shlex.split(said["Command"])[:3] == ["seedbed", verb, f"experiment={experiment}"]


@pytest.mark.parametrize(("name", "file"), data_files().items())
def test_a_data_set_says_what_it_is_and_goes_by_its_file(name: str, file: Path) -> None:
    assert opening(file)["about"]
    usual = "null" if name == "csv" else name  # a table goes by the name of the user's file
    assert re.search(rf"^name: {usual}\b", file.read_text(encoding="utf-8"), re.MULTILINE)
