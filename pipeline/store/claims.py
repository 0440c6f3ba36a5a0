"""Which of several sweeps trains a run that more than one of them wants at the same time.

Each says in the store, on its parent run, what it wants; reads what the others say; and holds what nobody else has. Of
two that choose at the same moment the smaller run id goes first: Lamport's bakery algorithm ("A New Solution of
Dijkstra's Concurrent Programming Problem", CACM 17, 1974), with run ids as tickets. No store needs locks for it, and
none that was killed keeps anything: its runs are free once it has been silent for SILENCE seconds, or at once where
its process can be seen to be gone.
"""

import json
import math
import signal
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.interrupts import KINDS, let_through
from pipeline.store.sink import Change, Experiment, Sink
from pipeline.store.sinks import is_trouble

CLAIM = "seedbed.claim"  # the tag
FILE = "claim.json"  # the fingerprints: too many for a tag
BEAT = 10.0  # seconds between two signs of life
SILENCE = 60.0  # seconds after which who gave no sign is taken for dead
POLL = 0.2  # seconds between two looks at a sweep that is choosing


@dataclass(frozen=True)
class Claim:
    """What a sweep says in its tag. `version` counts its lists of runs, `beat` its signs of life."""

    experiment: str
    is_choosing: bool
    version: int
    beat: int


class Claims:
    """The claims of the sweeps of an MLflow experiment, and of this process's own."""

    def __init__(self, sink: Sink, experiment: Experiment) -> None:
        self._sink, self._experiment = sink, experiment
        self._own: Claim | None = None
        self._sweep = ""
        self._lists: dict[tuple[str, int], frozenset[str]] = {}  # what others claim, by run id and version
        self._heard: dict[str, tuple[int, float]] = {}  # of others: the last beat, and time.monotonic() when it was new
        self._lock = threading.Lock()  # around the own tag, which the heart writes, too
        self._told_at = math.inf  # when the store last had a sign of life (time.time(), as a laptop may sleep)
        self._is_doubtful = False
        self._end = threading.Event()
        self._heart = threading.Thread(target=self._live, name="heart", daemon=True)

    def take(self, sweep: str, wanted: Sequence[str]) -> set[str]:
        """Claims runs, by fingerprint, for a sweep, by run id; returns those that others have, which are not its.

        Raises what the store raises.
        """
        self._sweep = sweep
        self._say(wanted, is_choosing=True)
        if not self._heart.is_alive():
            self._heart.start()
        others = self._others()
        while any(run_id > sweep and claim.is_choosing for run_id, claim in others.items()):
            let_through()
            time.sleep(POLL)
            others = self._others()
        theirs = self._listed(others, wanted)
        self._say([one for one in wanted if one not in theirs], is_choosing=False)
        return theirs

    def let_go(self) -> None:
        """Claims nothing any more: what has failed here is free for others, who would wait for it else."""
        if self._own:
            self._say([], is_choosing=False)

    def held(self, wanted: Iterable[str]) -> set[str]:
        """Those of the runs that another sweep claims now."""
        return self._listed(self._others(), wanted)

    @property
    def is_doubtful(self) -> bool:
        """True if two may train the same run: this sweep was silent for long, or took a silent one for dead."""
        return self._own is not None and (self._is_doubtful or self._is_late())

    def close(self) -> None:
        """Gives no more signs of life. The claim ends with its sweep's run."""
        self._end.set()
        if self._heart.is_alive():
            self._heart.join(timeout=1.0)  # it may be at a store that does not answer

    def _say(self, runs: Sequence[str], is_choosing: bool) -> None:
        with self._lock:
            # Not from 0: the next batch of a sweep has its run id, and would seem to say what the last one said.
            version = self._own.version + 1 if self._own else time.time_ns() // 1_000_000
            self._own = Claim(self._experiment.experiment_id, is_choosing, version, 0)
            self._write({FILE: json.dumps(list(runs)).encode()})

    def _write(self, files: Mapping[str, bytes]) -> None:
        """Files come before the tag that tells of them."""
        self._sink.change([Change(self._sweep, tags={CLAIM: json.dumps(vars(self._own))}, files=files)])
        self._is_doubtful |= self._is_late()
        self._told_at = time.time()

    def _is_late(self) -> bool:
        return time.time() - self._told_at > SILENCE / 2

    def _live(self) -> None:
        """Gives signs of life, in a thread of its own. A store that fails now may take the next one."""
        signal.pthread_sigmask(signal.SIG_BLOCK, KINDS)  # they are for the main thread, which may hold them back
        while not self._end.wait(BEAT):
            try:
                self._beat()
            except Exception as error:
                if not is_trouble(error):
                    raise

    def _beat(self) -> None:
        with self._lock:
            own = self._own
            if own:
                self._own = Claim(own.experiment, own.is_choosing, own.version, own.beat + 1)
                self._write({})

    def _others(self) -> dict[str, Claim]:
        """What the other sweeps of this experiment that are alive say, by run id."""
        told = {run_id: parsed(text) for run_id, text in self._sink.running(CLAIM).items() if run_id != self._sweep}
        here = self._experiment.experiment_id
        return {
            run_id: claim
            for run_id, claim in told.items()
            if claim and claim.experiment == here and self._is_alive(run_id, claim)
        }

    def _is_alive(self, run_id: str, claim: Claim) -> bool:
        """False if it has given no new sign for long enough, by this process's clock alone."""
        sign = claim.version * 2**32 + claim.beat
        known, since = self._heard.get(run_id, (-1, 0.0))
        if sign != known:
            self._heard[run_id] = sign, time.monotonic()
            return True
        is_alive = time.monotonic() - since < SILENCE
        self._is_doubtful |= not is_alive
        return is_alive

    def _listed(self, others: Mapping[str, Claim], wanted: Iterable[str]) -> set[str]:
        runs = set(wanted)
        return {one for run_id, claim in others.items() for one in self._list(run_id, claim) if one in runs}

    def _list(self, run_id: str, claim: Claim) -> frozenset[str]:
        """The fingerprints that a sweep lists; none if they cannot be read: to train twice harms less than never."""
        if (run_id, claim.version) not in self._lists:
            try:
                runs = frozenset(json.loads(self._sink.read(run_id, FILE)))
            except Exception as error:
                if not is_trouble(error) and not isinstance(error, ValueError):
                    raise
                return frozenset()
            self._lists[run_id, claim.version] = runs
        return self._lists[run_id, claim.version]


def parsed(text: str) -> Claim | None:
    """A tag's claim; None for what is not one."""
    try:
        return Claim(**json.loads(text))
    except (ValueError, TypeError):
        return None
