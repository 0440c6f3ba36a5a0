"""Ends in the store what a killed process left RUNNING there."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.process import is_gone

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment
    from mlflow.entities import Run as StoredRun

PROCESS_TAG = "seedbed.process"  # who writes a run, as `this_process` names it
PAGE = 1000
ACTIVE, DELETED, EITHER = 1, 2, 3  # MLflow's ViewType


def end_stale(client: "MlflowClient") -> int:
    """Marks KILLED the runs of every experiment that are RUNNING though their process is gone; returns how many.

    Runs of living processes, of other machines and of other tools stay as they are.
    """
    stale = [run for run in running(client) if is_gone(run.data.tags[PROCESS_TAG])]
    for run in stale:
        client.set_terminated(run.info.run_id, "KILLED")
    return len(stale)


def running(client: "MlflowClient") -> Iterator["StoredRun"]:
    """The runs in the store that are RUNNING and name their process."""
    return everywhere(client, f"attributes.status = 'RUNNING' AND tags.`{PROCESS_TAG}` LIKE '%'")


def everywhere(client: "MlflowClient", query: str, deleted: bool = False) -> Iterator["StoredRun"]:
    """The runs of all experiments that a query finds, page after page: those not deleted, or those deleted."""
    for experiments in all_experiments(client):
        ids, token = [experiment.experiment_id for experiment in experiments], None
        while True:
            page = client.search_runs(ids, query, DELETED if deleted else ACTIVE, PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                break


def all_experiments(client: "MlflowClient") -> Iterator[list["Experiment"]]:
    """All experiments, deleted ones too, some at a time."""
    token = None
    while True:
        page = client.search_experiments(EITHER, PAGE, page_token=token)
        yield list(page)
        token = page.token
        if not token:
            return
