"""What `seedbed plan` counts and estimates."""

import pytest

from pipeline import preview as room
from pipeline.console import print_plan
from pipeline.plan import make_plan
from pipeline.preview import SENDING_SECONDS, WRITING_SECONDS, makespan, preview, seconds_of
from tests.factory import run


def test_counts_of_a_plan() -> None:
    """3 seeds x 2 architectures x 2 numbers of epochs, one of them twice; runs that differ in epochs train once."""
    runs = [run(seed=s, hidden=h, epochs=e) for s in range(3) for h in ([2], [3]) for e in (5, 9)]
    seen = preview(make_plan([*runs, runs[0]], None), "sqlite:///mlflow.db")
    assert (seen.runs, seen.cells, seen.seeds, seen.duplicates, seen.found, seen.stacks) == (12, 4, 3, 1, 0, 2)
    assert (seen.updates, seen.epochs) == (2 * 3 * 9, 2 * 3 * (5 + 9))
    assert seen.workers == 0
    assert seen.bytes > 12 * 10_000
    assert seen.writing == pytest.approx(12 * WRITING_SECONDS)


def test_nothing_is_kept_without_a_store() -> None:
    seen = preview(make_plan([run()], None), None)
    assert (seen.bytes, seen.writing) == (0, 0)


def test_a_server_takes_longer(capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan([run(seed=seed) for seed in range(40)], None)
    seen = preview(plan, "http://127.0.0.1:5000", in_bulk=False)
    assert seen.writing == pytest.approx(40 * SENDING_SECONDS)
    print_plan("Plan", seen)
    assert "writing                 12 s  estimated for an MLflow server" in capsys.readouterr().out


def test_the_longest_jobs_are_shared_out_first() -> None:
    assert makespan([1.0, 2.0, 3.0, 4.0], 1) == 10.0
    assert makespan([1.0, 2.0, 3.0, 4.0], 2) == 5.0
    assert makespan([1.0, 1.0, 4.0], 3) == 4.0
    assert makespan([], 2) == 0.0


def test_seconds_are_updates_times_the_measured_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 lanes take 8 s an update and each further lane 1 s: 10 lanes for 5 updates, then 3 for 4."""
    monkeypatch.setattr(room, "seconds_per_update", lambda pace, lanes: float(lanes))
    runs = [run(seed=seed, epochs=5 if seed < 7 else 9) for seed in range(10)]
    assert seconds_of(runs) == pytest.approx(5 * 10 + 4 * 8)
