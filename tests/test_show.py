"""`seedbed show`, and the SVG it writes: the same bytes for the same run, whole, escaped, at home on any page."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from pipeline.pictures.drawing import INK, as_inline, draw, label, log_values, number, updates_across
from pipeline.pictures.portrait import left_out, pictures, portrait
from pipeline.pictures.replay import replay
from pipeline.store.reader import Reader
from tests.conftest import in_process, seedbed
from tests.odd import kept_run, odd_store
from tests.progress import complaints

__all__ = ["odd_store"]  # a fixture

ODD = """<b>&"$x$ id='a' url(#p) -->"""
SVG = "{http://www.w3.org/2000/svg}"
ALL = ["network.svg", "predictions.svg", "surface.svg", "gradients.svg", "saturation.svg", "loss.svg"]

Show = Callable[..., tuple[int, str, str]]


@pytest.fixture
def show(store: Path, capsys: pytest.CaptureFixture[str]) -> Show:
    """Runs show in the store's folder; gives the exit code, standard output and standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = in_process(["show", *words], store)
        told = capsys.readouterr()
        return code, told.out, complaints(told.err)

    return run


def paint(figure: Figure) -> None:
    """A bit of everything."""
    axes = figure.add_subplot()
    axes.plot([0, 10, 1000], [1, 0.01, 1e-9], marker="o", label=label(ODD))
    axes.set(title=label(ODD), ylabel=label(ODD))
    updates_across(axes, 1000)
    log_values(axes)
    axes.legend()


def texts(svg: bytes) -> list[str]:
    """All that is written in a picture."""
    return ["".join(found.itertext()) for found in ElementTree.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


def ids(svg: bytes) -> list[str]:
    return re.findall(r'(?<= id=")[^"]*', "".join(re.findall(r"<[^<>]*>", svg.decode())))


@pytest.mark.slow
def test_the_same_picture_has_the_same_bytes_also_in_another_process() -> None:
    here = draw("one", "a picture", 5, 3, paint)
    assert draw("one", "a picture", 5, 3, paint) == here
    code = "import sys, tests.test_show as t; sys.stdout.buffer.write(t.draw('one', 'a picture', 5, 3, t.paint))"
    root = Path(__file__).parents[1]
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=root)
    assert other.stdout == here


def test_a_users_settings_change_nothing_and_are_not_changed() -> None:
    here = draw("one", "a picture", 5, 3, paint)
    with mpl.rc_context({"font.size": 30, "xtick.direction": "in", "svg.fonttype": "path", "text.parse_math": True}):
        before = dict(mpl.rcParams)
        assert draw("one", "a picture", 5, 3, paint) == here
        assert dict(mpl.rcParams) == before


@pytest.mark.slow
def test_no_display_and_no_pyplot_are_needed() -> None:
    code = (
        "import sys, tests.test_show as t; t.draw('a', 'b', 5, 3, t.paint); print('matplotlib.pyplot' in sys.modules)"
    )
    quiet = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=quiet,
        cwd=Path(__file__).parents[1],
    )
    assert done.stdout == "False\n"


def test_the_command_line_starts_without_matplotlib() -> None:
    modules = "pipeline.__main__, pipeline.verbs.stores, pipeline.verbs.predict"
    code = f"import sys, {modules}; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_names_are_written_as_they_are() -> None:
    svg = draw("one", ODD, 5, 3, paint)
    assert texts(svg).count(label(ODD)) == 3
    assert ElementTree.fromstring(svg).get("aria-label") == ODD  # noqa: S314
    assert b"<b>" not in svg


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("plain", "plain"),
        ("two\nlines\x00", "two\\nlines\\x00"),
        ("$a$ \\$", "$a$ \\$"),
        ("x" * 30, "x" * 23 + "…"),
        ("猫 é", "猫 é"),
    ],
)
def test_a_label_is_one_line_that_fits(name: str, drawn: str) -> None:
    assert label(name) == drawn


def test_ids_of_pictures_on_one_page_differ_and_all_are_referred_to() -> None:
    one, other = draw("one", "a picture", 5, 3, paint), draw("other", "a picture", 5, 3, paint)
    assert ids(one)
    assert len(ids(one)) == len(set(ids(one)))
    assert not set(ids(one)) & set(ids(other))
    tags = "".join(re.findall(r"<[^<>]*>", one.decode()))
    assert set(re.findall(r'(?:href="#|url\(#)([^)"]+)', tags)) == set(ids(one))


def test_an_inline_picture_leaves_the_page_alone_and_takes_its_colours() -> None:
    svg = draw("one", "a picture", 5, 3, paint)
    inline = as_inline(svg)
    assert inline.startswith("<svg ")
    assert "<style" in svg.decode()
    assert "<style" not in inline
    assert "currentColor" in inline
    assert INK not in inline
    assert "#000000" not in inline
    assert ElementTree.fromstring(inline).get("style") == "width:100%;max-width:480px;height:auto"  # noqa: S314
    assert "width" not in ElementTree.fromstring(inline).attrib  # noqa: S314


def test_a_picture_says_nothing_of_when_and_by_what_it_was_made() -> None:
    svg = draw("one", "a picture", 5, 3, paint)
    assert b"metadata" not in svg
    assert b"http" not in svg.replace(b"http://www.w3.org/", b"")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1"),
        (0.05, "0.05"),
        (0.0001, "0.0001"),
        (1e-7, "1e-7"),
        (-2.5, "-2.5"),
        (10_000, "10,000"),
        (123_456, "123,456"),
        (1e6, "1e6"),
        (2.5e307, "2.5e307"),
    ],
)
def test_numbers_are_written_for_people(value: float, text: str) -> None:
    assert number(value) == text


def test_a_portrait_is_the_same_in_the_command(store: Path, tmp_path: Path, show: Show) -> None:
    files = portrait(kept_run(store, "exam"))
    assert list(files) == ALL
    code, out, err = show("experiment=exam", "--folder", str(tmp_path / "pictures"))
    assert (code, err) == (0, "")
    assert out.splitlines() == [str(tmp_path / "pictures" / name) for name in ALL]
    assert {file.name: file.read_bytes() for file in (tmp_path / "pictures").iterdir()} == files


@pytest.mark.slow
def test_a_portrait_has_the_same_bytes_in_another_process(store: Path, tmp_path: Path) -> None:
    done = seedbed("show", "experiment=happiness", f"tracking.uri=sqlite:///{store}/mlflow.db", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = kept_run(store, "happiness")
    folder = tmp_path / f"show-{kept.run_id[-8:]}"
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == portrait(kept)
    assert "no surface.svg: it needs data of two features, and these have 4." in done.stdout


def test_the_pictures_say_what_they_show(store: Path) -> None:
    files = portrait(kept_run(store, "exam"))
    written = {name: texts(svg) for name, svg in files.items()}
    assert {"hours_studied", "hours_slept", "score", "positive weight", "negative weight"} <= set(
        written["network.svg"]
    )
    assert {"student 1", "student 2", "student 3", "targets", "score"} <= set(written["predictions.svg"])
    assert {"student 1: 92", "hours_studied", "hours_slept", "predicted score"} <= set(written["surface.svg"])
    assert {"layer 1 (2→3)", "layer 2 (3→1)"} <= set(written["gradients.svg"])
    assert "% of outputs with hardly a slope" in written["saturation.svg"]
    assert "half_sse" in written["loss.svg"]
    assert all(len(svg) < 100_000 for svg in files.values())


def test_weights_are_written_beside_their_lines(store: Path) -> None:
    kept = kept_run(store, "happiness")
    found = texts(portrait(kept)["network.svg"])
    matrices = kept.weights[0]
    assert {f"{weight:.2f}" for matrix in matrices for weight in matrix.ravel()} <= set(found)
    assert {"0.25", "1.00", "0.50"} <= set(found)  # as given


def test_what_does_not_fit_is_said(odd_store: Path) -> None:
    files = portrait(kept_run(odd_store, "odd"))
    network, predictions = texts(files["network.svg"]), texts(files["predictions.svg"])
    assert {'<b>&"$x$', "$2^{1}$", "</svg>", "... 20 more"} <= {text.replace("…", "...") for text in network}
    assert {"first 12 of 20 rows", "first 4 of 5 outputs"} <= set(predictions)
    assert len([text for text in texts(files["surface.svg"]) if text.startswith("predicted ")]) == 4


def test_an_untrained_network_without_hidden_units_is_shown(odd_store: Path) -> None:
    again = replay(kept_run(odd_store, "flat"))
    assert list(left_out(again)) == ["saturation.svg"]
    assert list(pictures(again)) == [name for name in ALL if name != "saturation.svg"]


def test_pictures_of_another_run_in_the_folder_are_named(tmp_path: Path, show: Show) -> None:
    (tmp_path / "surface.svg").write_text("old")
    code, out, err = show("experiment=happiness", "--folder", str(tmp_path))
    assert code == 0
    assert (tmp_path / "loss.svg").exists()
    assert "no surface.svg" in out
    assert err == f"note: {tmp_path / 'surface.svg'} was there before and is not of this run.\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "Say which run to show: run=RUN_ID or experiment=NAME"),
        (["run=1", "experiment=exam"], "Say which run to show"),
        (["run=0123456789abcdef0123456789abcdef"], "0123456789abcdef0123456789abcdef"),
        (["experiment=nothing"], "There is no experiment nothing"),
        (["experiment=exam", "rows=1"], "rows is not a key here: the keys are run, experiment, tracking.uri."),
        (["experiment=exam", "tracking.uri=sqlite:///not-there.db"], "There is no store at sqlite:///not-there.db"),
        (["experiment=exam", "--folder", "mlflow.db/pictures"], "is no folder: name another"),
        (["experiment=exam", "--folder", "mlflow.db"], "is no folder: name another"),
    ],
)
def test_bad_words_get_one_sentence(show: Show, words: list[str], sentence: str) -> None:
    code, out, err = show(*words)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert sentence in err
    assert err.count("\n") == 1


def test_an_unfinished_run_is_refused(empty_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = Reader(f"sqlite:///{empty_store}/mlflow.db").client
    run_id = client.create_run("0", tags={"fingerprint": "f"}).info.run_id
    assert in_process(["show", f"run={run_id}"], empty_store) == 1
    assert "is RUNNING, so it has no weights: name a FINISHED run." in capsys.readouterr().err


def test_a_sweeps_parent_is_refused(store: Path, show: Show) -> None:
    client = Reader(f"sqlite:///{store}/mlflow.db").client
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.kind = 'sweep'")
    assert "is no trained run" in show(f"run={parent.info.run_id}")[2]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, show: Show) -> None:
    (tmp_path / "loss.svg").mkdir()  # also for root, who may write anywhere
    code, _, err = show("experiment=happiness", "--folder", str(tmp_path))
    assert code == 1
    assert err == f"error: {tmp_path} cannot be written (Is a directory): name another place with --folder.\n"
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]
