"""Several sweeps at once into one store: each run is trained once, whoever is killed or frozen."""

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pipeline.config import TrackingConfig
from pipeline.errors import UserError
from pipeline.planning import plan
from pipeline.planning.plan import looked_at
from pipeline.servers.ui import server
from pipeline.store import claims, track
from pipeline.store.claims import CLAIM, FILE, Claims, parsed
from pipeline.store.sink import Change, Kept, Sink
from pipeline.store.sinks import open_sink
from pipeline.store.track import Store
from tests.ports import own_port
from tests.postgres import Server
from tests.processes import TWO, eventually
from tests.stored import Seen, finished, seen, statuses
from tests.sweeps import APPS, LIVE, RUNS, Command, frozen_with_lock, in_folder, undisturbed
from tests.tracking import Trained, fingerprints, record_of, some, tracking

__all__ = ["some", "tracking", "undisturbed"]  # fixtures

pytestmark = pytest.mark.usefixtures("own_outbox")
Make = Callable[[], Claims]


@pytest.fixture
def kept(tracking: TrackingConfig) -> Iterator[Store]:
    with Store(tracking, print) as store:
        yield store


@pytest.fixture
def make(kept: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes claims of further sweeps, each with a sink of its own."""
    monkeypatch.setattr(claims, "BEAT", 0.05)
    made: list[tuple[Claims, Sink]] = []

    def one() -> Claims:
        sink = open_sink(kept.uri, print)
        made.append((Claims(sink, kept.experiment), sink))
        return made[-1][0]

    yield one
    for claim, sink in made:
        claim.close()
        sink.close()


def opened(store: Store) -> str:
    return store.open_sweep("a sweep", {}, {"kind": "sweep"})


def listed(store: Store, sweep: str) -> list[str]:
    return list(json.loads(store.sink.read(sweep, FILE)))


# --- who has what -----------------------------------------------------------------------------------------------


def test_what_one_sweep_holds_is_not_the_next_ones(kept: Store, make: Make) -> None:
    first, second, looking = make(), make(), make()
    one, other = opened(kept), opened(kept)
    assert first.take(one, ["a", "b"]) == set()
    assert second.take(other, ["b", "c"]) == {"b"}
    assert listed(kept, other) == ["c"]
    assert looking.held(["a", "b", "c", "d"]) == {"a", "b", "c"}


def test_a_sweep_that_has_ended_holds_nothing(kept: Store, make: Make) -> None:
    sweep = opened(kept)
    make().take(sweep, ["a"])
    kept.close_sweep(sweep, "FINISHED", {}, {}, "")
    assert make().held(["a"]) == set()


def test_what_a_sweep_takes_later_comes_to_what_others_see(kept: Store, make: Make) -> None:
    mine, looking = make(), make()
    sweep = opened(kept)
    mine.take(sweep, ["a"])
    assert looking.held(["a", "b"]) == {"a"}
    mine.take(sweep, ["b"])
    assert looking.held(["a", "b"]) == {"b"}


def test_what_failed_here_is_free_for_others(kept: Store, make: Make) -> None:
    mine, looking = make(), make()
    mine.take(opened(kept), ["a"])
    mine.let_go()
    assert looking.held(["a"]) == set()
    make().let_go()  # who has claimed nothing says nothing


def test_a_sweep_s_next_batch_is_told_from_the_last(kept: Store, make: Make) -> None:
    """It has its claims anew, and the sweep's run id."""
    looking, sweep = make(), opened(kept)
    make().take(sweep, ["a"])
    assert looking.held(["a", "b"]) == {"a"}
    time.sleep(0.01)
    make().take(sweep, ["b"])
    assert looking.held(["a", "b"]) == {"b"}


def test_experiments_are_apart(kept: Store, tracking: TrackingConfig, make: Make) -> None:
    make().take(opened(kept), ["a"])
    with Store(replace(tracking, experiment="another"), print) as elsewhere:
        assert elsewhere.claim(opened(elsewhere), ["a"]) == set()


def test_sweeps_that_choose_at_the_same_moment_share_without_a_gap(kept: Store, make: Make) -> None:
    wanted = [[f"run {i}" for i in range(40) if (i + sweep) % 6] for sweep in range(6)]
    together = threading.Barrier(len(wanted))

    def choose(claim: Claims, sweep: str, runs: list[str]) -> set[str]:
        together.wait()
        return claim.take(sweep, runs)

    for _ in range(3):
        sweeps = [opened(kept) for _ in wanted]
        choosing = [make() for _ in wanted]
        with ThreadPoolExecutor(len(wanted)) as pool:
            taken = list(pool.map(choose, choosing, sweeps, wanted))
        held = [listed(kept, sweep) for sweep in sweeps]
        assert Counter(run for runs in held for run in runs) == Counter({f"run {i}": 1 for i in range(40)})
        assert [set(runs) for runs in held] == [set(runs) - others for runs, others in zip(wanted, taken, strict=True)]
        for sweep in sweeps:
            kept.close_sweep(sweep, "FINISHED", {}, {}, "")
        for claim in choosing:
            claim.close()  # else the signs of life of all rounds leave a busy machine's store no time


def test_the_smaller_id_waits_while_a_larger_one_chooses(kept: Store, make: Make) -> None:
    mine, other = sorted([opened(kept), opened(kept)])
    choosing = {"experiment": kept.experiment.experiment_id, "is_choosing": True, "version": 0, "beat": 0}
    kept.sink.change([Change(other, tags={CLAIM: json.dumps(choosing)}, files={FILE: b'["a", "b"]'})])
    taken: list[set[str]] = []
    thread = threading.Thread(target=lambda: taken.append(make().take(mine, ["a", "b"])))
    thread.start()
    thread.join(0.5)
    assert not taken  # nobody knows yet whether the other has seen this one
    holding = {**choosing, "is_choosing": False, "version": 1}
    kept.sink.change([Change(other, tags={CLAIM: json.dumps(holding)}, files={FILE: b'["a"]'})])
    thread.join(120)
    assert taken == [{"a"}]
    assert listed(kept, mine) == ["b"]


def test_the_larger_id_leaves_what_a_smaller_one_wants(kept: Store, make: Make) -> None:
    other, mine = sorted([opened(kept), opened(kept)])
    choosing = {"experiment": kept.experiment.experiment_id, "is_choosing": True, "version": 0, "beat": 0}
    kept.sink.change([Change(other, tags={CLAIM: json.dumps(choosing)}, files={FILE: b'["a"]'})])
    assert make().take(mine, ["a", "b"]) == {"a"}


@pytest.mark.parametrize("said", ["", "{}", "[1]", '{"experiment": "1"}', '{"other": 1}'])
def test_a_tag_that_is_no_claim_claims_nothing(said: str) -> None:
    assert parsed(said) is None


def test_a_list_that_cannot_be_read_keeps_nobody_from_training(kept: Store, make: Make) -> None:
    sweep = opened(kept)
    said = {"experiment": kept.experiment.experiment_id, "is_choosing": False, "version": 0, "beat": 0}
    kept.sink.change([Change(sweep, tags={CLAIM: json.dumps(said)})])
    assert make().take(opened(kept), ["a"]) == set()


# --- signs of life ----------------------------------------------------------------------------------------------


def test_a_silent_sweep_is_taken_for_dead_and_a_living_one_is_not(
    kept: Store, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    living, silent, looking = make(), make(), make()
    living.take(opened(kept), ["a"])
    silent.take(opened(kept), ["b"])
    silent.close()  # its run goes on to be RUNNING
    monkeypatch.setattr(claims, "SILENCE", 1.0)
    assert looking.held(["a", "b"]) == {"a", "b"}
    eventually(lambda: looking.held(["a", "b"]) == {"a"})


def test_who_is_doubtful_knows_it(kept: Store, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(claims, "time", SimpleNamespace(**vars(time) | {"time": lambda: clock[0]}))
    mine = make()
    clock[0] += 0.6 * claims.SILENCE
    mine.take(opened(kept), ["a"])
    assert not mine.is_doubtful  # however long it took to plan before
    mine.close()
    clock[0] += 0.6 * claims.SILENCE
    assert mine.is_doubtful


def test_what_others_have_trained_meanwhile_is_not_written_again(
    tracking: TrackingConfig, some: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "end_stale", lambda sink: 0)
    with Store(tracking, print) as slow, Store(tracking, print) as quick:
        wanted = fingerprints(some)
        assert slow.claim(opened(slow), wanted) == set()
        slow.grow({wanted[0]: [("curve/loss", 0.5, 0)]}, lambda one: record_of(some)(wanted.index(one)))
        slow._claims.close()
        monkeypatch.setattr(claims, "SILENCE", 0.2)
        time.sleep(0.3)
        written = slow.write(wanted[2:], lambda place: record_of(some)(2))
        assert len(written) == 1  # nobody has it
        theirs = quick.write(wanted[:2], record_of(some))
        assert slow.write(wanted[:2], record_of(some)) == theirs
    kept = [one for one in seen(slow.uri) if one.tags.get("fingerprint") in wanted]
    assert Counter(one.status for one in kept) == {"FINISHED": 3, "KILLED": 1}  # the one that had grown


def test_what_has_ended_since_the_store_was_opened_is_not_claimed(tracking: TrackingConfig, some: Trained) -> None:
    with Store(tracking, print) as mine, Store(tracking, print) as other:
        other.write(fingerprints(some)[:1], record_of(some))
        assert mine.claim(opened(mine), fingerprints(some)) == set(fingerprints(some)[:1])


class Flaky:
    """A store that fails so many times when it is looked at."""

    def __init__(self, failures: int) -> None:
        self.failures, self.told = failures, list[str]()

    def claimed(self, fingerprints: Sequence[str]) -> tuple[set[str], dict[str, Kept]]:
        self.failures -= 1
        if self.failures >= 0:
            raise UserError("The store is gone.")
        return set(fingerprints), {}

    def tell(self, text: str) -> None:
        self.told.append(text)


def test_a_store_that_fails_while_a_sweep_waits_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "AWAIT_SECONDS", 0.01)
    flaky = Flaky(2)
    assert looked_at(cast("Store", flaky), ["a"]) == ({"a"}, {})
    assert flaky.told == ["The store is gone. It is asked again."] * 2
    monkeypatch.setattr(plan, "STORE_SECONDS", 0.05)
    with pytest.raises(UserError, match="gone"):
        looked_at(cast("Store", Flaky(1000)), ["a"])


# --- whole sweeps -----------------------------------------------------------------------------------------------

# It is soon in doubt of itself, and goes on behind its first stack when the file `held` is gone.
HELD = """
import os, time
from pipeline.store import claims, track
claims.BEAT, claims.SILENCE = 0.3, 3.0
write = track.Store.write
def held(*given):
    written = write(*given)
    while os.path.exists("held"):
        time.sleep(0.01)
    return written
track.Store.write = held
"""
# It takes nobody for dead before there is a file `impatient`, however busy this machine is.
PATIENT = """
import os
from pipeline.store import claims
is_alive = claims.Claims._is_alive
def patient(*given):
    claims.SILENCE = 3.0 if os.path.exists("impatient") else 3600.0
    return is_alive(*given)
claims.Claims._is_alive = patient
"""


def parents(command: Command) -> dict[str, Seen]:
    return {one.run_id: one for one in seen(command.database) if one.is_parent}


def table_of(command: Command, parent: Seen) -> list[dict[str, object]]:
    content = json.loads(parent.files(command.served)["runs.json"])
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def check_shared(one: Command, other: Command, undisturbed: Command) -> None:
    """Every run is there once, with the bits of the undisturbed sweep, below the sweep that trained it."""
    expected, found = finished(undisturbed.database), finished(one.database, one.served)
    assert sorted(found) == sorted(expected)
    assert all(found[fingerprint] == result for fingerprint, result in expected.items())
    both = parents(one)
    assert len(both) == 2
    trained_by = {
        str(row["run id"]): parent
        for parent, seen_parent in both.items()
        for row in table_of(one, seen_parent)
        if row["status"] == "trained"
    }
    children = [run for run in seen(one.database) if run.status == "FINISHED" and not run.is_parent]
    assert {run.run_id: run.tags["mlflow.parentRunId"] for run in children} == trained_by
    for parent in both.values():
        assert {row["fingerprint"] for row in table_of(one, parent)} == set(expected)


@pytest.fixture(params=APPS)
def on_postgres(request: pytest.FixtureRequest, postgres: Server, tmp_path: Path) -> Iterator[tuple[Command, Command]]:
    """The same sweep twice, into one MLflow server on PostgreSQL."""
    port, database = own_port(), postgres.new_database()
    options = ("--artifacts-destination", str(tmp_path / "served"), *APPS[request.param])
    with server(database, port, options):
        words = in_folder(tmp_path / "one", *TWO, uri=f"http://127.0.0.1:{port}")
        one = replace(words, database=database, served=tmp_path / "served")
        (tmp_path / "other").mkdir()
        yield one, replace(one, folder=tmp_path / "other")


@pytest.mark.slow
def test_two_drivers_on_one_server_train_each_run_once(
    on_postgres: tuple[Command, Command], undisturbed: Command
) -> None:
    one, other = on_postgres
    with one.started() as first, other.started() as second:
        assert first.wait(900) == 0, one.said()
        assert second.wait(900) == 0, other.said()
    check_shared(one, other, undisturbed)
    assert f"{RUNS} runs" in one.said()
    assert f"{RUNS} runs" in other.said()


@pytest.mark.slow
@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "frozen"])
def test_what_a_killed_or_frozen_driver_leaves_the_other_trains(
    is_killed: bool, undisturbed: Command, tmp_path: Path
) -> None:
    """One that was frozen goes on later, and writes nothing twice."""
    one = replace(in_folder(tmp_path / "one", "executor=serial"), settings=LIVE + HELD)
    (tmp_path / "other").mkdir()
    words = (*one.words, f"tracking.uri={one.database}")
    other = replace(one, words=words, folder=tmp_path / "other", settings=LIVE + PATIENT)
    (one.folder / "held").touch()
    with one.started() as first:
        eventually(lambda: has_runs(one) and "FINISHED" in statuses(one.database), 300)
        frozen_with_lock(first, one).close()
        (one.folder / "held").unlink()
        with other.started() as second:
            eventually(lambda: "Another sweep trains" in other.said(), 300)
            if is_killed:
                first.kill()
            else:
                (other.folder / "impatient").touch()
            assert second.wait(900) == 0, other.said()
        first.send_signal(signal.SIGCONT)
        assert (first.wait(900) == 0) != is_killed, one.said()
    expected, found = finished(undisturbed.database), finished(one.database)
    assert sorted(found) == sorted(expected)
    assert all(found[fingerprint] == result for fingerprint, result in expected.items())


def has_runs(command: Command) -> bool:
    """True once the sweep has made its store, with a first run."""
    return "Sweep killed" in command.said() and (command.folder / "mlflow.db").exists()
