"""A run's files in a local folder: there whole, under their names, or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.checks import shown
from pipeline.errors import UserError

LONGEST_FILE_NAME = 255  # bytes
UNFINISHED = ".seedbed-"  # how names begin that a killed process may leave behind


def local_path(location: str) -> Path | None:
    """The folder or file that an address names, if it is a local one: a path or file:// address."""
    parts = urlsplit(location)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return Path(location) if location.startswith("/") else None


def check_file_name(name: str) -> str:
    """The name, if it is that of a file right in a run's folder. Raises UserError for one that may lead elsewhere."""
    plain = name not in ("", ".", "..") and name.isprintable() and not set(name) & set('/\\:*?"<>|')
    if not plain or name.startswith(UNFINISHED) or len(name.encode(errors="replace")) > LONGEST_FILE_NAME:
        raise UserError(f"A run has no file {shown(name) if name else 'without a name'}: its files lie in one folder.")
    return name


def make_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Makes a folder with these files; it appears with all of them. Raises FileExistsError if it is there already."""
    unfinished = folder.with_name(f"{UNFINISHED}{folder.name}")
    try:
        os.makedirs(unfinished)
        for name, content in files.items():
            write(unfinished / name, content)
        os.rename(unfinished, folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def add_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Adds files to a folder, each whole under its name; one of that name is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        unfinished = folder / f"{UNFINISHED}{name}"
        try:
            write(unfinished, content)
            os.replace(unfinished, folder / name)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise


def write(file: Path, content: bytes) -> None:
    """Writes a file that may lead nowhere else; what a killed process left under its name is written over."""
    check_file_name(file.name.removeprefix(UNFINISHED))
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
    with open(handle, "wb", buffering=0) as stream:
        rest = memoryview(content)
        while rest:
            rest = rest[stream.write(rest) :]


def put(location: str, files: Mapping[str, bytes]) -> None:
    """Puts a new run's files where an address says: a local folder, or what MLflow has a driver for (S3, a server)."""
    folder = local_path(location)
    if folder:
        make_folder(folder, files)
    else:
        upload(location, files)


def add(location: str, files: Mapping[str, bytes]) -> None:
    """Adds files to a run that may have some."""
    folder = local_path(location)
    if folder:
        add_files(folder, files)
    else:
        upload(location, files)


def beside(location: str, folder: str) -> str:
    """The address of a folder that the runs of an experiment share, from that of the experiment's files."""
    return f"{location.rstrip('/')}/{folder}"


def beside_run(artifact_uri: str, folder: str) -> str:
    """The same from the address of the files of one of its runs, which ends with run id and `artifacts`."""
    return beside(artifact_uri.rstrip("/").rsplit("/", 2)[0], folder)


def keep(location: str, name: str, content: bytes, server: str | None = None) -> None:
    """Keeps a file that several processes may keep at a time, unless it is there; `server` is that of the store."""
    folder = local_path(location)
    if folder is None:
        from pipeline.store.api import get_artifact_repository

        repository = get_artifact_repository(location, server)
        if name not in {Path(one.path).name for one in repository.list_artifacts()}:
            upload(location, {name: content}, server)
    elif not (folder / name).is_file() or (folder / name).read_bytes() != content:
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=made(folder)) as own:
            write(Path(own, name), content)
            os.replace(Path(own, name), folder / name)


def made(folder: Path) -> Path:
    """The folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def get(location: str, name: str, server: str | None = None) -> bytes:
    """The content of a run's file. Raises OSError or MLflow's exception if it is not there."""
    folder = local_path(location)
    if folder:
        return (folder / name).read_bytes()
    from pipeline.store.api import get_artifact_repository

    with tempfile.TemporaryDirectory(prefix="seedbed-") as here:
        repository = get_artifact_repository(location, server)
        return Path(repository.download_artifacts(name, here)).read_bytes()  # type: ignore[no-untyped-call]


def upload(location: str, files: Mapping[str, bytes], server: str | None = None) -> None:
    """Puts files where only MLflow's drivers reach; `server` is that of the store, if it may be behind one."""
    from pipeline.store.api import get_artifact_repository

    with tempfile.TemporaryDirectory(prefix="seedbed-") as here:
        for name, content in files.items():
            write(Path(here, name), content)
        get_artifact_repository(location, server).log_artifacts(here)  # type: ignore[no-untyped-call]


def remove(location: str) -> None:
    """Removes a local run's files again, whose rows could not be written."""
    folder = local_path(location)
    if folder:
        shutil.rmtree(folder.parent, ignore_errors=True)
