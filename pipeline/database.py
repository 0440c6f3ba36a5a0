"""A store's database: made once, whole or not at all."""

import os
import tempfile
from pathlib import Path


def make_database(file: Path) -> None:
    """Makes an empty store at `file` unless there is one; whole or not at all.

    It is built in a folder beside its place and linked there: a process that ends in the middle of MLflow's migrations
    would leave a file that never opens again, and of several processes that start at once the first one wins.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    if file.exists():
        return
    with tempfile.TemporaryDirectory(prefix=f".{file.name}-", dir=file.parent) as folder:
        built = Path(folder, file.name)
        store = SqlAlchemyStore(f"sqlite:///{built}", str(file.with_name("mlruns")))  # type: ignore[no-untyped-call]
        store.engine.dispose()
        try:
            os.link(built, file)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            built.rename(file)
