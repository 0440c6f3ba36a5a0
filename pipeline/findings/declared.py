"""The findings that are declared in experiments/findings/: what is compared, and what came out.

Each names its experiment, one metric and two arms; it was written before the runs were looked at, but for `verdict` and
`answer`. One comparison a question: nothing is chosen after looking.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from pipeline.checks import shown
from pipeline.composing.experiment import experiment_files, opening
from pipeline.errors import UserError
from pipeline.paths import find

FACTS = ("median", "diverged", "above")


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: the runs whose keys have these values.

    `at` are rows with targets, {"X": m lists, "y": m lists}, for a metric that is measured on them.
    """

    name: str
    where: Mapping[str, Any] = field(default_factory=dict)
    at: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Fact:
    """A number that an answer tells besides its comparison: of the runs whose keys have these values.

    kind: `median` of a metric (None: the finding's), `diverged` (the share that did), or `above` a metric's value.
    """

    kind: str
    where: Mapping[str, Any] = field(default_factory=dict)
    metric: str | None = None
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in FACTS:
            raise ValueError(f"a fact is one of {', '.join(FACTS)}, not {self.kind}")


@dataclass(frozen=True)
class Picture:
    """What a finding draws: see pictures.py for the kinds, and for what they take of these."""

    kind: str
    by: str = ""
    color: str = ""
    curves: Sequence[str] = ("loss",)
    where: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """A question, how it is decided, and the answer.

    place: where it stands on the page; heard: what one hears about it; metric: a column of the runs' frame, or one of
    arms.py; higher: whether a higher value is better, if its name does not say so; facts: what the answer tells
    besides, by name; verdict: the name of the arm that is better, or None if nothing can be told beyond the seed;
    answer: the sentences, with places for what is measured (see `Found.texts`); least: the smallest effect that counts.
    """

    name: str
    place: int
    heard: str
    experiment: str
    metric: str
    arms: tuple[Arm, Arm]
    verdict: str | None
    answer: str
    picture: Picture
    higher: bool | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    least: float | None = None

    @property
    def names(self) -> tuple[str, str]:
        """What the arms are called."""
        return self.arms[0].name, self.arms[1].name

    @property
    def question(self) -> str:
        """The question of the experiment's file, as a sentence."""
        text = opening(experiment_files()[self.experiment])["Question"]
        return text[0].upper() + text[1:]


@functools.cache
def findings() -> dict[str, Finding]:
    """All findings by name, in the order of their places. Raises UserError for a file that is none."""
    found = sorted(map(read, (find("experiments") / "findings").glob("*.yaml")), key=lambda one: (one.place, one.name))
    return {finding.name: finding for finding in found}


def read(file: Path) -> Finding:
    """The finding of a file. Raises UserError if it is none."""
    values: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    try:
        first, second = (Arm(name, **(arm or {})) for name, arm in values.pop("arms").items())
        finding = Finding(
            name=file.stem,
            experiment=values.pop("experiment", file.stem),
            arms=(first, second),
            facts={name: Fact(**fact) for name, fact in values.pop("facts", {}).items()},
            picture=Picture(**values.pop("picture")),
            answer=" ".join(values.pop("answer").split()),
            **values,
        )
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        keys = ", ".join(item.name for item in fields(Finding))
        raise UserError(f"{file} is no finding ({error}): it needs two arms, and its keys are {keys}.") from error
    if finding.experiment not in experiment_files() or finding.verdict not in (None, first.name, second.name):
        raise UserError(f"{file} names an experiment or, in its verdict, an arm that is not there.")
    return finding


def named(names: Sequence[str]) -> list[Finding]:
    """The findings of these names, all if there are none. Raises UserError for a name that is not there."""
    known = findings()
    for name in names:
        if name not in known:
            raise UserError(f"There is no finding {shown(name)}: choose from {', '.join(known)}.")
    return [known[name] for name in dict.fromkeys(names)] or list(known.values())
