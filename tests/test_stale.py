"""What killed processes left RUNNING is ended in the store, and nothing else."""

import json
from pathlib import Path

from mlflow import MlflowClient

from pipeline.process import this_process
from pipeline.stale import PROCESS_TAG, end_stale

GONE = json.dumps(json.loads(this_process()) | {"started": "1"})
ELSEWHERE = json.dumps(json.loads(this_process()) | {"started": "1", "host": "elsewhere"})


def test_only_runs_of_processes_that_are_gone_are_ended(empty_store: Path) -> None:
    client = MlflowClient(f"sqlite:///{empty_store}/mlflow.db")
    experiments = [client.create_experiment(name) for name in ("one", "two", "deleted")]
    tags = {"living": this_process(), "gone": GONE, "elsewhere": ELSEWHERE, "odd": "?"}
    made = {
        (name, experiment): client.create_run(experiment, tags={PROCESS_TAG: text}).info.run_id
        for experiment in experiments
        for name, text in tags.items()
    }
    theirs = client.create_run(experiments[0]).info.run_id
    finished = client.create_run(experiments[0], tags={PROCESS_TAG: GONE}).info.run_id
    client.set_terminated(finished)
    client.delete_experiment(experiments[2])
    assert end_stale(client) == 2
    assert end_stale(client) == 0
    statuses = {key: client.get_run(run_id).info.status for key, run_id in made.items()}
    killed = {("gone", experiments[0]), ("gone", experiments[1])}
    assert statuses == {key: "KILLED" if key in killed else "RUNNING" for key in made}
    assert client.get_run(theirs).info.status == "RUNNING"
    assert client.get_run(finished).info.status == "FINISHED"
