"""Checks the words of a command before Hydra sees them, and rewords what Hydra and OmegaConf say about them."""

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from pipeline.app import run_hydra
from pipeline.config import RunConfig, shown
from pipeline.errors import UserError
from pipeline.paths import find

FLAGS = ("--multirun", "-m", "--run", "-r", "--resolve", "--hydra-help", "--shell-completion", "-sc")
VALUED = ("--cfg", "-c", "--package", "-p", "--info", "-i", "--config-dir", "-cd", "--config-name", "-cn")
KINDS = {
    "Integer": "a whole number",
    "Float": "a number",
    "Boolean": "true or false",
    "String": "text",
    "list": "a list",
    "List": "a list",
}


def start_hydra(words: Sequence[str]) -> None:
    """Runs `train` or, with --multirun among the words, a sweep. Raises UserError for anything wrong with the words."""
    many = any(word in ("--multirun", "-m") for word in words)
    for word in overrides_of(words):
        check_override(word, many)
    try:
        run_hydra(words)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(reworded(error)) from error


def overrides_of(words: Sequence[str]) -> Iterator[str]:
    """The words that are overrides. Raises UserError for an option that Hydra does not have or lacks its value."""
    rest = iter(words)
    for word in rest:
        name, _, value = word.partition("=")
        if name in VALUED:
            if not value and name not in ("--info", "-i") and next(rest, None) is None:
                raise UserError(f"{name} needs a value behind it, as in `--cfg job`.")
            continue
        if word.startswith("-"):
            if word not in FLAGS:
                raise UserError(f"There is no option {word}; options are {', '.join(FLAGS + VALUED)}.")
            continue
        yield word


def check_override(word: str, many: bool) -> None:
    """Raises UserError if the word is no override, or has several values (or a sweep's function) without a sweep."""
    if not word.strip():
        raise UserError("An empty word is no key=value: leave it out.")
    if "=" not in word and not word.startswith("~"):
        close = f"did you mean experiment={word}?" if word in experiments() else "write key=value, like seed=7."
        raise UserError(f"{word} is no key=value: {close}")
    if word.startswith("="):
        raise UserError(f"{word} has no key before the =: write key=value, like seed=7.")
    try:
        override = OverridesParser.create().parse_override(word)
    except (OverrideParseException, HydraException) as error:
        hint = "quote a value that contains = , ( ) or spaces, as in 'key=\"a=b\"'"
        raise UserError(f"{shown(word)} cannot be read ({first_line(error)}): {hint}.") from error
    if override.is_sweep_override() and not many:
        raise UserError(f"{shown(word)} gives several values to one run: use `seedbed sweep`, or give one value.")


def experiments() -> list[str]:
    """Names of the files in experiments/."""
    return sorted(file.stem for file in find("experiments").glob("*.yaml"))


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without its full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(error).__name__


def reworded(error: BaseException) -> str:
    """One sentence for an error that Hydra or OmegaConf raised."""
    text = str(error)
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
    inner: Any = error if isinstance(error, OmegaConfBaseException) else cause
    if match := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        group, name = match.groups()
        choices = re.sub(r"\s+", ", ", text.partition("':\n")[2].strip()) or "none"
        return f"{group}={name}: there is no such choice; {group} is one of {choices.partition(', Config')[0]}."
    if match := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(match[1])
    if isinstance(inner, MissingMandatoryValue):
        key = inner.full_key or first_line(inner)
        return f"{key} has no value: give one, as in {key}=VALUE."
    if inner is not None and (
        match := re.match(r"Value '(.*)' of type '.*' could not be converted to (\w+)", str(inner))
    ):
        return f"{inner.full_key or 'a value'} is {shown(match[1])}, but it must be {KINDS.get(match[2], match[2])}."
    if inner is not None and (match := re.match(r"Key '([^']+)' (?:is )?not in", str(inner))):
        return unknown_key(inner.full_key or match[1])
    parts = [first_line(error)] + ([first_line(cause)] if cause else [])
    return f"{': '.join(dict.fromkeys(parts))}: see `seedbed train --help`."


def unknown_key(key: str) -> str:
    """The sentence for a key that the config does not have."""
    known = keys(OmegaConf.structured(RunConfig))
    close = difflib.get_close_matches(key, known, n=1) or [
        name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]
    ]
    hint = f"did you mean {close[0]}?" if close else "`seedbed train --cfg job` prints all keys."
    return f"{key} is not a key of the config: {hint}"


def keys(node: Any, prefix: str = "") -> list[str]:
    """All dotted keys of a config."""
    found: list[str] = []
    for key in node:
        child = node._get_node(key)
        name = f"{prefix}{key}"
        found.append(name)
        if OmegaConf.is_dict(child) and child._metadata.object_type is not dict:
            found += keys(child, f"{name}.")
    return found
