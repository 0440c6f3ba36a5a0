"""A training that diverges keeps its last finite state, and disturbs no other."""

import numpy as np
import pytest

from pipeline.identity import Run
from pipeline.numerics.network import Rule
from pipeline.numerics.train import Problem, train
from tests import oracle
from tests.factory import GROWING, arrays, bits, result, run, stacked, trained

NUMERICS = ("portable", "fast")


def oracle_of(given: Run) -> oracle.Trained:
    """The oracle's training of a run with pcg64 normals, silently."""
    training = given.config.training
    weights = oracle.modern_weights("normal", given.config.seed, given.sizes)
    biases = [np.zeros(units) for units in given.sizes[1:]] if given.config.network.bias else []
    X, y = arrays(given)
    with np.errstate(all="ignore"):
        return oracle.train(
            X,
            y,
            weights,
            training.learning_rate,
            training.epochs,
            loss=training.loss,
            derivative=training.derivative,
            biases=biases,
        )


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("hidden", "rate"), [([], 1e307), ([], 2e307), ([], 1e308), ([2], 1e307), ([2, 3], 1e307)], ids=str
)
def test_a_diverging_run_ends_where_the_oracle_is_last_finite(
    hidden: list[int], rate: float, bias: bool, numerics: str
) -> None:
    base = GROWING | {"hidden": hidden, "learning_rate": rate, "bias": bias, "numerics": numerics}
    given = run(**base, epochs=80)
    (found,) = trained([given])
    first = oracle_of(given).first_not_finite()
    assert first is not None
    assert 1 <= first < 80
    assert found.diverged_at == first
    assert found.updates == first - 1
    assert len(found.curves["loss"]) == first
    assert np.isfinite(found.curves["loss"]).all()
    assert found.final.is_finite
    assert found.final.prediction.shape == (2, 1)
    assert max(found.snapshots) == found.updates
    alone = result(**base, epochs=first - 1)
    assert alone.diverged_at is None
    assert bits(found) == bits(alone)


def test_curves_and_snapshots_behind_the_last_finite_state_are_kept_out() -> None:
    """Weight 0, x = 1, y = 100, 4 rows, rate 1e308: (1/2 - 100) / 4 times 4 e308 overflows at update 1."""
    problem = Problem(np.ones((4, 1)), np.full((4, 1), 100.0), Rule("half_sse"), ("absolutes", "squares"))
    (found,) = train(problem, stacked([([[[0]]], [])]), np.array([1e308]), [[0, 1, 2, 5]])
    assert found.last_finite == 0
    assert {raw: curve.tolist() for raw, curve in found.curves.items()} == {
        "squares": [4 * 99.5**2],
        "absolutes": [4 * 99.5],
    }
    assert list(found.snapshots) == [0]


def test_where_weights_overflow() -> None:
    """Computed here; the tests around this one are worth little if all ends are alike."""
    runs = [run(**GROWING, learning_rate=rate, epochs=210) for rate in (3e306, 1e307, 2e307, 1e308)]
    assert [found.diverged_at for found in trained(runs)] == [203, 61, 30, 6]


LENGTHS = [90, 100, 110, 250, 120, 90, 130, 90, 100, 40]


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("lengths", [[210] * 10, LENGTHS], ids=["equal", "mixed"])
def test_a_diverging_run_leaves_its_stack_alone(lengths: list[int], numerics: str) -> None:
    rates = [0.1, 1e307, 0.5, 3e306, 2.0, 1e308, 0.3, 0.4, 0.6, 0.7]
    runs = [
        run(**GROWING, learning_rate=rate, epochs=epochs, seed=seed, numerics=numerics)
        for seed, (rate, epochs) in enumerate(zip(rates, lengths, strict=True))
    ]
    together = trained(runs)
    calm = [one for one, rate in zip(runs, rates, strict=True) if rate < 10]
    for one, found in zip(runs, together, strict=True):
        assert (found.diverged_at is None) == (one.config.training.learning_rate < 10)
        assert bits(found) == bits(trained([one])[0])
    without = [bits(found) for found in trained(calm)]
    assert without == [bits(found) for found in together if found.diverged_at is None]


@pytest.mark.parametrize("numerics", NUMERICS)
def test_prefixes_of_a_diverging_run(numerics: str) -> None:
    """A run short enough to end before is an ordinary one; all longer ones end alike."""
    base = GROWING | {"learning_rate": 1e307, "numerics": numerics}
    first = result(**base, epochs=300).diverged_at
    assert first is not None
    lengths = [0, first - 2, first - 1, first, first + 1, 300]
    found = trained([run(**base, epochs=epochs) for epochs in lengths], range(0, 300, 7))
    assert [one.diverged_at for one in found] == [None, None, None, first, first, first]
    assert [one.updates for one in found] == [0, first - 2, first - 1, first - 1, first - 1, first - 1]
    assert len({bits(one) for one in found[2:]}) == 1
    assert all(updates <= one.updates for one in found for updates in one.snapshots)


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("loss", ["sse", "half_sse", "mse"])
def test_a_loss_that_is_infinite_before_the_first_update(loss: str, numerics: str) -> None:
    """Targets of 1e200: the squared error overflows at once, so there is no point to keep and nothing was updated."""
    found = result(
        X=[[1], [2]], y=[[1e200], [0]], hidden=[2], loss=loss, metrics=["mean_abs"], epochs=50, numerics=numerics
    )
    assert found.diverged_at == 0
    assert found.updates == 0
    assert [len(curve) for curve in found.curves.values()] == [0, 0]
    assert all((a == b).all() for a, b in zip(found.initial, found.final.matrices, strict=True))
    assert np.isfinite(found.final.prediction).all()


def test_a_sum_that_is_not_a_number_before_the_first_update() -> None:
    """10 * 1e308 - 10 * 1e308 = inf - inf: the loss is not a number although all weights are finite.

    In `portable`: BLAS may round only once, after both products.
    """
    found = result(X=[[10, 10]], y=[[1]], hidden=[], scheme="given", weights=[[[1e308], [-1e308]]], epochs=3)
    assert (found.diverged_at, found.updates, len(found.curves["loss"])) == (0, 0, 0)


@pytest.mark.parametrize("numerics", NUMERICS)
def test_an_enormous_learning_rate_overflows_weights_behind_a_finite_loss(numerics: str) -> None:
    """The gradient, 4 rows of e o (1 - o) x = (1/2 - 100) / 4, times 1e308 overflows at update 1.

    There the sigmoid saturates, so the loss is finite: the weights decide.
    """
    base = {"X": [[1]] * 4, "y": [[100]] * 4, "hidden": [], "scheme": "given", "weights": [[[0]]], "numerics": numerics}
    found = result(**base, learning_rate=1e308, epochs=3)
    assert (found.diverged_at, found.updates) == (1, 0)
    assert found.curves["loss"].tolist() == [2 * 99.5**2]
    assert result(**base, learning_rate=1e305, epochs=3).diverged_at is None
