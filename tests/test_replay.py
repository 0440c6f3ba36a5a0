"""A kept run trained again has the kept bits; what is seen on the way is right by another way of computing it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.numerics.train import Snapshot
from pipeline.pictures.portrait import pictures
from pipeline.pictures.replay import MOST_MOMENTS, Replay, look, moments_of, norm, replay
from pipeline.prove.again import prove
from pipeline.results.kept import KeptRun
from pipeline.results.record import read_npz
from pipeline.store.reader import Reader
from pipeline.training.stack import problem_of
from tests.conftest import in_process
from tests.factory import CAT_SHOP, EXAM, FIRST_COLUMN, HAPPINESS, result, run
from tests.odd import kept_run, odd_store
from tests.oracle import loss_of, sigmoid

__all__ = ["odd_store"]  # a fixture

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def exam(store: Path) -> Replay:
    return replay(kept_run(store, "exam"))


@pytest.mark.parametrize("experiment", ["happiness", "exam", "small"])
def test_a_replay_ends_with_the_kept_bits(store: Path, experiment: str) -> None:
    kept = kept_run(store, experiment)
    made: list[int] = []
    again = replay(kept, made.append)
    assert again.same_bits
    assert [matrix.tobytes() for matrix in again.networks[-1].matrices] == [m.tobytes() for m in kept.weights[0]]
    assert sum(made) == again.updates == kept.config["training"]["epochs"]


def test_other_bits_are_noticed(store: Path) -> None:
    kept = kept_run(store, "exam")
    kept.config["seed"] += 1
    assert not replay(kept).same_bits


def test_losses_of_the_predictions_are_those_of_the_kept_curve(store: Path, exam: Replay) -> None:
    kept = read_npz(kept_run(store, "exam").read("loss.npz"), "loss.npz")["loss"]
    assert exam.loss.tobytes() == kept.tobytes()
    errors = exam.predictions - exam.run.dataset.y
    assert [loss_of("half_sse", error) for error in errors] == pytest.approx(kept[exam.moments].tolist(), rel=1e-12)


def test_moments_are_few_rising_and_hold_both_ends() -> None:
    for epochs in (0, 1, 2, 7, 100, 101, 60_000, 10_000_000):
        moments = moments_of(run(epochs=epochs))
        assert moments == sorted(set(moments))
        assert (moments[0], moments[-1]) == (0, epochs)
        assert len(moments) <= MOST_MOMENTS
        assert len(moments) > min(epochs, 40)


def test_large_networks_are_looked_at_less_often() -> None:
    moments = moments_of(run(hidden=[2000, 2000], epochs=10_000))
    assert 3 <= len(moments) <= 10
    assert (moments[0], moments[-1]) == (0, 10_000)


def finite_differences(values: dict[str, Any], network: Snapshot, convention: str) -> list[Array]:
    """The loss's central differences by every weight and bias, in arrays like theirs, by the tests' own forward."""
    given = run(**values).dataset
    arrays = [array.copy() for array in (*network.matrices, *network.biases)]
    layers = len(network.matrices)

    def loss() -> float:
        h = given.X
        for layer in range(layers):
            h = sigmoid(h @ arrays[layer] + (arrays[layers + layer] if network.biases else 0.0))
        return loss_of(convention, h - given.y)

    slopes = [np.zeros_like(array) for array in arrays]
    for array, slope in zip(arrays, slopes, strict=True):
        for place in np.ndindex(array.shape):
            before, losses = array[place], []
            for step in (1e-5, -1e-5):
                array[place] = before + step
                losses.append(loss())
            array[place] = before
            slope[place] = (losses[0] - losses[1]) / 2e-5
    return slopes


@pytest.mark.parametrize("loss", ["sse", "half_sse", "mse"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("base", [EXAM, FIRST_COLUMN, CAT_SHOP], ids=["exam", "first_column", "cat_shop"])
def test_gradient_norms_are_those_of_finite_differences(base: dict[str, Any], bias: bool, loss: str) -> None:
    values = base | {"bias": bias, "loss": loss, "metrics": [], "epochs": 40}
    snapshots = [*result(**values).snapshots.values()]
    gradients, _ = look(problem_of([run(**values)]), snapshots)
    slopes = finite_differences(values, snapshots[-1], loss)
    layers = len(snapshots[-1].matrices)
    expected = [
        np.sqrt(sum((slope**2).sum() for slope in slopes[layer::layers]))  # the matrix, and its biases
        for layer in range(layers)
    ]
    assert gradients[-1].tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("numerics", ["portable", "fast"])
def test_a_step_of_the_gradient_is_an_update_also_under_the_slip(numerics: str) -> None:
    """With learning rate 1, the norm is how far a layer's weights moved at the next update."""
    values = HAPPINESS | {"epochs": 5, "numerics": numerics}
    shorter, longer = (result(**values | {"epochs": epochs}).final for epochs in (4, 5))
    gradients, _ = look(problem_of([run(**values)]), [shorter])
    moved = [np.linalg.norm(a - b) for a, b in zip(shorter.matrices, longer.matrices, strict=True)]
    assert gradients[0].tolist() == pytest.approx(moved, rel=1e-9)


