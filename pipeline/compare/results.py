"""The runs of a sweep, read from the store into one frame (frame.py)."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from pipeline.compare.frame import frame
from pipeline.compare.links import server_of
from pipeline.credentials import public_uri
from pipeline.errors import UserError
from pipeline.results.datasets import FOLDER
from pipeline.results.kept import KeptRun
from pipeline.store.address import absolute
from pipeline.store.rows import ClientSource, ParentRun, Source, source_of
from pipeline.store.sink import Sink
from pipeline.store.sinks import existing_sink, is_trouble, translated
from pipeline.terminal import warn

MOST_EMPTY = 10  # sweeps without a finished run that are passed over for one with some


@dataclass(frozen=True)
class Selection:
    """Which runs to compare: those of a sweep (the latest, or by its name or run id), of an experiment, or a filter's.

    `filter` is one of MLflow's, for its search of runs. An experiment without a sweep means all of its FINISHED runs.
    """

    sweep: str | None = None
    experiment: str | None = None
    filter: str | None = None


@dataclass(frozen=True)
class Results:
    """Some runs of a store. `parent` is the sweep's, if they are one sweep's; `runs` is their frame."""

    sink: Sink = field(repr=False)
    source: Source = field(repr=False)
    shown_uri: str
    title: str
    parent: ParentRun | None
    runs: pd.DataFrame

    @property
    def server(self) -> str:
        """Where MLflow's UI is, for links: the store if it is a server, else where `seedbed ui` serves it."""
        return server_of(self.shown_uri)

    def curves(self, name: str = "loss", run_ids: Sequence[str] | None = None) -> pd.DataFrame:
        """The kept points of a curve of these runs, or all: run_id, step (updates), value; by run, then step."""
        points = self.source.points(self.run_ids if run_ids is None else run_ids, f"curve/{name}")
        return points.sort_values(["run_id", "step"], ignore_index=True)

    def with_reached(self, threshold: float, name: str = "loss") -> pd.DataFrame:
        """The runs with the further column `reached_at`: the first kept point of the curve at or below the threshold.

        In updates; nan for a run that never is.
        """
        reached = self.source.reached(self.run_ids, f"curve/{name}", threshold)
        return self.runs.assign(reached_at=self.runs["run_id"].map(reached).astype(float))

    @cached_property
    def run_ids(self) -> list[str]:
        """The ids of the runs."""
        return list(self.runs["run_id"])

    @cached_property
    def failures(self) -> list[dict[str, str]]:
        """What failed in the sweep: run, reason and the command that repeats it, each."""
        return records(self.table("failures.json"))

    @cached_property
    def diverged(self) -> list[dict[str, str]]:
        """What diverged in the sweep, likewise."""
        return records(self.table("diverged.json"))

    @cached_property
    def plan(self) -> dict[str, Any]:
        """The sweep's plan.json: command, counts, the first run's config, environment; empty if it is not there."""
        return self.table("plan.json")

    def kept(self, run_id: str) -> KeptRun:
        """One of the runs, to be read."""
        run = self.runs.set_index("run_id").loc[run_id].to_dict()
        diverged_at = None if math.isnan(run["diverged_at"]) else int(run["diverged_at"])

        def read(name: str) -> bytes:
            with translated(self.shown_uri, about=f"file {name} of run {run_id}"):
                return self.sink.read(run_id, name)

        def read_data(name: str) -> bytes:
            with translated(self.shown_uri, about=f"{FOLDER}/{name}, which run {run_id} was trained on,"):
                return self.sink.read_shared(run_id, FOLDER, name)

        about = str(run["fingerprint"]), read, read_data, str(run["numerics"]), int(run["updates"]), diverged_at
        return KeptRun(run_id, *about)

    def table(self, name: str) -> dict[str, Any]:
        """A JSON file of the sweep; empty if it is not there."""
        return read_json(self.sink, self.parent.run_id, name) if self.parent else {}


def read_results(uri: str, selection: Selection) -> Results:
    """The runs that are selected. Raises UserError if there is no store, no such sweep, or it has no run."""
    sink = existing_sink(uri, lambda _: None)
    shown = public_uri(uri) or ""
    if sink is None:
        raise UserError(
            f"There is no store at {shown}: train something first (`seedbed sweep`), or name another with "
            "tracking.uri=."
        )
    with translated(uri):
        return select(sink, uri, selection)


