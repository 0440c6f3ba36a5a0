"""Tables as data sets: columns, categories, classes, missing values, and one sentence for what cannot be used."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.config import DataConfig, RunConfig
from pipeline.errors import UserError
from pipeline.identity import make_run
from pipeline.results.datasets import packed, unpacked
from pipeline.sample import sample_of
from pipeline.tables import BUNDLES, load_dataset
from tests.tables import SHOP, file, run_on, table, written

__all__ = ["file"]  # a fixture


def refused(path: Path, **keys: Any) -> str:
    with pytest.raises(UserError) as caught:
        table(path, **keys)
    return str(caught.value)


# --- columns ----------------------------------------------------------------------------------------------------


def test_numbers_are_features_and_categories_are_one_each_in_their_order(file: Path) -> None:
    found = table(file, drop=["who"])
    assert found.name == "shop"
    assert found.features == (
        *("hours", "slept", "city=Aalen", "city=Bonn", "city=Ulm"),
        *("member=False", "member=True"),
    )
    np.testing.assert_array_equal(
        found.raw_X,
        [[2, 9, 0, 1, 0, 0, 1], [1, 5, 0, 0, 1, 1, 0], [3.5, 6, 0, 1, 0, 0, 1], [4, 7, 1, 0, 0, 1, 0]],
    )
    np.testing.assert_array_equal(found.raw_y, [[92], [86], [89], [95.25]])
    assert (found.targets, found.rows, found.is_classes) == (("score",), ("row 1", "row 2", "row 3", "row 4"), False)
    np.testing.assert_allclose(found.X.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(found.y.std(), 1)


def test_rows_are_drawn_from_a_table_and_kept_as_they_were_drawn(file: Path) -> None:
    """With the table's groups and missing values; a digest that is given is that of the drawn rows."""
    written(file, SHOP + ",3,Ulm,True,d,80\n")
    keys = {"draw": 30, "noise": 0.5, "groups": "who", "missing": "mean"}
    one = run_on(file, **keys)
    assert len(one.dataset.raw_X) == len(one.dataset.groups) == 30
    assert set(one.dataset.groups) == set("abcd")
    assert np.isnan(one.dataset.raw_X[:, 0]).sum() == one.dataset.groups.count("d") > 0
    again = unpacked(packed(one.dataset), one.config.data)
    assert (again.digest, again.rows, again.groups) == (one.dataset.digest, one.dataset.rows, one.dataset.groups)
    assert run_on(file, **keys, digest=again.digest).fingerprint == one.fingerprint
    assert run_on(file, **keys | {"draw_seed": 1}).dataset.digest != one.dataset.digest


def test_parquet_gives_the_same_as_csv(file: Path, tmp_path: Path) -> None:
    pd.read_csv(file).to_parquet(tmp_path / "shop.parquet")
    for keys in ({"drop": ["who"]}, {"target": ["city"]}, {"groups": "who"}):
        assert table(tmp_path / "shop.parquet", **keys).digest == table(file, **keys).digest


def test_chosen_and_dropped_features(file: Path) -> None:
    assert table(file, features=["slept", "hours"]).features == ("slept", "hours")
    assert table(file, features=["slept", "hours"], drop=["slept"]).features == ("hours",)
    assert table(file, features=["hours"], categorical=["hours"]).features == (
        *("hours=1", "hours=2", "hours=3.5", "hours=4"),
    )


def test_rows_and_groups_by_columns(file: Path, tmp_path: Path) -> None:
    one = table(file, features=["hours"], groups="who")
    assert one.groups == ("a", "b", "a", "c")
    assert one.digest != table(file, features=["hours"]).digest
    named = table(written(tmp_path / "named.csv", "name,x,score\nAnn,1,1\nBea,2,2\n"), rows="name")
    assert (named.rows, named.features) == (("Ann", "Bea"), ("x",))


def test_numbers_are_the_nearest_float64(tmp_path: Path) -> None:
    texts = ["0.1", "1e-320", "123456789.123456789", "2.2250738585072011e-308", "9007199254740993"]
    path = written(tmp_path / "x.csv", "x,score\n" + "".join(f"{text},{i}\n" for i, text in enumerate(texts)))
    assert table(path, scaling="none").raw_X[:, 0].tolist() == [float(text) for text in texts]


