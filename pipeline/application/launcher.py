"""All jobs of a multirun at once: compose, check, and hand them to the sweep as runs."""

import os
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from omegaconf import DictConfig

from pipeline.application.app import is_forced
from pipeline.checks import shown
from pipeline.composing.compose import plain_words
from pipeline.composing.composer import Composer
from pipeline.composing.experiment import experiment_files, swept
from pipeline.composing.sentences import one_sentence, public
from pipeline.config import DataConfig
from pipeline.data import Dataset
from pipeline.errors import FailedRunsError, UserError
from pipeline.identity import Run, make_run
from pipeline.planning.plan import FAILED, Outcome
from pipeline.session import SweepSession, run_sweep, show_plan
from pipeline.tables import load_dataset


class Jobs:
    """What the stacked launcher does; one instance a sweep."""

    def __init__(self, loader: Any, config: DictConfig, dry_run: bool = False) -> None:
        """`loader` is Hydra's config loader, `config` the sweep's config; `dry_run` only says what would run."""
        if dry_run:
            check_sweeper(config.hydra.runtime.choices["hydra/sweeper"])
        self.loader, self.config, self.dry_run = loader, config, dry_run
        self.force = is_forced(config)
        self.composer: Composer | None = None
        self.sessions: dict[tuple[str, str, str], SweepSession] = {}
        self.datasets: dict[int, tuple[DataConfig, Dataset]] = {}

    def launch(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        """Trains the jobs, numbered from `first`; a sweeper may call this for batch after batch.

        Nothing runs unless every job's config is good: raises UserError for the first one that is not.
        """
        setup_globals()
        if self.dry_run:
            show_plan(*self.sorted_out(job_overrides), self.force)
            return []
        runs = self.runs(job_overrides, first)
        outcomes = run_sweep(runs, plain_words(self.config.hydra.overrides.task), self.sessions, self.force)
        by_fingerprint = {outcome.run.fingerprint: outcome for outcome in outcomes}
        return [job_return(run, by_fingerprint[run.fingerprint], first + i) for i, run in enumerate(runs)]

    def runs(self, job_overrides: Sequence[Sequence[str]], first: int = 0) -> list[Run]:
        """The jobs as runs. Raises UserError for the first one that has no good config."""
        runs = []
        for number, words in enumerate(job_overrides, first):
            try:
                runs.append(self.run(words))
            except UserError as error:
                raise UserError(f"job {number} of the sweep ({told(words)}): {error}") from error
        return runs

    def sorted_out(self, job_overrides: Sequence[Sequence[str]]) -> tuple[list[Run], list[tuple[str, str]]]:
        """The jobs that can run, as runs, and of the others the words and the reason."""
        runs, refused = [], []
        for words in job_overrides:
            try:
                runs.append(self.run(words))
            except UserError as error:
                refused.append((told(words), str(error)))
        return runs, refused

    def run(self, words: Sequence[str]) -> Run:
        """Composes and checks one job. Raises UserError if it has no good config."""
        self.composer = self.composer or Composer(self.loader, self.config)
        check_expanded(words)
        with one_sentence():
            config = self.composer(words)
            return make_run(config, words, self.dataset(config.data))

    def dataset(self, config: DataConfig) -> Dataset:
        """The data set of a config, made once for the runs that share it."""
        if id(config) not in self.datasets:
            self.datasets[id(config)] = config, load_dataset(config)  # the config stays, and so its id stays its own
        return self.datasets[id(config)][1]


def told(words: Sequence[str]) -> str:
    """A job's overrides for a message."""
    return shown(" ".join(map(public, words)), 100)


def check_sweeper(name: str) -> None:
    """Raises UserError for a sweeper other than ours when it is to be planned: it may choose runs as others end."""
    if name != "stacked":
        raise UserError(f"A plan is of Seedbed's own launcher and sweeper: leave hydra/sweeper={name} out.")


def check_expanded(words: Sequence[str]) -> None:
    """Raises UserError if a job's experiment sweeps over keys that the job does not fix.

    Hydra reads `hydra.sweeper.params` of the experiment of a sweep, but not of one among several.
    """
    values = dict(word.partition("=")[::2] for word in words)
    experiment = values.get("experiment", "")
    if experiment in experiment_files():
        missing = [key for key in swept(experiment) if key not in values]
        if missing:
            raise UserError(
                f"experiment={experiment} is itself a sweep over {', '.join(missing)}: sweep over it alone, or "
                "give these keys values."
            )


def job_return(run: Run, outcome: Outcome, number: int) -> JobReturn:
    """Hydra's record of a job; its value is the final loss, which a sweeper may minimise, or why it failed."""
    done = JobReturn(overrides=list(run.overrides), working_dir=os.getcwd(), task_name=f"job{number}")
    if outcome.status == FAILED:
        done.status = JobStatus.FAILED
        done.return_value = FailedRunsError(f"The run {run.name} failed ({outcome.reason}).")
    else:
        done.status = JobStatus.COMPLETED
        done.return_value = outcome.metrics.get("result/final_loss", float("inf"))
    return done


def check_returns(returns: Sequence[JobReturn]) -> None:
    """Raises FailedRunsError if jobs failed in training, or what one raised before: another launcher lets all run."""
    errors = [done._return_value for done in returns if done.status == JobStatus.FAILED]
    for error in errors:
        if not isinstance(error, FailedRunsError):
            raise error
    if errors:
        raise FailedRunsError(f"{len(errors)} of {len(returns)} runs failed.")
