"""Cells summed up: figures worked by hand, and an interval that holds the truth as often as it says."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.compare.cells import FEW, cell_table, interval, iqm, swept_keys
from pipeline.compare.metric import Array, Metric, metric_of, scored
from tests.frames import completed, frame, grid, shuffled, simulated

NAN = float("nan")
INF = float("inf")


def row(*losses: float, **columns: Any) -> "pd.Series[Any]":
    """The summary of one cell."""
    return cell_table(frame({"a": losses}, **columns)).iloc[0]


# --- figures ----------------------------------------------------------------------------------------------------


def test_a_cell_is_summed_up() -> None:
    found = row(4.0, 8.0, 1.0, 2.0)
    assert (found["n"], found["diverged"], found["cell"]) == (4, 0, "a")
    assert found["median"] == 3  # of 1 2 4 8: between 2 and 4
    assert found["mean"] == 3.75  # 15 / 4
    assert found["iqm"] == 3  # without a quarter at either end: (2 + 4) / 2
    assert (found["lowest"], found["highest"], found["worst_seed"]) == (1, 8, 1)
    assert 1 <= found["low"] < 3 < found["high"] <= 8
    assert found["too_few"]


def test_a_diverged_run_is_worse_than_every_other() -> None:
    found = row(1.0, NAN, 2.0)
    assert (found["n"], found["diverged"], found["worst_seed"]) == (3, 1, 1)
    assert found["median"] == 2  # of 1 2 inf
    assert found["mean"] == found["iqm"] == 1.5  # without it
    assert found["highest"] == 2
    assert row(1.0, NAN, 2.0, NAN)["median"] == INF  # of 1 2 inf inf: between 2 and inf


def test_a_run_that_diverged_with_a_loss_has_diverged_all_the_same() -> None:
    found = row(1.0, 2.0, 3.0, diverged_at=[NAN, 4.0, NAN])
    assert (found["diverged"], found["median"], found["mean"], found["best_median"]) == (1, 3, 2, 3)


def test_a_cell_in_which_all_runs_diverged_has_no_figures() -> None:
    found = row(NAN, NAN)
    assert (found["n"], found["diverged"], found["median"], found["worst_seed"]) == (2, 2, INF, 0)
    assert found[["mean", "iqm", "low", "high", "lowest", "highest"]].isna().all()


def test_one_run_has_no_interval() -> None:
    found = row(2.0)
    assert (found["median"], found["mean"], found["iqm"], found["lowest"], found["highest"]) == (2, 2, 2, 2, 2)
    assert np.isnan(found["low"])
    assert np.isnan(found["high"])


def test_runs_that_are_not_finished_do_not_count() -> None:
    found = row(1.0, 2.0, 9.0, status=["FINISHED", "FINISHED", "FAILED"])
    assert (found["n"], found["mean"]) == (2, 1.5)


def test_a_run_without_the_metric_is_not_one_that_diverged() -> None:
    runs = frame({"a": [1.0, 1.0, NAN]}, final_mse=[3.0, NAN, NAN])
    found = cell_table(runs, metric_of(runs, "final_mse")).iloc[0]
    assert (found["n"], found["diverged"], found["mean"], found["worst_seed"]) == (2, 1, 3, 2)
    none = cell_table(frame({"a": [1.0]}, final_mse=NAN), Metric("final_mse")).iloc[0]
    assert none["n"] == 0
    assert np.isnan(none["median"])


def test_the_best_loss_is_summed_up_too() -> None:
    found = row(4.0, 8.0, 1.0, 2.0, best_loss=[2.0, 4.0, 0.5, 1.0])
    assert (found["best_median"], found["best_iqm"]) == (1.5, 1.5)
    assert found["best_low"] == pytest.approx(found["low"] / 2)


def test_where_higher_is_better_the_highest_median_comes_first() -> None:
    runs = frame({"low": [1.0, 1.0, 1.0], "high": [1.0, 1.0, 1.0]}, val_accuracy=[0.1, 0.2, 0.6, 0.7, 0.8, 0.9])
    runs.loc[5, ["final_loss", "val_accuracy"]] = NAN
    table = cell_table(runs, metric_of(runs, "val_accuracy"))
    assert list(table["cell"]) == ["high", "low"]
    assert list(table["median"]) == [0.7, 0.2]  # 0.8 0.7 and one that is worse than both
    assert list(table["worst_seed"]) == [2, 0]
    assert list(table["highest"]) == [0.8, 0.6]
    assert (table["low"] < table["high"]).all()


def test_cells_come_best_median_first_then_best_iqm_then_by_name() -> None:
    cells = {
        "tie b": [1.0, 2.0, 3.0, 9.0],
        "bad": [3.0] * 4,
        "tie a": [1.0, 2.0, 3.0, 9.0],
        "low": [2.5, 2.5, 2.4, 9.0],
    }
    cells["diverged"] = [NAN] * 4
    # medians 2.5, 3, 2.5, 2.5, inf; iqm of `low`: 2.5, as the ties'
    assert list(cell_table(frame(cells))["cell"]) == ["low", "tie a", "tie b", "bad", "diverged"]
    cells["tie a"] = [1.0, 2.0, 3.0, 3.0]
    cells["low"] = [2.0, 2.5, 2.5, 9.0, 2.5]  # iqm of the middle three: 2.5
    assert list(cell_table(frame(cells))["cell"])[:3] == ["low", "tie a", "tie b"]
    assert cell_table(frame({"b": [1.0, 3.0], "a": [2.0, 2.0]}))["cell"].tolist() == ["a", "b"]


def test_groups_are_made_by_any_columns() -> None:
    runs = grid({("[2]", 0.1): [1.0, 3.0], ("[2]", 0.5): [5.0], ("[3]", 0.1): [2.0, 2.0, 2.0], ("[3]", 0.5): [NAN]})
    table = cell_table(runs, by=["network.hidden"])
    assert table[["network.hidden", "n", "diverged", "median"]].to_numpy().tolist() == [
        ["[3]", 4, 1, 2.0],
        ["[2]", 3, 0, 3.0],
    ]
    assert "cell" not in table
    with pytest.raises(KeyError):
        cell_table(runs, by=["network.hiden"])


def test_cells_of_unequal_seeds_stand_side_by_side() -> None:
    table = cell_table(frame({"a": [1.0], "b": list(range(2, 14)), "c": [20.0, 30.0]}))
    assert list(table["n"]) == [1, 12, 2]
    assert list(table["too_few"]) == [True, False, True]


def test_a_group_has_too_few_seeds_whatever_the_number_of_its_runs() -> None:
    cells = {("[2]", float(rate)): [1.0 + rate + seed for seed in range(FEW - 1)] for rate in range(3)}
    assert cell_table(grid(cells), by=["network.hidden"])[["n", "too_few"]].to_numpy().tolist() == [[27, True]]


def test_a_frame_without_runs_has_no_cells() -> None:
    assert cell_table(frame({})).empty


# --- updates until a threshold ----------------------------------------------------------------------------------


def speed(reached: list[float], updates: list[float], losses: list[float] | None = None) -> "pd.Series[Any]":
    """The summary of a cell's runs by when they reached a threshold and how long they were trained."""
    return row(*(losses or [1.0] * len(reached)), reached_at=reached, updates=updates)


