"""`seedbed plan` and `--dry-run` tell what a sweep would do and make nothing; `--quiet`; progress."""

import hashlib
import io
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from pipeline import terminal
from pipeline.planning import console
from pipeline.planning.console import Display
from pipeline.planning.plan import FOUND, TRAINED, Outcome
from pipeline.terminal import duration, short
from pipeline.training import executor
from tests import in_worker
from tests.conftest import SWEEP, in_process, seedbed
from tests.factory import run


@pytest.fixture(autouse=True)
def _command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest"])


def planned(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """What a command that plans prints: exit code, standard output, errors. Nothing in its folder may change."""
    before = contents(folder)
    code = in_process(shlex.split(command), folder)
    assert contents(folder) == before
    found = capsys.readouterr()
    return code, found.out, found.err


def contents(folder: Path) -> dict[str, str]:
    """Every file and folder below a folder, files with a digest; without those that SQLite reads a database with."""
    files = [file for file in sorted(folder.rglob("*")) if not file.name.endswith(("-shm", "-wal"))]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "" for file in files}


def figures(text: str) -> dict[str, str]:
    """The figures of a plan by name; those of the last MLflow experiment if there are several."""
    return dict(re.findall(r"^  ([a-z ]+?)  +([\d,.]+)\b", text, re.MULTILINE))


# --- what it counts ---------------------------------------------------------------------------------------------


