"""One forward pass and one update: worked by hand, and against central differences of the loss.

In the sums below L is ln 3, so that sigmoid(L) = 3/4, sigmoid(-L) = 1/4 and sigmoid(0) = 1/2 are exact fractions, and c
is the slope of the loss: d loss / d o = c (o - y), 2 for sse, 1 for half_sse, 2 / (n k) for mse.
"""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.numerics.activations import HIDDEN
from pipeline.numerics.losses import LOSSES, NEEDS, RAW_SUMS, divisor, slope
from pipeline.numerics.network import Mode, Rule, Stack, Weights, predict
from tests.factory import EXAM, HAPPINESS, drawn, printed, stacked

Array = NDArray[np.float64]

NUMERICS = ("portable", "fast")
L = math.log(3)


def updated(
    X: Any, y: Any, network: tuple[list[Any], list[Any]], rate: float, rule: Rule
) -> tuple[list[Array], list[Array], Array]:
    """Matrices and biases of one network after one update, and its prediction before it."""
    X, y = np.array(X, dtype=np.float64), np.array(y, dtype=np.float64)
    stack = Stack(X, y, stacked([network]), np.array([rate]), rule)
    stack.forward()
    prediction = stack.prediction[..., 0].copy()
    stack.update()
    weights = stack.weights
    return [matrix[..., 0] for matrix in weights.matrices], [bias[..., 0] for bias in weights.biases], prediction


def assert_close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize(("loss", "c"), [("sse", 2), ("half_sse", 1), ("mse", 2)])  # mse: 2 / (1 * 1)
def test_one_update_of_a_1_1_1_net(loss: str, c: float, numerics: str) -> None:
    """One row, x = 1; W0 = L, W1 = 4 L / 3, y = 1, learning rate 1/2.

    h = sigmoid(L) = 3/4; o = sigmoid(3/4 * 4 L / 3) = sigmoid(L) = 3/4; e = 3/4 - 1 = -1/4
    delta1 = c e o (1 - o)  = c * -1/4 * 3/16         = -3 c / 64
    delta0 = delta1 W1 h (1 - h) = -3 c / 64 * 4 L / 3 * 3/16 = -12 c L / 1024 = -3 c L / 256
    W1 -= 1/2 * h delta1 = 1/2 * 3/4 * -3 c / 64      =>  W1 + 9 c / 512
    W0 -= 1/2 * x delta0                              =>  W0 + 3 c L / 512
    """
    rule = Rule(loss, numerics=numerics)
    matrices, _, prediction = updated([[1]], [[1]], ([[[L]], [[4 * L / 3]]], []), 0.5, rule)
    assert_close(prediction, [[3 / 4]])
    assert_close(matrices[0], [[L + 3 * c * L / 512]])
    assert_close(matrices[1], [[4 * L / 3 + 9 * c / 512]])


@pytest.mark.parametrize("numerics", NUMERICS)
def test_one_update_of_a_1_1_1_net_with_biases(numerics: str) -> None:
    """The same h, o and deltas as without: x = 2 makes z0 = 2 L + b0 = L with b0 = -L; z1 = 3/4 L + b1 = L, b1 = L/4.

    With c = 1 and learning rate 1/2:  delta1 = -3/64;  delta0 = delta1 W1 h (1 - h) = -3/64 * L * 3/16 = -9 L / 1024
    W1 += 1/2 * 3/4 * 3/64 = 9/512      b1 += 1/2 * 3/64 = 3/128
    W0 += 1/2 * 2 * 9 L / 1024          b0 += 1/2 * 9 L / 1024
    """
    network = [[[L]], [[L]]], [[-L], [L / 4]]
    matrices, biases, prediction = updated([[2]], [[1]], network, 0.5, Rule("half_sse", numerics=numerics))
    assert_close(prediction, [[3 / 4]])
    assert_close(matrices[0], [[L + 9 * L / 1024]])
    assert_close(biases[0], [-L + 9 * L / 2048])
    assert_close(matrices[1], [[L + 9 / 512]])
    assert_close(biases[1], [L / 4 + 3 / 128])