# --- classes ----------------------------------------------------------------------------------------------------


def test_text_targets_are_classes(file: Path) -> None:
    found = table(file, target=["city"], features=["hours"])
    assert (found.targets, found.is_classes) == (("Aalen", "Bonn", "Ulm"), True)
    np.testing.assert_array_equal(found.y, [[0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]])
    assert found.target_scale.is_identity


def test_whole_numbers_are_regression_unless_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", "x,digit\n1,10\n2,9\n3,10\n")
    assert not table(path, target=["digit"]).is_classes
    assert table(path, target=["digit"], task="classes").targets == ("9", "10")


@pytest.mark.parametrize(
    ("target", "output", "loss", "scaling"),
    [("score", "identity", "mse", "standard"), ("city", "softmax", "cross_entropy", "none")],
)
def test_what_a_table_is_decides_what_was_left_open(
    file: Path, target: str, output: str, loss: str, scaling: str
) -> None:
    config = run_on(file, target=[target], features=["hours"]).config
    assert (config.network.output_activation, config.training.loss) == (output, loss)
    assert (config.data.scaling, config.data.target_scaling) == ("standard", scaling)
    assert config.tracking.experiment == "seedbed"


def test_what_is_given_stays(file: Path) -> None:
    data = DataConfig(path=str(file), target=["score"], features=["hours"], target_scaling="max", scaling="none")
    config = make_run(RunConfig(data=data), dataset=load_dataset(data)).config
    assert (config.data.scaling, config.data.target_scaling) == ("none", "max")


def test_inline_rows_have_the_tutorials_defaults() -> None:
    config = RunConfig()
    assert (config.network.output_activation, config.training.loss) == ("sigmoid", "half_sse")
    assert (config.data.scaling, config.data.target_scaling) == ("none", "none")


# --- identity ---------------------------------------------------------------------------------------------------


def test_the_same_content_elsewhere_is_the_same_run_and_another_content_is_not(file: Path, tmp_path: Path) -> None:
    one = run_on(file, features=["hours"])
    moved = tmp_path / "elsewhere" / "other.csv"
    moved.parent.mkdir()
    moved.write_text(SHOP.replace("92", "92.0"), encoding="utf-8")
    assert run_on(moved, features=["hours"], name="shop").fingerprint == one.fingerprint
    moved.write_text(SHOP.replace("92", "93"), encoding="utf-8")
    assert run_on(moved, features=["hours"], name="shop").fingerprint != one.fingerprint


def test_the_identity_says_what_was_chosen_and_not_where_it_lies(file: Path) -> None:
    identity = run_on(file, features=["hours", "slept"], drop=["slept"], validation=0.4, groups="who").identity
    chosen = {key: value for key, value in identity.items() if key.startswith("data.")}
    assert chosen == {
        "data.name": "shop", "data.digest": identity["data.digest"], "data.scaling": "standard",
        "data.target_scaling": "standard", "data.target": ["score"], "data.features": ["hours", "slept"],
        "data.drop": ["slept"], "data.task": "regression", "data.groups": "who", "data.validation": 0.4,
    }  # fmt: skip


def test_a_digest_that_is_given_must_be_the_tables(file: Path) -> None:
    digest = table(file, features=["hours"]).digest
    assert run_on(file, features=["hours"], digest=digest).config.data.digest == digest
    with pytest.raises(UserError, match=f"data.digest is 0, but it must be {digest}"):
        run_on(file, features=["hours"], digest="0")


# --- missing values ---------------------------------------------------------------------------------------------

GAPS = "x,c,score\n1,a,1\n,b,2\n3,,3\n8,a,\n4,b,5\n"


def test_missing_values_are_named(tmp_path: Path) -> None:
    said = refused(written(tmp_path / "gaps.csv", GAPS))
    assert said.startswith(f"The table {tmp_path}/gaps.csv"[:40])
    assert "lacks values: x in row 2, c in row 3, score in row 4. Fill them in, or set data.missing" in said


