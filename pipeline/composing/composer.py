"""Composes the jobs of a sweep fast: by Hydra once per choice of config groups, then with the values changed.

Hydra does the same for every job from the start (50 ms each): it splits the overrides into group choices and values,
merges the defaults list, and applies the values last (hydra/_internal/config_loader_impl.py), so values cannot change
what is merged. Tests hold the results and the errors equal. Two private names of Hydra are used; pyproject.toml pins
its version.
"""

import contextlib
import copy
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from pipeline.checks import TAKES
from pipeline.composing.compose import SECTIONS, checked, resolved, run_config
from pipeline.config import RunConfig

LEAVES = TAKES.keys() - SECTIONS.keys()
MOST_TEMPLATES = 64
WHOLE = re.compile("0|[1-9][0-9]{,17}")
LOOK_UP = re.compile(r"\$\{(?:oc\.env:[^${}]*|([A-Za-z_][\w.]*))\}")


class Composer:
    """Composes job after job of one sweep."""

    def __init__(self, loader: Any, master: DictConfig) -> None:
        """`loader` is Hydra's config loader, `master` the sweep's own config."""
        self.loader, self.master = loader, master
        self.bases: dict[tuple[str, ...], DictConfig] = {}
        self.parse = functools.cache(OverridesParser.create().parse_override)
        self.is_group = functools.cache(loader.repository.group_exists)
        self.plain_key = functools.cache(self._plain_key)
        self.template = functools.lru_cache(MOST_TEMPLATES)(self._template)

    def __call__(self, words: Sequence[str]) -> RunConfig:
        """The checked config for these overrides. Sections may be shared by configs. Raises what `run_config` raises.

        What the quick way cannot do, or refuses, goes the exact way, which raises errors in Hydra's order.
        """
        with contextlib.suppress(Exception):
            return self.quick(words)
        return run_config(self.composed(words))

    def quick(self, words: Sequence[str]) -> RunConfig:
        """The config from a template of all words but the plain ones; raises an error where it might not be right."""
        plain = {key: word for word in words if (key := self.plain_key(word))}
        others = tuple(word for word in words if not self.plain_key(word))
        if len(plain) + len(others) < len(words):
            raise ValueError("a key is given twice")
        return self.template(others).filled(plain)

    def composed(self, words: Iterable[str]) -> DictConfig:
        """The task config (without the node `hydra`) for these overrides. Raises what Hydra raises."""
        groups: list[str] = []
        values: list[Override] = []
        for word in words:
            override = self.parse(word)
            if self.is_choice(override):
                groups.append(word)
            else:
                values.append(override)
        cfg = copy.deepcopy(self.base(tuple(groups)))
        ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
        return cfg

    def is_choice(self, override: Override) -> bool:
        """True for an override that chooses from a config group."""
        return self.is_group(override.key_or_group) and not isinstance(override.value(), dict)

    def base(self, groups: tuple[str, ...]) -> DictConfig:
        """The config for a choice of groups, composed by Hydra once."""
        if groups not in self.bases:
            base = self.loader.load_sweep_config(self.master, list(groups))
            with open_dict(base):
                del base["hydra"]
            self.bases[groups] = base
        return self.bases[groups]

    def _plain_key(self, word: str) -> str:
        """The key of a word that gives one leaf of the config a value of its own, else empty."""
        key = word.partition("=")[0]
        plain = key in LEAVES and "${" not in word and not isinstance(self.value(word), dict)
        return key if plain else ""

    def value(self, word: str) -> Any:
        """The value of a word that changes a key. Hydra's parser takes 0.4 ms, too much for thousands of seeds."""
        text = word.partition("=")[2]
        return int(text) if WHOLE.fullmatch(text) else self.parse(word).value()

    def _template(self, words: tuple[str, ...]) -> "Template":
        given = [override.key_or_group for override in map(self.parse, words) if not self.is_choice(override)]
        return Template(self.composed(words), given, self.value)


class Template:
    """A composed config to fill values in. What a word gives is worked out once, and sections alike are shared."""

    def __init__(self, cfg: DictConfig, given: Sequence[str], given_value: Callable[[str], Any]) -> None:
        """`given` are the keys that its words give. Raises UserError unless `cfg` is complete."""
        self.taken = [*given, *looked_up(OmegaConf.to_container(cfg))]
        self.tree = resolved(cfg)
        self.cfg, self.given_value = cfg, given_value
        self.is_free = functools.cache(self._is_free)
        self.value = functools.cache(self._value)
        self.part = functools.cache(self._part)

    def filled(self, plain: Mapping[str, str]) -> RunConfig:
        """The config with the values that these words, by key, give. Raises ValueError if one may change others."""
        if not all(map(self.is_free, plain)):
            raise ValueError("a key is given in part, or looked up")
        words: dict[str, tuple[str, ...]] = dict.fromkeys(self.tree, ())
        for key, word in plain.items():
            words[key.partition(".")[0]] += (word,)
        return RunConfig(**{name: self.part(name, words[name]) for name in words})

    def _is_free(self, key: str) -> bool:
        """True unless the key lies in, or around, one that is given or looked up."""
        return not any(f"{key}.".startswith(f"{one}.") or one.startswith((f"{key}.", f"{key}[")) for one in self.taken)

    def _value(self, word: str) -> Any:
        """The value that a word gives to its key, as OmegaConf converts it."""
        key = word.partition("=")[0]
        OmegaConf.update(self.cfg, key, self.given_value(word))  # as ConfigLoaderImpl._apply_overrides_to_config does
        section, _, leaf = key.rpartition(".")
        value = (self.cfg[section] if section else self.cfg)[leaf]
        return OmegaConf.to_container(value, throw_on_missing=True) if OmegaConf.is_config(value) else value

    def _part(self, name: str, words: tuple[str, ...]) -> Any:
        """What stands at the top of the config under `name`, with these words' values, checked."""
        values = {word.partition("=")[0]: self.value(word) for word in words}
        if name not in SECTIONS:
            return values.get(name, self.tree[name])
        return checked(name, self.tree[name] | {key.partition(".")[2]: value for key, value in values.items()})


def looked_up(value: Any) -> Iterator[str]:
    """The keys that interpolations anywhere in an unresolved value look up. Raises ValueError if that is not plain."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from looked_up(one)
    elif isinstance(value, str) and "${" in value:
        if "${" in LOOK_UP.sub("", value):
            raise ValueError(f"{value} may look up any key")
        yield from filter(None, LOOK_UP.findall(value))
