"""docs/KEYS.md names every key of a config, and no other."""

import re
from pathlib import Path

from pipeline.checks import TAKES
from pipeline.composing.sentences import SECTIONS

KEYS = Path(__file__).parents[1] / "docs" / "KEYS.md"


def test_every_key_is_explained_and_every_key_explained_exists() -> None:
    named = set(re.findall(r"`([a-z]+(?:\.\w+)?)[`=]", KEYS.read_text(encoding="utf-8")))
    keys = {key for key in TAKES if key not in SECTIONS}
    assert keys <= named
    assert {name for name in named if name.partition(".")[0] in SECTIONS and "." in name} <= keys