@pytest.mark.parametrize("numerics", NUMERICS)
def test_one_update_of_a_1_1_1_net_under_the_slip(numerics: str) -> None:
    """The first net above with of_activation: every a (1 - a) at a = 3/4 becomes g = s(3/4) (1 - s(3/4)).

    s(3/4) = 1 / (1 + exp(-0.75)) = 1 / 1.472366552741015 = 0.679178699175393
    g = 0.679178699175393 * 0.320821300824607 = 0.217894993761814      (in place of 3/16 = 0.1875)
    delta1 = c * -1/4 * g = -g / 4 with c = 1;   delta0 = delta1 * 4 L / 3 * g = -L g^2 / 3
    W1 += 1/2 * 3/4 * g / 4 = 3 g / 32;          W0 += 1/2 * L g^2 / 3
    """
    g = 0.217894993761814
    rule = Rule("half_sse", "of_activation", numerics)
    matrices, _, prediction = updated([[1]], [[1]], ([[[L]], [[4 * L / 3]]], []), 0.5, rule)
    assert_close(prediction, [[3 / 4]])
    assert_close(matrices[0], [[L + L * g * g / 6]])
    assert_close(matrices[1], [[4 * L / 3 + 3 * g / 32]])


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("loss", "c"), [("sse", 2), ("half_sse", 1), ("mse", 2 / 3)])  # mse: 2 / (3 rows * 1)
def test_one_update_of_a_2_2_1_net(loss: str, c: float, bias: bool, numerics: str) -> None:
    """X = (1,0), (0,1), (1,1); y = 1, 0, 1; W0 = [[0, L], [-L, 0]], W1 = [8 L, -4 L], biases 0; learning rate 1/2.

    row 1: z0 = (0, L)   h = (1/2, 3/4)  z1 = 8 L/2 - 4 L 3/4 =  L  o = 3/4  e = -1/4
    row 2: z0 = (-L, 0)  h = (1/4, 1/2)  z1 = 8 L/4 - 4 L/2   =  0  o = 1/2  e =  1/2
    row 3: z0 = (-L, L)  h = (1/4, 3/4)  z1 = 8 L/4 - 4 L 3/4 = -L  o = 1/4  e = -3/4

    delta1 / c = e o (1 - o):  -1/4 * 3/16 = -3/64;   1/2 * 1/4 = 8/64;   -3/4 * 3/16 = -9/64
    gradient of W1 / c, by unit:  (1/2 * -3 + 1/4 * 8 + 1/4 * -9) / 64 = (-6 + 8 - 9) / 256   =  -7/256
                                  (3/4 * -3 + 1/2 * 8 + 3/4 * -9) / 64 = (-9 + 16 - 27) / 256 = -20/256
    gradient of b1 / c = (-3 + 8 - 9) / 64 = -4/64

    delta0 / c = delta1 W1 h (1 - h), in units of L/64:
        unit 1 (W1 = 8 L):    -3 * 8 * 1/4 = -6;       8 * 8 * 3/16 = 12;     -9 * 8 * 3/16 = -13.5
        unit 2 (W1 = -4 L):   -3 * -4 * 3/16 = 2.25;   8 * -4 * 1/4 = -8;     -9 * -4 * 3/16 = 6.75
    gradient of W0 / c, in units of L/64:  input 1 (rows 1, 3): -6 - 13.5 = -19.5,  2.25 + 6.75 = 9
                                           input 2 (rows 2, 3): 12 - 13.5 = -1.5,   -8 + 6.75 = -1.25
    gradient of b0 / c, in units of L/64 (all rows):            -6 + 12 - 13.5 = -7.5,   2.25 - 8 + 6.75 = 1
    """
    W0, W1 = np.array([[0, L], [-L, 0]]), np.array([[8 * L], [-4 * L]])
    zeros = [[0.0, 0.0], [0.0]] if bias else []
    rule = Rule(loss, numerics=numerics)
    matrices, biases, prediction = updated([[1, 0], [0, 1], [1, 1]], [[1], [0], [1]], ([W0, W1], zeros), 0.5, rule)
    assert_close(prediction, [[3 / 4], [1 / 2], [1 / 4]])
    assert_close(matrices[0], W0 - 0.5 * c * L / 64 * np.array([[-19.5, 9], [-1.5, -1.25]]))
    assert_close(matrices[1], W1 - 0.5 * c / 256 * np.array([[-7], [-20]]))
    assert len(biases) == len(zeros)
    if bias:
        assert_close(biases[0], -0.5 * c * L / 64 * np.array([-7.5, 1]))
        assert_close(biases[1], -0.5 * c / 64 * np.array([-4]))


