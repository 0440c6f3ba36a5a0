"""Trained networks for a notebook: curves, weights and predictions of a run; the runs of a sweep with their cells."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.checks import shown
from pipeline.config import RunConfig
from pipeline.errors import UserError
from pipeline.identity import Run
from pipeline.initial import initial_weights
from pipeline.numerics.network import predict
from pipeline.planning.plan import Outcome
from pipeline.python.arrays import as_array, is_frame
from pipeline.results.predict import source_of
from pipeline.session import told_loss
from pipeline.store.sinks import existing_sink, translated
from pipeline.store.starts import read_start
from pipeline.tables import text, to_numbers
from pipeline.threads import one_thread
from pipeline.training.continuing import Start

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.compare.comparison import Comparison

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Fit:
    """A trained network. Arrays that are read from a store, for a run found finished there, are read when asked for.

    `labels` (k,) are the classes as they were given, where targets are some.
    """

    outcome: Outcome
    labels: NDArray[Any] | None = None

    @property
    def run(self) -> Run:
        """What was trained: identity, fingerprint, cell, name."""
        return self.outcome.run

    @property
    def config(self) -> RunConfig:
        """The resolved config."""
        return self.run.config

    @property
    def run_id(self) -> str | None:
        """The MLflow run that keeps it, if one does."""
        return self.outcome.run_id

    @property
    def results(self) -> dict[str, float]:
        """`final_loss`, `best_loss`, `updates`, ... as `seedbed compare` has them; what is not finite is left out."""
        return {key.removeprefix("result/"): value for key, value in self.outcome.metrics.items()}

    @property
    def diverged_at(self) -> int | None:
        """The first number of updates at which the loss or a weight was not finite; None if all were."""
        return self.outcome.diverged_at

    @property
    def seconds(self) -> float:
        """How long it trained, its share of the time where it trained in a stack; nan for a run found finished."""
        return self.outcome.result.seconds if self.outcome.result else float("nan")

    @property
    def curves(self) -> dict[str, Array]:
        """`loss` and every metric, and those of parts held out (`val_loss`): (E + 1,) each, from the untrained net."""
        return self.outcome.result.curves if self.outcome.result else self._read.curves

    @property
    def loss(self) -> Array:
        """The loss after each epoch, (E + 1,); `loss[0]` is the untrained network's."""
        return self.curves["loss"]

    @property
    def updates(self) -> NDArray[np.int64]:
        """How many updates were made at each point of the curves, (E + 1,)."""
        return np.arange(len(self.loss)) * self.run.updates_an_epoch

    @property
    def weights(self) -> tuple[Array, ...]:
        """A matrix (inputs, outputs) a layer."""
        result = self.outcome.result
        return result.final.matrices if result else self._read.matrices

    @property
    def biases(self) -> tuple[Array, ...]:
        """A vector (outputs,) a layer; empty without biases."""
        result = self.outcome.result
        return result.final.biases if result else self._read.biases

    @property
    def initial_weights(self) -> tuple[Array, ...]:
        """The untrained matrices, (inputs, outputs) a layer."""
        return tuple(initial_weights(self.config.init, self.config.seed, self.run.sizes))

    @functools.cached_property
    def _read(self) -> Start:
        """The network and its curves, from the store. Raises UserError if they are not there any more."""
        uri, run_id = self.config.tracking.uri or "", self.run_id or ""
        with translated(uri, about=f"run {run_id}"):
            sink = existing_sink(uri, lambda _: None)
            try:
                kept = read_start(sink, run_id) if sink else None
            finally:
                if sink:
                    sink.close()
        if kept is None:
            raise UserError(f"Curves and weights of run {run_id} cannot be read: force=True trains it again.")
        return kept

    def outputs(self, X: Any) -> Array:
        """What the network gives for rows X (m, d), in the data's units: (m, k); of classes, how probable each is.

        X is an array with the features in their order, or a frame with them as columns. Raises UserError for one that
        does not fit.
        """
        sample = self.run.sample
        rows = rows_of(X, self.run.dataset.features, sample.input_scale.fill is not None)
        with one_thread():
            scaled = predict(sample.input_scale.apply(rows), self.weights, self.biases, self.run.mode)
        return sample.target_scale.invert(scaled)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predictions for rows X (m, d), an array or a frame: (m,) for one target, (m, k) for several.

        Of classes the most probable one, as it was given. Raises UserError for an X that does not fit.
        """
        outputs = self.outputs(X)
        if self.run.dataset.is_classes:
            labels: NDArray[Any] = np.array(self.run.dataset.targets) if self.labels is None else self.labels
            best: NDArray[Any] = labels[outputs.argmax(axis=1)]
            return best
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def __repr__(self) -> str:
        diverged = "" if self.diverged_at is None else f", diverged after {self.diverged_at}"
        updates = int(self.results.get("updates", 0))
        return f"<Fit {self.run.name}: {told_loss(self.run, self.outcome.metrics)} after {updates} updates{diverged}>"


def rows_of(X: Any, features: Sequence[str], fills: bool) -> Array:
    """X as numbers (m, d), columns of a frame in the order of the features, of categories as a feature each.

    Numbers may be missing (nan) if `fills`. Raises UserError for one that does not fit.
    """
    rows = np.column_stack(columns_of(X, features)) if is_frame(X) else as_array("X", X)
    if rows.ndim != 2 or rows.shape[1] != len(features):
        raise UserError(
            f"X has the shape {rows.shape}, but it must be (rows, {len(features)}), the features {', '.join(features)}."
        )
    if np.isinf(rows).any() or not (fills or np.isfinite(rows).all()):
        raise UserError("X has numbers that are missing or not finite: fill them in first.")
    return rows


def columns_of(frame: "pd.DataFrame", features: Sequence[str]) -> list[Array]:
    """The features, (m,) each, out of a frame's columns. Raises UserError if one is not there, or a category is new."""
    frame = frame.rename(columns=lambda name: str(name).strip())
    found, known = [], dict[str, list[str]]()
    for feature in features:
        column, category = source_of(feature, list(frame.columns))
        if column not in frame:
            raise UserError(f"X lacks the column {column}: it must have the features {', '.join(features)}.")
        if category is None:
            found.append(numbers_of(frame[column]))
        else:
            known.setdefault(column, []).append(category)
            found.append(np.array([text(value) == category for value in frame[column]], dtype=np.float64))
    for column, categories in known.items():
        if new := {text(value) for value in frame[column]} - set(categories):
            raise UserError(f"{column} has the new value {min(new)}, but it must be one of {', '.join(categories)}.")
    return found


