"""What a terminal, a pipe or a full disk gets: tables that fit, no number cut short, no traceback."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

import pipeline.terminal
from pipeline.compare import tables
from pipeline.planning import console
from pipeline.planning.console import Display, print_predictions
from pipeline.terminal import Output
from tests.conftest import in_process, seedbed
from tests.processes import started
from tests.progress import complaints

SWEEP = ("data=cat_shop", "network.hidden=[2],[4]", "training.learning_rate=0.1,1", "seed=range(0,5)")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> io.StringIO:
    """What is printed on a terminal of so many columns."""
    text = io.StringIO()
    made = Output(
        file=text, force_terminal=True, width=request.param, color_system=None, highlight=False, soft_wrap=True
    )
    monkeypatch.setattr("pipeline.terminal.out", made)
    monkeypatch.setattr(tables, "out", made)
    return text


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep."""
    folder = tmp_path_factory.mktemp("swept")
    words = ["training.epochs=300", "tracking.report=false", "executor=serial"]
    assert in_process(["sweep", *SWEEP, *words], folder) == 0
    return folder


@pytest.mark.parametrize(("terminal", "figures"), [(40, 1), (60, 3), (80, 6), (130, 8)], indirect=["terminal"])
def test_a_narrow_terminal_gets_fewer_columns_and_whole_numbers(
    terminal: io.StringIO, figures: int, swept: Path
) -> None:
    assert in_process(["compare"], swept) == 0
    said = terminal.getvalue()
    head = next(line for line in said.splitlines() if " iqm" in line)
    columns = ("runs", "median", "mean", "iqm", "95 % interval", "worst", "of seed", "diverged")
    assert sum(f" {name}" in head for name in columns) == figures
    assert "…" not in said
    cells = said[said.index("over their seeds") : said.index("Fewer than")].splitlines()
    assert max(map(len, cells)) <= pipeline.terminal.out.width


@pytest.mark.parametrize("terminal", [30], indirect=True)
def test_a_table_that_fits_no_terminal_is_wider_and_whole(terminal: io.StringIO) -> None:
    print_predictions(["input", "prediction", "target", "error"], [["Alejandra", 0.93114243, 1.0, -0.06885757]], 1)
    assert "Alejandra   0.93114243   1.00000000   -0.06885757" in terminal.getvalue()


@pytest.mark.parametrize(
    ("width", "told"),
    [
        (40, "2345/10000 runs"),
        (60, "2345/10000 runs 6 h 20 min left"),
        (70, "2345/10000 runs 6 h 20 min left best 0.000123"),
    ],
)
def test_the_bar_of_a_narrow_terminal_says_less(monkeypatch: pytest.MonkeyPatch, width: int, told: str) -> None:
    text = io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    clock = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    narrow = Console(file=text, force_terminal=True, width=width, color_system=None, get_time=lambda: clock)
    monkeypatch.setattr(console, "err", narrow)
    display = Display(runs=10_000, updates=10**9)
    display.started -= 7000
    display.done, display.best = 2345, 0.000123456
    display.report(234_567_890, ())
    narrow.print(display.bar)
    (line,) = text.getvalue().splitlines()
    assert line.rstrip().endswith(f"23 % 0:00:00 {told}")
    assert len(line) <= width


def test_a_dumb_terminal_has_lines_and_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(console, "err", Console(file=io.StringIO(), force_terminal=True))
    assert not Display(1, 1).has_bar


@pytest.mark.slow
def test_output_in_ascii_escapes_what_it_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("LC_ALL", "C")
    words = ("train", "training.epochs=3", 'tracking.experiment="dätä 日本"')
    done = seedbed(*words, cwd=tmp_path)
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    assert r"experiment 'd\xe4t\xe4 \u65e5\u672c'" in done.stdout


@pytest.mark.slow
def test_names_that_the_font_lacks_are_drawn_without_a_warning(tmp_path: Path) -> None:
    words = ("sweep", "seed=range(0,2)", "training.epochs=3", "tracking.experiment='日本'", "tracking.report=true")
    done = seedbed(*words, cwd=tmp_path)
    assert (done.returncode, complaints(done.stderr)) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize("words", [("list",), ("--help",), ("train", "--cfg", "job")])
def test_a_full_disk_behind_the_output_is_one_sentence(words: tuple[str, ...], tmp_path: Path) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )  # fmt: skip
    sentence = "error: The output cannot be written, as its disk is full: make room on it, or write elsewhere.\n"
    assert (done.returncode, done.stderr) == (1, sentence)


def test_help_says_in_a_whole_sentence_what_each_verb_does(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert in_process([], tmp_path) == 0
    said = capsys.readouterr().out
    assert "..." not in said.partition("Train:")[2]
    assert re.findall(r"^(\w+):$", said, re.MULTILINE)[-4:] == ["Train", "Results", "Proofs", "Stores"]


def test_ctrl_c_while_modules_are_imported_is_no_traceback(tmp_path: Path) -> None:
    """Whenever it comes; before the first line of ours Python itself may end by the signal."""
    (tmp_path / "click.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(300)\n", encoding="utf-8")
    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])}
    with started("pipeline", "list", cwd=tmp_path, err=subprocess.PIPE, variables=path) as process:
        assert process.stdout
        assert process.stdout.readline() == "here\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert (process.communicate(timeout=120)[1], process.returncode) == ("interrupted\n", 130)
