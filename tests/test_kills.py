"""Commands killed at random moments, and started again: nothing is lost, doubled or stuck.

SEEDBED_KILLS is the number of moments (12 where it is not set), SEEDBED_KILLS_SEED draws others.
"""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ports import own_port
from tests.postgres import Server
from tests.processes import TWO, alive, eventually, session, workers_of
from tests.stored import check_integrity, finished, seen, statuses
from tests.sweeps import APPS, EVERY, RUNS, Command, in_folder, left, make_empty_store, over_http, serving, undisturbed

__all__ = ["undisturbed"]  # a fixture

KILLS = int(os.environ.get("SEEDBED_KILLS", "12"))
SEED = int(os.environ.get("SEEDBED_KILLS_SEED", "4"))
ON_ONE_STORE = 5  # kills before the sweep may end
EXECUTORS = (("executor=serial",), TWO)

pytestmark = pytest.mark.usefixtures("own_outbox")


# --- moments ----------------------------------------------------------------------------------------------------


def sweep_is_told(command: Command) -> bool:
    return "Sweep killed" in command.said()


def database_is_made(command: Command) -> bool:
    return (command.folder / ".seedbed-mlflow.db").exists() or sweep_is_told(command)


def files_are_written(command: Command) -> bool:
    return any(is_new(place, command) for place in run_folders(command))


def parent_is_closed(command: Command) -> bool:
    tables = [place / "artifacts" / "runs.json" for place in run_folders(command)]
    return "over their seeds" in command.said() or any(is_new(file, command) for file in tables)


def run_folders(command: Command) -> list[Path]:
    return list(command.served.glob("*/*") if command.served else command.folder.glob("mlflow-artifacts/*"))


def is_new(place: Path, command: Command) -> bool:
    """True for a file or folder that was made since the command was started."""
    began = (command.folder / "lively" / "sitecustomize.py").stat().st_mtime
    try:
        return place.stat().st_mtime > began
    except FileNotFoundError:
        return False


# What is waited for, and up to how many seconds later the kill comes.
MOMENTS: tuple[tuple[Callable[[Command], bool] | None, float], ...] = (
    (None, 6.0),
    (database_is_made, 3.0),
    (sweep_is_told, 3.0),
    (sweep_is_told, 1.0),
    (files_are_written, 0.3),
    (files_are_written, 2.0),
    (parent_is_closed, 0.1),
)


def kill_once(command: Command, draw: random.Random, kind: signal.Signals = signal.SIGKILL) -> str | None:
    """Starts the command and kills it; returns what it was about, None if it had ended before."""
    marker, most = draw.choice(MOMENTS)
    delay = draw.uniform(0, most)
    with command.started() as process:
        while marker and not marker(command) and process.poll() is None:
            time.sleep(0.002)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        if process.poll() is not None:
            assert process.returncode == 0, command.said()
            return None
        workers = workers_of(process.pid)
        process.send_signal(kind)
        process.wait(120)
        eventually(lambda: not any(map(alive, workers)))
        eventually(lambda: not session(process.pid))
    return about(command)


def about(command: Command) -> str:
    """What a command that was killed was about, as far as the store shows."""
    if not sweep_is_told(command):
        return "starting, no database" if not (command.folder / "mlflow.db").exists() else "starting"
    runs = seen(command.database)
    if not any(one.is_parent and one.status == "RUNNING" for one in runs):
        return "opening or closing the parent"
    live = "running runs" if any(one.status == "RUNNING" and not one.is_parent for one in runs) else "none running"
    return f"training, {live}"


def check(command: Command, undisturbed: Command, kills: int) -> None:
    """Holds what a killed sweep left, after its last end, to the undisturbed one."""
    expected, found = finished(undisturbed.database), finished(command.database, command.served)
    assert len(expected) == RUNS
    assert sorted(found) == sorted(expected)
    for fingerprint, result in expected.items():
        assert found[fingerprint] == result
    kept = Counter(statuses(command.database))
    assert set(kept) <= {"FINISHED", "KILLED", "parent FINISHED", "parent KILLED"}
    assert kept["FINISHED"] == RUNS
    assert kept["parent KILLED"] <= kills
    assert left(command) == 0
    if command.database.startswith("sqlite"):
        check_integrity(Path(command.database.removeprefix("sqlite:///")))


