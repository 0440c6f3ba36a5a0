"""Whole trainings: the tutorials' printed figures, the tutorials' own way as an oracle, and prefixes."""

import functools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data import Scale
from pipeline.numerics.network import Rule, predict
from pipeline.numerics.train import Problem, train
from pipeline.training.stack import Result, updates_of
from tests import oracle
from tests.factory import (
    CAT_SHOP,
    EXAM,
    FIRST_COLUMN,
    HAPPINESS,
    arrays,
    bits,
    printed,
    result,
    rows,
    run,
    stacked,
    trained,
)

Array = NDArray[np.float64]

NUMERICS = ("portable", "fast")


@functools.cache
def figures(tutorial: str, numerics: str, epochs: int, snapshots: tuple[int, ...] = ()) -> Result:
    """A tutorial's training, once for all tests that look at it."""
    return trained([run(**TUTORIALS[tutorial], numerics=numerics, epochs=epochs)], snapshots)[0]


# The exam notebook set no seed. Its nine initial weights were recovered by solving for them from what it prints.
NOTEBOOK_WEIGHTS = [
    [
        [-0.8916763356377355, 0.2829773487563673, -1.55793395881508],
        [0.557248593236783, 0.393975356356158, 0.6425732125636504],
    ],
    [[-0.16741985606752877], [-1.823046917172748], [-0.935718203070745]],
]
TUTORIALS: dict[str, dict[str, Any]] = {
    "happiness": HAPPINESS,
    "happiness_exact": HAPPINESS | {"derivative": "exact"},
    "exam_notebook": EXAM | {"scheme": "given", "weights": NOTEBOOK_WEIGHTS},
    "first_column": FIRST_COLUMN,
    "first_column_costs": FIRST_COLUMN | {"skip_networks": 1},
    "cat_shop": CAT_SHOP,
}


# --- published figures ------------------------------------------------------------------------------------------

HAPPINESS_ROWS = (100, 400, 900, 1500)


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize(
    ("updates", "figure"),
    [
        (100, [0.77633351, 0.76799445, 0.74576682]),  # happiness text (part 9), printed after 100 updates
        (400, [0.86459987, 0.82810535, 0.62330616]),  # computed with tests/oracle.py; the text prints this row too
        (900, [0.93005164, 0.83085754, 0.50152117]),  # happiness text, printed after 900 updates
        (1900, [0.93114243, 0.83099963, 0.5]),  # computed with tests/oracle.py; the text prints this row too
    ],
)
def test_happiness_predictions(updates: int, figure: list[float], numerics: str) -> None:
    trained_run = figures("happiness", numerics, 1900, HAPPINESS_ROWS)
    assert printed(trained_run.snapshots[updates].prediction) == figure


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize(
    ("updates", "figure"),
    [  # computed: what the happiness text would have got with the exact derivative
        (100, [0.76819155, 0.75908983, 0.73668163]),
        (900, [0.93099261, 0.84288272, 0.55675422]),
        (1900, [0.96107504, 0.84706253, 0.52723683]),
    ],
)
def test_happiness_predictions_without_the_slip(updates: int, figure: list[float], numerics: str) -> None:
    trained_run = figures("happiness_exact", numerics, 1900, HAPPINESS_ROWS)
    assert printed(trained_run.snapshots[updates].prediction) == figure


@pytest.mark.parametrize(
    ("tutorial", "updates", "figure"),
    [
        ("happiness", 1500, 0.95418997),  # computed; the happiness text says "about 0.95"
        ("happiness", 1900, 0.95443314),  # the same
        ("happiness_exact", 1900, 0.97615538),  # computed, without the slip
    ],
)
def test_happiness_of_james(tutorial: str, updates: int, figure: float) -> None:
    """James: money 0.2, relationship 1.0, sandwiches 0.4, baseline 0.3."""
    state = figures(tutorial, "portable", 1900, HAPPINESS_ROWS).snapshots[updates]
    assert printed(predict(np.array([[0.2, 1.0, 0.4, 0.3]]), state.matrices)) == [figure]