def test_rows_with_missing_values_are_dropped_and_keep_their_numbers(tmp_path: Path) -> None:
    found = table(written(tmp_path / "gaps.csv", GAPS), missing="drop_rows")
    assert found.rows == ("row 1", "row 5")
    assert found.features == ("x", "c=a", "c=b")


def test_text_among_numbers_is_named_before_what_is_missing(tmp_path: Path) -> None:
    said = refused(written(tmp_path / "x.csv", "x,score\n1,5\n,6\nfoo,7\n2,8\n3,9\n"), missing="mean")
    assert "The column x has foo in row 3, where other rows have numbers" in said


@pytest.mark.parametrize("word", ["None", "NA", "null"])
def test_words_are_text_between_text_and_missing_between_numbers(tmp_path: Path, word: str) -> None:
    path = written(tmp_path / "x.csv", f"x,c,score\n1,{word},1\n{word},b,2\n3,,3\n4,b,4\n")
    found = table(path, missing="drop_rows")
    assert found.features == ("x", *sorted(["c=b", f"c={word}"]))
    assert found.rows == ("row 1", "row 4")


def test_no_fill_is_offered_for_what_is_not_filled(tmp_path: Path) -> None:
    assert refused(written(tmp_path / "x.csv", "x,score\n1,\n2,6\n")).endswith("set data.missing to drop_rows.")
    assert refused(written(tmp_path / "x.csv", "x,score\n,1\n2,6\n")).endswith("to drop_rows, mean or median.")


def test_spaces_around_a_value_of_a_file_are_none_of_it(tmp_path: Path) -> None:
    assert table(written(tmp_path / "x.csv", "x,c\n1, a \n2,a\n3,b\n4,b \n"), target=["c"]).targets == ("a", "b")


def test_only_numbers_of_features_are_filled(tmp_path: Path) -> None:
    said = refused(written(tmp_path / "gaps.csv", GAPS), missing="mean")
    assert "lacks values: c in row 3, score in row 4. data.missing=mean fills features of numbers only" in said


@pytest.mark.parametrize(("rule", "fill"), [("mean", np.mean), ("median", np.median)])
def test_fills_are_of_the_rows_to_train_on(tmp_path: Path, rule: str, fill: Any) -> None:
    lines = [f"{'' if i % 7 == 0 else i * i},{i}" for i in range(40)]
    path = written(tmp_path / "x.csv", "x,score\n" + "\n".join(lines) + "\n")
    config = DataConfig(path=str(path), target="score", missing=rule, validation=0.3, scaling="none")
    dataset = load_dataset(config)
    one = sample_of(dataset, config, 2)
    known = dataset.raw_X[one.training.places, 0]
    wanted = fill(known[~np.isnan(known)])
    assert one.input_scale.fill is not None
    assert one.input_scale.fill.tolist() == [wanted]
    held = one.held["val"]
    gaps = np.isnan(dataset.raw_X[held.places, 0])
    assert gaps.any()
    assert set(held.X[gaps, 0]) == {wanted}


