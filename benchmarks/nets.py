"""What an update takes by network size: `python -m benchmarks.nets` prints microseconds per run and update, as JSON."""

import itertools
import json
from dataclasses import dataclass

from pipeline.numerics.layout import layout_of
from pipeline.numerics.pace import WIDTHS, Pace, best_width, seconds_per_update


@dataclass(frozen=True)
class Net:
    """Layers (d, h1, ..., k) and the rows of an update."""

    sizes: tuple[int, ...]
    rows: int

    @property
    def title(self) -> str:
        """As in `3-4-5-1`."""
        return "-".join(map(str, self.sizes))

    @property
    def layout(self) -> str:
        """Where a stack of it keeps its runs."""
        return layout_of(self.sizes, self.rows)

    @property
    def units(self) -> int:
        """Activations of an update."""
        return self.rows * sum(self.sizes[1:])

    @property
    def products(self) -> int:
        """Multiplications of an update: forward, backward, and the weights' gradient."""
        return 3 * self.rows * sum(inputs * outputs for inputs, outputs in itertools.pairwise(self.sizes))


SMALL = tuple(Net((3, *hidden, 1), 4) for hidden in ((4,), (4, 5), (8,), (8, 8), (16,), (16, 8), (16, 16), (24, 16)))
LARGE = tuple(Net((64, *hidden, 10), 64) for hidden in ((16,), (32,), (64,), (64, 64), (128, 128), (256, 256)))
NETS = SMALL + LARGE


def microseconds(net: Net) -> float:
    """Of a run's update, in a stack as wide as suits this machine; default numerics."""
    numerics = "portable" if net.layout == "runs_last" else "fast"
    pace = Pace(net.sizes, net.rows, False, numerics, net.layout)
    width = best_width(pace, max(WIDTHS[net.layout]))
    return seconds_per_update(pace, width) / width * 1e6


if __name__ == "__main__":
    print(json.dumps([microseconds(net) for net in NETS]))