def killed_and_ended(
    commands: Iterator[Command], undisturbed: Command, kills: int, each: int, draw: random.Random
) -> Counter[str]:
    """Kills commands, at most `each` times one, lets them end and checks them, until there were so many kills."""
    moments: Counter[str] = Counter()
    while moments.total() < kills:
        command = next(commands)
        here = 0
        for _ in range(min(each, kills - moments.total())):
            if what := kill_once(command, draw):
                moments[what] += 1
                here += 1
        command.to_its_end()
        check(command, undisturbed, here)
    print(f"\n{moments.total()} kills: {dict(moments)}")
    return moments


@pytest.mark.slow
@pytest.mark.parametrize("executor", EXECUTORS, ids=["serial", "processes"])
def test_a_sweep_killed_at_random_moments_ends_like_an_undisturbed_one(
    executor: tuple[str, ...], undisturbed: Command, tmp_path: Path
) -> None:
    commands = (in_folder(tmp_path / str(number), *executor) for number in range(1000))
    kills = (KILLS + 1) // 2
    moments = killed_and_ended(commands, undisturbed, kills, ON_ONE_STORE, random.Random(f"{executor} {SEED}"))
    assert moments.total() == kills


@pytest.mark.slow
def test_a_sweep_into_postgresql_killed_at_random_moments(
    postgres: Server, undisturbed: Command, tmp_path: Path
) -> None:
    commands = (in_folder(tmp_path / str(number), *TWO, uri=postgres.new_database()) for number in range(100))
    assert killed_and_ended(commands, undisturbed, 6, 3, random.Random(f"postgresql {SEED}")).total() == 6


@pytest.mark.slow
@pytest.mark.parametrize("app", APPS)
def test_a_sweep_over_http_killed_at_random_moments(app: str, undisturbed: Command, tmp_path: Path) -> None:
    with contextlib.closing(commands_over_http(tmp_path, app)) as commands:
        assert killed_and_ended(commands, undisturbed, 3, 3, random.Random(f"http {SEED}")).total() == 3


def commands_over_http(folder: Path, app: str) -> Generator[Command, None, None]:
    """Sweeps, each into a new server, which serves until the next is asked for: a sweep that ended is done."""
    for number in range(100):
        port = own_port()
        command = over_http(folder / str(number), port)
        with serving(command.folder, port, app):
            yield command


@pytest.mark.slow
@pytest.mark.parametrize("executor", EXECUTORS, ids=["serial", "processes"])
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_told_to_end_marks_what_is_open_killed(
    kind: signal.Signals, executor: tuple[str, ...], tmp_path: Path
) -> None:
    command = in_folder(tmp_path / "here", *executor, "training.epochs=40,100000").held(*EVERY)
    with command.started() as process:
        eventually(lambda: "RUNNING" in told(command), 300)
        process.send_signal(kind)
        assert process.wait(120) == 130
    assert command.said().strip().endswith("interrupted")
    kept = told(command)
    assert set(kept) <= {"FINISHED", "KILLED", "parent KILLED"}
    assert "KILLED" in kept
    assert kept.count("parent KILLED") == 1


def told(command: Command) -> list[str]:
    """Statuses, none before there is a store."""
    return statuses(command.database) if sweep_is_told(command) else []


@pytest.mark.slow
def test_a_sync_that_is_killed_loses_and_doubles_nothing(
    undisturbed: Command, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each time from the same waiting results, which the next sync sends."""
    command = in_folder(tmp_path / "here", "executor=serial")
    make_empty_store(command, tmp_path_factory)
    run_sql(command, "CREATE TRIGGER broken BEFORE INSERT ON metrics BEGIN SELECT RAISE(FAIL, 'out of order'); END")
    with command.started() as process:
        assert process.wait(300) == 1, command.said()
    run_sql(command, "DROP TRIGGER broken")
    assert left(command) == RUNS + 1
    sync = replace(command, words=("sync", "tracking.uri=sqlite:///mlflow.db"))
    places = (command.folder, tmp_path / "outbox")
    for place in places:
        shutil.copytree(place, tmp_path / f"copy of {place.name}")
    draw = random.Random(f"sync {SEED}")
    for _ in range(6):
        for place in places:
            shutil.rmtree(place)
            shutil.copytree(tmp_path / f"copy of {place.name}", place)
        with sync.started() as process:
            eventually(lambda: "results wait for" in sync.said())
            time.sleep(draw.uniform(0, 0.5))
            process.kill()
        sync.to_its_end()
        check(command, undisturbed, 0)


def run_sql(command: Command, statement: str) -> None:
    """Changes the command's database behind everyone's back."""
    with contextlib.closing(sqlite3.connect(command.folder / "mlflow.db")) as connection:
        connection.execute(statement)
        connection.commit()
