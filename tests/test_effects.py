"""Effects of the axes: sums of squares worked by hand and by an outside formulation, and tables of two keys."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.compare.effects import Effects, effects, heat_map, in_order
from pipeline.compare.metric import Array, Metric, metric_of
from tests.frames import frame, grid, shuffled

NAN = float("nan")
KEYS = ["network.hidden", "training.learning_rate"]
HIDDEN, RATE = KEYS
PLAIN = Metric(log=False)


def shares(found: Effects) -> dict[str, float]:
    """The share of every term, rounded."""
    return dict(zip(found.terms["term"], found.terms["share"].round(12), strict=True))


def test_a_balanced_sweep_worked_by_hand() -> None:
    # Cell means 1 2 / 3 8, seeds 1 below and above: 8 runs with mean 3.5.
    # hidden: means 1.5 5.5, 2 off: 8 x 4 = 32. rate: means 2 5, 1.5 off: 8 x 2.25 = 18.
    # both: cells are 1 off what the means add up to: 8 x 1 = 8. seed: means 2.5 4.5: 8 x 1 = 8. Together 66.
    cells = {("[2]", 0.1): 1.0, ("[2]", 0.5): 2.0, ("[3]", 0.1): 3.0, ("[3]", 0.5): 8.0}
    runs = grid({cell: [mean - 1, mean + 1] for cell, mean in cells.items()})
    found = effects(runs, PLAIN, KEYS)
    assert shares(found) == pytest.approx({HIDDEN: 32 / 66, RATE: 18 / 66, f"{HIDDEN} x {RATE}": 8 / 66})
    assert [found.noise, found.seed] == pytest.approx([8 / 66, 8 / 66])
    assert (found.runs, found.diverged, found.blocked) == (8, 0, True)
    assert list(found.terms["df"]) == [1, 1, 1]
    assert (found.terms["p"] == 0).all()  # beside the blocks nothing is left
    assert found.sentence == (
        "Of the variance, network.hidden 48%, training.learning_rate 27%, network.hidden x training.learning_rate 12%; "
        "the seed 12%."
    )
    levels = found.levels.set_index(["key", "level"])
    assert levels["mean"].tolist() == [1.5, 5.5, 2.0, 5.0]
    assert levels["n"].tolist() == [4, 4, 4, 4]


def test_the_f_test_of_one_key() -> None:
    # Two levels, three seeds: a 1 2 3, b 3 3 6. Differences 2 1 3: a paired t test, F = t^2.
    found = effects(grid({("[2]", 0.1): [1.0, 2.0, 3.0], ("[3]", 0.1): [3.0, 3.0, 6.0]}), PLAIN, [HIDDEN])
    expected = stats.ttest_rel([1, 2, 3], [3, 3, 6]).pvalue
    assert found.terms["p"][0] == pytest.approx(expected, rel=1e-9)
    # 6 x 1 between levels of the 16 of all; within levels 2 + 6 = 8 are not the key's, of which seeds share 7
    assert shares(found) == {HIDDEN: pytest.approx(6 / 14)}
    assert found.noise == pytest.approx(8 / 14)
    assert found.seed == pytest.approx(7 / 14)


def test_losses_are_taken_on_the_log_scale() -> None:
    runs = grid({("[2]", 0.1): [0.01, 0.1], ("[3]", 0.1): [1.0, 10.0]})
    found = effects(runs, metric_of(runs), [HIDDEN])
    # logs -2 -1 / 0 1: 4 between levels, 1 between seeds
    assert shares(found) == {HIDDEN: pytest.approx(4 / 5)}
    assert found.levels["mean"].tolist() == pytest.approx([10**-1.5, 10**0.5])


def unbalanced(seed: int = 0, seeds: int = 6) -> pd.DataFrame:
    """A sweep of 3 x 2 cells with a third key nested in nothing, of which a quarter is missing."""
    rng = np.random.default_rng(seed)
    cells = {
        (f"[{a}]", b): a + 2 * b + a * b + rng.normal(size=seeds) for a, b in itertools.product((1, 2, 3), (0.1, 0.5))
    }
    runs = grid(cells).sample(frac=0.75, random_state=seed)
    return runs.assign(**{"network.bias": rng.random(len(runs)) < 0.5}).reset_index(drop=True)


def dummies(runs: pd.DataFrame, *terms: tuple[str, ...]) -> Array:
    """A design matrix with a mean and a column a level, as one would write it down."""
    codes = [runs.groupby(list(term)).ngroup().to_numpy() for term in terms]
    return np.hstack([np.ones((len(runs), 1)), *(np.eye(code.max() + 1)[code] for code in codes)])


def left(runs: pd.DataFrame, *terms: tuple[str, ...]) -> tuple[float, int]:
    """The residual sum of squares and the rank by numpy's least squares."""
    design, y = dummies(runs, *terms), runs["final_loss"].to_numpy()
    solution, _, rank, _ = np.linalg.lstsq(design, y)
    return float(((y - design @ solution) ** 2).sum()), int(rank)


