"""Hydra's view of the stacked launcher and its sweeper: a shim.

Hydra's scanner runs this file at every start, and before it is in sys.modules, so there are no dataclasses here and
nothing heavy is imported.
"""

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.launcher import Launcher


class StackedLauncher(Launcher):
    """Trains all jobs of a multirun as stacks (application/launcher.py); `dry_run`: only says what it would do."""

    def __init__(self, dry_run: bool = False) -> None:
        """Takes what stands under hydra.launcher."""
        self.dry_run = dry_run

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keeps what Hydra hands over."""
        from pipeline.application.launcher import Jobs

        self.jobs = Jobs(hydra_context.config_loader, config, self.dry_run)

    def launch(self, job_overrides: Any, initial_job_idx: int) -> Any:
        """Trains the jobs and returns a JobReturn for each."""
        return self.jobs.launch(job_overrides, initial_job_idx)


class StackedSweeper(BasicSweeper):
    """Hydra's basic sweeper without its own composition of every job, and without multirun.yaml.

    The launcher composes and checks all jobs; the file could hold a password.
    """

    def sweep(self, arguments: list[str]) -> Any:
        """Expands the overrides and launches them batch by batch. No batch runs unless every job's config is good."""
        from pipeline.application.launcher import Jobs, check_returns
        from pipeline.application.words import check_sweep

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        check_sweep(overrides, self.max_batch_size)
        dry_run = getattr(self.launcher, "dry_run", False)  # a plan is of all batches as one
        batches = self.split_arguments(overrides, None if dry_run else self.max_batch_size)
        if len(batches) > 1 or not hasattr(self.launcher, "jobs"):  # else our launcher checks them all by itself
            Jobs(self.hydra_context.config_loader, self.config).runs([job for batch in batches for job in batch])
        returns: list[Any] = []
        for batch in batches:
            returns += self.launcher.launch(batch, initial_job_idx=len(returns))
        check_returns(returns)
        return returns


_HERE = "hydra_plugins.seedbed_stacked"
_STORE = ConfigStore.instance()
_STORE.store(
    group="hydra/launcher",
    name="stacked",
    provider="seedbed",
    node={"_target_": f"{_HERE}.StackedLauncher", "dry_run": False},
)
_STORE.store(
    group="hydra/sweeper",
    name="stacked",
    provider="seedbed",
    node={"_target_": f"{_HERE}.StackedSweeper", "max_batch_size": None, "params": None},
)
