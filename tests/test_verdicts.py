"""Verdicts: worked by hand, equal to scipy's tests, in words for every case, and no more often wrong than they say."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.compare.metric import Metric, metric_of
from pipeline.compare.pairs import holm
from pipeline.compare.verdicts import LEVEL, POWER, Verdicts, seeds_needed, verdicts
from tests.frames import frame, grid, shuffled, simulated

NAN = float("nan")
LOSSES = [0.1, 0.2, 0.4, 0.8, 1.6]
TIMES = np.array([0.2, 0.4, 0.6, 0.8, 1.0])  # log10 of how many times higher: mean 0.6, variance 0.1


def told(runs: pd.DataFrame, name: str = "final_loss") -> Verdicts:
    """The verdicts on the metric's own scale."""
    return verdicts(runs, metric_of(runs, name))


# --- the test of a pair -----------------------------------------------------------------------------------------


def test_a_difference_paired_by_seed() -> None:
    found = told(frame({"a": LOSSES, "b": np.array(LOSSES) * 10**TIMES}))
    row = found.table.iloc[0]
    assert (found.best, row["label"], row["n"], row["paired"]) == ("a", "b", 5, True)
    assert row["effect"] == pytest.approx(10**0.6)
    # t = 0.6 / sqrt(0.1 / 5) = 4.2426 with 4 degrees of freedom: p = 0.01324; one pair, nothing to correct
    assert row["p"] == pytest.approx(0.013236, rel=1e-4)
    assert row["p_corrected"] == row["p"]
    assert row["told"]
    assert np.isnan(row["seeds_needed"])
    assert found.alike == ()
    assert found.comparisons == 1


def test_the_p_values_are_scipys() -> None:
    rng = np.random.default_rng(0)
    a, b, c = 10 ** rng.normal(size=(3, 12))
    table = told(frame({"a": a / 100, "b": b, "c": c})).table.set_index("label")
    for label, losses in (("b", b), ("c", c)):
        expected = stats.ttest_rel(np.log10(a / 100), np.log10(losses)).pvalue
        assert table["p"][label] == pytest.approx(expected, rel=1e-9)


def test_without_common_seeds_welchs_test_is_used() -> None:
    rng = np.random.default_rng(0)
    a, b = 10 ** rng.normal(size=8), 10 ** (2 * rng.normal(size=11) + 3)
    runs = pd.concat([frame({"a": a}), frame({"b": b}, first_seed=6)], ignore_index=True)  # two in common
    found = told(runs)
    row = found.table.iloc[0]
    assert not row["paired"]
    assert row["n"] == 8
    assert row["p"] == pytest.approx(stats.ttest_ind(np.log10(a), np.log10(b), equal_var=False).pvalue, rel=1e-9)
    assert row["effect"] == pytest.approx(10 ** (np.log10(b).mean() - np.log10(a).mean()))
    assert row["low"] < row["effect"] < row["high"]


def test_few_common_seeds_of_many_are_not_paired() -> None:
    rng = np.random.default_rng(0)
    runs = pd.concat([frame({"a": 10 ** rng.normal(size=20)}), frame({"b": 10 ** rng.normal(size=20)}, first_seed=14)])
    assert not told(runs.reset_index(drop=True)).table["paired"].any()  # 6 of 20


def test_differences_are_those_of_common_seeds() -> None:
    longer = [*LOSSES, 1.0, 1.0]
    found = told(frame({"a": longer, "b": np.array(LOSSES) * 10**TIMES}))
    assert found.table["n"].tolist() == [5]
    assert found.table["effect"][0] == pytest.approx(10**0.6)


def test_plain_differences_where_values_are_not_positive() -> None:
    runs = frame({"a": [0.0, 0.1, 0.2, 0.3, 0.4], "b": [1.0, 1.2, 1.1, 1.4, 1.3]})
    found = told(runs)
    assert found.table["effect"][0] == pytest.approx(1.0)  # 1.2 - 0.2
    assert found.sentence.startswith("a is best: final loss lower by 1 (0.")


def test_higher_is_better_for_an_accuracy() -> None:
    runs = frame({"a": [1.0] * 5, "b": [1.0] * 5}, val_accuracy=[0.1, 0.2, 0.1, 0.2, 0.1, 0.8, 0.8, 0.9, 0.7, 0.8])
    found = told(runs, "val_accuracy")
    assert found.best == "b"
    assert found.table["effect"][0] == pytest.approx(0.66)  # 0.8 - 0.14
    assert found.sentence.startswith("b is best: val accuracy higher by 0.66 (")


