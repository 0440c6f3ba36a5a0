"""A sweep in numbers: the counts and tables that its parent run keeps."""

import json
from collections.abc import Sequence
from typing import Any

from pipeline.environment import environment
from pipeline.planning.plan import FAILED, FOUND, TRAINED, Outcome, Plan
from pipeline.results.record import public_config, table


def sweep_metrics(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The parent's counts; no name is one of its children's."""
    return {
        "sweep/trained": sum(outcome.status == TRAINED for outcome in outcomes),
        "sweep/found": sum(outcome.status == FOUND for outcome in outcomes),
        "sweep/failed": sum(outcome.status == FAILED for outcome in outcomes),
        "sweep/diverged": sum(outcome.diverged for outcome in outcomes),
        "sweep/cells": len({outcome.run.cell_digest for outcome in outcomes if outcome.status != FAILED}),
    }


def parent_files(plan: Plan, outcomes: Sequence[Outcome], command: str, question: str) -> dict[str, bytes]:
    """The parent's artifacts: the plan, every run (also those found finished), what failed and what diverged."""
    about = {
        "command": command,
        "question": question,
        "runs": len(plan.runs),
        "found_finished": len(plan.found),
        "duplicates": plan.duplicates,
        "stacks": [len(stack) for stack in plan.stacks],
        "config_of_first_run": public_config(plan.runs[0].config),
        "environment": environment(),
    }
    failed = [(one, one.reason) for one in outcomes if one.status == FAILED]
    diverged = [(one, f"diverged after {one.diverged_at} updates") for one in outcomes if one.diverged]
    return {
        "plan.json": json.dumps(about, indent=2).encode(),
        "runs.json": table(RUN_COLUMNS, [run_row(outcome) for outcome in outcomes]),
        "failures.json": trouble_table(failed),
        "diverged.json": trouble_table(diverged),
    }


def trouble_table(told: Sequence[tuple[Outcome, str]]) -> bytes:
    """Runs, each with what happened to it and the command that repeats it."""
    return table(["run", "reason", "command"], [[one.run.name, reason, one.run.command] for one, reason in told])


RUN_COLUMNS = ("run", "status", "cell", "seed", "final loss", "best loss", "updates", "run id", "fingerprint")


def run_row(outcome: Outcome) -> list[Any]:
    """A run's row in runs.json."""
    run, metrics = outcome.run, outcome.metrics
    results = [metrics.get(f"result/{key}") for key in ("final_loss", "best_loss", "updates")]
    return [run.name, outcome.status, run.cell, run.config.seed, *results, outcome.run_id, run.fingerprint]