def test_looking_at_networks_together_gives_the_bits_of_looking_at_each() -> None:
    problem = problem_of([run(**FIRST_COLUMN)])
    final = result(**FIRST_COLUMN, epochs=3).final
    networks = [dataclasses.replace(final, matrices=tuple(m * s for m in final.matrices)) for s in (0.5, 1.0, 4.0)]
    together = look(problem, networks)
    alone = [look(problem, [network]) for network in networks]
    for i, arrays in enumerate(zip(*alone, strict=True)):
        assert np.concatenate(arrays).tobytes() == together[i].tobytes()


def test_saturation_is_counted_over_rows_and_units() -> None:
    """Rows 1 and -1 through weights 5, 4.5 and 0: sigmoid(4.6) is 0.99, so the first unit is saturated in both rows."""
    given = run(X=[[1], [-1]], y=[[1], [0]], hidden=[3, 2])
    matrices = np.array([[5.0, 4.5, 0.0]]), np.array([[0.0, 9.0]] * 3), np.zeros((2, 1))
    network = Snapshot(matrices, (), np.zeros((2, 1)), True)
    _, shares = look(problem_of([given]), [network])
    # Second layer: 9 times the sum of the first, 2.48 and 0.52: sigmoid(22.3) is saturated, sigmoid(4.66) too.
    assert shares.tolist() == [[1 / 3, 1 / 2]]


def test_a_network_without_hidden_layers_has_no_shares() -> None:
    given = run(hidden=[])
    gradients, shares = look(problem_of([given]), [result(hidden=[], epochs=1).final])
    assert (gradients.shape, shares.shape) == ((1, 1), (1, 0))


def test_norms_of_numbers_whose_squares_are_none() -> None:
    tiny, huge = np.array([[3e-200, 3e200, 0.0]]), np.array([[4e-200, 4e200, 0.0]])
    assert norm([tiny, huge]).tolist() == pytest.approx([5e-200, 5e200, 0.0])


def only_run(folder: Path, experiment: str) -> KeptRun:
    """The one run of an experiment, diverged or not."""
    (kept,) = Reader(f"sqlite:///{folder}/mlflow.db").finished(experiment)
    return kept


def test_a_diverged_run_is_replayed_up_to_there(odd_store: Path) -> None:
    kept = only_run(odd_store, "diverging")
    again = replay(kept)
    assert again.diverged_at is not None
    assert again.updates == again.diverged_at - 1 == len(again.loss) - 1 > 0
    assert again.same_bits
    assert np.isfinite(again.predictions).all()


def test_a_run_that_was_never_finite_is_refused(odd_store: Path) -> None:
    with pytest.raises(UserError, match=r"was not finite before its first update: there is nothing to show\.$"):
        replay(only_run(odd_store, "lost"))


def test_a_fast_run_is_replayed_fast(odd_store: Path) -> None:
    again = replay(only_run(odd_store, "fast"))
    assert again.run.numerics == "fast"
    assert again.same_bits  # on the machine that made it


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["training.batch_size=2", "training.optimizer=adam", "network.activation=relu", "seed=4"],
        ["training.patience=2", "training.learning_rate=20", "seed=5"],
        ["network.activation=tanh", "training.loss=bce", "training.schedule=step", "training.decay=0.9"],
    ],
)
def test_mini_batches_patience_and_other_activations(words: list[str], empty_store: Path) -> None:
    """What is kept, shown and proved of them: curves in updates, the same bits again."""
    fixed = ["train", "data=cat_shop", "training.epochs=30", "tracking.experiment=other"]
    assert in_process([*fixed, *words], empty_store) == 0
    kept = kept_run(empty_store, "other")
    again = replay(kept)
    assert again.same_bits
    assert again.updates == kept.updates
    every = again.run.updates_an_epoch
    assert len(again.loss) == kept.updates // every + 1
    assert not (again.moments % every).any()
    assert ((again.saturated >= 0) & (again.saturated <= 1)).all()
    assert pictures(again)
    (proof,) = prove([kept], False, lambda _: None)
    assert proof.is_identical, proof


def test_a_config_of_another_version_is_refused(store: Path) -> None:
    kept = kept_run(store, "exam")
    kept.config["training"]["warmth"] = 0.9
    with pytest.raises(UserError, match="is not as this version of Seedbed writes it"):
        replay(kept)