def test_type_two_sums_of_squares_of_an_unbalanced_sweep() -> None:
    runs = unbalanced()
    keys = [*KEYS, "network.bias"]
    found = effects(runs, PLAIN, keys)
    assert found.blocked
    total = left(runs)[0]
    seed, mains, pairs = ("seed",), [(key,) for key in keys], list(itertools.combinations(keys, 2))
    whole, rank = left(runs, seed, *mains)
    error, used = left(runs, seed, *mains, *pairs)
    terms = found.terms.set_index("term")
    for main in mains:
        without, smaller = left(runs, seed, *(other for other in mains if other != main))
        f = (without - whole) / (rank - smaller) / (error / (len(runs) - used))
        assert terms["share"][main[0]] == pytest.approx((without - whole) / total, rel=1e-9)
        assert terms["p"][main[0]] == pytest.approx(stats.f.sf(f, rank - smaller, len(runs) - used), rel=1e-7)
    for pair in pairs:
        with_pair, larger = left(runs, seed, *mains, pair)
        name = " x ".join(pair)
        assert terms["share"][name] == pytest.approx((whole - with_pair) / total, rel=1e-9)
        assert terms["df"][name] == larger - rank
    assert found.noise == pytest.approx(left(runs, tuple(keys))[0] / total)
    assert found.seed == pytest.approx((left(runs, *mains)[0] - whole) / total)


def test_the_order_of_rows_does_not_matter() -> None:
    one, other = (effects(runs, PLAIN, KEYS) for runs in (unbalanced(), shuffled(unbalanced())))
    pd.testing.assert_frame_equal(one.terms, other.terms, check_exact=True)
    pd.testing.assert_frame_equal(one.levels, other.levels, check_exact=True)
    assert one.noise == other.noise


def test_an_interaction_that_is_none_does_not_matter_and_one_that_is_does() -> None:
    rng = np.random.default_rng(1)
    cells = list(itertools.product((1, 2, 3), (0.1, 0.5)))
    adding = grid({(f"[{a}]", b): 3 * a + b + rng.normal(size=20) for a, b in cells})
    crossing = grid({(f"[{a}]", b): 3 * a * (b - 0.3) + rng.normal(size=20) / 9 for a, b in cells})
    assert effects(adding, PLAIN, KEYS).terms["matters"].tolist() == [True, False, False]
    assert effects(crossing, PLAIN, KEYS).terms["matters"].iloc[2]


def test_diverged_runs_are_left_out_and_counted() -> None:
    runs = grid({("[2]", 0.1): [1.0, 2.0, NAN], ("[3]", 0.1): [3.0, 4.0, 5.0]})
    found = effects(runs, PLAIN, [HIDDEN])
    assert (found.runs, found.diverged) == (5, 1)
    assert found.levels[["level", "n", "diverged", "mean"]].to_numpy().tolist() == [
        ["[2]", 3, 1, 1.5],
        ["[3]", 3, 0, 4.0],
    ]