def select(sink: Sink, uri: str, selection: Selection) -> Results:
    """The same from a store that is open."""
    source = source_of(sink)
    empty: list[str] = []
    for parent, title, run_ids in selected(sink, source, uri, selection):
        runs = frame(source.rows(run_ids), run_ids)
        if not runs.empty:
            runs = runs.drop_duplicates("fingerprint", keep="last", ignore_index=True)  # --force: not a seed more
            if empty:
                warn(f"{empty[0]}, the latest, has no finished run: this is the latest that has some.")
            return Results(sink, source, public_uri(uri) or "", title, parent, runs)
        empty.append(title)
    raise UserError(
        f"{empty[0]} in {public_uri(uri)} has no run to compare: choose another with sweep= or experiment=."
    )


def selected(
    sink: Sink, source: Source, uri: str, selection: Selection
) -> Iterator[tuple[ParentRun | None, str, list[str]]]:
    """The sweep's parent if one is selected, what to call the selection, and its run ids.

    Of sweeps the newest first, each to be taken if those before have no run.
    """
    experiment = selection.experiment
    if experiment is not None and (found := sink.experiment(experiment)) is None:
        known = ", ".join(dict.fromkeys(parent.experiment for parent in source.parents())) or "none"
        raise UserError(f"There is no experiment {experiment} in {public_uri(uri)} (with a sweep there are: {known}).")
    if selection.filter is not None:
        ids = [found.experiment_id] if experiment is not None and found else []
        with translated(uri, about=f"filter={selection.filter}"):
            run_ids = client_source(uri, source).found(selection.filter, ids)
        yield None, f"The filter {selection.filter}", run_ids
    elif experiment is not None and selection.sweep is None and found:
        yield None, f"Experiment {experiment}", source.trained(found.experiment_id)
    else:
        for parent in chosen(source.parents(), selection, public_uri(uri) or ""):
            yield parent, f"Sweep {parent.name}", runs_of(sink, source, parent)


def client_source(uri: str, source: Source) -> ClientSource:
    """Who understands MLflow's filters."""
    if isinstance(source, ClientSource):
        return source
    from pipeline.store.client import ClientSink

    return ClientSource(ClientSink(absolute(uri), 1))


def chosen(parents: Sequence[ParentRun], selection: Selection, shown_uri: str) -> Sequence[ParentRun]:
    """The sweep that is meant, of the latest some of those before. Raises UserError, with names, if there is none."""
    among = [one for one in parents if selection.experiment in (None, one.experiment)]
    wanted = selection.sweep
    found = [one for one in among if wanted in (None, "latest", one.name, one.run_id)]
    if found:
        return found[:MOST_EMPTY] if wanted in (None, "latest") else found[:1]
    if not among:
        raise UserError(f"There is no sweep in {shown_uri} yet: `seedbed sweep` makes one.")
    names = ", ".join(one.name for one in among[:5]) + (", ..." if len(among) > 5 else "")
    raise UserError(f"There is no sweep {wanted} in {shown_uri}: choose latest, a run id, or a name ({names}).")


def runs_of(sink: Sink, source: Source, parent: ParentRun) -> list[str]:
    """The ids of a sweep's runs: those it trained and those it found finished, which runs.json lists."""
    listed = read_json(sink, parent.run_id, "runs.json")
    if not listed:  # killed, or still running: what it has trained so far
        return source.children(parent.run_id)
    return [run_id for row in records(listed) if (run_id := row["run id"])]


def records(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a table in MLflow's form, each by its columns' names; none of an empty table."""
    return [dict(zip(table["columns"], row, strict=True)) for row in table.get("data", ())]


def read_json(sink: Sink, run_id: str, name: str) -> dict[str, Any]:
    """A JSON file of a run; empty if it is not there."""
    try:
        content: dict[str, Any] = json.loads(sink.read(run_id, name))
    except Exception as error:
        if not is_trouble(error):
            raise
        return {}
    return content
