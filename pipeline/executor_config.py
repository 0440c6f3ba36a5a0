"""The section `executor` of a config: who trains, which decides no result."""

import importlib.util
from dataclasses import dataclass

from pipeline.checks import ELSEWHERE, EXECUTORS, KERNELS, MOST_WORKERS, check
from pipeline.errors import UserError


def check_extra(key: str, extra: str, module: str) -> None:
    """Raises UserError if the extra that a value of `key` needs is not installed."""
    if importlib.util.find_spec(module) is None:
        raise UserError(
            f"{key} is {extra}, which is not installed: run `make setup EXTRAS={extra}` or "
            f"`pip install 'seedbed[{extra}]'`."
        )


@dataclass(frozen=True)
class ExecutorConfig:
    """Who trains the stacks: `serial` is this process, `processes` are workers; `auto` leaves the choice to Seedbed.

    `workers` null means as many as there are cores. `kernel` is what computes: NumPy, or with the extra `numba`
    compiled code that gives the same bits.

    `dask` are the workers of the scheduler at `address` or of `scheduler_file`, or without either a cluster on this
    machine; `futures` is any concurrent.futures.Executor, `factory(max_workers=workers)`. `timeout` is how many
    seconds to wait for workers: at the beginning, and when all were lost.
    """

    kind: str = "auto"
    workers: int | None = None
    kernel: str = "numpy"
    address: str | None = None
    scheduler_file: str | None = None
    factory: str | None = None
    timeout: float = 60.0

    def __post_init__(self) -> None:
        check(self.kind in EXECUTORS, "executor.kind", self.kind)
        check(self.workers is None or 1 <= self.workers <= MOST_WORKERS, "executor.workers", self.workers)
        check(self.kernel in KERNELS, "executor.kernel", self.kernel)
        check(self.timeout > 0, "executor.timeout", self.timeout)
        check((self.factory is not None) == (self.kind == "futures"), "executor.factory", self.factory)
        if self.address and self.scheduler_file:
            raise UserError("executor.address and executor.scheduler_file are both given: leave one of them out.")
        if self.kind == "dask":
            check_extra("executor", "dask", "distributed")
        if self.kernel == "numba":
            check_extra("executor.kernel", "numba", "numba")

    @property
    def is_elsewhere(self) -> bool:
        """True if the workers are not this process's own."""
        return self.kind in ELSEWHERE

    @property
    def scheduler(self) -> str | None:
        """Where a Dask scheduler is to be found, if one is named."""
        return self.address or self.scheduler_file
