"""`--force` trains again what is finished in the store, as new runs; what is stored stays."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline import identity
from pipeline.environment import environment
from pipeline.identity import Run
from pipeline.planning.plan import make_plan
from pipeline.store.sink import Kept
from pipeline.training.continuing import Starts
from tests.conftest import in_process
from tests.factory import run

WORDS = ["data=exam", "training.epochs=3", "tracking.experiment=small"]


class Full:
    """A store in which everything is finished."""

    def finished(self, fingerprints: Sequence[str]) -> dict[str, Kept]:
        """All of them."""
        return {one: Kept("id", {}, diverged=False) for one in fingerprints}

    def starts(self, runs: Sequence[Run]) -> Starts:
        """None."""
        return {}


def stored(folder: Path) -> list[str]:
    """The fingerprints of the trained runs."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = client.get_experiment_by_name("small")
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    assert {one.info.status for one in runs} <= {"FINISHED"}
    return [one.data.tags["fingerprint"] for one in runs if "fingerprint" in one.data.tags]


def test_a_forced_plan_finds_nothing_and_still_drops_duplicates() -> None:
    runs: list[Run] = [run(seed=0), run(seed=1), run(seed=0)]
    assert (len(make_plan(runs, Full()).found), make_plan(runs, Full()).stacks) == (2, [])
    plan = make_plan(runs, Full(), force=True)
    assert (plan.found, plan.duplicates, [len(stack) for stack in plan.stacks]) == ({}, 1, [2])


def test_force_trains_finished_runs_again_and_keeps_the_old(
    empty_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(["sweep", *WORDS, "seed=0,1"], empty_store) == 0
    assert in_process(["sweep", "--force", *WORDS, "seed=0,1,2"], empty_store) == 0
    assert "3 runs: 3 trained" in capsys.readouterr().out
    assert in_process(["train", *WORDS, "seed=0", "--force"], empty_store) == 0
    assert "Nothing to train" not in capsys.readouterr().out
    found = stored(empty_store)
    assert sorted(found.count(one) for one in set(found)) == [1, 2, 3]
    assert in_process(["sweep", *WORDS, "seed=0,1,2"], empty_store) == 0
    assert "Nothing to train" in capsys.readouterr().out, "of several finished ones, one is enough"


def test_force_reaches_the_jobs_of_other_launchers(empty_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", *WORDS, "seed=0,1", "hydra/launcher=basic"]
    assert in_process(words, empty_store) == 0
    assert in_process([*words, "--force"], empty_store) == 0
    assert "Nothing to train" not in capsys.readouterr().out
    assert len(stored(empty_store)) == 4


@pytest.mark.parametrize("words", [["plan", "--force"], ["sweep", "--dry-run", "--force"]])
def test_a_forced_plan_says_what_would_be_trained(
    words: list[str], empty_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(["train", *WORDS], empty_store) == 0
    capsys.readouterr()
    assert in_process([*words, *WORDS], empty_store) == 0
    told = capsys.readouterr().out
    assert "found finished" not in told
    assert "to train                   1" in told
    assert len(stored(empty_store)) == 1


def test_an_upgrade_says_why_it_trains_again(
    empty_store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert in_process(["sweep", *WORDS, "seed=0,1"], empty_store) == 0
    sources = identity.bare_sources()
    cached = (identity.code_digest, identity.code_digests, environment)
    with monkeypatch.context() as patched:
        patched.setattr(identity, "bare_sources", lambda: sources | {"losses": sources["losses"] + "\nMORE = 1"})
        for one in cached:
            one.cache_clear()
        capsys.readouterr()
        for verb, told in (("plan", "to train"), ("sweep", "2 trained")):
            assert in_process([verb, *WORDS, "seed=0,1"], empty_store) == 0
            said = capsys.readouterr()
            assert told in said.out
            assert "note: The numerics code has changed since (losses.py)." in said.err
        assert in_process(["sweep", *WORDS, "seed=0,1"], empty_store) == 0
        assert "2 found finished" in capsys.readouterr().out
    for one in cached:
        one.cache_clear()
    assert in_process(["sweep", *WORDS, "seed=0,1,2"], empty_store) == 0
    assert "has changed" not in capsys.readouterr().err, "the runs of the first code are found again"
