"""Where the shipped folders conf/ and experiments/ are: inside an installed wheel, else beside the package."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def find(name: str) -> Path:
    """The folder `name` (conf or experiments). Raises FileNotFoundError if the installation lacks it."""
    for folder in (PACKAGE / name, PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"no folder {name}/ in or beside {PACKAGE}: the installation is incomplete")