def test_seeds_that_cells_do_not_share_are_no_blocks() -> None:
    runs = grid({("[2]", 0.1): [1.0, 2.0, 3.0], ("[3]", 0.1): [3.0, 3.0, 6.0]})
    runs["seed"] = range(6)
    found = effects(runs, PLAIN, [HIDDEN])
    assert not found.blocked
    assert found.seed == 0
    assert found.terms["p"][0] == pytest.approx(stats.ttest_ind([1, 2, 3], [3, 3, 6]).pvalue)


def test_one_run_a_cell_leaves_no_test_of_interactions() -> None:
    cells = {(f"[{a}]", b): [a + b + 0.1 * a * b] for a, b in itertools.product((1.0, 2.0, 4.0), (0.1, 0.5))}
    found = effects(grid(cells), PLAIN, KEYS)
    assert found.terms["p"].isna().tolist() == [False, False, True]
    assert found.noise == pytest.approx(0)


def test_keys_that_always_change_together_explain_nothing_of_their_own() -> None:
    found = effects(grid({("[2]", 0.1): [1.0, 2.0], ("[3]", 0.5): [3.0, 4.5]}), PLAIN, KEYS)
    assert found.terms["df"].tolist() == [0, 0, 0]
    assert found.terms["p"].isna().all()


def test_nothing_to_explain() -> None:
    same = effects(grid({("[2]", 0.1): [1.0, 1.0], ("[3]", 0.1): [1.0, 1.0]}), PLAIN, [HIDDEN])
    assert same.sentence == "There is nothing to explain."
    assert same.terms["p"].isna().all()
    assert effects(grid({("[2]", 0.1): [1.0]}), PLAIN, [HIDDEN]).sentence == "There is nothing to explain."
    assert effects(grid({("[2]", 0.1): [NAN, NAN]}), PLAIN, [HIDDEN]).diverged == 2
    assert effects(frame({"a": [1.0, 2.0]}), PLAIN, []).sentence == "There is nothing to explain."
    with pytest.raises(KeyError):
        effects(grid({("[2]", 0.1): [1.0]}), PLAIN, ["network.hiden"])


def test_a_heat_map_has_medians_and_counts() -> None:
    cells = {("[10]", 0.5): [1.0, 3.0], ("[9]", 0.5): [2.0, NAN, NAN], ("[9]", 0.1): [4.0, NAN, 6.0]}
    runs = shuffled(grid(cells))
    found = heat_map(runs, metric_of(runs), HIDDEN, RATE)
    assert found.medians.index.tolist() == found.counts.index.tolist() == ["[9]", "[10]"]
    np.testing.assert_array_equal(found.medians.columns, [0.1, 0.5])
    np.testing.assert_array_equal(found.medians, [[6.0, np.inf], [NAN, 2.0]])
    assert found.counts.to_numpy().tolist() == [[3, 3], [0, 2]]
    assert found.diverged.to_numpy().tolist() == [[1, 2], [0, 0]]


def test_where_higher_is_better_a_diverged_median_is_the_lowest() -> None:
    runs = grid({("[2]", 0.1): [1.0, NAN], ("[2]", 0.5): [1.0, 1.0]}).assign(val_accuracy=[0.9, NAN, 0.5, 0.7])
    found = heat_map(runs, metric_of(runs, "val_accuracy"), HIDDEN, RATE)
    np.testing.assert_allclose(found.medians, [[-np.inf, 0.6]])


def test_levels_stand_in_an_order_for_people() -> None:
    levels: list[object] = ["[10]", "[4, 5]", "[]", "[9]", "[4, 10]", None, 0.5, 10, 9.0, True, "tanh"]
    expected: list[object] = [0.5, True, 9.0, 10, "[]", "tanh", "[9]", "[10]", "[4, 5]", "[4, 10]", None]
    assert [levels[at] for at in in_order(levels)] == expected
