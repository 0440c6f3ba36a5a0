"""`seedbed published`: the comparison with the printed figures, and that it can say no."""

import re
from pathlib import Path

import pytest

from pipeline.__main__ import exit_code
from pipeline.verbs import published
from pipeline.verbs.published import AGREES, DIFFERS, MISPRINT, Figure


@pytest.mark.parametrize(
    ("printed", "ours", "agreeing", "verdict"),
    [
        ("0.77633351", 0.776333510333, 8, AGREES),
        ("0.77633351", 0.776333517, 7, DIFFERS),  # rounds to ...352
        ("0.90476690", 0.9047668954, 8, AGREES),  # the last printed digit is a 0
        ("0.95", 0.9544, 2, AGREES),
        ("0.95", 0.9556, 1, DIFFERS),
        ("0.0192991528354", 0.01929915283536657, 12, AGREES),
        ("1.5", -1.5, 0, DIFFERS),
        ("0.5109751473919114", 0.5109751473919113, 15, AGREES),  # printed in full: 1e-12 relative will do
        ("0.5109751473919114", 0.5109751473929, 11, DIFFERS),
        ("1.94136958194e-18", 1.94136958194e-18, 12, AGREES),
    ],
)
def test_digits_that_agree(printed: str, ours: float, agreeing: int, verdict: str) -> None:
    figure = Figure("here", "a figure", printed, ours)
    assert (figure.agreeing, figure.verdict) == (agreeing, verdict)


def test_a_misprint_is_no_difference() -> None:
    assert Figure("worked by hand", "sum", "7.5", 3.9, misprint="2 * 0.6 + 9 * 0.3 is 3.9").verdict == MISPRINT


def test_happiness_and_first_column_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["published", "happiness", "first_column"]) == 0
    told = capsys.readouterr().out
    assert "0.77633351" in told
    assert "13 of 13 printed figures agree; 0 are misprints of the text." in told
    assert "10 of 10 figures that no text prints agree with what was computed once." in told


def test_a_wrong_figure_is_told_and_ends_with_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = published.tutorials()["happiness"].read_text()
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "happiness.yaml").write_text(text.replace("0.77633351", "0.77633361"))
    monkeypatch.setattr(published, "find", lambda name: tmp_path)
    assert exit_code(["published", "happiness"]) == 1
    told = capsys.readouterr()
    assert "DIFFERS" in told.out
    assert "error: 1 figures differ from the printed ones: happiness, 100 updates: Alejandra." in told.err


def test_an_unknown_tutorial_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["published", "hapiness"]) == 1
    assert capsys.readouterr().err == (
        "error: There is no tutorial hapiness: choose from cat_shop, exam, first_column, happiness.\n"
    )


@pytest.mark.slow
def test_every_tutorial_agrees_and_the_long_run_lies_where_it_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["published"]) == 0
    told = capsys.readouterr().out
    assert "68 of 72 printed figures agree; 4 are misprints of the text." in told
    assert re.search(r"printed +1\.94136958e-18 +0\.91882413", told)
    assert re.search(r"seeds below it +8% +99%", told)  # about 8 % of losses and 99 % of predictions
    assert "7 of 100 runs are stuck, at a median mse of 0.000116" in told  # at least 5 % near 1.1e-4