@pytest.mark.parametrize("numerics", NUMERICS)
def test_one_update_of_a_net_without_hidden_layers_and_with_two_outputs(numerics: str) -> None:
    """X = (1,0), (1,1); W = [[L, 0], [-2 L, L]]; y = (1, 0), (0, 1); c = 1; learning rate 1.

    row 1: z = (L, 0)   o = (3/4, 1/2)  e = (-1/4, 1/2)  delta = e o (1 - o) = (-3/64, 8/64)
    row 2: z = (-L, L)  o = (1/4, 3/4)  e = (1/4, -1/4)  delta = (3/64, -3/64)
    gradient: input 1 (both rows) (0, 5/64); input 2 (row 2) (3/64, -3/64)
    """
    W = np.array([[L, 0], [-2 * L, L]])
    network: tuple[list[Any], list[Any]] = [W], []
    rule = Rule("half_sse", numerics=numerics)
    matrices, _, prediction = updated([[1, 0], [1, 1]], [[1, 0], [0, 1]], network, 1.0, rule)
    assert_close(prediction, [[3 / 4, 1 / 2], [1 / 4, 3 / 4]])
    assert_close(matrices[0], W - np.array([[0, 5], [3, -3]]) / 64)


@pytest.mark.parametrize("numerics", NUMERICS)
def test_a_net_that_sees_only_its_biases_predicts_their_sigmoid(numerics: str) -> None:
    """X = 0, so h = sigmoid(b0) = (3/4, 1/4) and o = sigmoid(4 L * 3/4 - 8 L * 1/4 - 2 L) = sigmoid(-L) = 1/4."""
    matrices = [np.array([[5.0, 6.0]]), np.array([[4 * L], [-8 * L]])]
    biases = [np.array([L, -L]), np.array([-2 * L])]
    assert_close(predict(np.zeros((2, 1)), matrices, biases, Mode(numerics)), [[1 / 4], [1 / 4]])


def test_measured_losses_by_hand() -> None:
    """Errors of the 2-2-1 net above: -1/4, 1/2, -3/4. Squares 1/16 + 4/16 + 9/16 = 14/16, absolutes 6/4."""
    weights = stacked([([np.array([[0, L], [-L, 0]]), np.array([[8 * L], [-4 * L]])], [])])
    X, y = np.array([[1.0, 0], [0, 1], [1, 1]]), np.array([[1.0], [0], [1]])
    stack = Stack(X, y, weights, np.ones(1), Rule("half_sse"))
    stack.forward()
    sums = np.empty(stack.runs)
    wanted = {
        "sse": 7 / 8,
        "half_sse": 7 / 16,
        "mse": 7 / 24,
        "sum_abs": 3 / 2,
        "half_sum_abs": 3 / 4,
        "mean_abs": 1 / 2,
        "accuracy": 1 / 3,
    }
    assert set(wanted) == set(RAW_SUMS) - {"bce", "cross_entropy"}
    for name, value in wanted.items():
        stack.measure(RAW_SUMS[name], sums)
        assert sums[0] / divisor(name, *y.shape) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(
    ("name", "divided_by", "times"),
    [("sse", 1, 2), ("half_sse", 2, 1), ("mse", 12, 1 / 6), ("bce", 12, 1 / 12), ("cross_entropy", 4, 1 / 4)],
)
def test_divisor_and_slope_of_the_losses_for_4_rows_of_3(name: str, divided_by: float, times: float) -> None:
    assert divisor(name, 4, 3) == divided_by
    assert slope(name, 4, 3) == times


