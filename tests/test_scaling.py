"""How cost grows: the model, its tables, the clock at phases, and the part of the benchmark whole."""

import contextlib
import json
import math
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from benchmarks import growth, scaled, scaling
from benchmarks.growth import Line, Model, Pace, line, pace, walls
from benchmarks.nets import NETS
from benchmarks.phases import PHASES, Clock
from benchmarks.places import Place
from benchmarks.scaling import HALVES, WAYS, Point, Scaling
from benchmarks.tracking import Cost, Tracking
from benchmarks.verdict import MET, MISSED, UNKNOWN, Results, judge

ROOT = Path(__file__).parents[1]
RUNS = (100, 1000, 10_000)


def test_a_line_is_found_again_over_powers_of_ten() -> None:
    found = line(RUNS, [3.0 + 0.008 * runs for runs in RUNS])
    assert [found.fixed, found.each] == pytest.approx([3.0, 0.008])
    assert found.residuals == pytest.approx([0, 0, 0], abs=1e-9)
    assert found.at(1e6) == pytest.approx(8003)


def test_residuals_say_that_growth_is_no_line() -> None:
    found = line(RUNS, [1e-6 * runs**2 for runs in RUNS])
    assert max(map(abs, found.residuals)) > 0.5


def test_no_coefficient_is_below_zero() -> None:
    falling = line(RUNS, [3.0, 2.9, 2.8])
    assert falling.each == 0
    assert 2.8 < falling.fixed < 3
    assert line((10, 20), (0.0, 1.0)) == Line(0, 0)  # which is not to be divided by


def test_a_limit_is_reached_where_the_line_meets_it() -> None:
    assert Line(2.0, 0.5).reaches(10) == 16
    assert Line(2.0, 0.0).reaches(10) == math.inf
    assert Line(11.0, 0.5).reaches(10) == 0


def test_a_total_is_that_of_its_parts() -> None:
    found = growth.total([Line(2, 0.1), Line(1, 0.2)], [10, 100], [6.6, 33])
    assert [found.fixed, found.each, *found.residuals] == pytest.approx([3, 0.3, 0.1, 0])


def test_a_pace_is_found_again() -> None:
    units, products = [net.units for net in NETS], [net.products for net in NETS]
    found = pace(units, products, [0.003 * a + 0.0002 * b for a, b in zip(units, products, strict=True)])
    assert [found.units, found.products] == pytest.approx([0.003, 0.0002])
    assert found.at(1000, 10_000) == pytest.approx(5)


def test_networks_are_counted() -> None:
    net = next(net for net in NETS if net.title == "3-4-5-1")
    assert (net.rows, net.units, net.products) == (4, 40, 3 * 4 * 37)
    assert {net.layout for net in NETS} == {"runs_last", "runs_first"}


@pytest.fixture
def model() -> Model:
    """A driver of 2 s and 10 ms a run, 8 of them writing."""
    lines = {"driver": Line(2, 0.010), "write": Line(0, 0.008), "memory": Line(0.4, 1e-6), "page": Line(0, 1e-4)}
    return Model({"SQLite": lines, "HTTP, SQLite": {"send": Line(0, 0.06)}}, {"runs_last": Pace(0, 0.001)}, 0.9)


def test_seconds_of_a_sweep(model: Model) -> None:
    alone = model.seconds("SQLite", 1000, 10_000, 2.0)
    assert alone == pytest.approx(2 + 10 + 20)
    two = model.seconds("SQLite", 1000, 10_000, 2.0, workers=2)
    assert two == pytest.approx(2 + 2 + 20 / 1.9), "which is longer than the 8 s of writing"
    many = model.seconds("SQLite", 1000, 10_000, 2.0, workers=1000)
    assert many == pytest.approx(2 + 10), "writing is what counts now"


def test_the_first_wall_comes_first(model: Model) -> None:
    found = walls(model)
    assert [wall.quantity for wall in found] == ["page", "driver", "memory", "send"]
    assert found[0].runs == pytest.approx(growth.PAGE / 1e-4)
    assert found[3].runs == pytest.approx(growth.DAY / 0.06)


@pytest.fixture
def measured() -> Scaling:
    """Two rounds of what the model says; Dask gains too little."""
    ways = {"serial": 20.0, "processes, 1 worker": 21.0, "processes, 2 workers": 10.5, HALVES: 10.0}
    ways |= {"dask, 1 worker": 22.0, "dask, 2 workers": 20.0}
    made = Scaling(left_out={"PostgreSQL": "PostgreSQL is not installed."})
    for way, took in ways.items():
        sample = {"training": took, "start": 1.0, "whole": took + 2}
        made.ways[way] = Point({"way": way}, {name: [value, value] for name, value in sample.items()})
    for runs in RUNS:
        sample = {
            "open": 2,
            "compose": 0.002 * runs,
            "write": 0.008 * runs,
            "driver": 2 + 0.01 * runs,
            "whole": 2 + 0.01 * runs,
            "memory": 0.4,
            "disk": 1,
        }
        made.runs.append(Point({"store": "SQLite", "runs": runs, "epochs": 10}))
        made.runs[-1].add(sample)
    made.nets = [Point({"net": net.title}, {"us": [0.001 * net.products]}) for net in NETS]
    return made


