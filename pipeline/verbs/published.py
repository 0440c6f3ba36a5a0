"""Compares every figure that the tutorials print (experiments/published/) with what Seedbed computes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.composing.experiment import compose_run, swept_values
from pipeline.identity import Run
from pipeline.numerics.network import predict
from pipeline.numerics.sigmoid import sigmoid
from pipeline.paths import find
from pipeline.training.stack import Result, train_stack

Array = NDArray[np.float64]

AGREES, DIFFERS, MISPRINT = "agrees", "DIFFERS", "misprint"
IN_FULL = 14  # figures of so many digits are floats printed in full: their last digits depend on the order of sums
RELATIVE = 1e-12
CURVES = ("mse", "half_sse", "half_sum_abs")


@dataclass(frozen=True)
class Figure:
    """One figure: whose and what it is, as printed, what we get, and how to take it.

    `computed` says why a figure is in no text but was computed once, to be held to (then `printed` is that).
    """

    where: str
    what: str
    printed: str
    ours: float
    misprint: str = ""
    computed: str = ""

    @property
    def digits(self) -> int:
        """How many digits the text prints, from the first that is not 0 on."""
        return len(Decimal(self.printed).as_tuple().digits)

    @property
    def agreeing(self) -> int:
        """How many of the printed digits are ours: the most to which both round alike."""
        for count in range(self.digits, 0, -1):
            unit = Decimal(1).scaleb(Decimal(self.printed).adjusted() - count + 1)
            if Decimal(self.ours).quantize(unit) == Decimal(self.printed).quantize(unit):
                return count
        return 0

    @property
    def good(self) -> bool:
        """True if all printed digits agree, or a float printed in full agrees within 1e-12."""
        printed = float(self.printed)
        in_full = self.digits >= IN_FULL and abs(self.ours - printed) <= RELATIVE * abs(printed)
        return self.agreeing == self.digits or in_full

    @property
    def verdict(self) -> str:
        """agrees, DIFFERS, or misprint (a figure of the text that is wrong, with the reason)."""
        if self.misprint:
            return MISPRINT
        return AGREES if self.good else DIFFERS


@dataclass(frozen=True)
class LongRun:
    """Where the exam text's long run, printed without a seed, lies among runs with known seeds.

    mse and predictions are (runs,): of the new row as the text scales it and as it should be scaled.
    """

    printed_mse: float
    printed_prediction: float
    mse: Array
    as_in_the_text: Array
    scaled_right: Array
    row_scaled_right: tuple[float, ...]
    stuck: NDArray[np.bool_]


@dataclass(frozen=True)
class Comparison:
    """A tutorial's figures beside ours."""

    tutorial: str
    figures: list[Figure]
    remarks: list[str]
    long_run: LongRun | None


def tutorials() -> dict[str, Path]:
    """The files of printed figures, by tutorial."""
    return {file.stem: file for file in sorted((find("experiments") / "published").glob("*.yaml"))}


def compare_tutorial(name: str, progress: Callable[[int], None]) -> Comparison:
    """Trains what the tutorial's figures need and compares. `progress` is told of updates made."""
    content = yaml.safe_load(tutorials()[name].read_text(encoding="utf-8"))
    items: list[dict[str, Any]] = content["figures"]
    trained = {
        experiment: train_for(experiment, [item for item in items if item.get("experiment") == experiment], progress)
        for experiment in dict.fromkeys(item["experiment"] for item in items if "experiment" in item)
    }
    figures = [figure for item in items for figure in figures_of(item, trained)]
    long_run = train_long_run(content["long_run"], progress) if "long_run" in content else None
    return Comparison(content["tutorial"], figures, content["remarks"], long_run)


def updates_needed(name: str) -> int:
    """How many updates `compare_tutorial` makes."""
    content = yaml.safe_load(tutorials()[name].read_text(encoding="utf-8"))
    last: dict[str, int] = {}
    for item in content["figures"]:
        if "experiment" in item:
            last[item["experiment"]] = max(item["updates"], last.get(item["experiment"], 0))
    long_run = content.get("long_run")
    runs = len(swept_values(long_run["experiment"], "seed")) if long_run else 0
    return sum(last.values()) + (runs * long_run["prediction"]["updates"] if long_run else 0)