def test_holms_correction() -> None:
    # sorted 0.01 0.03 0.04 times 3 2 1: 0.03 0.06 0.04, and none below one before it
    np.testing.assert_allclose(holm(np.array([0.01, NAN, 0.04, 0.03])), [0.03, NAN, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.5, 0.9])), [1, 1])


def test_p_values_are_corrected_for_all_pairs() -> None:
    rng = np.random.default_rng(2)
    logs = rng.normal(size=(4, 10)) + np.array([0, 1, 2, 3])[:, None]
    found = told(frame({f"c{at}": 10**row for at, row in enumerate(logs)}))
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    corrected = holm(np.array([stats.ttest_rel(logs[i], logs[j]).pvalue for i, j in pairs]))
    assert found.comparisons == 6
    np.testing.assert_allclose(found.table["p_corrected"], corrected[:3], rtol=1e-9)


def test_groups_are_compared_setting_by_setting_and_a_seed_counts_once() -> None:
    base = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    cells = {("[2]", 0.1): base, ("[2]", 0.5): base * 100, ("[3]", 0.1): base * 10**TIMES}
    cells[("[3]", 0.5)] = base * 100 * 10 ** TIMES[::-1]
    found = verdicts(grid(cells), Metric(), by=["network.hidden"])
    row = found.table.iloc[0]
    assert (found.best, row["label"], row["n"]) == ("hidden=[2]", "hidden=[3]", 5)
    assert row["effect"] == pytest.approx(10**0.6)  # every seed's two differences average 0.6: no spread is left
    assert row["low"] == pytest.approx(row["high"])
    assert row["told"]
    with pytest.raises(KeyError):
        verdicts(grid(cells), Metric(), by=["network.hiden"])


def test_groups_without_a_common_setting_are_not_said_to_be_the_same() -> None:
    base = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    found = verdicts(grid({("[2]", 0.1): base, ("[3]", 0.5): base * 10**TIMES}), Metric(), by=["network.hidden"])
    assert "the same" not in found.sentence
    assert not found.table["paired"].any()


def test_groups_by_a_key_that_some_runs_lack() -> None:
    runs = frame({"a": LOSSES, "b": np.array(LOSSES) * 10**TIMES})
    runs["data.divide_by"] = [NAN] * 5 + [2.0] * 5
    assert told(runs).best == "a"
    assert verdicts(runs, Metric(), by=["data.divide_by"]).best == "divide_by=missing"


def test_runs_of_the_same_config_and_seed_are_averaged() -> None:
    runs = frame({"a": LOSSES, "b": np.array(LOSSES) * 10**TIMES})
    pd.testing.assert_frame_equal(told(pd.concat([runs, runs])).table, told(runs).table)


# --- divergence -------------------------------------------------------------------------------------------------


def test_pairs_with_a_diverged_run_are_left_out_of_the_difference() -> None:
    higher = np.array(LOSSES) * 10**TIMES
    found = told(frame({"a": [NAN, *LOSSES, 1.0], "b": [1.0, *higher, NAN]}))
    row = found.table.iloc[0]
    assert (row["n"], row["diverged"], row["diverges_more"]) == (5, 1, False)
    assert row["effect"] == pytest.approx(10**0.6)
    # Fisher's test of 1 of 7 and 1 of 7 gives 1: the difference's p, doubled as there were two tests
    assert row["p"] == pytest.approx(2 * 0.013236, rel=1e-4)


def test_a_cell_that_diverges_more_often_is_told_by_that() -> None:
    losses = 10 ** np.random.default_rng(0).normal(size=(2, 20))
    losses[1, :13] = NAN
    found = told(frame({"a": losses[0], "b": losses[1]}))
    row = found.table.iloc[0]
    expected = stats.fisher_exact([[0, 20], [13, 7]]).pvalue
    assert row["p"] == pytest.approx(2 * expected, rel=1e-9)
    assert row["diverges_more"]
    assert row["told"]
    assert row["by_divergence"]
    assert found.sentence.startswith("a is best: it diverges less often than the next. ")


def test_who_diverges_less_is_not_told_to_be_worse() -> None:
    losses = 10 ** np.random.default_rng(0).normal(size=(2, 60))
    losses[0, :24] = NAN
    found = told(frame({"a": losses[0] / 1e4, "b": losses[1]}))
    row = found.table.iloc[0]
    assert (found.best, row["told"], row["diverges_less"], row["by_divergence"]) == ("a", False, True, False)
    assert "It diverges more often than 1 of the cells." in found.sentence


