"""All sinks write the same rows, table by table, and read the same back."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pipeline.servers.ui import server
from pipeline.store import bulk
from pipeline.store.block import BlockSink
from pipeline.store.bulk import BulkSink
from pipeline.store.client import ClientSink
from pipeline.store.database import ENGINES, prepare, watch_connections
from pipeline.store.sink import Change, Entry, Experiment, Kept, Sink
from pipeline.store.sinks import sink_of
from tests.conftest import seedbed
from tests.ports import own_port
from tests.postgres import Server
from tests.sinks import DATASET, ENTRY, SINKS, bulk_sink

TABLES = ("runs", "tags", "params", "metrics", "latest_metrics", "datasets", "inputs", "input_tags")
GENERATED = ("run_uuid", "dataset_uuid", "input_uuid", "source_id", "destination_id", "artifact_uri")
FINISHED = ("4-5 lr0.5 s7", "same data", "other data")


def contents(uri: str) -> dict[str, list[dict[str, Any]]]:
    """All rows of the tables, without the ids that are drawn, in an order of their own."""
    engine = sa.create_engine(uri)
    rows: dict[str, list[dict[str, Any]]] = {}
    with engine.connect() as connection:
        for name in TABLES:
            found = connection.execute(sa.select(sa.text("*")).select_from(sa.table(name))).mappings().all()
            kept = [{key: value for key, value in row.items() if key not in GENERATED} for row in found]
            rows[name] = sorted(kept, key=repr)
    engine.dispose()
    return rows


def edges(uri: str) -> list[tuple[Any, ...]]:
    """Which data set, under which tag, each run used, by names."""
    query = """SELECT runs.name, datasets.name, input_tags.name, input_tags.value FROM runs
        JOIN inputs ON inputs.destination_id = runs.run_uuid JOIN datasets ON inputs.source_id = datasets.dataset_uuid
        JOIN input_tags ON input_tags.input_uuid = inputs.input_uuid ORDER BY 1, 2, 3, 4"""
    engine = sa.create_engine(uri)
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(sa.text(query))]
    engine.dispose()
    return found


def experiment_in(uri: str, folder: Path | None) -> Experiment:
    """A new experiment with its files in a folder, or where the server keeps them."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    client.create_experiment("of a sink", (folder / "the files").as_uri() if folder else None)
    found = ClientSink(uri, 1).experiment("of a sink")
    assert found is not None
    return found


def write_all(sink: Sink, experiment: Experiment) -> dict[str, str]:
    """New runs of each kind, then changes of each kind; run ids by name."""
    entries = [
        ENTRY,
        replace(ENTRY, name="same data", files={}, points=[], end=1_700_000_009_001),
        replace(ENTRY, name="other data", end=1_700_000_009_002, dataset=replace(DATASET, digest="4567")),
        replace(ENTRY, name="open", status="RUNNING", end=None, points=[("curve/loss", 1.0, 5, 0), ("a", 1.0, 5, 7)]),
        Entry("bare", "FAILED", 1, 2),
        replace(ENTRY, name="diverged", tags={**ENTRY.tags, "fingerprint": "d", "diverged_at": "7"}),
        replace(ENTRY, name="ended later", end=1_700_000_019_000, points=[("result/final_loss", 0.5, 5, 0)]),
    ]
    ids = {entries[place].name: run_id for place, run_id in sink.create(experiment, entries)}
    assert len(set(ids.values())) == len(entries)
    more = [("curve/loss", 0.5, 6, 1), ("curve/loss", 0.25, 7, 2), ("a", 9.0, 1, 3), ("b", math.nan, 1, 3)]
    sink.change([Change(ids["open"], points=more)])
    sink.change(
        [
            Change(
                ids["open"], [("result/updates", 2.0, 9, 0)], {"cell": "other", "new": "t"}, {"x": b"1"}, "KILLED", 99
            ),
            Change(ids["bare"], tags={"mlflow.note.content": "a\nb"}),
        ]
    )
    sink.change([])
    return ids


def let_go() -> None:
    """Closes the connections that MLflow keeps: psycopg warns of those that are lost."""
    for engine in list(ENGINES):
        engine.dispose()


def name_of(uri: str) -> str:
    return sa.engine.make_url(uri).database or ""


def check_equal(uris: list[str], folders: list[Path]) -> None:
    experiments = [experiment_in(uri, folder) for uri, folder in zip(uris, folders, strict=True)]
    sinks = [make(uri) for make, uri in zip(SINKS, uris, strict=True)]
    ids = [write_all(sink, experiment) for sink, experiment in zip(sinks, experiments, strict=True)]
    for sink in sinks:
        sink.close()
    written, client = map(contents, uris)
    for name in TABLES:
        assert written[name] == client[name], name
        assert written[name], name
    assert edges(uris[0]) == edges(uris[1])
    of_bulk, of_client = (
        sorted(str(file.relative_to(root)).split("/", 2)[2] for file in root.rglob("*") if file.is_file())
        for root in (folder / "the files" for folder in folders)
    )
    assert of_bulk == of_client
    check_looks(sinks, experiments, ids)


