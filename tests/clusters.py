"""Runs for tests of training elsewhere, trained there, and held to a training here."""

from collections.abc import Sequence

from pipeline.executor_config import ExecutorConfig
from pipeline.identity import Run
from pipeline.training.cluster import make_cluster
from pipeline.training.handing_out import share_out, train_stacks
from pipeline.training.stack import Result, train_stack
from tests.factory import CAT_SHOP, run

RUNS = [
    run(**CAT_SHOP | {"hidden": hidden, "seed": seed, "epochs": 40})
    for hidden in ([2], [3], [2, 2])
    for seed in range(4)
]


def trained(config: ExecutorConfig, runs: Sequence[Run] = RUNS) -> dict[str, Result]:
    """What a cluster made of runs, by fingerprint."""
    stacks, _ = share_out(runs, config)
    found: dict[str, Result] = {}
    with make_cluster(config) as executor:
        for stack, future in train_stacks(executor, stacks, lambda _: None):
            found |= {one.fingerprint: result for one, result in zip(stack, future.result(), strict=True)}
    return found


def check_same(found: dict[str, Result], runs: Sequence[Run] = RUNS) -> None:
    """They have the bits of a training here."""
    assert found.keys() == {one.fingerprint for one in runs}
    for one in runs:
        (here,) = train_stack([one])
        there = found[one.fingerprint]
        assert there.curves["loss"].tobytes() == here.curves["loss"].tobytes()
        for mine, other in zip(here.final.matrices, there.final.matrices, strict=True):
            assert mine.tobytes() == other.tobytes()
        assert there.trained_on["machine"]
