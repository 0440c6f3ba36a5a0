"""What killed processes left RUNNING is ended in the store, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.process import this_process
from pipeline.store.sink import PROCESS, Sink
from pipeline.store.track import end_stale
from tests.sinks import SINKS

GONE = json.dumps(json.loads(this_process()) | {"started": "1"})
ELSEWHERE = json.dumps(json.loads(this_process()) | {"started": "1", "host": "elsewhere"})


@pytest.mark.parametrize("make", SINKS, ids=["bulk", "client"])
def test_only_runs_of_processes_that_are_gone_are_ended(empty_store: Path, make: Callable[[str], Sink]) -> None:
    sink = make(f"sqlite:///{empty_store}/mlflow.db")
    client = MlflowClient(f"sqlite:///{empty_store}/mlflow.db")
    experiments = [client.create_experiment(name) for name in ("one", "two", "deleted")]
    tags = {"living": this_process(), "gone": GONE, "elsewhere": ELSEWHERE, "odd": "?"}
    made = {
        (name, experiment): client.create_run(experiment, tags={PROCESS: text}).info.run_id
        for experiment in experiments
        for name, text in tags.items()
    }
    theirs = client.create_run(experiments[0]).info.run_id
    finished = client.create_run(experiments[0], tags={PROCESS: GONE}).info.run_id
    client.set_terminated(finished)
    client.delete_experiment(experiments[2])
    assert end_stale(sink) == 2
    assert end_stale(sink) == 0
    statuses = {key: client.get_run(run_id).info.status for key, run_id in made.items()}
    killed = {("gone", experiments[0]), ("gone", experiments[1])}
    assert statuses == {key: "KILLED" if key in killed else "RUNNING" for key in made}
    assert client.get_run(theirs).info.status == "RUNNING"
    assert client.get_run(finished).info.status == "FINISHED"
