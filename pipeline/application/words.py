"""Checks the words of `train` and `sweep` before Hydra sees them: what it would refuse in many lines or not at all."""

import contextlib
import difflib
import io
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, QuotedString, RangeSweep
from hydra.errors import HydraException

from pipeline.application.app import FORCE, run_hydra
from pipeline.checks import TAKES, one_of, shown, wrong_value
from pipeline.composing.sentences import GROUPS, SECTIONS, one_sentence, public, unknown_key
from pipeline.credentials import has_secret, hidden, public_uri, redacted
from pipeline.errors import UserError
from pipeline.identity import SECRET_SECTIONS, is_secret

DRY_RUN = "hydra.launcher.dry_run"
OWN_FLAGS = ("--quiet", "--dry-run", "--force")  # click takes them, wherever they stand
FLAGS = ("--multirun", "--run", "--resolve", "--hydra-help")
CHOICES = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
DEFAULTS = {"--info": "all"}
VALUED = (*CHOICES, "--package", "--config-dir", "--config-name")
SHORT = {"-m": "--multirun", "-r": "--run", "-c": "--cfg", "-i": "--info", "-p": "--package"}
SHORT |= {"-cd": "--config-dir", "-cn": "--config-name"}
TEXTS = ("data.name", "tracking.uri", "tracking.experiment", "tracking.artifacts")
MOST_JOBS = 1_000_000


def start_hydra(words: Sequence[str], dry_run: bool = False, force: bool = False) -> None:
    """Runs `train` or, with --multirun among the words, a sweep; `dry_run` only says what they would do.

    With `force` they train what is finished in the store again. Raises UserError for anything wrong with the words.
    """
    options, overrides = split(words)
    check_options(options)
    with one_sentence():
        for word in overrides:
            check_override(word, "--multirun" in options)
            if dry_run:
                check_plannable(word)
        given = [f"{name}={value}" if value else name for name, value in options.items()]
        own = [f"{DRY_RUN}=true"] * dry_run + [f"++{FORCE}=1"] * force
        with resolved_in_public() if "--resolve" in options else contextlib.nullcontext():
            run_hydra([*given, *map(without_secret, overrides), *own])  # Hydra wants overrides in one row


@contextlib.contextmanager
def resolved_in_public() -> Iterator[None]:
    """Prints what the block prints, without the secrets that a resolved config may hold."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        print(redacted(printed.getvalue()), end="")


def without_secret(word: str) -> str:
    """An override that means the same, with the addresses in it that hold a password looked up in the environment.

    Raises UserError for an address that is written with escapes.
    """
    override = parsed(word)
    if not override.key_or_group.startswith(SECRET_SECTIONS) or override.is_delete():
        return word
    key, equals, value = word.partition("=")
    is_uri = override.key_or_group == "tracking.uri"  # also one without its ://
    for text, written in texts(override._value):
        if has_secret(text) or (is_uri and "://" not in text and public_uri(text) != text):
            if written not in value:
                raise UserError(f"{key}=... is an address in an odd form: put it into MLFLOW_TRACKING_URI instead.")
            value = value.replace(written, hidden(text))
    return f"{key}{equals}{value}"


def texts(value: Any) -> Iterator[tuple[str, str]]:
    """The texts in an override's parsed value, each with how it stands in the word; the longest first."""
    if isinstance(value, ChoiceSweep):
        value = value.list
    if isinstance(value, QuotedString):
        yield value.text, value.with_quotes()
    elif isinstance(value, str):
        yield value, value
    elif isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        yield from sorted((pair for part in parts for pair in texts(part)), key=lambda pair: -len(pair[1]))