def check_looks(sinks: list[Sink], experiments: list[Experiment], ids: list[dict[str, str]]) -> None:
    """What the sinks read, of their own store and of the other's."""
    for sink, experiment, names in zip(sinks, experiments, ids, strict=True):
        check_reads(sink, experiment, names)


def check_reads(sink: Sink, experiment: Experiment, names: dict[str, str]) -> None:
    """What a sink reads of what `write_all` wrote."""
    found = sink.finished(experiment, "fingerprint", ["f" * 32, "d", "not there"])
    assert [kept.run_id for kept in found["f" * 32]] == [names[name] for name in (*FINISHED, "ended later")]
    assert found["f" * 32][-1] == Kept(names["ended later"], {"result/final_loss": 0.5}, diverged=False)
    assert [(kept.run_id, kept.diverged) for kept in found["d"]] == [(names["diverged"], True)]
    assert len(found) == 2
    assert list(sink.finished(experiment, "fingerprint", ["d"])) == ["d"]
    assert sink.finished(experiment, "fingerprint", []) == {}
    assert sink.read(names["open"], "x") == b"1"
    assert sink.read(names["open"], "a b ü.json") == b"{}"
    assert sink.experiment("no such") is None
    assert sink.experiment("of a sink") == experiment


def test_both_sinks_write_the_same_rows_to_sqlite(empty_store: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
        shutil.copy(empty_store / "mlflow.db", folder / "mlflow.db")
        with sa.create_engine(f"sqlite:///{folder}/mlflow.db").begin() as connection:
            for name in (*reversed(TABLES), "experiment_tags"):
                connection.execute(sa.delete(sa.table(name)))
    check_equal([f"sqlite:///{folder}/mlflow.db" for folder in folders], folders)


@pytest.mark.slow
def test_both_sinks_write_the_same_rows_to_postgresql(postgres: Server, tmp_path: Path) -> None:
    watch_connections()
    first = postgres.new_database()
    prepare(first)
    let_go()
    uris = [postgres.new_database(like=name_of(first)) for _ in SINKS]
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    check_equal(uris, folders)
    let_go()


@pytest.mark.parametrize("make", SINKS)
def test_tags_of_an_experiment_replace_those_of_the_same_name(make: Callable[[str], Sink], empty_store: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{empty_store}/mlflow.db"
    experiment = experiment_in(uri, empty_store)
    other = MlflowClient(uri).create_experiment("another")
    sink = make(uri)
    sink.tag_experiment(other, {"note": "another's"})
    sink.tag_experiment(experiment.experiment_id, {"note": "first 'ü\"", "kept": "as it is"})
    sink.tag_experiment(experiment.experiment_id, {"note": "second", "long": "x" * 5000})
    sink.close()
    found = MlflowClient(uri).get_experiment(experiment.experiment_id).tags
    assert {key: found[key] for key in ("note", "kept", "long")} == {
        "note": "second",
        "kept": "as it is",
        "long": "x" * 5000,
    }
    assert MlflowClient(uri).get_experiment(other).tags["note"] == "another's"
    engine = sa.create_engine(uri)
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT COUNT(*) FROM experiment_tags WHERE key = 'note'")).scalar()
    engine.dispose()
    assert rows == 2


@pytest.mark.slow
@pytest.mark.parametrize(("app", "kind"), [((), ClientSink), (("--app-name", "seedbed"), BlockSink)])
@pytest.mark.parametrize("is_served", [True, False], ids=["files served", "files in a folder"])
def test_the_same_rows_and_files_go_through_a_server(
    app: tuple[str, ...], kind: type[Sink], is_served: bool, empty_store: Path, tmp_path: Path
) -> None:
    """With several threads at a time, or in blocks; with files that go through the server or beside it."""
    folders = [tmp_path / "bulk", tmp_path / "served"]
    for folder in folders:
        folder.mkdir()
        shutil.copy(empty_store / "mlflow.db", folder / "mlflow.db")
    uris = [f"sqlite:///{folder}/mlflow.db" for folder in folders]
    port = own_port()
    options = ("--serve-artifacts", "--artifacts-destination", str(folders[1] / "the files"), *app)
    with server(uris[1], port, options):
        address = f"http://127.0.0.1:{port}"
        sink = sink_of(address, print)
        assert type(sink) is kind
        direct = experiment_in(uris[0], folders[0])
        experiment = experiment_in(address, None if is_served else folders[1])
        assert experiment.location.startswith("mlflow-artifacts:/" if is_served else "file://")
        write_all(bulk_sink(uris[0]), direct)
        check_reads(sink, experiment, write_all(sink, experiment))
    bulk, served = map(contents, uris)
    for name in TABLES:
        assert bulk[name] == served[name], name
    assert edges(uris[0]) == edges(uris[1])
    assert files_below(folders[0] / "the files") == files_below(folders[1] / "the files")


def files_below(folder: Path) -> list[tuple[str, bytes]]:
    """The files of the runs in a folder, which may be in one of their experiment's, without their runs' ids."""
    return sorted((file.name, file.read_bytes()) for file in folder.rglob("*/artifacts/*") if file.is_file())


@pytest.mark.parametrize("make", SINKS)
def test_a_shared_file_is_kept_once_and_mended(make: Callable[[str], Sink], empty_store: Path) -> None:
    uri = f"sqlite:///{empty_store}/mlflow.db"
    experiment = experiment_in(uri, empty_store)
    sink = make(uri)
    ((_, run_id),) = sink.create(experiment, [ENTRY])
    for content in (b"whole", b"whole", b"other"):
        sink.keep_shared(experiment, "datasets", "0123.npz", content)
        assert sink.read_shared(run_id, "datasets", "0123.npz") == content
    with pytest.raises(OSError, match="4567"):
        sink.read_shared(run_id, "datasets", "4567.npz")
    sink.close()
    assert [file.name for file in (empty_store / "the files" / "datasets").iterdir()] == ["0123.npz"]


@pytest.mark.slow
def test_a_table_goes_through_a_server_once_and_comes_back(empty_store: Path, tmp_path: Path) -> None:
    """Files go through the server into a folder of its own, which the command knows nothing of."""
    (tmp_path / "my.csv").write_text("hours,score\n1,10\n2,12\n3,17\n", encoding="utf-8")
    port = own_port()
    store = f"sqlite:///{empty_store}/mlflow.db"
    with server(store, port, ["--serve-artifacts", "--artifacts-destination", str(tmp_path / "served")]):
        where = f"tracking.uri=http://127.0.0.1:{port}"
        words = ["data=csv", "data.path=my.csv", "data.target=[score]", "training.epochs=3", where]
        for seed in (1, 2):
            assert seedbed("train", *words, f"seed={seed}", cwd=tmp_path).returncode == 0
        (tmp_path / "my.csv").unlink()
        done = seedbed("reproduce", "experiment=my", where, cwd=tmp_path)
        assert (done.returncode, "2 runs: all IDENTICAL" in done.stdout) == (0, True), done.stderr
        assert seedbed("predict", "experiment=my", "hours=2", where, cwd=tmp_path).returncode == 0
    assert len(list(tmp_path.glob("served/**/datasets/*.npz"))) == 1


def test_a_data_set_that_another_process_makes_meanwhile_is_taken(
    empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both look for it, neither finds it, and one is second."""
    uri = f"sqlite:///{empty_store}/mlflow.db"
    experiment, engine = experiment_in(uri, empty_store), sa.create_engine(uri)
    mine, others = BulkSink(engine), BulkSink(sa.create_engine(uri))
    looked = bulk.dataset_id

    def too_early(connection: sa.Connection, *about: Any) -> str | None:
        monkeypatch.setattr(bulk, "dataset_id", looked)
        connection.rollback()
        list(others.create(experiment, [ENTRY]))
        return None

    monkeypatch.setattr(bulk, "dataset_id", too_early)
    ((_, run_id),) = mine.create(experiment, [replace(ENTRY, name="second")])
    with engine.connect() as connection:
        of_it = {"digest": DATASET.digest, "id": int(experiment.experiment_id)}
        count = sa.text("SELECT count(*) FROM datasets WHERE digest = :digest AND experiment_id = :id")
        assert connection.execute(count, of_it).scalar() == 1
        query = sa.text("SELECT name FROM runs WHERE run_uuid = :id")
        assert connection.execute(query, {"id": run_id}).scalar() == "second"
    for sink in (mine, others):
        sink.close()


def test_runs_that_another_server_has_just_written_stay_as_they_are(empty_store: Path) -> None:
    """Two servers on one database get the same request: what comes second is written without them."""
    uri = f"sqlite:///{empty_store}/mlflow.db"
    experiment, engine = experiment_in(uri, empty_store), sa.create_engine(uri)
    first, second = replace(ENTRY, name="first", files={}), replace(ENTRY, name="second", files={})
    with engine.connect() as connection:
        bulk.insert_new(connection, experiment, {"1" * 32: first})
        connection.commit()
        bulk.insert_new(connection, experiment, {"1" * 32: second, "2" * 32: second})
        connection.commit()
        query = sa.text("SELECT run_uuid, name FROM runs WHERE experiment_id = :id ORDER BY run_uuid")
        found = connection.execute(query, {"id": int(experiment.experiment_id)}).all()
        assert found == [("1" * 32, "first"), ("2" * 32, "second")]
    engine.dispose()
