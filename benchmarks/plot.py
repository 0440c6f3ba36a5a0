"""The picture: time against number of runs, one panel a net, one line a contender."""

from math import sqrt
from pathlib import Path
from typing import Any

from benchmarks.contenders import COMPILED, CONTENDERS, FAST, JAX, LOOP, PORTABLE, C
from benchmarks.tasks import NETS
from benchmarks.training import Training

# Okabe and Ito's colours, which colour-blind people can tell apart; Seedbed's own lines are the thick ones.
STYLES: dict[str, dict[str, Any]] = {
    PORTABLE: {"color": "#0072B2", "marker": "o", "linewidth": 2.6, "zorder": 5},
    FAST: {"color": "#D55E00", "marker": "o", "linewidth": 2.6, "zorder": 6},
    COMPILED: {"color": "#E69F00", "marker": "o", "linewidth": 2.6, "zorder": 7},
    LOOP: {"color": "#000000", "marker": "s"},
    "matmul": {"color": "#56B4E9", "marker": "v"},
    "sklearn": {"color": "#999999", "marker": "x", "linestyle": ":"},
    "torch-bmm": {"color": "#CC79A7", "marker": "^"},
    "torch-vmap": {"color": "#CC79A7", "marker": "x", "linestyle": "--"},
    JAX: {"color": "#009E73", "marker": "D"},
    "jax-grad": {"color": "#009E73", "marker": "x", "linestyle": "--"},
    C: {"color": "#666666", "marker": "P", "linestyle": "-."},
}
OTHER = {"color": "#F0E442", "marker": "*"}


def draw(training: Training, file: Path) -> None:
    """Writes the picture to file, as what its ending says (svg, png, pdf)."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"svg.hashsalt": "seedbed", "font.size": 9}):
        figure, grid = plt.subplots(2, 2, figsize=(10, 7.5), sharex=True, sharey=True, layout="constrained")
        for axes, net in zip(grid.flat, NETS, strict=True):
            panel(axes, training, net)
        for axes in grid[:, 0]:
            axes.set_ylabel("µs per run and update")
        for axes in grid[1]:
            axes.set_xlabel("networks trained at once")
        figure.suptitle("Training on one core, float64: time per network and update (lower is better)")
        figure.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)
        plt.close(figure)


def panel(axes: Any, training: Training, net: str) -> None:
    """One net: lines, each with its name at its right end."""
    ends = {}
    for name in CONTENDERS:
        points = sorted((timing.runs, timing.median) for timing in training.timings.values() if on(timing, name, net))
        if points:
            style = {"linewidth": 1.3, "markersize": 4} | STYLES.get(name, OTHER)
            axes.plot(*zip(*points, strict=True), **style)
            ends[name] = points[-1]
    axes.set(xscale="log", yscale="log", title=f"{net}, {len(NETS[net].X)} rows")
    counts = sorted({timing.runs for timing in training.timings.values()})
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    label(axes, ends)


def on(timing: Any, name: str, net: str) -> bool:
    """True if a timing belongs to a line."""
    return bool(timing.contender == name and timing.net == net)


def label(axes: Any, ends: dict[str, tuple[int, float]], gap: float = 1.6) -> None:
    """Names beside the ends of the lines, moved apart so that none covers another."""
    order = sorted(ends, key=lambda name: ends[name][1])
    heights = apart([ends[name][1] for name in order], gap)
    for name, height in zip(order, heights, strict=True):
        x, y = ends[name]
        axes.annotate(
            CONTENDERS[name].title,
            xy=(x, y),
            xytext=(x * 1.45, height),
            color=STYLES.get(name, OTHER)["color"],
            fontweight="bold" if name in (PORTABLE, FAST) else "normal",
            fontsize=8,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
        )


def apart(heights: list[float], gap: float) -> list[float]:
    """Rising heights, each at least `gap` times the one below: midway between moving up only and moving down only."""
    up, down = list(heights), list(heights)
    for i in range(1, len(heights)):
        up[i] = max(up[i], up[i - 1] * gap)
    for i in range(len(heights) - 2, -1, -1):
        down[i] = min(down[i], down[i + 1] / gap)
    return [sqrt(a * b) for a, b in zip(up, down, strict=True)]