def test_runs_that_were_not_trained_long_enough_are_censored() -> None:
    # Kaplan-Meier: at 10, 1 of 4 reaches: 3/4 are left. One leaves at 15. At 20, 1 of the remaining 2: 3/8 are left.
    found = speed([10.0, 20.0, NAN, NAN], [100.0, 100.0, 15.0, 100.0])
    assert (found["reached"], found["updates_needed"]) == (2, 20)
    assert found["updates_low"] <= 20 <= found["updates_high"] == INF


def test_a_diverged_run_never_reaches() -> None:
    # 10: 1 of 3, 20: 1 of 2: a third is left. Were it censored at its 5 updates, 10 would be the median.
    assert speed([10.0, 20.0, NAN], [100.0, 100.0, 5.0], [1.0, 1.0, NAN])["updates_needed"] == 20


def test_fewer_than_half_that_reach_have_no_median() -> None:
    assert speed([10.0, NAN, NAN], [100.0] * 3)["updates_needed"] == INF
    none = speed([NAN, NAN], [100.0] * 2)
    assert (none["reached"], none["updates_needed"], none["updates_high"]) == (0, INF, INF)


def test_where_all_reach_the_median_is_that_of_the_updates() -> None:
    found = speed([float(updates) for updates in range(10, 120, 10)], [200.0] * 11)
    assert (found["reached"], found["updates_needed"]) == (11, 60)  # the sixth of 10 20 ... 110
    assert 10 < found["updates_low"] < 60 < found["updates_high"] < 110
    alone = speed([10.0], [100.0])
    assert (alone["updates_needed"], alone["updates_high"]) == (10, INF)


def test_updates_are_those_of_each_cell() -> None:
    runs = frame({"b": [2.0, 2.0], "a": [1.0, 1.0, 1.0]}, reached_at=[7.0, 7.0, NAN, 3.0, 3.0])
    assert cell_table(shuffled(runs))[["cell", "reached", "updates_needed"]].to_numpy().tolist() == [
        ["a", 2, 3.0],
        ["b", 2, 7.0],
    ]


# --- the bootstrap ----------------------------------------------------------------------------------------------


def test_the_order_of_rows_does_not_matter() -> None:
    runs = simulated(np.random.default_rng(1), cells=4, seeds=12)
    pd.testing.assert_frame_equal(cell_table(runs), cell_table(shuffled(runs)), check_exact=True)


def test_a_seed_fixes_the_bootstrap() -> None:
    runs = simulated(np.random.default_rng(1), cells=2, seeds=12)
    pd.testing.assert_frame_equal(cell_table(runs, seed=4), cell_table(runs, seed=4), check_exact=True)
    assert (cell_table(runs, seed=4)["low"] != cell_table(runs, seed=5)["low"]).all()


