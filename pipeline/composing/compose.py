"""Hydra's side of a config: registers the schema and experiments/, and turns composed configs into RunConfigs."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, ClassVar, Self, cast, get_type_hints

from hydra._internal.core_plugins import file_config_source, structured_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.plugins.config_source import ConfigResult
from omegaconf import MISSING, DictConfig, OmegaConf

from pipeline.composing.sentences import one_sentence, unknown_key
from pipeline.config import RunConfig
from pipeline.credentials import without_secrets
from pipeline.errors import UserError
from pipeline.paths import find

TYPES = get_type_hints(RunConfig)
SECTIONS: dict[str, Any] = {key: kind for key, kind in TYPES.items() if dataclasses.is_dataclass(kind)}


class FileConfigSource(file_config_source.FileConfigSource):
    """How Hydra reads config files, with passwords in addresses hidden: it may write a config to a file.

    It has the name of Hydra's own, which Hydra takes for the same then.
    """

    texts: ClassVar[dict[str, tuple[dict[str, str | None], Any]]] = {}  # the header and content of each text read

    def load_config(self, config_path: str) -> ConfigResult:
        """A file's content. Raises UserError for an address that has a password beside a look-up.

        Hydra reads each file again whenever it composes, so a text is taken apart only once: YAML needs 4 ms for it.
        """
        file = Path(self.path, self._normalize_file_name(config_path))
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        if text not in self.texts or not file.is_file():
            found = super().load_config(config_path)
            self.texts[text] = found.header, plain_content(found.config)
        header, content = self.texts[text]
        return ConfigResult(
            provider=self.provider, path=self.full_path(), config=public_node(content), header=dict(header)
        )


class StructuredConfigSource(structured_config_source.StructuredConfigSource):
    """How Hydra reads configs of classes. It copies its sources whenever it composes, and with Hydra's own all configs.

    It has the name of Hydra's own, by which Hydra knows it.
    """

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        """Itself: it changes nothing, and gives copies of the configs."""
        return self


def plain_content(node: Any) -> Any:
    """What a config holds, as it was written."""
    return OmegaConf.to_container(node, resolve=False)


def public_node(content: Any) -> Any:
    """A config of what was read from a file, with passwords in addresses hidden."""
    return OmegaConf.create(without_secrets(content))


@functools.cache
def register() -> None:
    """Makes the schema and every file of experiments/ known to Hydra, once. Raises UserError for an unreadable file."""
    SourcesRegistry.instance().types |= {"file": FileConfigSource, "structured": StructuredConfigSource}
    store = ConfigStore.instance()
    schema = writable(OmegaConf.structured(RunConfig))
    schema.data.X = schema.data.y = MISSING  # the class needs some rows, but nobody should train on them by accident
    store.store(name="schema", node=schema, provider="pipeline/config.py")
    for file in sorted(find("experiments").glob("*.yaml")):
        with one_sentence():
            node = cast(DictConfig, public_node(plain_content(OmegaConf.load(file))))
            OmegaConf.update(node, "tracking.experiment", OmegaConf.select(node, "tracking.experiment") or file.stem)
        store.store(group="experiment", name=file.stem, node=node, package="_global_", provider=str(file))


def plain_words(words: Any) -> list[str]:
    """Overrides as they were given: OmegaConf would resolve an interpolation in one against the list of them."""
    return cast(list[str], plain_content(words))


def writable(node: Any) -> Any:
    """Lifts the read-only flags that OmegaConf gives frozen dataclasses: composing must be able to fill them."""
    OmegaConf.set_readonly(node, None)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig):
            writable(child)
    return node


def run_config(cfg: DictConfig) -> RunConfig:
    """The checked config of a composed one, interpolations resolved. Raises UserError for anything wrong with it."""
    tree = resolved(cfg)
    return RunConfig(**{key: checked(key, tree[key]) for key in TYPES})


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """A composed config as plain values. Raises UserError for what is missing, unknown or cannot be looked up."""
    with one_sentence():
        tree = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    check_keys("", tree, RunConfig)
    return tree


def checked(key: str, value: Any) -> Any:
    """The value of a key at the top of a resolved config: a section becomes its dataclass. Raises UserError."""
    if key not in SECTIONS:
        return value
    check_keys(f"{key}.", value, SECTIONS[key])
    return SECTIONS[key](**value)


def check_keys(prefix: str, tree: dict[str, Any], kind: Any) -> None:
    """Raises UserError unless `tree` has the keys of a dataclass, no more and no less."""
    known = [field.name for field in dataclasses.fields(kind)]
    for key in tree:
        if key not in known:
            raise UserError(unknown_key(f"{prefix}{key}"))
    for key in known:
        if key not in tree:
            raise UserError(f"The config lacks {prefix}{key}, which every run needs.")
