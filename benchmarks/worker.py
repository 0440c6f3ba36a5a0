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
from collections.abc import Callable
from functools import cache
from typing import Any

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.tasks import Training, task

CORE = "BENCH_CORE"


def answering(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answers each line of standard input until it ends. What a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers)


def answers_of(contender: Contender) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What a contender answers to a request."""

    @cache
    def prepared(net: str, runs: int, updates: int) -> tuple[Training, float]:
        started = time.perf_counter()
        training = contender.prepare(task(net, runs, updates))
        training.run()
        first = time.perf_counter() - started
        started = time.perf_counter()
        training.run()
        return training, max(0.0, first - (time.perf_counter() - started))

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        runs = min(asked["runs"], contender.most_runs or asked["runs"])
        training, ready = prepared(asked["net"], runs, asked["updates"])
        if asked.get("check"):
            return {"losses": [float(loss) for loss in training.losses(training.run())]}
        return {"runs": runs, "ready": ready} | timed(training)

    return answer


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
    answering(answers_of(CONTENDERS[sys.argv[1]]))