def test_an_interval_does_not_depend_on_the_other_cells() -> None:
    runs = simulated(np.random.default_rng(1), cells=5, seeds=12)
    alone = cell_table(runs[runs["cell"] == "c3"]).iloc[0]
    among = cell_table(runs).set_index("cell").loc["c3"]
    assert (alone["low"], alone["high"]) == (among["low"], among["high"])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 10, 101])
def test_the_interquartile_mean_is_scipys_trimmed_mean(n: int) -> None:
    values = np.random.default_rng(n).normal(size=(3, n))
    np.testing.assert_allclose(iqm(values), stats.trim_mean(values, 0.25, axis=1), rtol=1e-13)


Q = stats.norm.ppf(0.75)
A, B = stats.norm.ppf([0.25 / 0.8, 0.75 / 0.8])
# The interquartile mean of each distribution: twice the integral of its quantiles from 1/4 to 3/4.
TRUTH = {
    "normal": 0.0,
    "lognormal": 2 * np.exp(0.5) * (stats.norm.cdf(Q - 1) - stats.norm.cdf(-Q - 1)),
    "stuck": -3 + 0.3 * (stats.norm.pdf(A) - stats.norm.pdf(B)) / (0.5 / 0.8),
}


def draw(kind: str, rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Values of a distribution. `stuck`: a fifth of the runs end far above the others."""
    normal = rng.normal(size=shape)
    if kind == "stuck":
        return np.where(rng.random(shape) < 0.2, -0.5 + 0.05 * normal, -3 + 0.3 * normal)
    return np.exp(normal) if kind == "lognormal" else normal


def coverage(kind: str, n: int, cells: int) -> float:
    """The share of intervals of n values that hold the truth."""
    low, high = interval((draw(kind, np.random.default_rng(n), (cells, n)),), iqm, seed=0)
    return float(np.mean((low <= TRUTH[kind]) & (TRUTH[kind] <= high)))


@pytest.mark.parametrize("kind", sorted(TRUTH))
def test_the_interval_holds_the_truth(kind: str) -> None:
    assert 0.92 <= coverage(kind, 10, cells=400) < 1


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, 20, 50])
@pytest.mark.parametrize("kind", sorted(TRUTH))
def test_the_interval_holds_the_truth_as_often_as_it_says(kind: str, n: int) -> None:
    """Nominal 95 %: at least 92 %, and not much wider than it need be."""
    assert 0.92 <= coverage(kind, n, cells=3000) <= 0.985


# --- metrics and keys -------------------------------------------------------------------------------------------


def test_losses_are_compared_by_ratios_unless_one_is_not_positive() -> None:
    runs = frame({"a": [1.0, NAN]}, final_r2=-1.0, log10_best_loss=0.5, zero=[0.0, 1.0])
    assert metric_of(runs) == Metric("final_loss", higher=False, log=True)
    assert metric_of(runs, "final_r2") == Metric("final_r2", higher=True, log=False)
    assert metric_of(runs, "log10_best_loss") == Metric("log10_best_loss", higher=False, log=False)
    assert metric_of(runs, "zero") == Metric("zero", higher=False, log=False)
    assert metric_of(frame({"a": [1.0, 0.0]})).log is False
    with pytest.raises(KeyError):
        metric_of(runs, "final_los")


def test_scores_are_lower_for_the_better() -> None:
    runs = frame({"a": [1.0, NAN, 3.0]}, val_accuracy=[0.5, 0.6, NAN])
    found = scored(runs, metric_of(runs, "val_accuracy"))["score"]
    np.testing.assert_array_equal(found, [-0.5, INF, NAN])


def test_swept_keys_are_the_params_that_differ() -> None:
    runs = completed(
        pd.DataFrame(
            {
                "cell": list("abcd"),
                "seed": range(4),
                "final_loss": 1.0,
                "network.hidden": ["[3]", "[3]", "[4, 4]", "[4, 4]"],
                "network.depth": [1, 1, 2, 2],
                "network.n_params": [12, 12, 30, 30],
                "network.bias": False,
                "training.learning_rate": [0.1, 0.5, 0.1, 0.5],
                "data.name": ["happiness", "exam", "happiness", "exam"],
                "data.digest": ["aa", "bb", "aa", "bb"],
                "data.scaling": ["none", "max", "max", "none"],
                "init.scheme": ["normal", "uniform", "uniform", "normal"],
                "init.scale": [1.0, NAN, NAN, 1.0],
                "numerics": ["portable", "portable", "fast", "fast"],
            }
        )
    )
    assert swept_keys(runs) == [
        *("network.hidden", "training.learning_rate", "data.name", "data.scaling", "init.scheme"),
    ]
    assert swept_keys(runs.assign(numerics=["portable", "fast"] * 2).drop(columns=["data.name"])) == [
        *("network.hidden", "training.learning_rate", "data.digest", "data.scaling", "init.scheme"),
    ]


def test_a_key_that_is_missing_in_some_runs_is_swept() -> None:
    runs = frame({"a": [1.0], "b": [1.0]})
    runs["data.divide_by"] = [NAN, 2.0]
    assert swept_keys(runs) == ["data.divide_by"]
    assert list(cell_table(runs)["data.divide_by"].isna()) == [True, False]