def test_a_cell_of_which_nothing_is_left_has_no_difference() -> None:
    found = told(frame({"a": LOSSES * 2, "b": [NAN] * 10}))
    assert found.table[["effect", "low", "high"]].isna().all(axis=None)
    assert found.table["told"].tolist() == [True]  # 0 of 10 against 10 of 10


# --- in words ---------------------------------------------------------------------------------------------------


def noisy(*means: float, seeds: int = 10, spread: float = 0.2) -> pd.DataFrame:
    """Cells by network.hidden, [1] first, with log10 losses about the means."""
    rng = np.random.default_rng(5)
    cells = {(f"[{at}]", 0.5): 10 ** (mean + spread * rng.normal(size=seeds)) for at, mean in enumerate(means, 1)}
    return grid(cells)


def test_the_best_is_clear_of_all() -> None:
    found = told(frame({"a": LOSSES, "b": np.array(LOSSES) * 10**TIMES}))
    assert re.fullmatch(
        r"a is best: final loss 3\.98 times lower \(\d\.\d\d? to \d\.\d\d?\) than the next\.", found.sentence
    )


def test_some_cannot_be_told_from_the_best() -> None:
    found = told(noisy(-3, -1, -2.99))
    assert (found.best, found.alike) == ("hidden=[3]", ("hidden=[1]",))
    assert found.sentence.startswith(
        "hidden=[3] has the best final loss (median), but 1 of the other 2 cells cannot be told from it with "
        "10 seeds; final loss "
    )
    assert " times lower (" in found.sentence
    assert " than hidden=[2], the first that can. To tell it from hidden=[1] would" in found.sentence


def test_a_cell_further_down_cannot_be_told_from_the_best() -> None:
    runs = noisy(-3, -2, 0)
    third = runs["network.hidden"] == "[3]"
    runs.loc[third, "final_loss"] = 10 ** np.array([-9.0, 3, 3, 3, -9, 3, -9, 3, -9, 3])
    found = told(runs)
    assert found.alike == ("hidden=[3]",)
    assert found.sentence.startswith("hidden=[1] is best: final loss ")
    assert " than the next; 1 of the other 2 cells cannot be told from it with 10 seeds. " in found.sentence


def test_nothing_can_be_told() -> None:
    found = told(noisy(-3, -3, -3))
    assert len(found.alike) == 2
    assert " has the best final loss (median), but none of the other 2 cells can be told" in found.sentence
    assert "To tell it from hidden=[" in found.sentence


def test_two_cells_that_cannot_be_told() -> None:
    assert "but the other cell cannot be told from it with 10 seeds." in told(noisy(-3, -3)).sentence


def test_one_cell() -> None:
    found = told(noisy(-3))
    assert (found.best, found.comparisons, len(found.table)) == ("[1] lr0.5", 0, 0)
    assert found.sentence == "Only one cell, [1] lr0.5: there is nothing to compare it with."


def test_one_run() -> None:
    assert told(frame({"a": [1.0]})).sentence == "Only one cell, a: there is nothing to compare it with."


def test_no_run() -> None:
    found = told(frame({}))
    assert (found.best, found.sentence) == (None, "No finished run has a final loss.")


def test_too_few_seeds() -> None:
    found = told(noisy(-3, -1, seeds=4))
    assert found.sentence == "Too few seeds to say anything: at most 4 a cell, and at least 5 are needed."
    assert found.best == "hidden=[1]"
    assert found.table["p"].isna().all()
    assert found.alike == ("hidden=[2]",)
    assert told(noisy(-3, -1, seeds=1)).sentence.startswith("Too few seeds")


def test_all_diverged() -> None:
    found = told(frame({"a": [NAN] * 6, "b": [NAN] * 6}))
    assert (found.best, found.sentence) == (None, "All runs diverged: there is no best cell.")


def test_most_diverged() -> None:
    found = told(frame({"a": [NAN, NAN, 1.0], "b": [NAN] * 3}))
    assert found.sentence == "In no cell did most runs keep a finite final loss: there is no best one."


def test_identical_cells() -> None:
    found = told(frame({"a": LOSSES, "b": LOSSES, "c": LOSSES}))
    assert found.sentence == "All 3 cells have the same final loss, seed by seed: there is nothing to tell."
    assert found.table["p"].tolist() == [1, 1]
    assert found.table["effect"].tolist() == [1, 1]
    assert not found.table["told"].any()


