"""Whole sweeps into a store that is not there yet, the same again with nothing to do, and MLflow's UI on the result."""

import json
import sqlite3
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

from benchmarks.commands import SEEDBED, TINY, watched
from benchmarks.processes import CrashError, any_port, run
from pipeline.errors import UserError
from pipeline.servers.ports import HOST
from pipeline.servers.ui import server

EPOCHS = 1000
STORE = "mlflow.db"
PAGE = 100  # runs that the UI shows at a time
POINTS = 320  # of a curve that it draws
LOOKS = 3
PATIENCE = 120.0  # seconds that a request may take


def sweep(runs: int) -> tuple[str, ...]:
    """The words of a sweep."""
    return ("sweep", *TINY, f"seed=range(0,{runs})", f"training.epochs={EPOCHS}")


def twice(runs: int) -> dict[str, float]:
    """Seconds of a whole sweep into a new store, and of the same command again."""
    with TemporaryDirectory() as folder:
        first, _ = seconds(runs, Path(folder))
        again, printed = seconds(runs, Path(folder))
    if "Nothing to train" not in printed:
        raise CrashError("the second sweep trained what the first had finished")
    return {"runs": runs, "first": first, "again": again}


def seconds(runs: int, folder: Path) -> tuple[float, str]:
    """Seconds of a whole sweep, and what it prints."""
    started = time.perf_counter()
    printed = run([*SEEDBED, *sweep(runs)], folder)
    return time.perf_counter() - started, printed


def with_memory(runs: int, report: Callable[[str], None]) -> dict[str, Any]:
    """A whole sweep into a new store: seconds, largest memory with its workers in GB (None without /proc), and the UI.

    `without_analyze` is the same UI on a store that lacks the statistics which a sweep leaves.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        memory = watched(sweep(runs), folder)
        took = time.perf_counter() - started
        report(f"MLflow's UI on {runs:,} runs")
        bytes_ = (folder / STORE).stat().st_size
        found: dict[str, Any] = {"runs": runs, "seconds": took, "memory": memory, "bytes": bytes_}
        found["ui"] = attempt(lambda: looks(f"sqlite:///{folder / STORE}"))
        forget_statistics(folder / STORE)
        return found | {"without_analyze": attempt(lambda: looks(f"sqlite:///{folder / STORE}", 1))}  # minutes


def looks(uri: str, times: int = LOOKS) -> dict[str, float]:
    """Seconds of the UI's two requests: a page of runs with the lowest loss first, and the curves of its runs."""
    port = any_port()
    address = f"http://{HOST}:{port}/ajax-api/2.0/mlflow/"
    with server(uri, port):
        experiment = call(f"{address}experiments/get-by-name?experiment_name=first_column")["experiment"]
        wanted = {
            "experiment_ids": [experiment["experiment_id"]],
            "order_by": ["metrics.`result/final_loss` ASC"],
            "max_results": PAGE,
        }
        page = [timed(f"{address}runs/search", wanted) for _ in range(times)]
        ids = [("run_ids", one["info"]["run_id"]) for one in page[0][1]["runs"]]
        query = urlencode([*ids, ("metric_key", "curve/loss"), ("max_results", POINTS)])
        curves = [timed(f"{address}metrics/get-history-bulk-interval?{query}") for _ in range(times)]
    if len(ids) != PAGE or not curves[0][1]["metrics"]:
        raise CrashError("the UI's requests did not find the runs")
    return {"page": median(took for took, _ in page), "curves": median(took for took, _ in curves)}


def call(address: str, body: object = None) -> dict[str, Any]:
    """The JSON that a server answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})  # noqa: S310 - http, above
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
        return dict(json.load(answer))


def timed(address: str, body: object = None) -> tuple[float, dict[str, Any]]:
    """Seconds of a request, and its answer."""
    started = time.perf_counter()
    answer = call(address, body)
    return time.perf_counter() - started, answer


def forget_statistics(file: Path) -> None:
    """Takes from a store what ANALYZE has found."""
    with closing(sqlite3.connect(file)) as connection, connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'sqlite_stat%'").fetchall():
            connection.execute(f"DROP TABLE {name}")


def measure(long: bool, quick: bool, report: Callable[[str], None]) -> dict[str, Any]:
    """All of it; 10,000 runs with `long` only."""
    found: dict[str, Any] = {}
    runs = 100 if quick else 1000
    report(f"{runs:,} runs of {EPOCHS:,} epochs into a new store, twice")
    found["twice"] = attempt(lambda: twice(runs))
    if long:
        report(f"10,000 runs of {EPOCHS:,} epochs into a new store")
        found["ten_thousand"] = attempt(lambda: with_memory(10_000, report))
    return found


def attempt(measured: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What is measured, or why it is left out."""
    try:
        return measured()
    except (CrashError, UserError, OSError) as error:
        return {"left_out": f"crashed: {error}"}