def split(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Options with their values ("" for none), and overrides. Raises UserError for an option that there is not."""
    options: dict[str, str] = {}
    overrides: list[str] = []
    rest = list(reversed(words))
    while rest:
        word = rest.pop()
        if not word.startswith("-"):
            overrides.append(word)
            continue
        name, equals, value = word.partition("=")
        name = SHORT.get(name, name)
        if name in VALUED:
            behind = rest.pop() if rest and not equals and not rest[-1].startswith("-") else ""
            options[name] = value if equals else behind or DEFAULTS.get(name, "")
        elif name in FLAGS and not equals:
            options[name] = ""
        else:
            key = name.lstrip("-")
            hint = f"write {key}=VALUE" if key in TAKES else f"options are {', '.join((*FLAGS, *VALUED, *OWN_FLAGS))}"
            raise UserError(f"{shown(word)} is not an option here: {hint}.")
    return options, overrides


def check_options(options: dict[str, str]) -> None:
    """Raises UserError for an option without its value, with a wrong one, or without the option it belongs to."""
    for name, value in options.items():
        if name in VALUED and not value:
            raise UserError(f"{name} needs a value behind it: {one_of(CHOICES.get(name, ('a name',)))}.")
        if name in CHOICES and value not in CHOICES[name]:
            raise UserError(wrong_value(name, value, one_of(CHOICES[name])))
    modes = [name for name in ("--multirun", "--run", "--cfg", "--info") if name in options]
    if len(modes) > 1:
        raise UserError(f"{modes[-1]} is for a single run: use `seedbed train` with only one of {', '.join(modes)}.")
    for name in ("--resolve", "--package"):
        if name in options and "--cfg" not in options:
            words = f"{name} {options[name]}".strip()
            raise UserError(f"{name} goes with --cfg: write `seedbed train --cfg job {words}`.")
    folder, main, package = (options.get(name, "") for name in ("--config-dir", "--config-name", "--package"))
    if folder and not Path(folder).is_dir():
        raise UserError(f"--config-dir is {shown(folder)}, but there is no such folder.")
    if main and main != "config" and not (folder and Path(folder, f"{main.removesuffix('.yaml')}.yaml").is_file()):
        raise UserError(f"--config-name is {shown(main)}, but the folder named by --config-dir has no such file.")
    if package not in ("", "_global_", "hydra", *SECTIONS, *TAKES) and not package.startswith("hydra."):
        raise UserError(unknown_key(package))


def check_override(word: str, many: bool) -> None:
    """Raises UserError if the word is no override, or one that Hydra takes but no config can be made of."""
    override = parsed(word)
    key, value = override.key_or_group, override.value()
    base = next((leaf for leaf in TAKES if leaf not in SECTIONS and key.startswith(f"{leaf}.")), None)
    if base and not key.removeprefix(base).replace(".", "").isdecimal():
        raise UserError(unknown_key(key))
    if override.is_delete():
        check_deletion(word, key)
    elif override.is_sweep_override():
        check_several(word, key, many)
    elif key in GROUPS and not isinstance(value, dict):
        check_group(override, key, value)
    elif override.is_add() and key in TAKES and not isinstance(value, dict | list):
        raise UserError(f"{key} is in the config already: write {public(word.lstrip('+'))} without the +.")
    elif key == DRY_RUN and not isinstance(value, bool):
        raise UserError(wrong_value(key, value, "true or false"))
    elif key in ("hydra.launcher", "hydra.sweeper") and not isinstance(value, dict):
        raise UserError(f"{public(word)} would replace a whole group: choose one with {key.replace('.', '/')}=stacked.")


def check_plannable(word: str) -> None:
    """Raises UserError for another launcher than ours, which trains no stacks."""
    key, _, value = word.partition("=")
    if key == "hydra/launcher" and value != "stacked":
        raise UserError(f"A plan is of Seedbed's own launcher and sweeper: leave {public(word)} out.")


def parsed(word: str) -> Override:
    """The override that a word means. Raises UserError if it means none."""
    if not word.strip():
        raise UserError("An empty word is no key=value: leave it out.")
    key, equals, value = word.partition("=")
    name = key.lstrip("+~").strip()
    if not equals and not word.startswith("~"):
        raise UserError(f"{shown(word)} is no key=value: {meant(word)}")
    if not name:
        raise UserError(f"{public(word)} has no key{' before the =' if equals else ''}: write key=value, like seed=7.")
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        if not readable(f"{key}=0" if equals else key):
            raise UserError(unknown_key(name)) from error
        raise UserError(f"{public(word)} cannot be read: {why_unreadable(word, key, value)}") from error


def meant(word: str) -> str:
    """What to write instead of a word without =."""
    names = {key: f"{key}=VALUE" for key in TAKES}
    for group in reversed(GROUPS):
        names |= {name: f"{group}={name}" for name in GROUPS[group]}
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.8)
    return f"did you mean {names[close[0]]}?" if close else "write key=value, like seed=7."


def readable(word: str) -> bool:
    """True if Hydra's grammar takes the word."""
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return True


def why_unreadable(word: str, key: str, value: str) -> str:
    """What to do about a value that Hydra's grammar does not take."""
    if not closed(value):
        return "a bracket or quote in it has no partner."
    if re.match(r"\w+\(", value):
        return "functions are written like range(0,10), range(0,1,0.1), choice(1,2) and glob(*)."
    if any(not part.strip() for part in value.split(",")):
        return "a value is missing beside a comma."
    if '"' in value or "'" in value:
        return "quote the whole value, once for the shell and once for Hydra, as in 'key=\"a=b\"'."
    if key.lstrip("+") in TAKES and key.lstrip("+") not in TEXTS:
        return f"it must be {TAKES[key.lstrip('+')]}."
    text = "..." if is_secret(word) else value
    quoted = shown(f'{key}="{text}"', 100)
    return f"quote a text with such characters, as in '{quoted}'."


def closed(value: str) -> bool:
    """True if every bracket and quote in a value has its partner."""
    bare = re.sub(r"\"[^\"]*\"|'[^']*'", "", value)
    pairs = all(bare.count(left) == bare.count(right) for left, right in ("[]", "()", "{}"))
    return pairs and '"' not in bare and "'" not in bare


def check_deletion(word: str, key: str) -> None:
    """Raises UserError if ~key takes a key out of the config that a run needs."""
    if key in TAKES or key in (*SECTIONS, *GROUPS):
        if key != "experiment":
            raise UserError(f"{public(word)} takes {key} out of the config, but a run needs it: leave the word out.")
    elif not key.startswith(("hydra.", "hydra/")):
        raise UserError(unknown_key(key))


def check_several(word: str, key: str, many: bool) -> None:
    """Raises UserError for several values where there is no sweep, or for a key of Hydra's own."""
    if key.startswith(("hydra.", "hydra/")):
        raise UserError(f"{public(word)} sweeps over a key of Hydra's own: give it one value (quote a text).")
    if not many:
        raise UserError(f"{public(word)} gives several values to one run: use `seedbed sweep`, or give one value.")


def check_group(override: Override, key: str, value: Any) -> None:
    """Raises UserError unless a group's value can be the name of a choice (or a list of them)."""
    if override.is_add() and override.package is None:
        raise UserError(f"{key} is in the config already: write {key}={shown(value)} without the +.")
    if not value or not isinstance(value, str | list):
        raise UserError(wrong_value(key, value, one_of(GROUPS[key])))


def check_sweep(overrides: Sequence[Override], batch: object) -> None:
    """Raises UserError unless the overrides of a sweep give it jobs, and not too many; `batch` is max_batch_size."""
    if batch is not None and not (isinstance(batch, int) and batch >= 1):
        raise UserError(wrong_value("hydra.sweeper.max_batch_size", batch, "null or a whole number >= 1"))
    last = {override.get_key_element(): override for override in overrides}
    jobs = math.prod(number_of_values(override) for override in last.values())
    if jobs > MOST_JOBS:
        raise UserError(f"The sweep has {int(jobs)} runs, but at most {MOST_JOBS} would do: give fewer values.")


def number_of_values(override: Override) -> float:
    """How many values an override gives to a sweep. Raises UserError if there are none, or not to be listed."""
    word, value = public(override.input_line or ""), override.value()
    if override.is_interval_sweep():
        raise UserError(f"{word} has no values to list: write some, like 0.1,0.2 or range(0,1,0.1).")
    if isinstance(value, RangeSweep):
        start, stop, step = value.start or 0, value.stop or 0, value.step
        count = -((start - stop) // step) if step else 0
    else:
        count = sum(1 for _ in override.sweep_iterator()) if override.is_sweep_override() else 1
    if not count > 0:
        known = "" if not isinstance(value, Glob) else " (glob chooses among the choices of a group, like data)"
        raise UserError(f"{word} gives no value to the sweep{known}: give at least one.")
    return count