# --- what cannot be used ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"target": ["scor"]}, "data.target names scor, which is not there: choose from hours, slept, city, member, "),
        ({"features": ["hours", "x"]}, "data.features names x, which is not there"),
        ({"drop": ["x"]}, "data.drop names x, which is not there"),
        ({"groups": "x"}, "data.groups names x, which is not there"),
        ({"categorical": ["x"]}, "data.categorical names x, which is not there"),
        ({"features": ["hours", "score"]}, "data.features names score, which data.target names too"),
        ({"drop": ["score"]}, "data.drop names score, which data.target names too"),
        ({"drop": ["hours", "slept", "city", "member", "who"]}, "has no feature left"),
        ({"target": ["city"], "task": "regression"}, "data.task is regression, but the target city is not of numbers"),
        ({"target": ["city", "who"]}, "data.target is [city, who], but it must be a single column"),
        ({"rows": "who"}, "data.rows is who, but several rows are named a there"),
        ({"categorical": ["hours"]}, "The column city is neither of numbers nor of categories"),
    ],
    ids=str,
)
def test_keys_that_do_not_fit_the_table(file: Path, keys: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(file, **keys)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "The table has 0 column"),
        ("x,score\n", "has no rows: name a file with at least one under its header"),
        ("x;score\n1;2\n", "The table has 1 column, but it must have a target and a feature at least"),
        ("x,,score\n1,2,3\n", "Column 2 of the table has no name that can be used"),
        ("x,x,score\n1,2,3\n", "The table has two columns x"),
        ("x,score\n1,inf\n2,3\n", "has numbers that are not finite: score in row 1."),
        ("x,score\n1,5\n2,5\n", "The target score is the same in all rows"),
        ("x,score\n1,5\n1,6\n", "All features are the same in all rows"),
        ("x,score\n1,5\n2,6\nfoo,7\n", "The column x has foo in row 3, where other rows have numbers"),
        ("x,score\n" + "".join(f"name {i},{i}\n" for i in range(101)), "The column x has 101 categories, and at most"),
        ("a,b,score\n1,5,2,3\n2,6,7,8\n", "Row 1 of the table has 4 values, but there are 3 columns: "),
        ("a,b,score\n1,5,2\n\n2,6,7,\n", "Row 2 of the table has 4 values, but there are 3 columns: "),
        ("x,score\n1,5\n,6\nNA,7\nfoo,8\n2,9\n3,9\n", "The column x has foo in row 4, where other rows have numbers"),
    ],
    ids=lambda text: text[:30],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, sentence: str) -> None:
    assert sentence in refused(written(tmp_path / "bad.csv", text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "but there is no such file" in refused(Path("nowhere.csv"))
    assert "a file whose name ends in .csv or .parquet" in refused(written(tmp_path / "x.xls", SHOP))
    assert "which cannot be read (" in refused(written(tmp_path / "x.parquet", SHOP))
    (tmp_path / "x.csv").write_bytes(b"x,score\n\xff,1\n")
    assert "which cannot be read (" in refused(tmp_path / "x.csv")


def test_a_column_of_dates_is_named(tmp_path: Path) -> None:
    frame = pd.DataFrame({"day": pd.to_datetime(["2026-01-01", "2026-01-02"]), "x": [1, 2], "score": [1, 2]})
    frame.to_parquet(tmp_path / "x.parquet")
    assert "The column day is neither of numbers nor of categories (datetime64" in refused(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"target": None}, "data.target is null, but it must be a list of names of columns"),
        ({"X": [[1]]}, "data.X is [[1]], but it must be null, as data.path names a table"),
        ({"missing": "guess"}, "data.missing is guess, but it must be one of error, drop_rows, mean, median"),
        ({"task": "sort"}, "data.task is sort, but it must be one of auto, regression, classes"),
        ({"path": ""}, "data.path is empty, but"),
        ({"task": "classes", "target_scaling": "max"}, "data.target_scaling is max, but it must be none"),
        ({"groups": "who", "stratify": True, "validation": 0.1}, "data.stratify is true, but it must be false"),
        ({"drop": "who"}, "data.drop is who, but it must be a list of names of columns"),
    ],
    ids=str,
)
def test_keys_that_no_table_takes(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        DataConfig(**({"path": "my.csv", "target": ["score"]} | keys))
    assert sentence in str(caught.value)


@pytest.mark.parametrize("key", ["target", "categorical", "groups", "digest"])
def test_inline_rows_take_no_keys_of_tables(key: str) -> None:
    keys: dict[str, Any] = {key: ["x"]}
    with pytest.raises(UserError, match=f"data.{key} is .*null, as the rows are given inline"):
        DataConfig(X=[[1]], y=[[1]], **keys)


# --- digits -----------------------------------------------------------------------------------------------------


def test_digits_are_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    wanted, found = datasets.load_digits(as_frame=True).frame, BUNDLES["digits"]()
    assert [*found.columns[:-1]] == [*wanted.columns[:-1]]
    np.testing.assert_array_equal(found.to_numpy(), wanted.to_numpy())
    assert len(found) == 1797
