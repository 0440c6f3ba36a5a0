"""A sweep that trains nothing keeps the comparison of the earlier sweep of the same runs, while that holds."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.conftest import in_process

WORDS = ["sweep", "data=cat_shop", "seed=range(0,3)", "training.epochs=10,30", "tracking.experiment=kept"]
BEFORE = "These runs were compared before"


def client(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder}/mlflow.db")


def parents(folder: Path) -> list[Run]:
    store = client(folder)
    (experiment,) = (one for one in store.search_experiments() if one.name == "kept")
    return list(store.search_runs([experiment.experiment_id], "tags.kind = 'sweep'", order_by=["attributes.end_time"]))


def content(folder: Path, run: Run, name: str) -> bytes:
    (file,) = folder.glob(f"**/{run.info.run_id}/artifacts/{name}")
    return file.read_bytes()


def note(folder: Path) -> str:
    (experiment,) = (one for one in client(folder).search_experiments() if one.name == "kept")
    return str(experiment.tags["mlflow.note.content"])


def test_it_is_kept_again_and_points_at_the_new_sweep(
    empty_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SEEDBED_REPORT")
    assert in_process(WORDS, empty_store) == 0
    first_note = note(empty_store)
    assert BEFORE not in capsys.readouterr().out
    assert in_process(WORDS, empty_store) == 0
    said = capsys.readouterr().out
    first, second = parents(empty_store)
    for name in ("report.html", "cells.json", "cells.csv", "against_best.json", "effects.json"):
        assert content(empty_store, first, name) == content(empty_store, second, name)
    assert BEFORE in said
    assert f"{second.info.run_id}/artifacts/report.html" in said
    assert first.data.tags["mlflow.note.content"] == second.data.tags["mlflow.note.content"]
    assert note(empty_store) == first_note.replace(first.info.run_id, second.info.run_id) != first_note


@pytest.mark.slow
def test_it_is_made_again_with_another_seed_another_question_or_a_lost_file(
    empty_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(WORDS, empty_store) == 0
    for words in (["seed=range(0,4)"], ["seed=range(0,3)", "tracking.report=false"]):
        assert in_process([WORDS[0], WORDS[1], *WORDS[3:], *words], empty_store) == 0
    assert BEFORE not in capsys.readouterr().out
    (file,) = empty_store.glob(f"**/{parents(empty_store)[0].info.run_id}/artifacts/effects.json")
    file.unlink()
    assert in_process(WORDS, empty_store) == 0
    assert BEFORE not in capsys.readouterr().out
    assert in_process(WORDS, empty_store) == 0
    assert BEFORE in capsys.readouterr().out
    (file,) = empty_store.glob(f"**/{parents(empty_store)[-1].info.run_id}/artifacts/comparison.json")
    file.write_bytes(b"not what it was")
    assert in_process(WORDS, empty_store) == 0
    assert BEFORE not in capsys.readouterr().out
    assert in_process([*WORDS, "--force"], empty_store) == 0
    assert BEFORE not in capsys.readouterr().out
