"""The portable sigmoid: how accurate it is, and what it does at the ends of the number line."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.numerics.program import execute
from pipeline.numerics.sigmoid import LIMIT, LN2_HIGH, LN2_LOW, SIGMOIDS, portable_sigmoid, sigmoid
from tests.factory import PROPERTY

Array = NDArray[np.float64]

NUMERICS = ("portable", "fast")


def exact(z: float) -> Decimal:
    """1 / (1 + exp(-z)) to 40 digits."""
    with localcontext() as context:
        context.prec = 40
        return 1 / (1 + (-Decimal(z)).exp())


def errors_in_ulp(points: Array, numerics: str) -> Array:
    """How far sigmoid(z) is from the exact value, in units of the last place of the exact value."""
    pairs = zip(points.tolist(), sigmoid(points, numerics).tolist(), strict=True)
    return np.array([float(abs(Decimal(ours) - exact(z)) / Decimal(math.ulp(float(exact(z))))) for z, ours in pairs])


@pytest.mark.parametrize(
    "span",
    [(-1.0, 1.0), (-40.0, 40.0), (-LIMIT, -40.0), (-1e-3, 1e-3), (-1e-300, 1e-300)],
    ids=["around 0", "where it bends", "left tail", "close to 0", "at 0"],
)
def test_portable_is_within_4_units_in_the_last_place(span: tuple[float, float]) -> None:
    points = np.random.default_rng(0).uniform(*span, 1500)
    assert errors_in_ulp(points, "portable").max() <= 4  # 2.6 is the most that was ever measured


def test_portable_is_accurate_on_both_sides_of_every_change_of_k() -> None:
    """Z = (k + 1/2) ln 2 is where the power of 2 changes and the approximant is farthest from its centre."""
    edges = (np.arange(-990, 60) + 0.5) * math.log(2)
    points = np.concatenate([np.nextafter(edges, -np.inf), edges, np.nextafter(edges, np.inf)])
    points = points[np.abs(points) < LIMIT]
    assert errors_in_ulp(points, "portable").max() <= 4


def test_fast_is_as_accurate_where_exp_does_not_overflow() -> None:
    points = np.random.default_rng(1).uniform(-700, 40, 1000)
    assert errors_in_ulp(points, "fast").max() <= 4


def test_the_two_parts_of_ln_2_add_up_and_the_high_one_times_any_k_is_exact() -> None:
    with localcontext() as context:
        context.prec = 60
        missing = Decimal(LN2_HIGH) + Decimal(LN2_LOW) - Decimal(2).ln()
        assert abs(missing) <= Decimal(math.ulp(LN2_LOW)) / 2
    assert all(Fraction(k * LN2_HIGH) == k * Fraction(LN2_HIGH) for k in range(-996, 997))


@pytest.mark.parametrize("numerics", NUMERICS)
def test_worked_by_hand(numerics: str) -> None:
    """1 / (1 + exp(-ln 3)) = 1 / (1 + 1/3) = 3/4; likewise ln 7 gives 7/8 and -ln 4 gives 1/5."""
    found = sigmoid(np.array([0.0, math.log(3), math.log(7), -math.log(4)]), numerics)
    assert found[0] == 0.5
    np.testing.assert_allclose(found, [1 / 2, 3 / 4, 7 / 8, 1 / 5], rtol=4e-16)


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize(
    ("z", "least", "most"),
    [
        (math.inf, 1.0, 1.0),
        (-math.inf, 0.0, 3e-300),
        (1e308, 1.0, 1.0),
        (-1e308, 0.0, 3e-300),
        (1000.0, 1.0, 1.0),
        (-1000.0, 0.0, 3e-300),
        (5e-324, 0.5, 0.5),
        (-5e-324, 0.5, 0.5),
        (-0.0, 0.5, 0.5),
        (2.2250738585072014e-308, 0.5, 0.5),
    ],
)
def test_extreme_inputs(z: float, least: float, most: float, numerics: str) -> None:
    assert least <= sigmoid(np.array([z]), numerics)[0] <= most


@pytest.mark.parametrize("numerics", NUMERICS)
def test_nan_stays_nan_and_spoils_no_neighbour(numerics: str) -> None:
    found = sigmoid(np.array([0.0, math.nan, 0.0, -math.nan] * 5), numerics)
    assert np.isnan(found).tolist() == [False, True, False, True] * 5
    assert set(found[::2]) == {0.5}


def test_nan_with_any_payload_stays_nan() -> None:
    payloads = np.concatenate([2 ** np.arange(52, dtype=np.int64), [(1 << 52) - 1]])
    quiet = payloads | (0x7FF8 << 48)
    assert np.isnan(sigmoid(np.concatenate([quiet, quiet | np.int64(-(2**63))]).view(np.float64))).all()


def test_portable_raises_no_floating_point_error_for_any_input() -> None:
    """Not even with NumPy told to raise: nothing overflows, is divided by 0 or is invalid, so no warning is hidden."""
    z = np.array([0.0, math.inf, -math.inf, math.nan, 1e308, -1e308, 689.9, -689.9, 1e4, -1e4, 5e-324, 1e-310])
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        execute(portable_sigmoid(z, [np.empty_like(z) for _ in range(4)]))
    assert np.isfinite(z).tolist() == [True, True, True, False] + [True] * 8


@pytest.mark.parametrize("numerics", NUMERICS)
def test_far_out_it_is_1_on_the_right_and_next_to_nothing_on_the_left(numerics: str) -> None:
    assert set(sigmoid(np.linspace(40, 800, 999), numerics)) == {1.0}
    left = sigmoid(np.linspace(-690, -40, 999), numerics)
    assert (left > 0).all()
    assert left.max() < 4.3e-18  # exp(-40)


@pytest.mark.parametrize("numerics", NUMERICS)
def test_it_rises(numerics: str) -> None:
    """Points a thousandth apart differ by far more than rounding, up to where it is flat."""
    assert (np.diff(sigmoid(np.arange(-30, 25, 1e-3), numerics)) > 0).all()


def test_neighbouring_floats_are_at_most_rounding_out_of_order() -> None:
    start = np.random.default_rng(2).uniform(-30, 30, 500)
    low, high = sigmoid(start), sigmoid(np.nextafter(start, np.inf))
    assert (high >= low * (1 - 8 * 2.0**-53)).all()


@PROPERTY
@given(z=st.floats(allow_nan=False))
@pytest.mark.parametrize("numerics", NUMERICS)
def test_left_and_right_add_up_to_1(numerics: str, z: float) -> None:
    left, right = sigmoid(np.array([z, -z]), numerics)
    assert 0 <= left <= 1
    assert left + right == pytest.approx(1, abs=4e-16)


@PROPERTY
@given(values=st.lists(st.floats(), min_size=1, max_size=40), offset=st.integers(0, 7))
def test_bits_depend_on_the_number_only_not_on_its_place(values: list[float], offset: int) -> None:
    alone = [sigmoid(np.array([z])).tobytes() for z in values]
    together = np.array([0.25] * offset + values)[offset:]
    found = sigmoid(together)
    assert [value.tobytes() for value in found if not np.isnan(value)] == [
        value for value, z in zip(alone, values, strict=True) if not math.isnan(z)
    ]


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (2, 1, 5), (0,)])
def test_any_shape_and_the_argument_is_left_alone(shape: tuple[int, ...], numerics: str) -> None:
    z = np.full(shape, 2.0)
    found = sigmoid(z, numerics)
    assert found.shape == shape
    assert (z == 2.0).all()
    np.testing.assert_allclose(found, np.full(shape, 0.8807970779778823), rtol=1e-15)  # 1 / (1 + exp(-2))


@pytest.mark.parametrize("numerics", NUMERICS)
def test_in_place_and_again_and_again(numerics: str) -> None:
    """One program serves every update: what it left in its scratch arrays does not matter."""
    z = np.empty(6)
    squash = SIGMOIDS[numerics](z, [np.empty_like(z) for _ in range(4)])
    for value, want in ((0.0, 0.5), (-2.0, 0.11920292202211755), (50.0, 1.0), (0.0, 0.5)):
        z[:] = value
        with np.errstate(all="ignore"):
            execute(squash)
        np.testing.assert_allclose(z, np.full(6, want), rtol=1e-15)