def test_ties_of_the_best_are_broken_by_name() -> None:
    worse = [loss * 100 for loss in LOSSES]
    found = told(shuffled(frame({"b": LOSSES, "a": LOSSES, "c": worse})))
    assert (found.best, found.alike) == ("a", ("b",))
    assert found.sentence.startswith("a has the best final loss (median), but 1 of the other 2 cells cannot be told")
    assert "more than 10,000 seeds" in found.sentence


def test_a_best_median_with_a_worse_mean_is_not_told() -> None:
    stuck = 10 ** np.where(np.arange(100) < 40, 0.0, -3.0)
    steady = 10 ** (-2.9 + 0.01 * np.random.default_rng(0).normal(size=100))
    found = told(frame({"stuck": stuck, "steady": steady}))
    row = found.table.iloc[0]
    assert found.best == "stuck"
    assert (row["told"], row["reversed"]) == (False, True)
    assert found.sentence.startswith("Nothing can be told: stuck has the best final loss (median)")
    assert "On average, though not in the median, it is worse than 1 of the cells." in found.sentence


def test_cells_alike_in_their_swept_keys_have_their_own_names() -> None:
    runs = noisy(-3, -1)
    other = runs.assign(cell="other " + runs["cell"], final_loss=runs["final_loss"] * 10)
    assert told(pd.concat([runs, other])).best == "[1] lr0.5"


# --- reproducible -----------------------------------------------------------------------------------------------


def test_the_order_of_rows_does_not_matter() -> None:
    runs = simulated(np.random.default_rng(3), cells=5, seeds=12).iloc[:-3]
    one, other = told(runs), told(shuffled(runs))
    assert (one.sentence, one.alike) == (other.sentence, other.alike)
    pd.testing.assert_frame_equal(one.table, other.table, check_exact=True)


def test_a_seed_fixes_the_intervals() -> None:
    runs = simulated(np.random.default_rng(3), cells=3, seeds=12)
    one, same, other = (verdicts(runs, Metric(), seed=seed).table for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, same, check_exact=True)
    assert (one["low"] != other["low"]).all()
    assert (one["p"] == other["p"]).all()


# --- seeds needed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("difference", "comparisons"), [(0.5, 1), (0.5, 15), (1.2, 1), (0.1, 1128)])
def test_the_seeds_needed_have_the_power(difference: float, comparisons: int) -> None:
    needed = seeds_needed(np.array([difference]), np.array([1.0]), np.array([5]), comparisons)[0]
    assert power(difference, int(needed), comparisons) == pytest.approx(POWER, abs=0.03)


def power(difference: float, n: int, comparisons: int) -> float:
    """That of a t test of n differences with a spread of 1, by the noncentral t distribution."""
    beyond = stats.t.isf(LEVEL / comparisons / 2, n - 1)
    return float(stats.nct.sf(beyond, n - 1, difference * np.sqrt(n)))


def test_a_difference_of_nearly_nothing_needs_too_many_seeds() -> None:
    needed = seeds_needed(np.array([0.0, 1e-6, 0.04]), np.array([1.0, 1.0, 1.0]), np.array([9, 9, 9]), 1)
    assert needed[:2].tolist() == [np.inf, np.inf]
    assert 4900 < needed[2] < 4910  # (1.96 + 0.84)^2 / 0.04^2 = 4905, and 2


# --- how often it is wrong --------------------------------------------------------------------------------------

SWEEPS = 200


def share_told(planted: float, seeds: int, by_first: bool = False) -> float:
    """The share of simulated sweeps of 6 cells in which anything is told (or: the planted cell from all others)."""
    rng = np.random.default_rng(2024)
    found = [told(simulated(rng, cells=6, seeds=seeds, planted=planted)) for _ in range(SWEEPS)]
    return float(np.mean([(v.best == "c0" and not v.alike) if by_first else v.table["told"].any() for v in found]))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [10, 100])
def test_where_nothing_is_planted_nothing_is_told(seeds: int) -> None:
    assert share_told(0.0, seeds) <= LEVEL


@pytest.mark.slow
def test_half_a_standard_deviation_cannot_be_told_with_10_seeds() -> None:
    assert share_told(0.5, 10) < 0.5


@pytest.mark.slow
def test_half_a_standard_deviation_is_told_with_100_seeds() -> None:
    assert share_told(0.5, 100, by_first=True) >= 0.75
