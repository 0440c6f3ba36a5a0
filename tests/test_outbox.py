"""What a store cannot take waits, whole, and goes in once, later."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config import TrackingConfig
from pipeline.errors import UserError
from pipeline.store.outbox import ABOUT, Letter, Outbox, discard, read
from pipeline.store.sink import Change
from tests.sinks import ENTRY

URI = "postgresql+psycopg://somebody:secret@127.0.0.1:1/db"
TRACKING = TrackingConfig(uri=URI, experiment="ü/..", curve_points=7)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEDBED_OUTBOX", str(tmp_path / "box"))


def test_letters_come_back_as_they_were_but_for_the_secret_address() -> None:
    outbox = Outbox(URI)
    change = Change("1f", [("a", 0.1, 5, 6)], {"t": "ü"}, {"x.json": b"{}"}, "FINISHED", 9)
    for content in (ENTRY, change):
        outbox.keep(Letter(TRACKING, content, is_forced=content is ENTRY))
    first, second = map(read, outbox.waiting())
    assert (first.is_forced, second.is_forced) == (True, False)
    assert second.content == change
    in_order = replace(ENTRY, files=dict(sorted(ENTRY.files.items())))
    assert repr(first.content) == repr(in_order)  # a NaN is not itself
    assert first.tracking == TrackingConfig(uri=None, experiment="ü/..", curve_points=7)


def test_nothing_in_the_outbox_is_secret_or_pickled(tmp_path: Path) -> None:
    Outbox(URI).keep(Letter(TRACKING, ENTRY))
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.name for file in files} == {*ENTRY.files, ABOUT}
    for file in files:
        assert b"secret" not in file.read_bytes()
        assert b"somebody" not in json.dumps(str(file)).encode()
    (about,) = (file for file in files if file.name == ABOUT)
    assert json.loads(about.read_bytes())["store"] == "postgresql+psycopg://127.0.0.1:1/db"


def test_each_store_has_its_own() -> None:
    Outbox("http://127.0.0.1:1").keep(Letter(TRACKING, ENTRY))
    assert Outbox(URI).waiting() == []
    assert len(Outbox("http://127.0.0.1:1").waiting()) == 1


def test_a_sqlite_store_is_the_same_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path)
    Outbox("sqlite:///mlflow.db").keep(Letter(TRACKING, ENTRY))
    monkeypatch.chdir(tmp_path / "below")
    assert len(Outbox("sqlite:///../mlflow.db").waiting()) == 0  # the path as it is, not what it leads to
    assert len(Outbox(f"sqlite:///{tmp_path}/mlflow.db").waiting()) == 1


def test_the_oldest_comes_first_and_what_arrived_is_gone() -> None:
    outbox = Outbox(URI)
    for i in range(12):
        outbox.keep(Letter(TRACKING, Change(str(i))))
    waiting = outbox.waiting()
    assert [vars(read(one).content)["run_id"] for one in waiting] == [str(i) for i in range(12)]
    discard(waiting[3])
    assert outbox.waiting() == [*waiting[:3], *waiting[4:]]


def test_what_is_unfinished_is_not_sent() -> None:
    outbox = Outbox(URI)
    folder = outbox.keep(Letter(TRACKING, ENTRY))
    folder.with_name(".seedbed-000").mkdir()
    assert len(outbox.waiting()) == 1


def test_one_process_sends_at_a_time() -> None:
    Outbox(URI).keep(Letter(TRACKING, ENTRY))
    with Outbox(URI).emptying() as mine, Outbox(URI).emptying() as others:
        assert len(mine) == 1
        assert others == []
    with Outbox(URI).emptying() as later:
        assert len(later) == 1


def test_a_letter_that_cannot_be_read_is_named_and_stays() -> None:
    outbox = Outbox(URI)
    outbox.keep(Letter(TRACKING, ENTRY))
    (folder,) = outbox.waiting()
    (folder / ABOUT).write_text('{"format": 1')
    with pytest.raises(UserError, match=f"{folder} cannot be read"):
        read(folder)
    assert outbox.waiting() == [folder]


def test_without_a_place_that_can_be_written_to_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEEDBED_OUTBOX", str(tmp_path / "file"))
    with pytest.raises(UserError, match="SEEDBED_OUTBOX") as raised:
        Outbox(URI).keep(Letter(TRACKING, ENTRY))
    assert "secret" not in str(raised.value)


def test_by_default_it_is_in_the_users_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEEDBED_OUTBOX")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = Outbox(URI).keep(Letter(TRACKING, ENTRY))
    assert folder.parent.parent == tmp_path / "state" / "seedbed" / "outbox"


def test_where_that_cannot_be_written_to_it_is_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").write_text("")
    monkeypatch.delenv("SEEDBED_OUTBOX")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    assert Outbox(URI).keep(Letter(TRACKING, ENTRY)).parent.parent == tmp_path / "seedbed-outbox"
    assert len(Outbox(URI).waiting()) == 1
