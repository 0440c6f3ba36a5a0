"""What `seedbed show` does: a kept run's pictures as files."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.checks import shown
from pipeline.errors import UserError
from pipeline.key_values import check_keys, key_values
from pipeline.pictures.portrait import left_out, pictures
from pipeline.pictures.replay import Replay, replay, updates_of
from pipeline.planning.console import Display
from pipeline.store.files import add_files
from pipeline.terminal import say, warn

KEYS = ("run", "experiment", "tracking.uri")


def show_run(words: Sequence[str], folder: str | None) -> None:
    """Draws the run that the words name into a folder, and prints the pictures' paths."""
    values = key_values(words)
    check_keys(values, KEYS)
    if ("run" in values) == ("experiment" in values):
        raise UserError("Say which run to show: run=RUN_ID or experiment=NAME (its best run), one of the two.")
    from pipeline.store.reader import open_reader

    reader = open_reader(values.get("tracking.uri"))
    kept = reader.run(values["run"]) if "run" in values else reader.best(values["experiment"])
    place = Path(folder or f"show-{kept.run_id[-8:]}")
    check_folder(place)
    with Display(0, updates_of(kept)) as display:
        again = replay(kept, lambda updates: display.report(updates, ()))
    if not again.same_bits:
        warn(other_bits(again))
    files = pictures(again)
    save(place, files)
    for name in files:
        say(str(place / name))
    for name, why in left_out(again).items():
        say(f"no {name}: {why}")
        if (place / name).exists():
            warn(f"{place / name} was there before and is not of this run.")


def other_bits(again: Replay) -> str:
    """Why a replay may have other bits than the run that was kept."""
    if again.run.numerics == "portable":
        return (
            "Trained again, the run has other weights than were kept: other code made those. The pictures show the new."
        )
    return "Trained again, the run has other last bits than the kept one: numerics=fast depends on the machine."


def check_folder(place: Path) -> None:
    """Raises UserError if the place can never be a folder, before a run is trained for nothing."""
    stands = next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())
    if not stands.is_dir():
        raise UserError(f"--folder is {shown(str(place))}, but {stands} is no folder: name another.")
    if not os.access(stands, os.W_OK):
        raise UserError(f"{stands} cannot be written: name another place with --folder.")


def save(place: Path, files: Mapping[str, bytes]) -> None:
    """Puts files into a folder, each whole; one of its name is replaced. Raises UserError if that cannot be."""
    try:
        add_files(place, files)
    except OSError as error:
        raise UserError(f"{place} cannot be written ({error.strerror}): name another place with --folder.") from error
