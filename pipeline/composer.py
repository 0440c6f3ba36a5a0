"""Composes the jobs of a sweep fast: once per choice of config groups, then a copy with the values changed.

Hydra does the same for every job from the start (50 ms each): it splits the overrides into group choices and values,
merges the defaults list, and applies the values last (hydra/_internal/config_loader_impl.py), so values cannot change
what is merged. A test holds the results equal. Two private names of Hydra are used; pyproject.toml pins its version.
"""

import copy
import functools
from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, open_dict


class Composer:
    """Composes job after job of one sweep."""

    def __init__(self, loader: Any, master: DictConfig) -> None:
        """`loader` is Hydra's config loader, `master` the sweep's own config."""
        self.loader, self.master = loader, master
        self.bases: dict[tuple[str, ...], DictConfig] = {}
        parser = OverridesParser.create()
        self.parse = functools.cache(parser.parse_override)
        self.is_group = functools.cache(loader.repository.group_exists)

    def __call__(self, words: Sequence[str]) -> DictConfig:
        """The task config (without the node `hydra`) for these overrides. Raises what Hydra raises."""
        groups: list[str] = []
        values: list[Override] = []
        for word in words:
            override = self.parse(word)
            if self.is_group(override.key_or_group) and not isinstance(override.value(), dict):
                groups.append(word)
            else:
                values.append(override)
        cfg = copy.deepcopy(self.base(tuple(groups)))
        ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
        return cfg

    def base(self, groups: tuple[str, ...]) -> DictConfig:
        """The config for a choice of groups, composed by Hydra once."""
        if groups not in self.bases:
            base = self.loader.load_sweep_config(self.master, list(groups))
            with open_dict(base):
                del base["hydra"]
            self.bases[groups] = base
        return self.bases[groups]