def test_sums_of_squares_of_happiness() -> None:
    """Computed: 0.0151 after 1,900 updates with the slip. The exact derivative descends all the way."""
    assert f"{figures('happiness', 'portable', 1900, HAPPINESS_ROWS).curves['loss'][1900]:.4f}" == "0.0151"
    assert (np.diff(figures("happiness_exact", "portable", 1900, HAPPINESS_ROWS).curves["loss"]) < 0).all()


@pytest.mark.slow
def test_the_slip_does_not_descend_the_loss() -> None:
    """Computed with tests/oracle.py: the sum of squares falls to 0.0125 and has grown to 0.0245 after 100,000 updates.

    (0.0478, which one may read elsewhere, comes out if W1 is changed before the error is passed back through it; but
    then the printed figures do not.)
    """
    loss = result(**HAPPINESS, epochs=100_000).curves["loss"]
    assert f"{loss[-1]:.4f}" == "0.0245"
    assert f"{loss.min():.4f}" == "0.0125"


NOTEBOOK: dict[int, tuple[list[float], float]] = {  # exam notebook, as printed at "iteration i": after i updates
    0: ([0.16405593, 0.17260029, 0.19074636], 0.5109751473919114),  # exam notebook, iteration 0: the untrained net
    1: ([0.21156472, 0.21554399, 0.23631281], 0.44817034756352275),  # exam notebook, iteration 1
    2: ([0.26850146, 0.26720522, 0.28853437], 0.3792056361845176),  # exam notebook, iteration 2
    3: ([0.3309138, 0.32494226, 0.34357189], 0.31063100417197553),  # exam notebook, iteration 3
    226: ([0.90581512, 0.88513059, 0.87916671], 0.00031670589141605525),  # exam notebook, iteration 226
    227: ([0.9058136, 0.88511823, 0.87918135], 0.00031640758427066516),  # exam notebook, iteration 227
    228: ([0.90581202, 0.88510582, 0.8791959], 0.00031610989052924894),  # exam notebook, iteration 228
    229: ([0.90581039, 0.88509337, 0.87921037], 0.00031581280752207),  # exam notebook, iteration 229
    733: ([0.9047669, 0.87968803, 0.88406655], 0.00021829058505852054),  # exam notebook, iteration 733
    734: ([0.90476567, 0.87967993, 0.88407394], 0.0002181674963067863),  # exam notebook, iteration 734
    735: ([0.90476445, 0.87967184, 0.88408132], 0.00021804459491629323),  # exam notebook, iteration 735
    736: ([0.90476324, 0.87966375, 0.8840887], 0.0002179218805102755),  # exam notebook, iteration 736
}


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("updates", NOTEBOOK)
def test_exam_notebook_predictions_and_losses(updates: int, numerics: str) -> None:
    trained_run = figures("exam_notebook", numerics, 1000, tuple(NOTEBOOK))
    predictions, loss = NOTEBOOK[updates]
    assert printed(trained_run.snapshots[updates].prediction) == predictions
    assert trained_run.curves["mse"][updates] == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize("numerics", NUMERICS)
def test_first_column_predictions(numerics: str) -> None:
    """Printed by the "neural network from scratch" text after 5,000 updates of the first net that seed 1 draws."""
    trained_run = figures("first_column", numerics, 5000)
    assert printed(trained_run.final.prediction) == [0.02039406, 0.96795662, 0.97199464, 0.02758648]


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize(
    ("updates", "cost"),
    [
        (0, "0.688239103472"),  # "neural network from scratch", printed at epoch 0 with 12 digits
        (1000, "0.0192991528354"),  # the same, epoch 1000
    ],
)
def test_first_column_costs_are_those_of_the_second_net(updates: int, cost: str, numerics: str) -> None:
    assert f"{figures('first_column_costs', numerics, 1000).curves['loss'][updates]:.12g}" == cost


