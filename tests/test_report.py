"""The report: one file that needs nothing else, the same bytes for the same runs, with everything in it escaped."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.checks import shown
from pipeline.compare.comparison import compare
from pipeline.compare.results import Results, Selection, read_results
from pipeline.pictures import learning
from pipeline.pictures.learning import spread_evenly
from pipeline.report.page import Drawn, draw_best, report
from tests.compared import swept, uri
from tests.conftest import copy_store, in_process, seedbed
from tests.factory import GROWING
from tests.progress import complaints

__all__ = ["swept"]  # a fixture

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(HTMLParser):
    """What is on a page: its elements by name, its text, its addresses; fails for tags that do not close in order."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.feed(page.decode())
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element that begins."""
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"href", "src", "xlink:href"}]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element without content."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Fails for an element that is not the last one opened."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Notes text."""
        self.text.append(data)

    @property
    def said(self) -> str:
        """All text, with single spaces."""
        return " ".join(" ".join(self.text).split())


def page_of(address: str) -> tuple[bytes, Results]:
    results = read_results(address, Selection())
    found = compare(results.runs)
    return report(results, found, draw_best(results, found)), results


def test_it_needs_nothing_else_and_has_all_parts(swept: Path) -> None:
    page, results = page_of(uri(swept))
    seen = Page(page)
    assert len(page) < 1_000_000
    assert "script" not in seen.tags
    assert {one for one in seen.addresses if not one.startswith(("#", "http://127.0.0.1:5000/#/"))} == set()
    assert b"url(http" not in page
    assert b"@import" not in page
    found = compare(results.runs)
    for part in (
        results.title,
        found.verdicts.sentence,
        found.effects.sentence,
        "seedbed sweep data=cat_shop 'network.hidden=[2],[4],[8]'",
        "How the loss falls",
        "How much is only the seed",
        "Is the best really better?",
        "All cells",
        "Best runs",
        "numerics_code",
    ):
        assert " ".join(part.split()) in seen.said, part
    assert seen.tags.count("svg") >= 8
    ids = re.findall(rb' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "pictures on one page need ids of their own"


@pytest.mark.slow
def test_same_runs_same_bytes_also_in_another_process(swept: Path, tmp_path: Path) -> None:
    page, _ = page_of(uri(swept))
    done = seedbed("report", f"tracking.uri={uri(swept)}", "--out", "other.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    other = (tmp_path / "other.html").read_bytes()
    assert other == page
    assert "Report: other.html" in done.stdout
    assert not complaints(done.stderr)


def test_a_sweep_keeps_its_report_and_the_pictures_of_its_best_run(
    empty_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SEEDBED_REPORT")
    words = ["sweep", "data=cat_shop", "seed=range(0,3)", "training.epochs=10,30", "tracking.experiment=kept"]
    assert in_process(words, empty_store) == 0
    said = capsys.readouterr().out
    (file,) = re.findall(r"^Report: (.+/report\.html)$", said, re.MULTILINE)
    kept = (empty_store / file).read_bytes()
    monkeypatch.chdir(empty_store)
    page, results = page_of("sqlite:///mlflow.db")
    assert kept == page
    best = results.runs.sort_values("final_loss").iloc[0]["run_id"]
    for name in ("network.svg", "predictions.svg", "loss.svg"):
        assert results.sink.read(best, name).startswith(b"<?xml")
    with_pictures = list(empty_store.glob("**/network.svg"))
    assert len(with_pictures) == 1
    (empty_store / file).unlink()
    assert in_process(["report"], empty_store) == 0
    assert (empty_store / "report.html").read_bytes() == page == (empty_store / file).read_bytes()
    assert in_process(["sweep", *words[1:], "tracking.report=false"], empty_store) == 0
    assert "Report" not in capsys.readouterr().out.split("Report: report.html")[1]
    with_report, without = parent_notes(empty_store)[-2:]
    assert "The report is report.html" in with_report
    assert "report" not in without


def parent_notes(folder: Path) -> list[str]:
    """The notes of a store's sweeps, in the order in which they were started."""
    parents = read_results(uri(folder), Selection()).source.parents()
    return [parent.tags["mlflow.note.content"] for parent in reversed(parents)]


def test_a_sweep_whose_runs_all_diverge_is_a_result(
    empty_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SEEDBED_REPORT")
    words = ["sweep", "seed=range(0,5)", "init.scale=1e308", "network.hidden=[50],[60]", "training.epochs=5"]
    assert in_process(words, empty_store) == 0
    said = capsys.readouterr().out
    assert "All runs diverged: there is no best cell." in said
    assert "Report: " in said
    for metric in ("final_loss", "best_loss", "updates"):
        assert in_process(["compare", f"metric={metric}", "threshold=1"], empty_store) == 0


def test_names_are_data(empty_store: Path) -> None:
    odd = '<script>alert("1")</script> & $x$'
    words = [
        "sweep",
        "seed=0,1",
        "training.epochs=3,4",
        f"data.name='{odd}'",
        "data.X=[[0,1],[1,0]]",
        "data.y=[0,1]",
        "data.features=['<b>bold','a&b']",
        "data.targets=['\\\\<i>']",
        "data.rows=['<u>1','$2$']",
        "data.scaling=none",
        "data.target_scaling=none",
        "tracking.experiment='<img src=x>'",
    ]
    assert in_process(words, empty_store) == 0
    page, _ = page_of(uri(empty_store))
    seen = Page(page)
    assert not {"script", "b", "i", "u", "img"} & set(seen.tags)
    assert "<img src=x>" in seen.said
    assert "<b>bold" in seen.said


def test_runs_that_diverged_are_listed_with_the_command_that_repeats_them(empty_store: Path) -> None:
    words = [f"data.{key}={GROWING[key]}".replace(" ", "") for key in ("X", "y")]
    words += ["network.hidden=[]", "training.derivative=of_activation", "data.name=growing", "data.scaling=none"]
    words += ["data.target_scaling=none", "training.epochs=90", "training.learning_rate=1,1e307", "seed=0,1"]
    assert in_process(["sweep", *words], empty_store) == 0
    page, results = page_of(uri(empty_store))
    said = Page(page).said
    assert len(results.diverged) == 2
    assert "Runs that diverged or failed" in said
    for one in results.diverged:
        assert one["reason"] in said
        assert one["command"] in said
        assert "training.learning_rate=1e+307" in one["command"]
    assert "2 diverged" in said


@pytest.mark.slow
def test_a_thousand_runs_stay_below_3_mb(swept: Path) -> None:
    results = read_results(uri(swept), Selection())
    copies = []
    for copy in range(17):  # 1,020 runs, in 102 cells
        more = results.runs.assign(**{"training.learning_rate": 3.0 + copy})
        more["cell"] = [f"{cell} {copy}" for cell in more["cell"]]
        copies.append(more)
    runs = compare(pd.concat(copies, ignore_index=True))
    page = report(results, runs, Drawn("none", {}))
    assert len(page) < 3_000_000


def test_where_it_cannot_be_written_is_told_before_anything_is_read(
    swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (str(tmp_path), "none/report.html"):
        assert in_process(["report", "--out", place], swept) == 1
        caught = capsys.readouterr()
        assert caught.err == f"error: --out is {shown(place)}, but it must be a file in a folder that is there.\n"
        assert caught.out == ""
    assert in_process(["report", "--out", "sweep.pdf"], swept) == 1
    assert (
        capsys.readouterr().err
        == "error: --out is sweep.pdf, but the report is a page: name a file that ends in .html.\n"
    )


def test_a_selection_that_is_no_sweep_has_a_report_too(swept: Path, tmp_path: Path) -> None:
    copy_store(swept, tmp_path)
    file = tmp_path / "some.html"
    assert (
        in_process(
            ["report", "filter=metrics.`result/updates` > 30", "by=network.hidden", "--out", str(file)], tmp_path
        )
        == 0
    )
    seen = Page(file.read_bytes())
    assert "The filter metrics.`result/updates` > 30" in seen.said
    assert "3 groups" in seen.said


def test_with_validation_rows_their_curves_are_drawn_and_those_of_training_dashed(empty_store: Path) -> None:
    """Of the tutorial's three rows one is held out, whichever the seed says."""
    words = ["data=exam", "data.validation=0.34", "network.hidden=[1],[2]", "seed=0,1"]
    assert in_process(["sweep", *words, "training.epochs=30"], empty_store) == 0
    assert in_process(["report"], empty_store) == 0
    content = (empty_store / "report.html").read_bytes()
    said = Page(content).said
    assert "Dashed: of the training rows" in said
    assert b"validation half_sse over updates, by cell" in content
    assert b"stroke-dasharray" in content
    without = words[:1] + words[2:] + ["tracking.experiment=all_rows", "training.epochs=30"]
    assert in_process(["sweep", *without], empty_store) == 0
    assert in_process(["report"], empty_store) == 0
    content = (empty_store / "report.html").read_bytes()
    assert b"validation half_sse" not in content
    assert "Dashed: of the training rows" not in Page(content).said


def test_of_many_runs_as_many_of_each_cell_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = pd.DataFrame({"cell": ["a", "b"] * 50 + ["c"] * 5, "run_id": [f"run {place}" for place in range(105)]})
    assert spread_evenly(runs) == list(runs["run_id"])
    monkeypatch.setattr(learning, "MOST_CURVES", 30)
    drawn = runs[runs["run_id"].isin(spread_evenly(runs))]
    assert dict(drawn["cell"].value_counts()) == {"a": 10, "b": 10, "c": 5}
    assert set(np.diff(drawn.index[drawn["cell"] == "a"])) == {10}