def test_goals_on_workers_and_stores(measured: Scaling) -> None:
    costs = {"bulk-postgres": Cost("bulk-postgres", [11.0]), "http-app": Cost("http-app", [61.0])}
    said = {verdict.goal: verdict for verdict in judge(Results(scaling=measured, tracking=Tracking(costs)))}
    assert said["two worker processes: the speed of one"].measured == 2
    assert said["two worker processes: the speed of one"].verdict == MET
    assert said["two Dask workers: the speed of one"].verdict == MISSED
    assert said["keeping a run: bulk sink, PostgreSQL"].verdict == MET
    assert said["keeping a run: HTTP, SQLite"].verdict == MISSED
    assert said["keeping a run: HTTP, PostgreSQL"].verdict == UNKNOWN


def test_ratios_are_of_rounds() -> None:
    made = Scaling({"serial": Point({}, {"training": [4.0, 9.0, 6.0]}), HALVES: Point({}, {"training": [2.0, 3, 3]})})
    assert made.ratio("serial", HALVES) == 2
    assert made.ratio("serial", "dask, 1 worker") is None


def test_the_model_is_made_of_medians(measured: Scaling) -> None:
    made = scaling.model(measured, Tracking({"http": Cost("http", [50.0, 60, 80])}))
    assert made.efficiency == 1
    assert made.lines["SQLite"]["write"].each == pytest.approx(0.008)
    assert made.lines["HTTP, SQLite"]["send"].at(1000) == pytest.approx(60)
    assert made.paces["runs_first"].products == pytest.approx(0.001)
    document = json.loads(json.dumps(scaling.as_json(measured, made)))
    assert document["ratios"]["dask, training"] == pytest.approx(1.1)
    assert document["runs"][2]["write"] == {"median": 80, "spread": 0, "samples": [80]}


def test_tables(measured: Scaling) -> None:
    shown = list(scaled.tables(measured, scaling.model(measured, Tracking())))
    titles = [table.title for table in shown if isinstance(table, Table)]
    assert titles[0] == "512 runs, tracking=none: seconds"
    assert "Whole sweeps into SQLite, 3-4-5-1, 10 epochs, executor=serial" in titles
    assert shown[-1] == "scaling, PostgreSQL: left out, PostgreSQL is not installed."
    console = Console(width=160, no_color=True)
    with console.capture() as printed:
        console.print(*shown)
    lines = [" ".join(told.split()) for told in printed.get().splitlines()]
    assert "the machine, training 2.00" in lines
    assert "whole command without training, s SQLite 10,002 1.0e+06 86,400 8.6e+06" in lines
    assert "10,000 runs SQLite 102 102 102 102" in lines, "its 4 ms of training are nothing beside the driver's"


def test_nothing_measured_has_no_tables() -> None:
    assert list(scaled.tables(Scaling(), scaling.model(Scaling(), Tracking()))) == []


def test_a_phase_is_without_those_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def take(seconds: float) -> None:
        now[0] += seconds

    clock = Clock()
    inner = clock.timed("write", take)

    def outer() -> None:
        take(1)
        inner(8)
        take(2)

    clock.timed("run", outer)()
    assert (clock.seconds["write"], clock.seconds["run"]) == (8, 3)
    with pytest.raises(ZeroDivisionError):
        clock.timed("plan", lambda: 1 // 0)()
    take(50)
    clock.timed("close", len)("")
    assert sum(clock.seconds.values()) == 11, "what is in no phase counts for none, also behind an error"


def test_bytes_of_a_store(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("CREATE TABLE one AS SELECT hex(randomblob(500000)) AS value")
    artifacts = tmp_path / "artifacts"
    (artifacts / "run").mkdir(parents=True)
    (artifacts / "run" / "a").write_bytes(b"a" * 10_000)
    found = scaling.sizes(Place(f"sqlite:///{tmp_path / 'mlflow.db'}", "", str(artifacts), str(tmp_path)))
    assert found["files"] == 1
    assert 10_000 <= found["artifacts"] * 1e9 < 20_000
    assert 1_000_000 < found["database"] * 1e9 < 1_100_000
    assert found["disk"] == found["database"] + found["artifacts"]


@pytest.mark.slow
def test_a_command_is_stamped_at_all_phases(tmp_path: Path) -> None:
    """Every phase of a sweep of workers without a store takes time, and they do not exceed the whole."""
    words = ("sweep", "data=first_column", "seed=0,1", "training.epochs=1000", "tracking=none", "executor=serial")
    told = scaling.command(words, tmp_path, SEEDBED_REPORT="false")
    assert [phase for phase in PHASES if told[phase] == 0] == ["write"], "for there is no store"
    assert told["whole"] == pytest.approx(told["other"] + sum(told[phase] for phase in PHASES))
    assert 0.03 < told["memory"] < 2


@pytest.mark.slow
def test_the_part_whole(tmp_path: Path) -> None:
    file = tmp_path / "numbers.json"
    words = (sys.executable, "-m", "benchmarks", "--quick", "--only", "scaling", "--json", str(file))
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(file.read_text())
    found = document["scaling"]
    assert {why for why in found["left_out"].values() if "not installed" not in why} == set()
    assert {"serial", HALVES, "processes, 2 workers"} <= {point["way"] for point in found["workers"]} <= {*WAYS, HALVES}
    assert [point["runs"] for point in found["runs"]] == [100, 200]
    small, large = found["runs"]
    assert large["files"]["median"] > small["files"]["median"] > 700, "seven or eight a run"
    assert min(small[name]["median"] for name in ("write", "train", "compare", "page", "again", "database")) > 0
    assert {wall["quantity"] for wall in found["walls"]} >= {"driver", "memory", "disk", "files", "page"}
    assert "Walls, the first of each store first" in done.stdout