def test_first_column_costs_are_not_those_of_the_first_net() -> None:
    assert f"{figures('first_column', 'portable', 5000).curves['loss'][0]:.3f}" != "0.688"


CAT_SHOP_ERRORS = {  # computed with the "28 lines" text's own loop (it prints no figures): sum(abs(y - l2) / 2)
    0: 0.992820063805451,
    10_000: 0.01716905130649431,
    50_000: 0.007020245135723354,
}


def test_cat_shop_errors() -> None:
    errors = figures("cat_shop", "portable", 10_000).curves["half_sum_abs"]
    for updates in (0, 10_000):
        assert errors[updates] == pytest.approx(CAT_SHOP_ERRORS[updates], rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("numerics", NUMERICS)
def test_cat_shop_to_the_end(numerics: str) -> None:
    """Outputs after 60,000 updates: computed with the "28 lines" text's own loop."""
    trained_run = figures("cat_shop", numerics, 60_000)
    for updates, error in CAT_SHOP_ERRORS.items():
        assert trained_run.curves["half_sum_abs"][updates] == pytest.approx(error, rel=1e-12)
    assert printed(trained_run.final.prediction) == [0.99701713, 0.99672212, 0.0026057, 0.00386756]


@pytest.mark.slow
def test_exam_long_lies_where_the_text_says() -> None:
    """Exam text, another unseeded run: loss 1.94e-18 after 99,999 updates; for [0.5, 1.0] it then predicts 0.91882413.

    Computed over legacy seeds 0 to 99: about 8 % of losses are lower, 99 % of predictions are lower, and at
    least 5 % of runs are stuck near 1.1e-4.
    """
    base = EXAM | {"generator": "legacy", "epochs": 100_000}
    results = trained([run(**base, seed=seed) for seed in range(100)])
    losses = np.array([trained_run.curves["mse"][99_999] for trained_run in results])
    predictions = np.array(
        [predict(np.array([[0.5, 1.0]]), trained_run.final.matrices).item() for trained_run in results]
    )
    assert 4 <= (losses < 1.94136958194e-18).sum() <= 12
    assert (predictions < 0.91882413).sum() >= 98
    assert ((losses > 1e-4) & (losses < 1.2e-4)).sum() >= 5


# --- the oracle: the tutorials' own way -------------------------------------------------------------------------


def assert_agrees(found: Result, wanted: oracle.Trained, relative: float = 1e-12) -> None:
    """Curves, weights, biases and predictions, at every update that was kept."""
    np.testing.assert_allclose(found.curves["loss"], wanted.losses, rtol=relative, atol=1e-15)
    assert found.updates in found.snapshots
    for updates, state in found.snapshots.items():
        np.testing.assert_allclose(state.prediction, wanted.predictions[updates], rtol=relative, atol=1e-15)
        for ours, theirs in zip(state.matrices, wanted.weights[updates], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=relative, atol=1e-12)
        for ours, theirs in zip(state.biases, wanted.biases[updates], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=relative, atol=1e-12)


ARCHITECTURES = {  # name: rows, inputs, hidden, outputs
    "3-4-5-1": (4, 3, [4, 5], 1),
    "2-3-1": (3, 2, [3], 1),
    "4-1-1": (3, 4, [1], 1),
    "1-1-1": (1, 1, [1], 1),
    "2-1, no hidden layer": (5, 2, [], 1),
    "3-2-3": (9, 3, [2], 3),
    "2-4-3-2-2": (17, 2, [4, 3, 2], 2),
    "5-8-8-4": (20, 5, [8, 8], 4),
}


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize(
    ("loss", "derivative"),
    [("sse", "of_activation"), ("half_sse", "exact"), ("mse", "exact"), ("mse", "of_activation")],
)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_agrees_with_the_tutorials_way(name: str, bias: bool, loss: str, derivative: str, numerics: str) -> None:
    n, d, hidden, k = ARCHITECTURES[name]
    wanted_run = run(
        **rows(n, d, k), hidden=hidden, bias=bias, loss=loss, derivative=derivative, numerics=numerics,
        learning_rate=0.3, epochs=12, metrics=["sum_abs", "half_sum_abs", "mean_abs", "half_sse"], seed=5,
    )  # fmt: skip
    found = trained([wanted_run], [0, 1, 7])[0]
    weights = oracle.modern_weights("normal", 5, wanted_run.sizes)
    biases = [np.zeros(units) for units in wanted_run.sizes[1:]] if bias else []
    X, y = arrays(wanted_run)
    wanted = oracle.train(X, y, weights, 0.3, 12, loss=loss, derivative=derivative, biases=biases)
    assert_agrees(found, wanted)
    assert set(found.snapshots) == {0, 1, 7, 12}
    for metric in wanted_run.config.training.metrics:
        values = [oracle.loss_of(metric, prediction - y) for prediction in wanted.predictions]
        np.testing.assert_allclose(found.curves[metric], values, rtol=1e-12)


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("generator", ["legacy", "pcg64"])
@pytest.mark.parametrize("scheme", ["normal", "uniform"])
def test_agrees_with_the_tutorials_way_from_any_seed_and_at_any_rate(
    scheme: str, generator: str, numerics: str
) -> None:
    """Nine runs in one stack, each against its own loop, over 150 updates of a 3-4-5-1 net."""
    combinations = [(seed, rate) for seed in (0, 1, 99) for rate in (0.01, 0.7, 3.0)]
    base = FIRST_COLUMN | {"scheme": scheme, "generator": generator, "numerics": numerics, "epochs": 150}
    runs = [run(**(base | {"seed": seed, "learning_rate": rate})) for seed, rate in combinations]
    draw = oracle.legacy_weights if generator == "legacy" else oracle.modern_weights
    X, y = arrays(runs[0])
    for (seed, rate), found in zip(combinations, trained(runs), strict=True):
        assert_agrees(found, oracle.train(X, y, draw(scheme, seed, (3, 4, 5, 1)), rate, 150))


@pytest.mark.parametrize("numerics", NUMERICS)
def test_agrees_with_the_tutorials_way_on_scaled_data(numerics: str) -> None:
    base = EXAM | {"generator": "legacy", "seed": 3, "epochs": 200, "numerics": numerics}
    X, y = np.array(EXAM["X"]) / np.amax(EXAM["X"], axis=0), np.array(EXAM["y"]) / 100
    wanted = oracle.train(X, y, oracle.legacy_weights("normal", 3, (2, 3, 1)), 1.0, 200)
    assert_agrees(result(**base), wanted)


def test_a_metric_named_like_the_loss_is_the_loss() -> None:
    found = result(**rows(3, 2, 2), epochs=5, loss="mse", metrics=["mse", "sse"])
    np.testing.assert_array_equal(found.curves["mse"], found.curves["loss"])
    np.testing.assert_array_equal(found.curves["sse"] / 6, found.curves["loss"])


def test_learns_xor() -> None:
    """Behaviour: the cat shop's XOR, 8-8, is learned by all of ten seeds; without a hidden layer by none."""
    base = CAT_SHOP | {"scheme": "normal", "generator": "pcg64", "epochs": 1500, "learning_rate": 3.0}
    deep = trained([run(**(base | {"hidden": [8, 8], "seed": seed})) for seed in range(10)])
    flat = trained([run(**(base | {"hidden": [], "seed": seed})) for seed in range(10)])
    assert all(np.abs(one.final.prediction[:, 0] - [1, 1, 0, 0]).max() < 0.1 for one in deep)
    assert all(np.abs(one.final.prediction[:, 0] - [1, 1, 0, 0]).max() > 0.45 for one in flat)


# --- a shorter run is the beginning of a longer one -------------------------------------------------------------


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("bias", [False, True])
def test_a_shorter_run_is_the_beginning_of_a_longer_one(bias: bool, numerics: str) -> None:
    base = {"hidden": [3, 2], "bias": bias, "numerics": numerics, "metrics": ["mean_abs"]}
    longest = trained([run(**base, epochs=40)], range(41))[0]
    for epochs in (0, 1, 2, 13, 39):
        short = result(**base, epochs=epochs)
        assert short.updates == epochs
        for name, curve in short.curves.items():
            assert len(curve) == epochs + 1
            assert curve.tobytes() == longest.curves[name][: epochs + 1].tobytes()
        for ours, theirs in zip(short.final.matrices, longest.snapshots[epochs].matrices, strict=True):
            assert ours.tobytes() == theirs.tobytes()
        for ours, theirs in zip(short.final.biases, longest.snapshots[epochs].biases, strict=True):
            assert ours.tobytes() == theirs.tobytes()
        assert short.final.prediction.tobytes() == longest.snapshots[epochs].prediction.tobytes()


@pytest.mark.parametrize("numerics", NUMERICS)
def test_runs_of_one_trajectory_that_differ_in_epochs_only(numerics: str) -> None:
    runs = [run(epochs=epochs, numerics=numerics) for epochs in (7, 0, 30, 7, 1)]
    assert updates_of(runs) == 30
    for one, found in zip(runs, trained(runs), strict=True):
        assert bits(found) == bits(trained([one])[0])


@pytest.mark.parametrize("numerics", NUMERICS)
def test_runs_of_different_lengths_in_one_stack(numerics: str) -> None:
    """Different seeds, learning rates and lengths: each with the bits of the run alone, to its very last point."""
    lengths = [5, 30, 0, 30, 12, 1, 5, 29, 2, 31, 3]
    runs = [
        run(epochs=epochs, seed=seed, learning_rate=0.1 * (seed + 1), numerics=numerics, metrics=["sum_abs"])
        for seed, epochs in enumerate(lengths)
    ]
    for one, found in zip(runs, trained(runs), strict=True):
        assert found.updates == one.config.training.epochs
        assert found.diverged_at is None
        assert bits(found) == bits(trained([one])[0])


def test_a_run_of_0_epochs_is_the_untrained_net() -> None:
    found = result(epochs=0)
    assert found.updates == 0
    assert [len(curve) for curve in found.curves.values()] == [1]
    assert all((a == b).all() for a, b in zip(found.initial, found.final.matrices, strict=True))
    assert found.diverged_at is None


def test_progress_counts_every_update_of_every_trajectory_once() -> None:
    """In reports of no more than 500 updates a network, across shortening stacks and snapshots."""
    problem = Problem(np.ones((2, 1)), np.zeros((2, 1)), Rule("half_sse"))
    weights = stacked([([[[float(i)]]], []) for i in range(3)])
    reports: list[int] = []
    train(problem, weights, np.ones(3), [[10, 1700], [0], [501, 1200]], reports.append)
    assert sum(reports) == 1700 + 0 + 1200
    assert max(reports) <= 500 * 3


# --- single cases -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numerics", NUMERICS)
def test_saturated_units_train_without_a_warning(numerics: str) -> None:
    found = result(X=[[1e6], [-1e6]], y=[[1], [0]], hidden=[3], learning_rate=1e3, epochs=20, numerics=numerics)
    assert found.diverged_at is None
    assert found.updates == 20


def test_scale_inverts_a_prediction_into_the_unit_of_the_targets() -> None:
    """The exam scores: 0.92 is 92."""
    scale = Scale(np.zeros(1), np.array([100.0]))
    np.testing.assert_allclose(scale.invert(np.array([[0.92]])), [[92.0]])
