"""The benchmark compares like with like, leaves out who does not, and judges as it should."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks import commands, large, plot, show, tracking, training
from benchmarks.contenders import CONTENDERS, FAST, JAX, LOOP, PORTABLE, C
from benchmarks.places import SQLITE, Place, open_place
from benchmarks.processes import CrashError, environment, run
from benchmarks.sweeps import Sweep
from benchmarks.tasks import NETS, task
from benchmarks.trackers import BATCH, CLIENT, EACH, FLUENT, SEEDBED, TRACKERS, timed, trained
from benchmarks.tracking import ROWS, Cost, Tracking
from benchmarks.training import TOLERANCE, Timing, Training, relative_difference
from benchmarks.verdict import GOALS, MET, MISSED, UNKNOWN, Results, judge
from pipeline.composing.experiment import compose_run
from pipeline.errors import UserError
from pipeline.store.api import MlflowClient

ROOT = Path(__file__).parents[1]
DATA = {"4-1-1": "happiness", "2-3-1": "exam", "3-4-1": "cat_shop", "3-4-5-1": "first_column"}
AT_HAND = [name for name in (PORTABLE, FAST, "matmul", C) if not CONTENDERS[name].missing]


@pytest.mark.parametrize("net", NETS)
def test_the_rows_are_those_of_the_data_sets(net: str) -> None:
    dataset = compose_run([f"data={DATA[net]}"]).dataset
    np.testing.assert_allclose(NETS[net].X, dataset.X, rtol=1e-15)
    np.testing.assert_allclose(NETS[net].y, dataset.y, rtol=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", AT_HAND)
@pytest.mark.parametrize("runs", [1, 70])  # 70: the C program's last block is not full
def test_contenders_end_where_the_loop_ends(name: str, net: str, runs: int) -> None:
    given = task(net, runs, updates=20)
    mine, loop = CONTENDERS[name].prepare(given), CONTENDERS[LOOP].prepare(given)
    expected = loop.losses(loop.run())
    assert mine.losses(mine.run()).shape == (runs,)
    for _ in range(2):  # again: a training must not begin where the last one ended
        np.testing.assert_allclose(mine.losses(mine.run()), expected, rtol=1e-10)


def test_a_net_is_the_same_however_many_train() -> None:
    few, many = task("3-4-1", 2, 1), task("3-4-1", 9, 1)
    np.testing.assert_array_equal(few.rates, many.rates[:2])
    for mine, other in zip(few.matrices, many.matrices, strict=True):
        np.testing.assert_array_equal(mine, other[:2])


class FakeWorker:
    """A worker that needs no process: `losses` on a check, else a second's training, or a crash."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """An answer as a worker's."""
        if self.name == "matmul" and not request.get("check"):
            raise CrashError("out of memory")
        off = 1 + 2 * TOLERANCE if self.name == FAST else 1.0
        return {"losses": [0.5 * off], "runs": 2, "cpu": 1.0, "wall": 2.0, "ready": 0.1}

    def close(self) -> None:
        """Nothing to end."""


def test_who_trains_something_else_or_crashes_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "Worker", FakeWorker)
    found = training.measure([PORTABLE, FAST, LOOP, "matmul"], [2], updates=5, rounds=2, report=lambda _: None)
    assert found.left_out.keys() == {FAST, "matmul"}
    assert "trains something else" in found.left_out[FAST]
    assert found.left_out["matmul"] == "crashed: out of memory"
    assert {name for name, _, _ in found.timings} == {PORTABLE, LOOP}
    assert found.timings[PORTABLE, "2-3-1", 2].cpu == [1e5, 1e5]  # a second for 2 runs of 5 updates


def test_not_a_number_is_not_the_same() -> None:
    assert not relative_difference([float("nan")], [1.0]) <= TOLERANCE


def timing(name: str, *cpu: float) -> tuple[tuple[str, str, int], Timing]:
    """A timing on 3-4-5-1 with 1,024 runs."""
    return (name, "3-4-5-1", 1024), Timing(name, "3-4-5-1", 1024, 10, list(cpu), list(cpu), 0.5)


@pytest.fixture
def results() -> Results:
    """Results in which Seedbed is fast enough and a second core brings too little."""
    timings = dict([timing(LOOP, 20.0, 60.0, 21.0), timing(PORTABLE, 0.5, 1.0, 0.5), timing(FAST, 0.1, 0.2, 0.1)])
    sweep = Sweep("seedbed", 500, (8, 136), ((3.0,), (3.64,)))
    numbers = {"start_up": {"none": 0.6, "store": 2.5}, "composing": {"jobs": 500, "seconds": 1.0}}
    costs = {"bulk": Cost("bulk", [3.0, 9.0, 3.5]), "each": Cost("each", [600.0, 2700.0, 490.0])}
    whole = {"twice": {"runs": 100, "first": 3.0, "again": 1.5}, "ten_thousand": {"left_out": "crashed"}}
    return Results(
        Training(timings),
        [sweep],
        {"usual": "crashed"},
        {"ratio": 1.5},
        numbers,
        Tracking(costs, {"bulk-postgres": "PostgreSQL is not installed."}),
        whole,
        (0.5, 1.5),
    )


def test_verdict(results: Results) -> None:
    said = {verdict.goal: verdict for verdict in judge(results)}
    assert len(said) == len(GOALS)
    assert said["3-4-5-1, portable: the loop's speed"].verdict == MET
    assert said["3-4-5-1, portable: the loop's speed"].measured == 42  # the median of the rounds: 40, 60, 42
    assert said["two cores: the speed of one"].verdict == MISSED
    assert said["start-up, tracking=none"].verdict == MET
    assert said["start-up with a store"].verdict == MISSED
    assert said["3-4-5-1, fast: time against JAX"].verdict == UNKNOWN
    assert said["composing 10,000 runs"].verdict == UNKNOWN  # only 500 were


def test_verdict_on_tracking(results: Results) -> None:
    said = {verdict.goal: verdict for verdict in judge(results)}
    assert said["keeping a run: bulk sink, SQLite"].measured == 3.5
    assert said["keeping a run: bulk sink, SQLite"].verdict == MET
    assert said["1,000 runs x 1,000 epochs, new store"].verdict == UNKNOWN  # only 100 were
    assert said["10,000 such runs"].verdict == UNKNOWN
    assert said["5,000 epochs: Hydra + log_metric"].verdict == UNKNOWN  # 500 were


def test_verdict_on_large_sweeps() -> None:
    looks = {"page": 0.2, "curves": 1.2}
    whole = {
        "twice": {"runs": 1000, "first": 14.0, "again": 5.5},
        "ten_thousand": {"seconds": 80.0, "memory": 1.1, "ui": looks, "without_analyze": looks},
    }
    ways = [("seedbed", 0.01), ("usual", 23.0), ("batched", 0.9)]
    found = [Sweep(way, 5000, (1, 2), ((1.0,), (1.0 + marginal,))) for way, marginal in ways]
    said = {verdict.goal: verdict.verdict for verdict in judge(Results(sweeps=found, large=whole))}
    assert said["1,000 runs x 1,000 epochs, new store"] == MET
    assert said["the same again, nothing to do"] == MISSED
    assert said["10,000 such runs"] == said["their memory"] == MET
    assert said["the UI's slower request on them"] == MISSED
    assert said["5,000 epochs: Hydra + log_metric"] == MET
    assert said["5,000 epochs: Hydra + log_batch"] == MISSED
    assert said["5,000 epochs: Hydra + Trackio"] == UNKNOWN


def test_costs_are_compared_round_by_round(results: Results) -> None:
    assert results.tracking.ratio("each", "bulk") == 200  # of 200, 300 and 140
    assert results.tracking.ratio("bulk", "bulk-postgres") is None


def test_a_part_that_failed_is_not_measured() -> None:
    failed = Results(cores={"left_out": "one core"}, commands={"start_up": {"left_out": "crashed"}})
    assert {verdict.verdict for verdict in judge(failed)} == {UNKNOWN}


def test_further_runs_and_start_up_come_from_two_sizes(results: Results) -> None:
    (sweep,) = results.sweeps
    assert sweep.marginal == pytest.approx(0.64 / 128)
    assert sweep.start_up == pytest.approx(3.0 - 8 * 0.005)


def test_json_holds_every_sample_and_reads_back(results: Results) -> None:
    document = json.loads(json.dumps(show.as_json(results, {"rounds": 3})))
    assert document["training"]["timings"][0]["cpu"] == [20.0, 60.0, 21.0]
    assert {
        "when",
        "seedbed",
        "machine",
        "settings",
        "training",
        "sweeps",
        "cores",
        "commands",
        "tracking",
        "load",
    } < set(document)
    assert {"goal", "wanted", "measured", "unit", "verdict"} == set(document["verdict"][0])


def test_tables_name_who_is_left_out(results: Results) -> None:
    results.training.left_out[JAX] = "jax is not installed"
    told = [text for text in show.tables(results) if isinstance(text, str)]
    assert "JAX vmap+scan: left out, jax is not installed" in told
    assert "Seedbed, bulk sink, PostgreSQL: left out, PostgreSQL is not installed." in told


# --- tracking ---------------------------------------------------------------------------------------------------


def test_every_row_has_a_tracker_and_rows_differ() -> None:
    assert {row.tracker for row in ROWS.values()} == set(TRACKERS)
    assert len({(row.tracker, row.place) for row in ROWS.values()}) == len(ROWS)


@pytest.fixture(scope="module")
def new_place() -> Iterator[Callable[[bool], Place]]:
    """Places with a SQLite store each."""
    with open_place(SQLITE) as make:
        yield make


@pytest.mark.slow
@pytest.mark.parametrize("name", [SEEDBED, CLIENT, BATCH, EACH, FLUENT])
def test_trackers_keep_the_same(name: str, new_place: Callable[[bool], Place]) -> None:
    """Two runs whole: as many points, params and files from each tracker, and every run FINISHED."""
    place = new_place(name in (SEEDBED, CLIENT))
    batch = trained(2, 20)
    started = time.perf_counter()
    assert 0 < timed(TRACKERS[name], place, batch) < time.perf_counter() - started
    client = MlflowClient(place.uri)
    runs = client.search_runs([client.search_experiments(order_by=["creation_time DESC"])[0].experiment_id])
    assert [found.info.status for found in runs] == ["FINISHED"] * 2
    expected = {record.tags["fingerprint"]: record for record in batch.records()}
    for found in runs:
        record = expected[found.data.tags["fingerprint"]]
        assert found.data.params == record.params
        assert len(client.get_metric_history(found.info.run_id, "curve/loss")) == 21
        assert {file.path for file in client.list_artifacts(found.info.run_id)} == set(record.files)
        assert found.inputs
        assert [one.dataset.digest for one in found.inputs.dataset_inputs] == [record.dataset.digest]


def test_a_store_that_cannot_be_opened_leaves_its_rows_out(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def broken(_name: str) -> Iterator[None]:
        raise UserError("PostgreSQL is not installed.")
        yield

    monkeypatch.setattr(tracking, "open_place", broken)
    found = tracking.measure(["bulk", "client"], 1, lambda _: None)
    assert found.left_out == dict.fromkeys(["bulk", "client"], "PostgreSQL is not installed.")
    assert not found.costs


def test_statistics_are_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE one (key INTEGER PRIMARY KEY, value TEXT)")
        connection.execute("CREATE INDEX by_value ON one (value)")
        connection.execute("INSERT INTO one VALUES (1, 'a')")
        connection.execute("ANALYZE")
    large.forget_statistics(file)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'sqlite_stat%'").fetchall() == []


@pytest.mark.slow
def test_a_large_sweep_and_the_ui_on_it() -> None:
    started = time.perf_counter()
    found = large.with_memory(100, lambda _: None)
    took = time.perf_counter() - started
    assert 0 < found["ui"]["page"] < took
    assert 0 < found["without_analyze"]["curves"] < took
    assert found["memory"] is None or 0.05 < found["memory"] < 5


def test_picture(results: Results, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot.draw(results.training, tmp_path / "bench.svg")
    assert (tmp_path / "bench.svg").stat().st_size > 10_000


def test_labels_keep_apart() -> None:
    heights = plot.apart([1.0, 1.01, 1.02, 9.0], gap=1.5)
    assert all(above >= below * 1.4999 for below, above in pairwise(heights))
    assert plot.apart([1.0, 10.0], gap=1.5) == pytest.approx([1.0, 10.0])


def test_a_sweep_tells_its_seconds() -> None:
    assert commands.told("480 runs: 480 trained, in 17.7 s.") == 17.7


def test_memory_counts_children() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert {os.getpid(), child.pid} <= set(commands.family(os.getpid()))
    finally:
        child.communicate(b"\n")


def test_the_environment_favours_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert "OPENBLAS_CORETYPE" not in environment()
    assert environment(one_core=True)["OMP_NUM_THREADS"] == "1"


def test_a_command_that_fails_or_hangs_is_a_crash(tmp_path: Path) -> None:
    with pytest.raises(CrashError, match="ZeroDivisionError"):
        run([sys.executable, "-c", "1 / 0"], tmp_path)
    with pytest.raises(CrashError, match=r"took more than 0 s"):
        run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, timeout=0.01)


@pytest.mark.parametrize("word", ["0", "a", "1,,2"])
def test_numbers_of_runs_are_checked(word: str) -> None:
    done = CliRunner().invoke(command.main, ["--runs", word])
    assert done.exit_code == 2
    assert "must be whole numbers from 1 on" in done.output


def written(folder: Path, *words: str) -> dict[str, Any]:
    """What the command writes."""
    file = folder / "numbers.json"
    out = ("--json", str(file), "--plot", str(folder / "plot.svg"))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words, *out], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Goals" in done.stdout
    return dict(json.loads(file.read_text()))


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    words = ("--quick", "--only", "training", "--runs", "1,2", "--updates", "20", "--rounds", "1")
    document = written(tmp_path, *words)
    timed = {timing["contender"] for timing in document["training"]["timings"]}
    assert {PORTABLE, FAST, LOOP, "matmul"} <= timed
    assert not [why for why in document["training"]["left_out"].values() if "not installed" not in why]
    assert max(document["training"]["differences"].values()) < 1e-10


@pytest.mark.slow
def test_tracking(tmp_path: Path) -> None:
    found = written(tmp_path, "--quick", "--only", "tracking")["tracking"]
    left_out = {name for name, why in found["left_out"].items() if "not installed" not in why}
    assert not left_out
    assert {"bulk", "client", "batch", "http-app", "http"} <= {cost["row"] for cost in found["costs"]}
    assert min(found["twice"].values()) > 0, "that the second trains nothing is large.twice's to see"


@pytest.mark.slow
def test_whole_sweeps(tmp_path: Path) -> None:
    document = written(tmp_path, "--quick", "--only", "sweeps")
    assert {"usual", "batched", "seedbed", "seedbed-none"} == {way["way"] for way in document["sweeps"]["ways"]}
