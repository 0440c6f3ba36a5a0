"""`seedbed recover`: initial weights found again from printed figures, and the sentence where none give them."""

import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.__main__ import exit_code
from pipeline.errors import UserError
from pipeline.numerics.network import Rule
from pipeline.numerics.train import Problem
from pipeline.verbs import lost_seeds, published
from pipeline.verbs.recover import (
    Lost,
    Printed,
    figures,
    in_order,
    largest_difference,
    open_to_rounding,
    order_like,
    recover,
)
from tests import oracle

# A 2-2-1 network, written down: any would do.
X = np.array([[0.2, 1.0], [0.9, 0.1], [0.6, 0.7]])
Y = np.array([[0.9], [0.1], [0.5]])
W = (np.array([[0.8, -1.1], [0.3, 0.6]]), np.array([[1.4], [-0.5]]))
UPDATES = (0, 1, 2, 3)
DECIMALS = 8
SMALL = ["starts=2", "seed=0"]


def lost(printed: Printed) -> Lost:
    return Lost(Problem(X, Y, Rule("half_sse")), 0.5, 2, printed)


def printed_by_the_oracle() -> Printed:
    """Predictions and mean squared errors of the first iterations, rounded as a text prints them."""
    trained = oracle.train(X, Y, W, 0.5, UPDATES[-1])
    blocks = [[*trained.predictions[i][:, 0], trained.losses[i] * 2 / 3] for i in UPDATES]  # half_sse -> mse
    values = np.round(np.array(blocks, dtype=np.float64).ravel(), DECIMALS)
    return Printed(np.repeat(UPDATES, 4), np.tile(range(4), len(UPDATES)), values, np.full(16, 0.5 * 0.1**DECIMALS))


def test_a_synthetic_trajectory_gives_its_weights_back() -> None:
    done: list[int] = []
    found = recover(lost(printed_by_the_oracle()), 0, 4, done.append)
    assert done == [1, 2, 3, 4]
    assert found.converged >= 2  # 3 here; a search may go another way on another machine
    assert found.apart < 1e-6  # they ended at one network
    order = order_like(W, found.weights)
    matched, margins = in_order(found.weights, order), in_order(found.margins, order)
    for one, kept, margin in zip(matched, W, margins, strict=True):
        assert (np.abs(one - kept) <= margin).all()
        assert (margin < 1e-4).all()


def test_a_seed_gives_the_same_bits_and_another_seed_the_same_network() -> None:
    one, again, other = (recover(lost(printed_by_the_oracle()), seed, 1, lambda _: None) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(one.weights, again.weights, strict=True))
    assert any((a != b).any() for a, b in zip(one.weights, other.weights, strict=True))
    assert largest_difference(one.weights, other.weights) < 1e-6


def test_figures_are_those_of_the_oracle_whatever_the_order_of_hidden_units() -> None:
    printed = printed_by_the_oracle()
    networks = [
        np.concatenate([matrix.ravel() for matrix in in_order(W, np.array(order))]) for order in ([0, 1], [1, 0])
    ]
    found = figures(lost(printed), printed, np.stack(networks, axis=1))
    assert np.abs(found - printed.values[:, None]).max() <= 0.5 * 0.1**DECIMALS
    assert np.abs(found[:, 0] - found[:, 1]).max() < 1e-15


def test_figures_that_no_network_gives_are_refused() -> None:
    printed = printed_by_the_oracle()
    beyond = Printed(printed.updates, printed.places, printed.values + 1, printed.errors)  # predictions above 1
    with pytest.raises(UserError, match=r"^None of 2 searches found weights that give the printed figures: the best"):
        recover(lost(beyond), 0, 2, lambda _: None)


def test_hidden_units_are_matched() -> None:
    swapped = in_order(W, np.array([1, 0]))
    assert order_like(W, swapped).tolist() == [1, 0]
    assert largest_difference(W, swapped) == 0
    assert largest_difference(W, (W[0] + [[0, 0.25], [0, 0]], W[1])) == 0.25


def test_what_rounding_leaves_open_worked_by_hand() -> None:
    # |0.5 + 2 a| <= 1 and |4 b| <= 1: a from -0.75 to 0.25, b from -0.25 to 0.25
    assert open_to_rounding(np.diag([2.0, 4.0]), np.array([0.5, 0])) == pytest.approx([0.75, 0.25])
    # |a| <= 1 and |3 + a| <= 1
    assert np.isnan(open_to_rounding(np.ones((2, 1)), np.array([0.0, 3.0]))).all()


# --- the command ------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine says on standard error how far it is."""
    monkeypatch.setattr(lost_seeds, "LINE_EVERY", float("inf"))


def edited(folder: Path, was: str, becomes: str) -> Path:
    """A folder with the exam text's printed figures, one of them another."""
    text = published.tutorials()["exam"].read_text(encoding="utf-8")
    assert text.count(was) == 1
    (folder / "published").mkdir()
    (folder / "published" / "exam.yaml").write_text(text.replace(was, becomes), encoding="utf-8")
    return folder


def test_a_trajectory_that_no_network_gives_ends_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = edited(tmp_path, "0.26720522", "0.26820522")
    monkeypatch.setattr(published, "find", lambda name: folder)
    assert exit_code(["recover", *SMALL]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(
        r"error: None of 2 searches found weights that give the printed figures: the best misses them by 0\.000\d+ "
        r"\(root mean square\)\. Give more starts=, or another seed=\.\n",
        told.err,
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["hapiness"], "There is no tutorial hapiness: choose from cat_shop, exam, first_column, happiness."),
        (["exam", "happiness"], "exam happiness are 2 tutorials: name one."),
        (
            ["happiness"],
            "happiness prints 0 figures of the first 10 updates of happiness, too few for the 5 weights of its "
            "network: `seedbed recover exam` has enough.",
        ),
        (["starts=0"], "starts is 0, but it must be a whole number from 1 to 1000."),
        (["seed=-1"], "seed is -1, but it must be a whole number from 0 to 4294967295."),
        (["seed=true"], "seed is true, but it must be a whole number from 0 to 4294967295."),
        (["start=3"], "start is not a key here: the keys are seed, starts."),
    ],
    ids=str,
)
def test_what_cannot_be_recovered_is_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["recover", *words]) == 1
    assert capsys.readouterr().err == f"error: {sentence}\n"


@pytest.mark.slow
def test_the_exam_notebooks_weights_are_found_as_far_as_its_figures_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["recover", "starts=4"]) == 0
    told = capsys.readouterr().out
    assert "4 of 4 searches ended at the 16 figures of the first 10 updates,\nat one network" in told
    rows = re.findall(r"^ *\S+(?: \d)? to \S+(?: \d)? +(\S+) +(\S+) +(\S+) +± (\S+) *$", told, re.MULTILINE)
    assert len(rows) == 9
    for kept, found, difference, margin in rows:
        assert float(found) - float(kept) == pytest.approx(float(difference), abs=2e-9, rel=0.05)  # so many digits
        assert abs(float(difference)) <= float(margin) < 1e-6
    assert "9 of 9 by no more than rounding leaves open." in told
    assert "48 of 48 printed figures come out of the found weights:" in told
    assert "36 figures of 8 digits: 8 or more agree" in told


@pytest.mark.slow
def test_a_late_figure_that_does_not_come_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = edited(tmp_path, "0.87967993", "0.87977993")
    monkeypatch.setattr(published, "find", lambda name: folder)
    assert exit_code(["recover", *SMALL]) == 1
    told = capsys.readouterr().err
    assert re.search(
        r"^error: \d+ printed figures do not come out of the found weights: .*734 updates: student 2", told
    )