def test_a_plan_without_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, errors = planned("plan experiment=architectures", tmp_path, capsys)
    assert (code, errors) == (0, "")
    assert text.startswith("Plan of architectures, in sqlite:///mlflow.db\n")
    found = figures(text)
    assert (found["runs"], found["to train"], found["updates"]) == ("480", "480", "800,000")
    assert "48 cells, 10 seeds" in text
    assert "not 1,040,000: longer runs hold shorter ones" in text
    assert re.search(r"to train +480  \d+ stacks, in (this process|\d+ worker process)", text)
    assert "writing                3.8 s  estimated for MLflow with SQLite" in text
    assert "training" in found
    assert "disk" in found
    assert not {"duplicates", "found finished"} & set(found)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    "command",
    [
        "sweep --dry-run {}",
        "sweep {} --dry-run",
        "train --dry-run --multirun {}",
        "train {} -m --dry-run",
        "plan --dry-run {}",
        "sweep {} hydra.launcher.dry_run=true",
        "plan {} hydra.sweeper.max_batch_size=2",
    ],
)
def test_a_dry_run_is_a_plan(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "data=cat_shop seed=0,1,1 training.epochs=3,7 tracking=none"
    code, text, _ = planned(command.format(words), tmp_path, capsys)
    assert code == 0
    found = figures(text)
    found.pop("training")
    assert found == {"runs": "4", "duplicates": "2", "to train": "4", "updates": "14"}
    assert text.count("Plan of cat_shop, without a store") == 1


@pytest.mark.parametrize("command", ["plan experiment=happiness", "train experiment=happiness --dry-run"])
def test_a_plan_of_a_single_run(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, errors = planned(command, tmp_path, capsys)
    assert (code, errors) == (0, "")
    assert figures(text)["runs"] == "1"
    assert "1 cell, 1 seed" in text
    assert "1 stack, in this process" in text


def test_worker_processes_are_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "network.hidden=[2],[3] executor=processes executor.workers=2 training.epochs=3 tracking=none"
    assert "2 stacks, in 2 worker processes" in planned(f"plan {words}", tmp_path, capsys)[1]


def test_several_experiments_and_their_totals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = planned("plan experiment=happiness,exam 'seed=range(0,50)' training.epochs=3", tmp_path, capsys)
    assert code == 0
    assert text.index("Plan of exam, in sqlite") < text.index("Plan of happiness, in sqlite") < text.index("All 2: ")
    assert "All 2: 100 of 100 runs to train, about " in text
    assert " of training and 0.8 s of writing, " in text


# --- what is finished -------------------------------------------------------------------------------------------


def test_what_is_finished_is_found(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*SWEEP, "tracking.experiment=small"]
    code, text, _ = planned(shlex.join(["plan", *words]), store, capsys)
    assert code == 0
    assert figures(text) == {"runs": "12", "found finished": "12", "to train": "0"}
    assert text.endswith("  Nothing to train: every run is finished in the store.\n")
    code, text, _ = planned(shlex.join(["plan", *words, "seed=range(0,4)"]), store, capsys)
    assert code == 0
    found = figures(text)
    assert (found["runs"], found["found finished"], found["to train"]) == ("16", "12", "4")


def test_another_experiment_of_the_store_is_not_made(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = planned(shlex.join(["plan", *SWEEP, "tracking.experiment=other"]), store, capsys)
    assert code == 0
    assert figures(text)["to train"] == "12"


def test_an_empty_database_stays_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mlflow.db").touch()
    code, text, _ = planned("plan seed=0,1", tmp_path, capsys)
    assert (code, figures(text)["to train"]) == (0, "2")


def test_without_a_store_mlflow_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from pipeline.__main__ import exit_code\n"
        "code = exit_code(['plan', 'seed=0,1', 'tracking=none'])\n"
        "print(code, 'mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout.splitlines()[-1], done.stderr) == ("0 False", "")
    assert not list(tmp_path.iterdir())


# --- what cannot be ---------------------------------------------------------------------------------------------


def test_combinations_that_cannot_run_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "seed=0,-1,1 training.learning_rate=1,-1 training.epochs=3 tracking=none"
    code, text, errors = planned(f"plan {words}", tmp_path, capsys)
    assert code == 1
    assert figures(text)["runs"] == "2"
    assert "Cannot run: 4\n" in text
    assert (
        "  seed=-1 training.learning_rate=1 training.epochs=3 tracking=none\n"
        "    seed is -1, but it must be a whole number from 0 to 4294967295.\n"
    ) in text
    assert "    training.learning_rate is -1.0, but it must be a finite number > 0.\n" in text
    assert errors == (
        "error: 4 of 6 combinations cannot run, and a sweep that has one trains none: change or leave out the values "
        "that are named.\n"
    )


def test_ten_of_many_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, errors = planned("plan 'seed=range(-30,0)'", tmp_path, capsys)
    assert code == 1
    assert text.count("    seed is -") == 10
    assert text.startswith("Cannot run: 30\n")
    assert text.endswith("  ... and 20 more\n")
    assert errors.startswith("error: 30 of 30 combinations cannot run")


def test_a_real_plan_with_a_bad_job(tmp_path: Path) -> None:
    done = seedbed("plan", "data=exam", "seed=0,-1", cwd=tmp_path)
    assert done.returncode == 1
    assert figures(done.stdout)["runs"] == "1"
    assert "Cannot run: 1\n  data=exam seed=-1\n    seed is -1" in done.stdout
    assert done.stderr.startswith("error: 1 of 2 combinations cannot run")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("plan seed=0,1 tracking.uri=ftp://x", "tracking.uri is ftp://x, but"),
        ("plan tracking.uri=sqlite:///no/such.db", "tracking.uri is sqlite:///no/such.db, but the folder "),
        ("plan tracking.uri=http://127.0.0.1:9", "No server answers at http://127.0.0.1:9 ("),
        ("plan tracking.artifacts=/dev/null/x", "tracking.artifacts is /dev/null/x, but /dev/null is no folder"),
        ("plan tracking.uri=sqlite:///text", "The store sqlite:///text cannot be used ("),
        ("plan seed=0, tracking=none", "seed=0, "),
        ("plan --foo", "--foo is not an option here: options are --multirun, "),
        ("plan --cfg job", "--cfg is for a single run"),
        ("train seed=0,1 --dry-run", "seed=0,1 gives several values to one run: use `seedbed sweep`"),
        ("train experiment=architectures --dry-run", "experiment=architectures is a sweep over "),
        ("train seed=-1 --dry-run", "seed is -1, but it must be"),
        (
            "plan hydra/launcher=basic",
            "A plan is of Seedbed's own launcher and sweeper: leave hydra/launcher=basic out.",
        ),
        ("plan hydra/sweeper=basic", "A plan is of Seedbed's own launcher and sweeper: leave hydra/sweeper=basic out."),
        ("sweep hydra.launcher.dry_run=yes", "hydra.launcher.dry_run is yes, but it must be true or false."),
    ],
)
def test_errors_are_one_sentence(
    command: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("no database, but some text that is longer than a header of SQLite\n" * 9)
    code, text, errors = planned(command, tmp_path, capsys)
    assert (code, text) == (1, "")
    assert errors.startswith(f"error: {sentence}")
    assert len(errors.splitlines()) == 1


def test_a_deleted_experiment_is_refused(empty_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{empty_store}/mlflow.db")
    client.delete_experiment(client.create_experiment("gone"))
    code, text, errors = planned("plan tracking.experiment=gone", empty_store, capsys)
    assert (code, text) == (1, "")
    assert errors.startswith("error: The MLflow experiment 'gone' in sqlite:///mlflow.db is deleted: restore it there")


# --- quiet ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "train -q {}",
        "train {} --quiet",
        "sweep --quiet {} seed=0,1",
        "sweep {} seed=0,1 -q",
        "plan -q {} seed=0,1",
        "train --dry-run -q {}",
    ],
)
def test_quiet_prints_nothing(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process(shlex.split(command.format("training.epochs=3 tracking=none")), tmp_path) == 0
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", "")
    assert not terminal.QUIET.get()
    assert in_process(["train", "training.epochs=3", "tracking=none"], tmp_path) == 0
    assert "after 3 updates" in capsys.readouterr().out


def test_quiet_does_not_hush_errors_notes_and_failed_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(["train", "-q", "seed=-1"], tmp_path) == 1
    found = capsys.readouterr()
    assert (found.out, found.err.startswith("error: seed is -1")) == ("", True)
    monkeypatch.setattr(executor, "train_here", in_worker.train_or_raise)
    words = ["data=cat_shop", "data.y=[0,1]", "data.X=[[0],[1]]", "tracking=none", "training.epochs=3"]
    assert in_process(["sweep", "-q", *words, "network.hidden=[2],[3]"], tmp_path) == 1
    found = capsys.readouterr()
    assert found.out == ""
    assert "note: data." in found.err
    assert "failed: " in found.err
    assert "  repeat it with: seedbed train" in found.err
    assert not terminal.QUIET.get()


def test_quiet_has_no_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "LINE_EVERY", 0.0)
    words = ["tracking=none", "training.epochs=9"]
    assert in_process(["train", *words], tmp_path) == 0
    assert " updates/s" in capfd.readouterr().err
    assert in_process(["train", "-q", *words], tmp_path) == 0
    assert capfd.readouterr() == ("", "")


# --- progress ---------------------------------------------------------------------------------------------------


def outcome(status: str, loss: float) -> Outcome:
    """A run that has ended."""
    return Outcome(run(), status, metrics={"result/final_loss": loss})


def test_a_plain_line_says_runs_share_pace_rest_and_best_loss(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    display = Display(runs=10, updates=4000)
    display.report(0, [outcome(FOUND, 0.5)])
    assert capsys.readouterr().err == ""
    clock[0] += 10
    display.report(1000, [outcome(TRAINED, 0.0123)])
    assert capsys.readouterr().err == "25%, 2/10 runs, 100 updates/s, 1 min 20 s left, best 0.0123\n"


def test_the_time_left_goes_by_updates_and_by_runs() -> None:
    display = Display(runs=4, updates=100)
    display.made, display.done, display.found = 50, 1, 1
    assert display.seconds_left(10.0) == 10.0
    display.made, display.done = 100, 2  # all is trained, but one run of three is written
    assert display.seconds_left(10.0) == 20.0


def test_the_bar_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    clock = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    terminal = Console(file=text, force_terminal=True, width=80, color_system=None, get_time=lambda: clock)
    monkeypatch.setattr(console, "err", terminal)
    display = Display(runs=10_000, updates=10**9)
    display.started -= 7000
    display.done = 2344
    display.report(234_567_890, [outcome(TRAINED, 0.000123456)])
    terminal.print(display.bar)
    (line,) = text.getvalue().splitlines()
    assert len(line) == 80
    assert "23 % 0:00:00 2345/10000 runs 33.5 k updates/s 6 h 20 min left best 0.000123" in line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3900, "1 h 5 min"),
        (7200, "2 h"),
        (187_000, "2 d 3 h"),
    ],
)
def test_a_duration_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (950, "950"), (999.6, "1 k"), (12_345, "12.3 k"), (1.2e6, "1.2 M"), (3e10, "30 G")]
)
def test_a_large_number_in_short(number: float, text: str) -> None:
    assert short(number) == text
