"""The Hydra application behind `train` and `sweep`."""

import os
import sys
from collections.abc import Sequence

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipeline.compose import register, run_config
from pipeline.errors import UserError
from pipeline.identity import make_run
from pipeline.paths import find
from pipeline.session import run_one


@hydra.main(version_base="1.3", config_path=str(find("conf")), config_name="config")
def train(cfg: DictConfig) -> float:
    """Trains the one run of a composed config; returns its final loss (infinite if it has none)."""
    words = list(HydraConfig.get().overrides.task)
    check_single(words)
    outcome = run_one(make_run(run_config(cfg), words))
    return outcome.metrics.get("result/final_loss", float("inf"))


def check_single(words: Sequence[str]) -> None:
    """Raises UserError if the experiment sweeps over keys that the command line does not fix."""
    given = {word.split("=", 1)[0].lstrip("+") for word in words}
    swept = [key for key in (HydraConfig.get().sweeper.params or {}) if key not in given]
    if swept:
        experiment = HydraConfig.get().runtime.choices.get("experiment")
        raise UserError(
            f"experiment={experiment} is a sweep over {', '.join(swept)}: use `seedbed sweep experiment={experiment}`, "
            "or give each of these keys one value."
        )


def run_hydra(words: Sequence[str]) -> None:
    """Runs the application on command-line words. Raises what Hydra raises, instead of its own printing."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    register()
    sys.argv = ["seedbed", *words]
    train()
