"""Hydra's side of a config: registers the schema and experiments/, and turns composed configs into RunConfigs."""

import functools
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from pipeline.config import RunConfig
from pipeline.errors import UserError
from pipeline.paths import find


@functools.cache
def register() -> None:
    """Makes the schema and every file of experiments/ known to Hydra, once."""
    store = ConfigStore.instance()
    store.store(name="schema", node=writable(OmegaConf.structured(RunConfig)), provider="pipeline/config.py")
    for file in sorted(find("experiments").glob("*.yaml")):
        node = cast(DictConfig, OmegaConf.load(file))
        OmegaConf.update(node, "tracking.experiment", OmegaConf.select(node, "tracking.experiment") or file.stem)
        store.store(group="experiment", name=file.stem, node=node, package="_global_", provider=str(file))


def writable(node: Any) -> Any:
    """Lifts the read-only flags that OmegaConf gives frozen dataclasses: composing must be able to fill them."""
    OmegaConf.set_readonly(node, None)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig):
            writable(child)
    return node


def run_config(cfg: DictConfig) -> RunConfig:
    """The checked config of a composed one, whatever else Hydra put there.

    Raises UserError for an unknown key or a value out of range, OmegaConf's errors for a missing or unconvertible one.
    """
    known = RunConfig.__dataclass_fields__
    for key in cfg:
        if key not in known and key != "hydra":
            raise UserError(f"{key!s} is not a key of the config; the top-level keys are {', '.join(known)}.")
    return RunConfig(**{key: plain(cfg, key) for key in known})


def plain(cfg: DictConfig, key: str) -> Any:
    """The value of a top-level key as a plain object or dataclass, interpolations resolved."""
    value = cfg[key]
    return OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
