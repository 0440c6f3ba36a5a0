"""The Hydra application behind `train` and `sweep`."""

import math
import os
import sys
from collections.abc import Sequence
from typing import Any

import hydra
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from pipeline.composing.compose import plain_words, register, run_config
from pipeline.composing.sentences import one_sentence
from pipeline.credentials import guard_stderr
from pipeline.errors import UserError
from pipeline.identity import make_run
from pipeline.paths import find
from pipeline.session import compared, run_one, show_plan
from pipeline.tables import load_dataset

FORCE = "hydra.job.env_set.SEEDBED_FORCE"  # what every launcher hands on to its jobs


def run_hydra(words: Sequence[str]) -> None:
    """Runs the application on command-line words. Raises what Hydra raises, instead of its own printing."""
    errors: list[UserError] = []

    def job(cfg: DictConfig) -> float:
        guard_stderr()  # a launcher's worker process has another one
        try:
            with one_sentence():
                return train(cfg)
        except UserError as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise  # the launcher may run this elsewhere: Hydra hands it to the sweeper
            errors.append(error)  # here it would make Hydra print a line of its own
            return math.inf

    os.environ["HYDRA_FULL_ERROR"] = "1"  # without it, Hydra prints what it raises and leaves
    Hydra.get_mode = verbs_mode  # type: ignore[method-assign]
    register()
    sys.argv = ["seedbed", *words]
    with compared():
        hydra.main(version_base="1.3", config_path=str(find("conf")), config_name="config")(job)()
    if errors:
        raise errors[0]


def verbs_mode(self: Hydra, config_name: str | None, overrides: list[str]) -> RunMode | None:
    """Nothing: the verb says whether it is one run or a sweep.

    Hydra's own composes all of the config to look for a `hydra.mode` in it, and then again with the mode: 0.1 s.
    """
    return None


def train(cfg: DictConfig) -> float:
    """Trains the one run of a composed config; returns its final loss (infinite if it has none, or for a dry run)."""
    words = plain_words(HydraConfig.get().overrides.task)
    check_single(words)
    config = run_config(cfg)
    run = make_run(config, words, load_dataset(config.data))
    if run.config.register and HydraConfig.get().mode == RunMode.MULTIRUN:  # every job would make a model
        raise UserError("register=true is for Seedbed's own launcher: leave it out, and `seedbed register` afterwards.")
    if HydraConfig.get().launcher.get("dry_run"):
        show_plan([run], force=is_forced(HydraConfig.instance().cfg))
        return math.inf
    outcome = run_one(run, is_forced(HydraConfig.instance().cfg))
    return outcome.metrics.get("result/final_loss", math.inf)


def is_forced(config: Any) -> bool:
    """True if the command of this config (one with the node `hydra`) trains what is finished again."""
    return bool(OmegaConf.select(config, FORCE))


def check_single(words: Sequence[str]) -> None:
    """Raises UserError if the config sweeps over keys that the command line does not fix."""
    given = {word.split("=", 1)[0].lstrip("+") for word in words}
    swept = [key for key in (HydraConfig.get().sweeper.params or {}) if key not in given]
    if swept:
        experiment = HydraConfig.get().runtime.choices.get("experiment")
        name, command = (f"experiment={experiment}", f" experiment={experiment}") if experiment else ("This config", "")
        raise UserError(
            f"{name} is a sweep over {', '.join(swept)}: use `seedbed sweep{command}`, or give each of these keys one "
            "value."
        )
