"""The pictures of a run, for people who learn: what it was, what it became, and how it got there."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.pictures.diagram import Diagram
from pipeline.pictures.drawing import INK, WIDTH, draw, label, log_values, updates_across
from pipeline.pictures.replay import Replay, replay
from pipeline.pictures.surface import MOST_PANELS, paint_surface
from pipeline.results.kept import KeptRun
from pipeline.results.record import PALETTE

Array = NDArray[np.float64]

MOST_ROWS = 12
COLORS = PALETTE[:7]  # the last is too dark for dark pages
CURVE_POINTS = 500
DOTTED = (0, (2, 3))
BEGINNING: dict[str, Any] = {"marker": "o", "markersize": 3.5, "markevery": [0]}  # a line of one point is seen, too


def portrait(kept: KeptRun) -> dict[str, bytes]:
    """The pictures of a kept run by file name; it is trained again for them.

    Raises UserError if it was not finite from the start.
    """
    return pictures(replay(kept))


def pictures(again: Replay) -> dict[str, bytes]:
    """The pictures of a replay by file name."""
    diagram = Diagram(again)
    height = 3.2
    outputs = min(len(again.run.dataset.targets), MOST_PANELS)
    paints: dict[str, tuple[str, float, Callable[[Figure], None]]] = {
        "network": ("the network's weights before and after training", diagram.inches, diagram.paint),
        "predictions": ("predictions over updates", 3.8 * outputs, lambda figure: paint_predictions(figure, again)),
        "surface": (
            "predictions for all pairs of features",
            5.2 * outputs,
            lambda figure: paint_surface(figure, again),
        ),
        "gradients": ("gradient norms by layer over updates", height, lambda figure: paint_gradients(figure, again)),
        "saturation": ("saturated units by layer over updates", height, lambda figure: paint_saturation(figure, again)),
        "loss": ("loss over updates", height, lambda figure: paint_loss(figure, again)),
    }
    missing = left_out(again)
    return {
        f"{name}.svg": draw(f"{name}-{again.run.fingerprint[:6]}", f"{again.name}: {about}", WIDTH, inches, paint)
        for name, (about, inches, paint) in paints.items()
        if f"{name}.svg" not in missing
    }


def left_out(again: Replay) -> dict[str, str]:
    """The pictures that there are none of for this run, and why."""
    reasons = {}
    features = len(again.run.dataset.features)
    if features != 2:
        reasons["surface.svg"] = f"it needs data of two features, and these have {features}."
    if not again.run.config.network.hidden:
        reasons["saturation.svg"] = "the network has no hidden layer."
    return reasons


def title(again: Replay, text: str) -> str:
    """A picture's title: what it shows, of which run."""
    return f"{text} · {label(again.name, 60)}"


def paint_loss(figure: Figure, again: Replay) -> None:
    """The loss on log axes."""
    axes = figure.add_subplot()
    epochs = again.updates // again.run.updates_an_epoch
    points = np.unique(np.round(np.geomspace(1, max(epochs, 1), CURVE_POINTS)).astype(int) - 1)
    points = np.append(points[points < epochs], epochs)
    axes.plot(points * again.run.updates_an_epoch, positive(again.loss[points]), color=PALETTE[0], **BEGINNING)
    axes.set(title=title(again, "Loss"), ylabel=again.run.config.training.loss)
    finish(axes, again, log=bool((again.loss[points] > 0).any()))


def paint_gradients(figure: Figure, again: Replay) -> None:
    """The norm of each layer's gradient on log axes."""
    axes = figure.add_subplot()
    for layer, name in enumerate(layer_names(again)):
        color = COLORS[layer % len(COLORS)]
        axes.plot(again.moments, positive(again.gradients[:, layer]), color=color, label=name, **BEGINNING)
    slip = "" if again.run.config.training.derivative == "exact" else " (as the slip has it)"
    axes.set(title=title(again, f"Gradients{slip}"), ylabel="norm of the gradient")
    finish(axes, again, log=bool((again.gradients > 0).any()))
    key(axes, [] if (again.gradients > 0).all() else ["a gap: 0"])


def paint_saturation(figure: Figure, again: Replay) -> None:
    """The share of each hidden layer's outputs where the activation hardly has a slope."""
    axes = figure.add_subplot()
    for layer, size in enumerate(again.run.config.network.hidden):
        name = f"hidden layer {layer + 1} ({size})"
        color = COLORS[layer % len(COLORS)]
        axes.plot(again.moments, 100 * again.saturated[:, layer], color=color, label=name, **BEGINNING)
    axes.set(title=title(again, "Saturated units"), ylabel="% of outputs with hardly a slope", ylim=(-3, 103))
    finish(axes, again)
    key(axes)


def paint_predictions(figure: Figure, again: Replay) -> None:
    """A panel an output: a line a row over updates, in the data's units, with its target dotted."""
    dataset, sample = again.run.dataset, again.run.sample
    shown = range(min(len(dataset.targets), MOST_PANELS))
    panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    predictions = sample.target_scale.invert(again.predictions)
    for j, axes in zip(shown, panels, strict=True):
        for row, place in enumerate(sample.training.places[:MOST_ROWS]):
            look = {"color": COLORS[row % len(COLORS)], "linestyle": "-" if row < len(COLORS) else "-."}
            axes.plot(again.moments, predictions[:, row, j], label=label(dataset.rows[place]), **look, **BEGINNING)
            axes.axhline(dataset.raw_y[place, j], color=look["color"], linestyle=DOTTED, linewidth=1.1)
        axes.set(title=title(again, "Predictions") if j == 0 else "", ylabel=label(dataset.targets[j]))
        axes.plot([], [], color=INK, linestyle=DOTTED, linewidth=1.1, label="targets")
        finish(axes, again)
    key(panels[0], notes(again))


def notes(again: Replay) -> list[str]:
    """What is said below the rows' names."""
    rows, outputs = len(again.run.sample.training.places), len(again.run.dataset.targets)
    said = []
    if rows > MOST_ROWS:
        said.append(f"first {MOST_ROWS} of {rows:,} rows")
    if outputs > MOST_PANELS:
        said.append(f"first {MOST_PANELS} of {outputs:,} outputs")
    return said


def layer_names(again: Replay) -> list[str]:
    """Each layer with its units: `layer 1 (3→4)`."""
    sizes = again.run.sizes
    return [f"layer {layer} ({sizes[layer - 1]}→{sizes[layer]})" for layer in range(1, len(sizes))]


def positive(values: Array) -> Array:
    """Values (m,), with nan where a log axis has no place for one."""
    return np.where(values > 0, values, np.nan)


def finish(axes: Axes, again: Replay, *, log: bool = False) -> None:
    """The axis of updates, and if asked for a log one of values."""
    updates_across(axes, again.updates)
    if log:
        log_values(axes)


def key(axes: Axes, notes: Sequence[str] = ()) -> None:
    """What each line is, on the right of the picture, with notes below."""
    for note in notes:
        axes.plot([], [], alpha=0, label=note)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
