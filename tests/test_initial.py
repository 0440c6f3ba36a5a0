"""Initial weights: the same numbers as NumPy's own generators draw, in the tutorials' order."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config import InitConfig
from pipeline.initial import initial_weights
from tests import oracle
from tests.factory import CAT_SHOP, result

Array = NDArray[np.float64]

SIZES = (3, 4, 5, 1)


def assert_same(found: list[Array], wanted: list[Array]) -> None:
    """Bit for bit."""
    assert [matrix.shape for matrix in found] == [matrix.shape for matrix in wanted]
    assert [matrix.tobytes() for matrix in found] == [matrix.tobytes() for matrix in wanted]


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**32 - 1])
@pytest.mark.parametrize("scheme", ["normal", "uniform"])
def test_legacy_is_numpy_random_seed_drawing_layer_by_layer(scheme: str, seed: int) -> None:
    found = initial_weights(InitConfig(scheme=scheme, generator="legacy"), seed, SIZES)
    assert_same(found, oracle.legacy_weights(scheme, seed, SIZES))


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**32 - 1])
@pytest.mark.parametrize("scheme", ["normal", "uniform"])
def test_pcg64_is_numpy_default_rng_drawing_layer_by_layer(scheme: str, seed: int) -> None:
    assert_same(initial_weights(InitConfig(scheme=scheme), seed, SIZES), oracle.modern_weights(scheme, seed, SIZES))


def test_the_first_legacy_normals_of_seed_1() -> None:
    """Known from countless tutorials: numpy.random.seed(1); numpy.random.randn(3)."""
    (matrix,) = initial_weights(InitConfig(generator="legacy"), 1, (1, 3))
    assert matrix.tolist() == [[1.6243453636632417, -0.6117564136500754, -0.5281717522634557]]


def test_the_first_legacy_uniforms_of_seed_1() -> None:
    """The "28 lines" text's syn0 for seed 1: 2 * random((3, 4)) - 1, first row, as NumPy prints it."""
    matrix = initial_weights(InitConfig(scheme="uniform", generator="legacy"), 1, (3, 4, 1))[0]
    np.testing.assert_array_equal(np.round(matrix[0], 8), [-0.16595599, 0.44064899, -0.99977125, -0.39533485])


@pytest.mark.parametrize("generator", ["legacy", "pcg64"])
@pytest.mark.parametrize("scheme", ["normal", "uniform"])
def test_another_seed_draws_other_numbers_and_the_same_seed_the_same(scheme: str, generator: str) -> None:
    init = InitConfig(scheme=scheme, generator=generator)
    first, again, other = (initial_weights(init, seed, SIZES) for seed in (7, 7, 8))
    assert_same(first, again)
    assert not any(np.isin(a, b).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("scheme", ["normal", "uniform"])
@pytest.mark.parametrize("skip", [1, 2, 5])
def test_skip_networks_goes_on_drawing_without_seeding_again(skip: int, scheme: str) -> None:
    found = initial_weights(InitConfig(scheme=scheme, generator="legacy", skip_networks=skip), 1, SIZES)
    assert_same(found, oracle.legacy_weights(scheme, 1, SIZES, skip))


def test_skip_networks_counts_the_weights_of_this_architecture() -> None:
    """One 3-4-5-1 net has 12 + 20 + 5 = 37 weights: the second begins with the 38th number drawn."""
    found = initial_weights(InitConfig(skip_networks=1), 3, SIZES)
    assert found[0][0, 0] == np.random.default_rng(3).standard_normal(38)[37]


@pytest.mark.parametrize("generator", ["legacy", "pcg64"])
@pytest.mark.parametrize("scale", [0.01, 2.0])
def test_normal_times_scale(scale: float, generator: str) -> None:
    scaled = initial_weights(InitConfig(scale=scale, generator=generator), 5, SIZES)
    plain = initial_weights(InitConfig(generator=generator), 5, SIZES)
    assert_same(scaled, [matrix * scale for matrix in plain])


@pytest.mark.parametrize("generator", ["legacy", "pcg64"])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0), (3.0, 3.5), (-0.25, -0.125)])
def test_uniform_fills_the_range_from_low_to_high(low: float, high: float, generator: str) -> None:
    init = InitConfig(scheme="uniform", low=low, high=high, generator=generator)
    (matrix,) = initial_weights(init, 0, (100, 100))
    assert low <= matrix.min() < low + (high - low) / 100
    assert high - (high - low) / 100 < matrix.max() <= high
    assert matrix.mean() == pytest.approx((low + high) / 2, abs=0.02 * (high - low))


def test_weights_too_large_to_be_numbers_give_no_warning_and_a_run_that_is_never_finite() -> None:
    found = result(scale=1e308, hidden=[50], epochs=2)
    assert (found.diverged_at, found.updates) == (0, 0)


def test_given_weights_are_used_as_they_are_whatever_the_seed() -> None:
    weights = [[[1, 2.5], [3, -4]], [[0.1], [5]]]
    init = InitConfig(scheme="given", weights=weights)
    for seed in (0, 1):
        found = initial_weights(init, seed, (2, 2, 1))
        assert [matrix.tolist() for matrix in found] == weights
        assert {matrix.dtype for matrix in found} == {np.dtype(np.float64)}


@pytest.mark.parametrize("change", [{}, {"scheme": "uniform"}, {"generator": "legacy"}, {"skip_networks": 2}], ids=str)
def test_biases_do_not_change_the_drawn_weights_and_start_at_0(change: dict[str, Any]) -> None:
    with_biases, without = (result(hidden=[4, 2], epochs=0, bias=bias, **change) for bias in (True, False))
    assert_same(list(with_biases.initial), list(without.initial))
    assert_same(list(with_biases.final.matrices), list(without.final.matrices))
    assert [bias.tolist() for bias in with_biases.final.biases] == [[0.0] * 4, [0.0] * 2, [0.0]]
    assert without.final.biases == ()


def test_learning_rate_epochs_and_loss_do_not_change_the_drawn_weights() -> None:
    base = CAT_SHOP | {"epochs": 3}
    plain = result(**base)
    for change in ({"learning_rate": 0.1}, {"epochs": 5}, {"loss": "mse"}, {"numerics": "fast"}):
        assert_same(list(result(**(base | change)).initial), list(plain.initial))


def test_the_global_generator_is_left_alone() -> None:
    np.random.seed(4)
    wanted = np.random.random()
    np.random.seed(4)
    for generator in ("legacy", "pcg64"):
        initial_weights(InitConfig(generator=generator), 9, SIZES)
    assert np.random.random() == wanted


def test_constant_weights_are_all_the_scale_whatever_the_seed() -> None:
    for seed in (0, 1):
        found = initial_weights(InitConfig(scheme="constant", scale=0.25), seed, SIZES)
        assert_same(found, [np.full(shape, 0.25) for shape in ((3, 4), (4, 5), (5, 1))])


@pytest.mark.parametrize("numerics", ["portable", "fast"])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_units_that_begin_equal_never_part(numerics: str, activation: str) -> None:
    """By symmetry they have the same gradient at every update: the same bits, also behind a second layer."""
    its = result(
        **CAT_SHOP
        | {
            "scheme": "constant",
            "hidden": [4, 3],
            "activation": activation,
            "epochs": 200,
            "numerics": numerics,
            "bias": True,
        }
    )
    first, second, last = its.final.matrices
    assert (first != its.initial[0]).any()
    for columns in (first.T, second, second.T, last):
        assert {unit.tobytes() for unit in columns} == {columns[0].tobytes()}
