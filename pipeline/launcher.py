"""All jobs of a multirun at once: compose, check, and hand them to the sweep as runs."""

import os
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from omegaconf import DictConfig

from pipeline.compose import plain_words
from pipeline.composer import Composer
from pipeline.config import DataConfig, shown
from pipeline.data import Dataset, make_dataset
from pipeline.errors import FailedRunsError, UserError
from pipeline.experiment import experiment_files, swept
from pipeline.identity import Run, make_run
from pipeline.sentences import one_sentence, public
from pipeline.session import Parent, run_sweep
from pipeline.sweep import FAILED, Outcome


class Jobs:
    """What the stacked launcher does; one instance a sweep."""

    def __init__(self, loader: Any, config: DictConfig) -> None:
        """`loader` is Hydra's config loader, `config` the sweep's config."""
        self.loader, self.config = loader, config
        self.composer: Composer | None = None
        self.parents: dict[tuple[str, str, str], Parent] = {}
        self.datasets: dict[int, tuple[DataConfig, Dataset]] = {}

    def launch(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        """Trains the jobs, numbered from `first`; a sweeper may call this for batch after batch.

        Nothing runs unless every job's config is good: raises UserError for the first one that is not.
        """
        setup_globals()
        runs = self.runs(job_overrides, first)
        outcomes = run_sweep(runs, plain_words(self.config.hydra.overrides.task), self.parents)
        by_fingerprint = {outcome.run.fingerprint: outcome for outcome in outcomes}
        return [job_return(run, by_fingerprint[run.fingerprint], first + i) for i, run in enumerate(runs)]

    def runs(self, job_overrides: Sequence[Sequence[str]], first: int = 0) -> list[Run]:
        """The jobs as runs. Raises UserError for the first one that has no good config."""
        self.composer = self.composer or Composer(self.loader, self.config)
        return [self.run(self.composer, words, first + i) for i, words in enumerate(job_overrides)]

    def run(self, composer: Composer, words: Sequence[str], number: int) -> Run:
        """Composes and checks one job."""
        try:
            check_expanded(words)
            with one_sentence():
                config = composer(words)
                return make_run(config, words, self.dataset(config.data))
        except UserError as error:
            overrides = shown(" ".join(map(public, words)), 100)
            raise UserError(f"job {number} of the sweep ({overrides}): {error}") from error

    def dataset(self, config: DataConfig) -> Dataset:
        """The data set of a config, made once for the runs that share it."""
        if id(config) not in self.datasets:
            self.datasets[id(config)] = config, make_dataset(config)  # the config stays, and so its id stays its own
        return self.datasets[id(config)][1]


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
