"""Findings: the page says what is declared and was measured, verdicts follow from runs, and the command can say no."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.compare.results import Selection, read_results
from pipeline.composing.experiment import experiment_files, swept
from pipeline.errors import UserError
from pipeline.findings import commands
from pipeline.findings.arms import Evidence, fact_of, levels_of, runs_of, table_of
from pipeline.findings.declared import Arm, Fact, Finding, Picture, findings, read
from pipeline.findings.judge import UNCLEAR, Found, judge
from pipeline.findings.page import FOLDER, MEASURED, PAGE, answer, measured_json, page, read_measured
from pipeline.findings.pictures import picture
from pipeline.findings.processes import taken
from tests.conftest import in_process, seedbed
from tests.frames import completed, frame

DOCS = Path(__file__).resolve().parent.parent / "docs"
LOSSES = np.array([0.1, 0.2, 0.4, 0.8, 1.6])
TIMES = 10 ** np.array([0.2, 0.4, 0.6, 0.8, 1.0])  # mean of the logarithms 0.6
NAN = float("nan")


# --- the page ---------------------------------------------------------------------------------------------------


def test_the_page_is_what_is_declared_with_what_was_measured() -> None:
    written = (DOCS / PAGE).read_text(encoding="utf-8")
    assert written == page(list(findings().values()), read_measured(DOCS)), "seedbed findings --write docs"


@pytest.mark.parametrize("name", findings())
def test_a_finding_is_measured_as_declared_and_drawn(name: str) -> None:
    finding, (date, found) = findings()[name], read_measured(DOCS)[name]
    assert found.verdict == finding.verdict
    assert set(found.arms) == set(finding.names)
    assert set(found.facts) == set(finding.facts)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", date)
    drawn = (DOCS / FOLDER / f"{name}.svg").read_bytes()
    assert drawn.startswith(b"<?xml")
    assert len(drawn) < 100_000


@pytest.mark.parametrize("name", findings())
def test_no_number_of_an_answer_is_written_by_hand_that_is_measured(name: str) -> None:
    """Each fact is used, and so are effect and interval, but where a share of diverged runs says it all."""
    finding, (_, found) = findings()[name], read_measured(DOCS)[name]
    used = set(re.findall(r"{(\w+)}", finding.answer))
    assert set(finding.facts) <= used <= set(found.texts)
    assert {"effect", "low", "high"} <= used or found.by_divergence or name == "equal_weights"


@pytest.mark.parametrize("name", findings())
def test_what_a_finding_compares_is_what_its_experiment_sweeps_over(name: str) -> None:
    finding = findings()[name]
    keys = {key.replace("init", "init.scheme") if key == "init" else key for key in swept(finding.experiment)}
    assert "seed" in keys
    for where in [arm.where for arm in finding.arms] + [fact.where for fact in finding.facts.values()]:
        assert set(where) <= keys


def test_every_finding_has_a_place_of_its_own() -> None:
    assert [finding.place for finding in findings().values()] == list(range(1, len(findings()) + 1))


def test_what_was_measured_comes_back_from_its_file(tmp_path: Path) -> None:
    measured = {"b": ("2026-01-02", replace(FOUND, low=NAN, medians=(0.5, NAN))), "a": ("2026-01-01", FOUND)}
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / MEASURED).write_bytes(measured_json(measured))
    back = read_measured(tmp_path)
    assert back["a"] == measured["a"]
    assert np.isnan([back["b"][1].low, back["b"][1].medians[1]]).all()
    assert json.loads((tmp_path / FOLDER / MEASURED).read_text())["b"]["low"] is None
    assert read_measured(tmp_path / "elsewhere") == {}


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {"date": "2026-01-01"}}'])
def test_another_file_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / MEASURED).write_text(content)
    with pytest.raises(UserError, match="is not what `seedbed findings --write` writes"):
        read_measured(tmp_path)


# --- the verdict ------------------------------------------------------------------------------------------------


def finding_of(**changes: Any) -> Finding:
    """Small against large, by a made-up key."""
    usual: dict[str, Any] = {
        "name": "made_up",
        "place": 1,
        "heard": "so.",
        "experiment": "exam",
        "metric": "final_loss",
        "arms": (Arm("small", {"network.width": 1}), Arm("large", {"network.width": 2})),
        "verdict": None,
        "answer": "{effect} ({low} to {high})",
        "picture": Picture("levels", by="network.width"),
    }
    return Finding(**(usual | changes))


def runs(small: Sequence[float] | Any, large: Sequence[float] | Any) -> pd.DataFrame:
    """Runs of both arms."""
    made = frame({"small": small, "large": large})
    return made.assign(**{"network.width": np.where(made["cell"] == "small", 1, 2)})


def judged(small: Any, large: Any, **changes: Any) -> Found:
    """The verdict on runs made by hand."""
    finding, evidence = finding_of(**changes), Evidence(runs(small, large))
    return judge(finding, evidence.runs, table_of(finding, evidence))


FOUND = judged(LOSSES, LOSSES * TIMES)


def test_a_difference_paired_by_seed() -> None:
    assert (FOUND.verdict, FOUND.arms, FOUND.seeds, FOUND.by_divergence) == ("small", ("small", "large"), 5, False)
    assert FOUND.effect == pytest.approx(10**0.6)
    assert FOUND.p == pytest.approx(0.013236, rel=1e-4)  # worked by hand in test_verdicts.py
    assert FOUND.low < FOUND.effect < FOUND.high
    assert FOUND.medians == pytest.approx((0.4, 0.4 * 10**0.6))
    assert re.fullmatch(
        r"small against large: final loss 3\.98 times lower \(.* to .*\), p = 0\.013, 5 seeds", FOUND.told
    )


def test_the_arm_ahead_comes_first() -> None:
    found = judged(LOSSES * TIMES, LOSSES)
    assert (found.verdict, found.arms, found.winner) == ("large", ("large", "small"), "large")
    assert found.effect == pytest.approx(FOUND.effect)
    assert found.medians == pytest.approx(FOUND.medians)


def test_what_is_only_the_seed_has_no_verdict() -> None:
    found = judged(LOSSES, LOSSES * [1.5, 0.7, 1.2, 0.9, 1.0])
    assert (found.verdict, found.winner) == (None, UNCLEAR)
    assert found.p > 0.05
    assert found.low < 1 < found.high


def test_a_difference_below_the_least_has_no_verdict() -> None:
    found = judged(LOSSES, LOSSES * TIMES, least=4.0)
    assert (found.verdict, found.winner) == (None, "too small a difference to count")
    assert judged(LOSSES, LOSSES * TIMES, least=3.9).verdict == "small"


def test_who_diverges_more_often_is_worse_whatever_is_left() -> None:
    lost = np.array([*LOSSES, *LOSSES, *LOSSES]) / 100
    lost[:12] = NAN
    found = judged(np.tile(LOSSES, 3), lost)
    assert (found.verdict, found.arms, found.by_divergence) == ("small", ("small", "large"), True)
    assert found.diverged == (0.0, 0.8)
    assert found.told == (
        f"small against large: diverges in 0 % of the runs instead of 80 %, p < 0.001, {found.seeds} seeds"
    )
    assert judged(np.tile(LOSSES, 3), [NAN] * 15).verdict == "small"


def test_which_way_is_better_may_be_said() -> None:
    counts = np.array([4.0, 4.0, 3.0, 4.0, 4.0, 4.0])
    assert judged(counts, np.ones(6)).verdict == "large"
    found = judged(counts, np.ones(6), higher=True)
    assert (found.verdict, found.better, found.ratio) == ("small", "higher", False)
    assert found.effect == pytest.approx(counts.mean() - 1)


def test_settings_that_both_arms_sweep_over_are_compared_one_by_one() -> None:
    """Rates differ by a factor of 1,000, which is no noise of the difference."""
    slow, fast = (runs(LOSSES, LOSSES * TIMES).assign(**{"training.learning_rate": rate}) for rate in (0.1, 1.0))
    fast = fast.assign(final_loss=fast["final_loss"] / 1000, run_id=fast["run_id"] + " fast")
    finding, evidence = finding_of(), Evidence(pd.concat([slow, fast], ignore_index=True))
    table = table_of(finding, evidence)
    assert "training.learning_rate" in table
    found = judge(finding, evidence.runs, table)
    assert [found.p, found.effect] == pytest.approx([FOUND.p, FOUND.effect])


def test_too_few_seeds_are_not_judged() -> None:
    with pytest.raises(UserError, match="The finding made_up cannot be judged: Too few seeds"):
        judged(LOSSES[:3], LOSSES[:3] * 2)


def test_an_arm_without_runs_is_refused() -> None:
    arms = (Arm("small", {"network.width": 1}), Arm("huge", {"network.width": 9}))
    with pytest.raises(UserError, match="The finding made_up finds no run for huge"):
        judged(LOSSES, LOSSES, arms=arms)


def test_a_metric_that_no_run_has_is_refused() -> None:
    with pytest.raises(UserError, match="The finding made_up is about val_loss, which its runs do not have"):
        judged(LOSSES, LOSSES, metric="val_loss")


def test_facts_are_medians_and_shares() -> None:
    table = runs([0.1, 0.2, 0.3, 0.4], [0.5, 1.5, 2.5, NAN]).assign(val_loss=2.0)
    finding = finding_of()

    def told(kind: str, width: int, **keys: Any) -> str:
        return fact_of(Fact(kind, {"network.width": width}, **keys), finding, table)

    assert told("median", 1) == "0.25"
    assert told("median", 2, metric="val_loss") == "2"
    assert told("above", 2, value=1.0) == "50 %"
    assert told("diverged", 2) == "25 %"
    with pytest.raises(UserError, match="finds no run for its fact"):
        told("median", 3)


def test_a_key_that_a_run_has_not_is_at_its_default() -> None:
    table = completed(pd.DataFrame({"cell": ["a", "b", "c"], "seed": 0, "final_loss": 1.0}))
    table = table.assign(**{"data.label_noise": [NAN, 0.1, 0.2], "training.patience": [NAN, 50.0, 7.0]})
    assert levels_of(table, "data.label_noise").tolist() == ["0", "0.1", "0.2"]
    assert list(runs_of(table, {"data.label_noise": 0})["cell"]) == ["a"]
    assert list(runs_of(table, {"training.patience": None})["cell"]) == ["a"]
    assert list(runs_of(table, {"training.patience": 50, "data.label_noise": 0.1})["cell"]) == ["b"]
    assert list(runs_of(table, {"data.outliers": 0})["cell"]) == ["a", "b", "c"]


def test_an_answer_with_a_place_that_nothing_fills_is_refused() -> None:
    assert answer(finding_of(answer="{better} and {seeds}"), FOUND) == "0.4 and 5"
    with pytest.raises(UserError, match=r"The answer of made_up has a place 'stuck': the places are .*effect"):
        answer(finding_of(answer="{stuck}"), FOUND)


GOOD = """
place: 1
heard: so.
experiment: exam
metric: final_loss
arms: {a: {where: {seed: 0}}, b: {where: {seed: 1}}}
picture: {kind: levels, by: seed}
verdict: a
answer: A.
"""


@pytest.mark.parametrize(
    ("was", "becomes", "sentence"),
    [
        ("metric: final_loss", "", "it needs two arms, and its keys are"),
        (", b: {where: {seed: 1}}", "", "it needs two arms"),
        ("heard", "herd", "unexpected keyword argument 'herd'"),
        ("experiment: exam", "experiment: none_such", "names an experiment or, in its verdict, an arm that is not"),
        ("verdict: a", "verdict: a\nfacts: {x: {kind: mean}}", "a fact is one of median, diverged, above, not mean"),
        ("verdict: a", "verdict: c", "names an experiment or, in its verdict, an arm that is not"),
    ],
)
def test_a_file_that_declares_no_finding_is_refused(was: str, becomes: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "made_up.yaml"
    file.write_text(GOOD)
    assert read(file).names == ("a", "b")
    file.write_text(GOOD.replace(was, becomes))
    with pytest.raises(UserError, match=sentence):
        read(file)


# --- pictures ---------------------------------------------------------------------------------------------------


def test_levels_are_drawn_with_what_diverged() -> None:
    made = runs([*LOSSES, NAN], [*LOSSES, 0.3])
    drawn = picture(finding_of(), Evidence(made), made).decode()
    assert "17 % diverged" in drawn
    assert "network.width" in drawn
    assert drawn.encode() == picture(finding_of(), Evidence(made), made)


def test_a_picture_of_no_known_kind_is_refused() -> None:
    made = runs(LOSSES, LOSSES)
    with pytest.raises(UserError, match="picture of no known kind: choose from levels, curves, predictions, resources"):
        picture(finding_of(picture=Picture("pie")), Evidence(made), made)


def test_what_is_not_kept_cannot_be_read() -> None:
    with pytest.raises(UserError, match="Of these runs nothing is kept"):
        judged(LOSSES, LOSSES, metric="rms_error")


# --- the command ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["deepness"], "There is no finding deepness: choose from depth, width, relu"),
        (["depth", "seed=1"], "seed is not a key here: the keys are tracking.uri."),
        (["depth", "--write", "nowhere"], "--write is nowhere, but it must be a folder that is there, like docs."),
    ],
)
def test_words_that_cannot_be_used(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(["findings", *words], tmp_path) == 1
    assert capsys.readouterr().err.startswith(f"error: {sentence}")
    assert not list(tmp_path.iterdir())


def test_a_process_that_fails_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    from pipeline.errors import FailedRunsError

    with pytest.raises(FailedRunsError, match="`seedbed train seed=-1 tracking=none` ended with exit code 1"):
        taken(["seed=-1", "tracking=none"])
    assert "seed is -1" in capfd.readouterr().err


@pytest.mark.slow
def test_findings_come_out_again_with_the_same_numbers(tmp_path: Path) -> None:
    """Portable bits: on any machine the runs are those of the page. The second time they are found, not trained."""
    names = ["equal_weights", "sandwiches", "outside_range"]
    pictures: dict[str, bytes] = {}
    for _ in range(2):
        done = seedbed("findings", *names, "--write", str(tmp_path), cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert done.stdout.count("SAME") == len(names)
        again, kept = read_measured(tmp_path), read_measured(DOCS)
        assert set(again) == set(names)
        for name in names:
            assert again[name][1].facts == kept[name][1].facts
            assert again[name][1].told == kept[name][1].told
        drawn = {name: (tmp_path / FOLDER / f"{name}.svg").read_bytes() for name in names}
        pictures = pictures or drawn
        assert pictures == drawn
    assert (tmp_path / PAGE).read_text() == page([findings()[name] for name in findings() if name in names], again)
    results = read_results(f"sqlite:///{tmp_path}/mlflow.db", Selection(experiment="sandwiches"))
    assert len(results.runs) == 500


@pytest.mark.slow
def test_another_verdict_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    declared = replace(findings()["equal_weights"], verdict="equal weights")
    monkeypatch.setattr(commands, "named", lambda names: [declared])
    assert in_process(["findings", "equal_weights"], tmp_path) == 1
    said = capsys.readouterr()
    assert "DIFFERENT" in said.out
    assert said.err == "error: 1 of 1 findings have another verdict: equal_weights.\n"


def test_every_experiment_of_a_finding_is_there() -> None:
    assert {finding.experiment for finding in findings().values()} <= set(experiment_files())
