"""Tables are kept with the runs that learnt from them, and commands find them again."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.results.datasets import file_name, packed, unpacked
from tests.conftest import in_process, seedbed
from tests.progress import complaints
from tests.tables import SHOP, file, run_on, table, written

__all__ = ["file"]  # a fixture


# --- files that are kept ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [{"groups": "who"}, {"target": ["city"]}, {"drop": ["who", "city"]}], ids=str)
def test_what_is_kept_gives_the_same_data_set(file: Path, keys: dict[str, Any]) -> None:
    one = run_on(file, **keys)
    again = unpacked(packed(one.dataset), one.config.data)
    assert packed(again) == packed(one.dataset)
    for name in ("digest", "features", "targets", "rows", "groups", "is_classes"):
        assert getattr(again, name) == getattr(one.dataset, name)
    assert (again.X.tobytes(), again.y.tobytes()) == (one.dataset.X.tobytes(), one.dataset.y.tobytes())


def test_what_was_changed_is_not_what_was_kept(file: Path, tmp_path: Path) -> None:
    one = run_on(file, features=["hours"])
    other = table(written(tmp_path / "other.csv", SHOP.replace("92", "93")), features=["hours"])
    with pytest.raises(UserError, match=f"{file_name(one.dataset.digest)}.* is not what was written"):
        unpacked(packed(other), one.config.data)
    with pytest.raises(UserError, match="holds something else than arrays"):
        unpacked(b"nothing", one.config.data)


# --- as a command -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_csv_of_ones_own_in_one_command_then_without_it(tmp_path: Path) -> None:
    """Trained, found again, proved after the file is gone, and used on new rows."""
    lines = [f"{i % 7},{'Bonn' if i % 3 else 'Ulm'},{2 * (i % 7) + (5 if i % 3 else 0)}" for i in range(30)]
    file = written(tmp_path / "my.csv", "hours,city,score\n" + "\n".join(lines) + "\n")
    words = ["train", "data=csv", "data.path=my.csv", "data.target=[score]", "data.validation=0.2"]
    words += ["network.activation=tanh", "training.learning_rate=0.1", "training.epochs=300"]
    done = seedbed(*words, cwd=tmp_path)
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    assert "experiment 'my'" in done.stdout
    assert len(list(tmp_path.glob("mlflow-artifacts/datasets/*.npz"))) == 1
    assert "is finished in the store" in seedbed(*words, cwd=tmp_path).stdout
    file.unlink()
    proof = seedbed("reproduce", "experiment=my", cwd=tmp_path)
    assert (proof.returncode, "IDENTICAL" in proof.stdout) == (0, True), proof.stderr
    written(tmp_path / "new.csv", "city,hours,score\nBonn,3,\nUlm,6,1\n")
    told = seedbed("predict", "experiment=my", "--input", "new.csv", cwd=tmp_path)
    assert (told.returncode, told.stderr) == (0, "")
    header, *answers = told.stdout.split()
    assert header == "hours,city=Bonn,city=Ulm,score"
    by_name = seedbed("predict", "experiment=my", "hours=3", "city=Bonn", cwd=tmp_path)
    assert (by_name.returncode, by_name.stdout.split()[1]) == (0, answers[0])
    lacking = seedbed("predict", "experiment=my", "hours=3", cwd=tmp_path)
    assert "The row lacks city: give each of hours, city." in lacking.stderr
    wrong = seedbed("predict", "experiment=my", "hours=3", "city=Rom", cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert "city in the row is Rom, but it must be one of Bonn, Ulm." in wrong.stderr
    assert [float(answer.rpartition(",")[2]) for answer in answers] == pytest.approx([11, 12], abs=1)


def test_where_features_were_chosen_the_same_file_can_be_predicted_with_all_its_columns(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"data.path={file}", "data.target=[score]", "data.features=[hours]", "training.epochs=2"]
    assert in_process(["train", "data=csv", *words], tmp_path) == 0
    capsys.readouterr()
    assert in_process(["predict", "experiment=shop", "--input", str(file)], tmp_path) == 0
    header, *answers = capsys.readouterr().out.split()
    assert header == "hours,score"
    assert len(answers) == len(SHOP.split()) - 1
    written(tmp_path / "less.csv", "city,score\nBonn,1\n")
    assert in_process(["predict", "experiment=shop", "--input", str(tmp_path / "less.csv")], tmp_path) == 1
    assert "lacks hours: the columns must be hours" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_kept_table_that_is_gone_or_changed_is_named(
    damage: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"data.path={file}", "data.target=[score]", "data.features=[hours]", "training.epochs=2"]
    assert in_process(["train", "data=csv", *words], tmp_path) == 0
    (kept,) = tmp_path.glob("mlflow-artifacts/datasets/*.npz")
    if damage == "gone":
        kept.unlink()
    else:
        other = table(written(tmp_path / "other.csv", SHOP.replace("92", "93")), features=["hours"])
        kept.write_bytes(packed(other))
    capsys.readouterr()
    assert in_process(["reproduce", "experiment=shop"], tmp_path) == 1
    said = capsys.readouterr()
    assert "BROKEN" in said.out
    assert f"datasets/{kept.name}" in " ".join(said.out.split())
    assert in_process(["predict", "experiment=shop", "hours=3"], tmp_path) == 1
    assert f"datasets/{kept.name}" in capsys.readouterr().err


def test_a_table_is_kept_once_for_all_runs_and_for_experiments_that_share_a_folder(file: Path, tmp_path: Path) -> None:
    words = [f"data.path={file}", "data.target=[score]", "data.drop=[who],[who,city]", "training.epochs=2"]
    for name in ("one", "two"):
        words_of = [*words, "seed=range(0,3)", f"tracking.experiment={name}", "tracking.report=false"]
        assert in_process(["sweep", "data=csv", *words_of], tmp_path) == 0
    assert len(list(tmp_path.glob("mlflow-artifacts/datasets/*"))) == 2
    for config in tmp_path.glob("mlflow-artifacts/*/artifacts/config.yaml"):
        assert len(config.read_bytes()) < 2000