def test_losses_are_the_names_that_have_a_slope() -> None:
    assert LOSSES == ("sse", "half_sse", "mse", "bce", "cross_entropy")


# --- the gradient against central differences -------------------------------------------------------------------

ARCHITECTURES = [(2, 1), (3, 2), (2, 3, 1), (1, 1, 1), (3, 4, 5, 1), (2, 3, 3), (4, 2, 3, 2, 1), (2, 5, 4, 3, 2)]


def moved(weights: Weights, direction: Weights, step: float) -> Weights:
    """Weights + step * direction."""
    return Weights(
        tuple(a + step * b for a, b in zip(weights.matrices, direction.matrices, strict=True)),
        tuple(a + step * b for a, b in zip(weights.biases, direction.biases, strict=True)),
    )


SQUARES = [loss for loss in LOSSES if RAW_SUMS[loss] == "squares"]
SHAPES = [
    ("sigmoid", "half_sse"),
    ("tanh", "mse"),
    ("identity", "sse"),
    ("sigmoid", "bce"),
    ("softmax", "cross_entropy"),
]
SHAPES += [(NEEDS.get(loss, "identity"), loss) for loss in LOSSES if loss not in [one for _, one in SHAPES]]


def along(weights: Weights, direction: Weights) -> Array:
    """The scalar product, a number for each run."""
    pairs = zip(weights.matrices + weights.biases, direction.matrices + direction.biases, strict=True)
    total = np.zeros(weights.runs)
    for a, b in pairs:
        total += (a * b).reshape(-1, weights.runs).sum(axis=0)
    return total


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("loss", SQUARES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sizes", ARCHITECTURES, ids=str)
def test_the_exact_derivative_agrees_with_central_differences(
    sizes: tuple[int, ...], bias: bool, loss: str, numerics: str
) -> None:
    """Along random directions v: (loss(w + t v) - loss(w - t v)) / 2t = gradient . v, two losses a direction.

    The gradient is what an update at learning rate 1 subtracts. Three networks at once, each its own direction.
    """
    n, runs, step = 5, 3, 1e-5
    draw = np.random.default_rng(sum(sizes))
    X, y = draw.uniform(-2, 2, (n, sizes[0])), draw.uniform(0, 1, (n, sizes[-1]))
    rule = Rule(loss, numerics=numerics)
    weights = drawn(sizes, bias, runs, 1)

    def losses(at: Weights) -> Array:
        stack = Stack(X, y, at, np.zeros(runs), rule)
        stack.forward()
        sums = np.empty(stack.runs)
        stack.measure("squares", sums)
        return sums / divisor(loss, *y.shape)

    stack = Stack(X, y, weights, np.ones(runs), rule)
    stack.forward()
    stack.update()
    gradient = moved(weights, stack.weights.take(slice(runs)), -1.0)
    for seed in (2, 3, 4):
        direction = drawn(sizes, bias, runs, seed)
        differences = (losses(moved(weights, direction, step)) - losses(moved(weights, direction, -step))) / (2 * step)
        assert (np.abs(differences) > 1e-4).all()
        np.testing.assert_allclose(along(gradient, direction), differences, rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("layout", ["runs_last", "runs_first"])
@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize(("output", "loss"), SHAPES)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_activation_and_loss_agrees_with_central_differences(
    hidden: str, output: str, loss: str, numerics: str, layout: str
) -> None:
    """As above, in both layouts, with rows that all networks share and with rows of their own."""
    n, runs, step, sizes = 6, 3, 1e-6, (3, 4, 3)
    draw = np.random.default_rng(5)
    names = (hidden, output)
    rule = Rule(loss, "exact", numerics, names, layout=layout)
    weights = drawn(sizes, True, runs, 1)
    for shape in ((), (runs,)):
        X, y = draw.uniform(-2, 2, (n, 3, *shape)), draw.uniform(0, 1, (n, 3, *shape))
        y = y / y.sum(axis=1, keepdims=True)

        def losses(at: Weights, X: Array = X, y: Array = y) -> Array:
            stack = Stack(X, y, at, np.zeros(runs), rule)
            stack.forward()
            sums = np.empty(runs)
            stack.measure(RAW_SUMS[loss], sums)
            return sums / divisor(loss, n, 3)

        stack = Stack(X, y, weights, np.ones(runs), rule)
        stack.forward()
        stack.update()
        gradient = moved(weights, stack.weights.take(slice(runs)), -1.0)
        direction = drawn(sizes, True, runs, 2)
        differences = (losses(moved(weights, direction, step)) - losses(moved(weights, direction, -step))) / (2 * step)
        np.testing.assert_allclose(along(gradient, direction), differences, rtol=2e-6, atol=1e-9)


def test_under_the_slip_an_update_is_no_gradient() -> None:
    """The update of `of_activation` differs from the gradient by far more than rounding."""
    X, y = np.array(HAPPINESS["X"]), np.array(HAPPINESS["y"])
    network: tuple[list[Any], list[Any]] = HAPPINESS["weights"], []
    exact, slip = (updated(X, y, network, 1.0, Rule("sse", derivative))[0] for derivative in ("exact", "of_activation"))
    assert np.abs(exact[0] - slip[0]).max() > 1e-3


# --- forward passes of the exam text ----------------------------------------------------------------------------


@pytest.mark.parametrize("numerics", NUMERICS)
def test_forward_pass_printed_by_the_exam_text(numerics: str) -> None:
    """Weights and outputs as the exam text prints them for its untrained 2-3-1 net; inputs divided by their maxima."""
    matrices = [
        np.array([[0.7151916, 0.40515536, 1.40145037], [0.98608437, -0.4204084, -2.44163279]]),
        np.array([[0.58035236], [-2.35717847], [0.98282373]]),
    ]
    X = np.array(EXAM["X"]) / [3, 9]
    assert printed(predict(X, matrices, mode=Mode(numerics))) == [0.39156661, 0.39278438, 0.41264546]


@pytest.mark.parametrize("numerics", NUMERICS)
def test_the_chain_that_the_exam_text_works_by_hand(numerics: str) -> None:
    """The row is [2, 9]: 2 * 0.2 + 9 * 0.8 = 7.6; 2 * 0.6 + 9 * 0.3 = 3.9; 2 * 0.1 + 9 * 0.7 = 6.5.

    Exam text: S(7.6) = 0.999499799, S(6.5) = 0.998498818. Its second sum, 7.5, is a misprint for 3.9 (its notebook has
    3.9), its 1.000553084 is 1 + exp(-7.5). With S(3.9) = 0.98015969 the output sum is 1.78853 and the output 0.85675.
    """
    first = [np.array([[0.2, 0.6, 0.1], [0.8, 0.3, 0.7]])]
    second = np.array([[0.4], [0.5], [0.9]])
    x = np.array([[2.0, 9.0]])
    hidden = predict(x, first, mode=Mode(numerics))
    assert [f"{value:.9f}" for value in hidden[0]] == ["0.999499799", "0.980159694", "0.998498818"]
    assert f"{(hidden @ second).item():.5f}" == "1.78853"
    assert f"{predict(x, [*first, second], mode=Mode(numerics)).item():.5f}" == "0.85675"
