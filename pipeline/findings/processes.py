"""What training takes: runs as processes of their own, with their time and their memory."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pandas as pd

from pipeline.composing.experiment import swept_values
from pipeline.errors import FailedRunsError

BYTES_PER_ROW = "bytes_per_row"  # of those beyond the fewest, as some memory of a small process is not used
ROWS = "data.draw"
# A small process between: a process counts the memory of the one that started it among its own most.
RELAY = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
print(usage.ru_maxrss)
sys.exit(process.returncode)
"""
UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes


def processes(experiment: str) -> pd.DataFrame:
    """Trains every run of an experiment that sweeps over `data.draw` and `seed` alone in a process, one by one.

    A row a run, with what a comparison of runs needs (all finished, with a loss of 0), the two keys, and `seconds`,
    `megabytes` (the most memory it had at a time) and `bytes_per_row`, of which the smallest runs have none.
    """
    table = pd.DataFrame(measured(experiment))
    least = table[ROWS].min()
    base = table.loc[table[ROWS] == least, "megabytes"].median()
    per_row = (table["megabytes"] - base) * 2**20 / (table[ROWS] - least).replace(0, float("nan"))
    return table.assign(status="FINISHED", diverged_at=float("nan"), final_loss=0.0, **{BYTES_PER_ROW: per_row})


def measured(experiment: str) -> Iterator[dict[str, float | str]]:
    """Seconds and megabytes of each run."""
    for rows in swept_values(experiment, ROWS):
        for seed in swept_values(experiment, "seed"):
            words = [f"experiment={experiment}", f"{ROWS}={rows}", f"seed={seed}", "tracking=none"]
            seconds, megabytes = taken(words)
            name = f"{rows} rows, seed {seed}"
            about: dict[str, float | str] = {"run_id": name, "cell": rows, ROWS: float(rows), "seed": int(seed)}
            yield {**about, "seconds": seconds, "megabytes": megabytes}


def taken(words: list[str]) -> tuple[float, float]:
    """The seconds that `seedbed train` takes, and its most megabytes of memory. Raises FailedRunsError if it fails."""
    started = time.perf_counter()
    command = [sys.executable, "-c", RELAY, sys.executable, "-m", "pipeline", "train", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=False)
    if done.returncode:
        raise FailedRunsError(f"`seedbed train {' '.join(words)}` ended with exit code {done.returncode}.")
    return time.perf_counter() - started, int(done.stdout) * UNIT / 2**20
