"""The documents as tests read them: their fenced blocks, and the commands in these and in running text.

A block without a language holds commands of a shell, `console` commands behind a $ with what they print, `text` is what
nobody types, `diff` a change. What stands behind
the language is the name of the file that a block is or changes.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "deploy" / "README.md")
PAGES = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in FILES}
FENCED = re.compile(r"^```(\w*) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OURS = re.compile(r"(?:seedbed|make|mpiexec|pip|python|\.venv/\S+) \S")  # how a command in running text begins


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it is or changes (empty for none), what it holds."""

    language: str
    file: str
    body: str


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page."""
    return [Block(*found) for found in FENCED.findall(page)]


def commands(page: str) -> list[str]:
    """The commands in the blocks of a page, each on one line or, where a shell wants it so, on several."""
    return [one for block in blocks(page) if block.language in ("", "console") for one in split(typed(block))]


def typed(block: Block) -> str:
    """What is typed, of a block of commands."""
    if block.language == "console":
        return "".join(re.findall(r"^\$ (.*\n)", block.body, re.MULTILINE))
    return block.body


def inline_commands(page: str) -> list[str]:
    """The commands in the running text and the tables of a page."""
    spans = re.findall(r"`([^`]+)`", FENCED.sub("", page))
    return [line for span in spans if OURS.match(line := " ".join(span.split()))]


def split(body: str) -> list[str]:
    """The commands of a block, without comments. Raises ValueError for what no shell can read."""
    found, open_lines = [], ""
    for line in body.replace("\\\n", " ").splitlines():
        open_lines += without_comment(line) + "\n"
        if is_whole(open_lines):
            found += [open_lines.strip()] if open_lines.strip() else []
            open_lines = ""
    if open_lines:
        raise ValueError(f"no shell can read {open_lines!r}")
    return found


def without_comment(line: str) -> str:
    """A line of a shell without its comment: what stands behind a # that begins a word."""
    return re.sub(r"(^|\s+)#\s.*$", "", line)


def is_whole(text: str) -> bool:
    """Whether a shell can read this as it is: no quote and no loop is open."""
    return subprocess.run(["bash", "-n", "-c", text], capture_output=True, check=False).returncode == 0
