"""Where a sweep's comparison is to be seen: its run's files, and the pages of MLflow's UI."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pipeline.credentials import public_uri
from pipeline.servers.ports import HOST
from pipeline.servers.ui import FIRST_PORT
from pipeline.store.files import local_path
from pipeline.store.sink import Experiment
from pipeline.terminal import say

REPORT = "report.html"


@dataclass(frozen=True)
class KeptSweep:
    """A sweep's parent run, and where it is; what the user asked for: the command, and the experiment's question."""

    uri: str
    experiment: Experiment
    run_id: str
    name: str
    command: str
    question: str


def server_of(uri: str) -> str:
    """Where MLflow's UI is for a store: the store itself if it is a server, else where `seedbed ui` serves it."""
    return (public_uri(uri) or "").rstrip("/") if uri.startswith("http") else f"http://{HOST}:{FIRST_PORT}"


def run_link(experiment_id: str, run_id: str, file: str | None = None) -> str:
    """Where a run is, or one of its files, behind the address of a server."""
    page = f"/artifacts/{quote(file)}" if file else ""
    return f"#/experiments/{quote(experiment_id)}/runs/{quote(run_id)}{page}?workflowType=machine_learning"


def print_links(parent: KeptSweep, pages: Sequence[tuple[str, str]], with_report: bool) -> None:
    """Says where the report is, and the pages: what they show, and their addresses below the UI's."""
    folder = local_path(parent.experiment.location)
    server = server_of(parent.uri)
    if with_report and folder:
        say(f"Report: {short_path(folder / parent.run_id / 'artifacts' / REPORT)}")
    elif with_report:
        say(f"Report: {server}/{run_link(parent.experiment.experiment_id, parent.run_id, REPORT)}")
    if pages:
        say("In the UI (seedbed ui):" if folder else "In the UI:")
    for name, address in pages:
        say(f"  {name}: {server}/{address}")


def short_path(file: Path) -> str:
    """A file's path, from the working directory if it is below that."""
    here = Path.cwd()
    return str(file.relative_to(here) if file.is_relative_to(here) else file)
