"""What is finished in a store, also where none is there yet: looking makes nothing."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config import TrackingConfig
from pipeline.environment import code_reasons, read_environment
from pipeline.identity import Run
from pipeline.store.address import DEFAULT_URI
from pipeline.store.place import check_artifacts, existing_experiment
from pipeline.store.sink import Experiment, Kept, Sink
from pipeline.store.sinks import Tell, existing_sink, is_trouble, translated
from pipeline.store.starts import kept_starts
from pipeline.training.continuing import Starts


@dataclass(frozen=True)
class Glance:
    """An MLflow experiment that a sweep would write to, looked at without making anything; it need not exist yet."""

    tracking: TrackingConfig
    tell: Tell

    def finished(self, fingerprints: Sequence[str]) -> dict[str, Kept]:
        """Its FINISHED runs that have one of the fingerprints. Raises UserError where opening the store would."""
        with translated(self.tracking.uri or DEFAULT_URI):
            sink, experiment = self._found
            return last_finished(sink, experiment, fingerprints) if sink and experiment else {}

    def starts(self, runs: Sequence[Run]) -> Starts:
        """What runs can go on from."""
        with translated(self.tracking.uri or DEFAULT_URI):
            sink, experiment = self._found
            return kept_starts(sink, experiment, runs) if sink and experiment else {}

    def code_change(self, run: Run) -> str:
        """How the numerics code has changed since the last FINISHED run of this cell; empty if it has not."""
        with translated(self.tracking.uri or DEFAULT_URI):
            sink, experiment = self._found
            return code_change(sink, experiment, run) if sink and experiment else ""

    @property
    def in_bulk(self) -> bool:
        """True if runs would be written many at a time."""
        with translated(self.tracking.uri or DEFAULT_URI):
            sink, _ = self._found
            return sink is None or sink.in_bulk

    @functools.cached_property
    def _found(self) -> tuple[Sink | None, Experiment | None]:
        check_artifacts(self.tracking.artifacts)
        sink = existing_sink(self.tracking.uri or DEFAULT_URI, self.tell)
        return sink, existing_experiment(sink, self.tracking) if sink else None


def last_finished(sink: Sink, experiment: Experiment, fingerprints: Sequence[str], since: int = 0) -> dict[str, Kept]:
    """The FINISHED runs that have one of the fingerprints, by fingerprint; of several the one that ended last."""
    return {value: runs[-1] for value, runs in sink.finished(experiment, "fingerprint", fingerprints, since).items()}


def code_change(sink: Sink, experiment: Experiment, run: Run) -> str:
    """How the numerics code has changed since the last FINISHED run of this cell; empty if it has not."""
    kept = sink.finished(experiment, "cell", [run.cell]).get(run.cell)
    if not kept:
        return ""
    try:
        then = read_environment(sink.read(kept[-1].run_id, "environment.json"))
    except Exception as error:
        if not is_trouble(error):
            raise
        return ""
    return " ".join(code_reasons(then))