def train_for(experiment: str, items: Sequence[dict[str, Any]], progress: Callable[[int], None]) -> tuple[Run, Result]:
    """Trains an experiment as far as its figures need, with snapshots where they are."""
    wanted = sorted({item["updates"] for item in items})
    run = compose_run([f"experiment={experiment}", f"training.epochs={wanted[-1]}"])
    return run, train_stack([run], progress, snapshots=wanted)[0]


def figures_of(item: dict[str, Any], trained: dict[str, tuple[Run, Result]]) -> Iterator[Figure]:
    """The figures of one entry of a file."""
    if "hand_worked" in item:
        yield from hand_worked(item)
    elif "forward" in item:
        dataset = compose_run([f"data={item['forward']}"]).dataset
        outputs = predict(dataset.X, [np.array(matrix) for matrix in item["weights"]])
        yield from predictions("given weights", "untrained", dataset.rows, item, outputs)
    else:
        yield from trained_figures(item, *trained[item["experiment"]])


def trained_figures(item: dict[str, Any], run: Run, result: Result) -> Iterator[Figure]:
    """Figures of a trained network: predictions of training rows or of a new row, and points of curves."""
    updates = item["updates"]
    where, when = item["experiment"], f"{updates} updates"
    snapshot = result.snapshots[updates]
    if "new_row" in item:
        rows = np.array(list(item["new_row"].values()))
        outputs = predict(run.dataset.input_scale.apply(rows), snapshot.matrices, snapshot.biases, run.mode)
        yield from predictions(where, when, tuple(item["new_row"]), item, outputs)
    elif "prediction" in item:
        yield from predictions(where, when, run.dataset.rows, item, snapshot.prediction)
    for name in CURVES:
        if name in item:
            curve = result.curves["loss" if name == run.config.training.loss else name]
            yield Figure(where, f"{when}: {name}", item[name], float(curve[updates]), computed=item.get("computed", ""))


def predictions(where: str, when: str, rows: Sequence[str], item: dict[str, Any], outputs: Array) -> Iterator[Figure]:
    """A figure a row; outputs is (rows, 1)."""
    for row, printed, ours in zip(rows, item["prediction"], outputs[:, 0], strict=True):
        yield Figure(where, f"{when}: {row}", printed, float(ours), computed=item.get("computed", ""))


def hand_worked(item: dict[str, Any]) -> Iterator[Figure]:
    """The forward pass that the exam text works by hand, step by step."""
    sums = np.array(item["hand_worked"], dtype=float) @ np.array(item["weights"][0])
    activations = sigmoid(sums)
    output_sum = float(activations @ np.array(item["weights"][1])[:, 0])
    steps = [(f"sum {i}", printed, ours) for i, (printed, ours) in enumerate(zip(item["sums"], sums, strict=True), 1)]
    pairs = zip(item["activations"], activations, strict=True)
    steps += [(f"activation {i}", printed, ours) for i, (printed, ours) in enumerate(pairs, 1)]
    steps += [("output sum", item["output_sum"], output_sum)]
    steps += [("output", item["output"], sigmoid(np.array([output_sum]))[0])]
    for name, printed, ours in steps:
        yield Figure("worked by hand", name, printed, float(ours), misprint=item["misprints"].get(name, ""))


def train_long_run(item: dict[str, Any], progress: Callable[[int], None]) -> LongRun:
    """Trains the exam text's long run from many seeds."""
    words = [f"experiment={item['experiment']}"]
    runs = [compose_run([*words, f"seed={seed}"]) for seed in swept_values(item["experiment"], "seed")]
    results = train_stack(runs, progress)
    right = runs[0].dataset.input_scale.apply(np.array([item["new_row"]], dtype=float))
    rows = np.concatenate([np.array([item["scaled_in_the_text"]]), right])
    outputs = np.array(
        [predict(rows, result.final.matrices, result.final.biases, runs[0].mode)[:, 0] for result in results]
    )
    mse = np.array([result.curves["mse"][item["mse"]["updates"]] for result in results])
    return LongRun(
        printed_mse=float(item["mse"]["printed"]),
        printed_prediction=float(item["prediction"]["printed"]),
        mse=mse,
        as_in_the_text=outputs[:, 0],
        scaled_right=outputs[:, 1],
        row_scaled_right=tuple(right[0].tolist()),
        stuck=mse > item["stuck_above"],
    )
