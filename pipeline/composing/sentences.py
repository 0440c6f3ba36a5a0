"""One sentence for whatever Hydra, OmegaConf or YAML raise about a config: what was given, what would do, which key."""

import contextlib
import difflib
import errno
import re
import traceback
from collections.abc import Iterator

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigIndexError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from pipeline.checks import TAKES, one_of, shown, wrong_value
from pipeline.errors import UserError
from pipeline.identity import is_secret
from pipeline.paths import find

LIBRARIES = ("hydra", "omegaconf", "antlr4", "yaml")
OWN = ("pipeline", "hydra_plugins")
FOLDERS = {"experiment": find("experiments")} | {
    folder.name: folder for folder in sorted(find("conf").iterdir()) if folder.is_dir()
}
GROUPS = {group: sorted(file.stem for file in folder.glob("*.yaml")) for group, folder in FOLDERS.items()}
SECTIONS = tuple(dict.fromkeys(key.partition(".")[0] for key in TAKES if "." in key))


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Turns what the libraries behind a config raise into a UserError of one sentence."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not from_library(error):
            raise
        raise UserError(reworded(error)) from error


def from_library(error: BaseException) -> bool:
    """True if a library raised the error: about input then, while an error of our own code shows its traceback."""
    if isinstance(error, HydraException | OmegaConfBaseException | yaml.YAMLError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # of what a library printed
        return False
    modules = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    packages = [module.partition(".")[0] for module in modules]
    return next((package for package in reversed(packages) if package in LIBRARIES + OWN), "") in LIBRARIES


def reworded(error: BaseException) -> str:
    """One sentence for an error that a library raised."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return wrong_value(group, name, one_of(error.options) if error.options else "the name of a config file")
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"{mark.name} cannot be read ({error.problem}, line {mark.line + 1}): it must be YAML."
    inner = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__
    override = override_of(error)
    if isinstance(inner, OmegaConfBaseException) and inner.full_key:
        file = re.match(r"In '([^']+)': ", str(error))
        return (f"{file[1]}.yaml: " if file else "") + bad_key(inner, inner.full_key, override)
    if match := re.search(r"Could not override '([^']+)'", str(error)):
        return unknown_key(match[1])
    if isinstance(error, OverflowError) and (match := re.search(r"full_key: (\S+)", str(error))):
        return wrong_value(match[1], "too large a number")
    said = dict.fromkeys(first_line(one) for one in (error, inner) if one is not None)
    return f"Hydra cannot use this ({': '.join(said)}): see `seedbed train --help`."


def bad_key(error: OmegaConfBaseException, key: str, override: Override | None) -> str:
    """The sentence for OmegaConf's error about a key (`network.hidden[0]` for a place in a list)."""
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        return unknown_key(key)
    if isinstance(error, MissingMandatoryValue):
        return f"{key} has no value: give it one, as in {key}=VALUE."
    if isinstance(error, ConfigIndexError):
        return f"{key} lies outside of the list: give the whole list, as in {key.partition('[')[0]}=[...]."
    if isinstance(error, InterpolationResolutionError) and error.value is None:
        return f"{key} has a value that cannot be looked up ({first_line(error)}): check what stands in its ${{...}}."
    base = key.partition("[")[0]
    if base not in TAKES:
        return f"{key} is {shown(error.value)}, which does not do ({first_line(error)})."
    if override and override.key_or_group == base:
        key = base
    given = override.value() if override and override.key_or_group == key else error.value
    return wrong_value(key, given)


def override_of(error: BaseException) -> Override | None:
    """The word on the command line that could not be merged into the config, if it is known."""
    match = re.match(r"Error merging override (.*)", str(error), re.DOTALL)
    return OverridesParser.create().parse_override(match[1]) if match else None


def unknown_key(key: str) -> str:
    """The sentence for a key that the config does not have."""
    key = shown(key)
    if key.startswith(("hydra.", "hydra/")):
        return f"{key} is not one of Hydra's keys: `seedbed train --cfg hydra` prints them."
    section, _, name = key.rpartition(".")
    beside = f"{section}." if section in SECTIONS else ""
    names = {leaf.rpartition(".")[2]: leaf for leaf in TAKES if leaf not in SECTIONS and leaf.startswith(beside)}
    if not section:
        names |= {group: group for group in GROUPS}
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"{key} is not a key of the config: did you mean {names[close[0]]}?"
    if beside:
        return f"{key} is not a key of the config: {section} has {', '.join(names)}."
    return f"{key} is not a key of the config: `seedbed train --cfg job` prints all keys."


def first_line(error: BaseException) -> str:
    """The first line of an error's message (its kind if there is none), without its full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shown(lines[0].rstrip(".:"), 160) if lines else type(error).__name__


def public(word: str) -> str:
    """An override for a message: cut to a readable length, and without what may be a password."""
    return f"{word.partition('=')[0]}=..." if is_secret(word) else shown(word, 100)
