"""Results that a store could not take: whole in a local folder each, as files and JSON, until they can go in.

A folder's name begins with the time, so that names sort by age. Nothing is pickled.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config import TrackingConfig
from pipeline.credentials import public_uri
from pipeline.errors import UserError
from pipeline.store.address import absolute
from pipeline.store.files import UNFINISHED, check_file_name, make_folder
from pipeline.store.sink import Change, Described, Entry

ABOUT = "about.json"


@dataclass(frozen=True)
class Letter:
    """A new run for an experiment, or a change of one; `is_forced`: also if the same is FINISHED there."""

    tracking: TrackingConfig
    content: Entry | Change
    is_forced: bool = False


class Outbox:
    """The letters that wait for one store."""

    def __init__(self, uri: str) -> None:
        self.shown_uri = public_uri(absolute(uri)) or ""
        digest = hashlib.sha256(self.shown_uri.encode()).hexdigest()[:16]
        self.folders = [place / digest for place in places()]

    @property
    def folder(self) -> Path:
        """Where letters are kept, if that can be written to."""
        return self.folders[0]

    def keep(self, letter: Letter) -> Path:
        """Keeps a letter in the first place that can be written to; returns its folder. Raises UserError if none."""
        about = json.dumps({"store": self.shown_uri, **as_json(letter)}).encode()
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        reason = ""
        for folder in self.folders:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                make_folder(folder / name, {**letter.content.files, ABOUT: about})
            except OSError as error:
                reason = error.strerror or str(error)
            else:
                return folder / name
        raise UserError(
            f"Neither the store {self.shown_uri} nor a folder for what waits for it ({self.folders[0]}: {reason}) can "
            "be written to: make room, or name another folder in SEEDBED_OUTBOX."
        )

    def waiting(self) -> list[Path]:
        """The folders of the letters that wait, the oldest first."""
        found = [one for folder in self.folders if folder.is_dir() for one in folder.iterdir() if one.is_dir()]
        return sorted((one for one in found if not one.name.startswith(UNFINISHED)), key=lambda one: one.name)

    @contextlib.contextmanager
    def emptying(self) -> Iterator[list[Path]]:
        """Gives the block what is waiting, and keeps other processes from sending it too: they get nothing."""
        with contextlib.ExitStack() as stack:
            try:
                for folder in filter(Path.is_dir, self.folders):
                    lock = stack.enter_context((folder / "lock").open("w"))
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mine = self.waiting()
            except OSError:  # another process holds it, or nothing could be taken out of it
                mine = []
            yield mine


def places() -> list[Path]:
    """Where outboxes may be: SEEDBED_OUTBOX, else the user's folder for such things, else the working directory."""
    named = os.environ.get("SEEDBED_OUTBOX")
    if named:
        return [Path(named).expanduser().absolute()]
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    home = Path(state).expanduser()
    kept = [home / "seedbed" / "outbox"] if home.is_absolute() else []
    return [*kept, Path.cwd() / "seedbed-outbox"]


def as_json(letter: Letter) -> dict[str, Any]:
    """A letter without its files as plain values; those of its address that are secret are not kept."""
    kind = "entry" if isinstance(letter.content, Entry) else "change"
    tracking = {**asdict(letter.tracking), "uri": None}
    content = asdict(replace(letter.content, files={}))
    return {"format": 1, "tracking": tracking, "is_forced": letter.is_forced, kind: content}


def read(folder: Path) -> Letter:
    """The letter in a folder. Raises UserError if it cannot be read."""
    try:
        about = json.loads((folder / ABOUT).read_bytes())
        files = {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.name != ABOUT}
        for name in files:
            check_file_name(name)
        content = content_of(about, files)
        return Letter(TrackingConfig(**about["tracking"]), content, about["is_forced"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"What waits in {folder} cannot be read ({error}): move it away, and train it again."
        ) from error


def content_of(about: dict[str, Any], files: dict[str, bytes]) -> Entry | Change:
    """A new run or a change from its plain values."""
    values = about.get("entry") or about["change"]
    values |= {"files": files, "points": [tuple(point) for point in values["points"]]}
    if "entry" not in about:
        return Change(**values)
    dataset = values.pop("dataset")
    return Entry(**values, dataset=Described(**dataset) if dataset else None)


def discard(folder: Path) -> None:
    """Takes a letter out that has arrived; whole: half a one could not be read."""
    gone = folder.with_name(f"{UNFINISHED}{folder.name}")
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
