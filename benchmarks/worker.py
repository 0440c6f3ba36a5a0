"""A process that trains for one contender: `python -m benchmarks.worker NAME`, JSON lines in and out.

{"net": "3-4-5-1", "runs": 32, "updates": 1000}               -> {"runs": 32, "cpu": s, "wall": s, "ready": s}
the same with "check": true, which trains once, untimed       -> {"losses": [final loss of each run]}

`runs` is how many were trained (a contender may train fewer). The first time a task is asked for it is made ready and
trained once unseen; `ready` says how long that took beyond a training: compiling, mostly. `cpu` is the process's own
time on its core, so that what else runs on the machine counts little; `wall` is the clock on the wall.
"""

import json
import os
import sys
import time
from functools import cache
from typing import Any, TextIO

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.tasks import Training, task

CORE = "BENCH_CORE"


def main() -> None:
    """Answers until its input ends. What a library prints goes to standard error."""
    contender = CONTENDERS[sys.argv[1]]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    serve(contender, sys.stdin, answers)


def serve(contender: Contender, requests: TextIO, answers: TextIO) -> None:
    """Answers each line of requests by one line."""

    @cache
    def prepared(net: str, runs: int, updates: int) -> tuple[Training, float]:
        started = time.perf_counter()
        training = contender.prepare(task(net, runs, updates))
        training.run()
        first = time.perf_counter() - started
        started = time.perf_counter()
        training.run()
        return training, max(0.0, first - (time.perf_counter() - started))

    for line in requests:
        asked = json.loads(line)
        runs = min(asked["runs"], contender.most_runs or asked["runs"])
        training, ready = prepared(asked["net"], runs, asked["updates"])
        if asked.get("check"):
            answer: dict[str, Any] = {"losses": list(map(float, training.losses(training.run())))}
        else:
            answer = {"runs": runs, "ready": ready} | timed(training)
        print(json.dumps(answer), file=answers)


def timed(training: Training) -> dict[str, float]:
    """Seconds of one training."""
    cpu, wall = time.process_time(), time.perf_counter()
    training.run()
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def stay_on_core() -> None:
    """Keeps this process, and the threads it will start, on the core that the driver chose."""
    if CORE in os.environ and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(os.environ[CORE])})


if __name__ == "__main__":
    stay_on_core()
    main()