def numbers_of(column: "pd.Series[Any]") -> Array:
    """A column of numbers as float64, (m,). Raises UserError for the first value that is none."""
    import pandas as pd

    try:
        return to_numbers(column)
    except (ValueError, TypeError) as error:
        odd = column.notna() & pd.to_numeric(column, errors="coerce").isna()
        place = int(odd.to_numpy().argmax())
        value = shown(column.iloc[place])
        raise UserError(f"{column.name} in row {place + 1} is {value}, but it must be a number.") from error


@dataclass(frozen=True, eq=False, repr=False)
class Sweep(Sequence[Fit]):
    """The runs of a sweep, in the order of its settings; those that failed are in `failures`, with the reason."""

    fits: tuple[Fit, ...]
    failures: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.fits)

    def __getitem__(self, place: Any) -> Any:
        return self.fits[place]

    def __iter__(self) -> Iterator[Fit]:
        return iter(self.fits)

    @functools.cached_property
    def comparison(self) -> "Comparison":
        """All of `seedbed compare`: cells, verdicts, effects of the keys. Raises UserError if no run has ended."""
        from pipeline.compare.comparison import compare  # with scipy and pandas, which takes a second
        from pipeline.compare.frame import frame_of

        if not self.fits:
            raise UserError("No run of the sweep has ended, so there is nothing to compare.")
        return compare(frame_of([fit.outcome for fit in self.fits]))

    @property
    def runs(self) -> "pd.DataFrame":
        """A row a run, in order: its name, cell, seed, settings under their dotted keys, and results."""
        return self.comparison.runs

    @property
    def cells(self) -> "pd.DataFrame":
        """A row a cell, the best first: the swept settings; n, median, iqm of its seeds; low, high: its interval."""
        return self.comparison.cells

    @property
    def verdict(self) -> str:
        """Which cell is best, by how much, and whether it is only the seed, in a sentence or two."""
        return self.comparison.verdicts.sentence

    @property
    def by_cell(self) -> dict[str, tuple[Fit, ...]]:
        """The runs of each cell (of its seeds), the best cell first; keys as in the column `cell` of `cells`."""
        return {cell: tuple(fit for fit in self.fits if fit.run.cell == cell) for cell in self.cells["cell"]}

    @property
    def best(self) -> Fit:
        """The best cell's run of the lowest loss (of rows held out, if there are any); no lucky seed of a poorer cell.

        Raises UserError if all runs diverged.
        """
        loss = self.comparison.metric.name
        for fits in self.by_cell.values():
            finite = [fit for fit in fits if fit.diverged_at is None and loss in fit.results]
            if finite:
                return min(finite, key=lambda fit: fit.results[loss])
        raise UserError("All runs of the sweep diverged: choose a lower training.learning_rate.")

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"<Sweep of {len(self.fits)} runs{failed}>"

    def _repr_html_(self) -> str:
        """The cells as a table, for a notebook."""
        html: str = self.cells.to_html(index=False, float_format="{:.4g}".format)
        return html
