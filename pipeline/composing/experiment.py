"""Experiments and data sets by name, without the command line: what there is, and runs composed from overrides."""

import functools
from collections.abc import Sequence
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from pipeline.composing.compose import register, run_config
from pipeline.identity import Run, make_run
from pipeline.paths import find
from pipeline.tables import load_dataset


@functools.cache
def experiment_files() -> dict[str, Path]:
    """The files of experiments/, by experiment."""
    return {file.stem: file for file in sorted(find("experiments").glob("*.yaml"))}


def data_files() -> dict[str, Path]:
    """The files of the config group data, by data set."""
    return {file.stem: file for file in sorted((find("conf") / "data").glob("*.yaml"))}


def compose_run(words: Sequence[str]) -> Run:
    """The run that these overrides give. Raises what Hydra raises, and UserError for values that cannot be used."""
    register()
    with initialize_config_dir(config_dir=str(find("conf")), version_base="1.3"):
        config = run_config(compose("config", list(words)))
        return make_run(config, words, load_dataset(config.data))


@functools.cache
def swept(experiment: str) -> dict[str, str]:
    """The keys that an experiment sweeps over, and their values as written; empty if it is a single run."""
    params = yaml.safe_load(experiment_files()[experiment].read_text(encoding="utf-8"))
    for key in ("hydra", "sweeper", "params"):
        params = (params or {}).get(key)
    params = params or {}
    return {key: str(values) for key, values in params.items()}


def swept_values(experiment: str, key: str) -> list[str]:
    """The values of a key that an experiment sweeps over, as words."""
    override = OverridesParser.create().parse_override(f"{key}={swept(experiment)[key]}")
    return [str(value) for value in override.sweep_string_iterator()]


def opening(file: Path) -> dict[str, str]:
    """What a config file's opening comment says: `Question`, `Command`, `Time`, `Expected`; else `about`."""
    said: dict[str, str] = {}
    key = "about"
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("# ").strip()
        if text.startswith("@package"):
            continue
        word, colon, rest = text.partition(":")
        if colon and word in ("Question", "Command", "Time", "Expected"):
            key, text = word, rest.strip()
        said[key] = f"{said[key]} {text}" if key in said else text
    return said
