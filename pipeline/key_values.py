"""The words `key=value` of the verbs that Hydra does not read."""

from collections.abc import Sequence
from typing import Any

import yaml

from pipeline.checks import shown
from pipeline.errors import UserError

TEXT_KEYS = ("run", "experiment", "tracking.uri", "sweep", "filter", "metric", "sort", "map", "model", "name")


def key_values(words: Sequence[str]) -> dict[str, Any]:
    """`key=value` words, values other than names and addresses read as YAML. Raises UserError for any other word."""
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UserError(f"{shown(word)} is no key=value: see --help for the keys.")
        if key in values:
            raise UserError(f"{key} is given twice: give it once.")
        if not text:
            raise UserError(f"{key}= has no value: give it one, or leave the word out.")
        if key in TEXT_KEYS:
            values[key] = text
            continue
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"{shown(word)} cannot be read: write numbers, text or lists like [[0, 1]].") from error
    return values


def check_keys(values: dict[str, Any], known: Sequence[str]) -> None:
    """Raises UserError for a key that is not known."""
    for key in values:
        if key not in known:
            raise UserError(f"{key} is not a key here: the keys are {', '.join(known)}.")
