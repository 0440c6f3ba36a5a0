"""Pictures as SVG: the same bytes for the same input, legible on light and dark pages, safe to put into HTML.

matplotlib draws, without its pyplot, in an rc context of its own: nothing of the user's settings is used or changed,
and no display is needed. Text stays text (small, can be searched and read out), laid out with DejaVu Sans, which is
wider than what most browsers put in its place. What is drawn in INK has the page's colour of text.
"""

import contextlib
import html
import io
import math
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogFormatter, MaxNLocator, NullLocator

INK = "#010203"  # becomes `currentColor`; nothing else has this colour
WIDTH = 7.2  # inches: 691 pixels in a browser
LONGEST_LABEL = 24
MANY_DECADES = 3
METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # none of it: no date, no version
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "seedbed",
    "text.parse_math": False,  # a name may have a $
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    **dict.fromkeys(("figure.facecolor", "axes.facecolor"), "none"),
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "grid.color": INK,
}
OF_THE_PROCESS = ("backend", "interactive", "toolbar", "webagg", "tk.", "date", "timezone", "savefig.directory")
DARK = "@media(prefers-color-scheme:dark){svg{background:#181818;color:#ddd}}"
ALONE = f"<style>svg{{background:#fff;color:#222}}{DARK}</style>"  # a file has its own page


def draw(name: str, about: str, width: float, height: float, paint: Callable[[Figure], None]) -> bytes:
    """The SVG file of what `paint` puts on an empty figure of width x height inches.

    `name`, letters, digits and -, begins the ids in it: pictures on one page need different ones. `about` says for
    those who cannot see it what it shows. The file has a background of its own, light or dark as the viewer likes.
    """
    content = io.StringIO()
    with style(), np.errstate(over="ignore"), warnings.catch_warnings():  # the margin above 1e308 on a log axis
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # text is the viewer's to draw
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure)
        FigureCanvasSVG(figure).print_svg(content, metadata=METADATA)  # type: ignore[no-untyped-call]
    return tidy(content.getvalue(), name, about).encode()


def as_inline(svg: bytes) -> str:
    """A picture that `draw` made as an element for an HTML page: in the page's colours, shrinking with its column."""
    text = svg.decode().replace(ALONE, "", 1)
    text = text[text.index("<svg ") :]
    opening, rest = text.split(">", 1)
    width = re.search(r' width="([\d.]+)pt"', opening)
    style = f' style="width:100%;max-width:{float(width[1]) / 0.75:.0f}px;height:auto"' if width else ""
    return re.sub(r' (?:width|height)="[\d.]+pt"', "", opening) + style + ">" + rest


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Has STYLE and matplotlib's own defaults hold in the block, whatever the user has set; then what held before."""
    defaults: dict[Any, Any] = dict(mpl.rcParamsDefault)
    for key in [key for key in defaults if key.startswith(OF_THE_PROCESS)]:
        del defaults[key]
    with mpl.rc_context(defaults | STYLE):
        yield


def tidy(svg: str, name: str, about: str) -> str:
    """An SVG of matplotlib's with ids of its own (those that are referred to), no rules for the page, fewer digits.

    matplotlib writes < and > in texts and attributes as entities, so what is between them is a tag.
    """
    used = dict.fromkeys(re.findall(r'(?:href="#|url\(#)(\w+)', "".join(re.findall(r"<[^<>]*>", svg))))
    ids = {old: f"{name}-{number}" for number, old in enumerate(used)}

    def mend(tag: re.Match[str]) -> str:
        text = re.sub(r' id="([^"]*)"', lambda found: f' id="{ids[found[1]]}"' if found[1] in ids else "", tag[0])
        text = re.sub(r'(href="#|url\(#)(\w+)', lambda found: found[1] + ids[found[2]], text)
        text = re.sub(r' transform="rotate\(-0 [^"]*"', "", text).replace(INK, "currentColor")
        return re.sub(r"(\d\.\d\d)\d+", r"\1", text)

    body = svg[svg.index("<svg ") :]
    body = re.sub(r"\s*<defs>\s*<style type=\"text/css\">[^<]*</style>\s*</defs>", ALONE, body, count=1)
    body = re.sub(r"<[^<>]*>", mend, body)
    spoken = f'<svg role="img" aria-label="{html.escape(label(about, 200))}" stroke-linejoin="round" '
    return '<?xml version="1.0" encoding="utf-8"?>\n' + body.replace("<svg ", spoken, 1)


def label(text: str, most: int = LONGEST_LABEL) -> str:
    """A name as it can be drawn: on one line, without what XML has no room for, and cut to `most` characters."""
    plain = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def number(value: float, _: object = None) -> str:
    """A number at an axis: 0.05, 10,000, 1e-7."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{value:,.6g}" if abs(value) < 1e5 else f"{value:,.0f}"
    digits, exponent = f"{value:.4e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


class LogNumbers(LogFormatter):
    """Numbers at a log axis; which ticks have one is matplotlib's choice."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The text at x, maybe empty."""
        return number(x) if super().__call__(x, pos) else ""


def log_values(axes: Axes) -> None:
    """Makes the vertical axis of what is drawn already logarithmic, with plain numbers; not if nothing is drawn."""
    if math.isfinite(axes.dataLim.minposy):  # matplotlib has no log axis without a positive number
        axes.set_yscale("log")
        log_numbers(axes.yaxis)


def log_numbers(axis: Axis) -> None:
    """Plain numbers at a log axis. Over many decades without small ticks: they are a third of a picture's time."""
    axis.set_major_formatter(LogNumbers())
    axis.set_minor_formatter(LogNumbers(labelOnlyBase=False, minor_thresholds=(1, 0.4)))
    low, high = axis.get_view_interval()
    if low > 0 and math.log10(high / low) > MANY_DECADES:
        axis.set_minor_locator(NullLocator())


def updates_across(axes: Axes, last: int) -> None:
    """Makes the horizontal axis that of updates, 0 to last: logarithmic but for its beginning, where 0 has room."""
    axes.set_xlabel("updates")
    if last <= 20:
        axes.set_xlim(-0.02 * max(last, 1), max(last, 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axes.set_xscale("symlog", linthresh=1, linscale=0.4)
        axes.set_xlim(-0.1, last)
        decades = [10**power for power in range(int(math.log10(last)) + 1)]
        axes.xaxis.set_major_locator(FixedLocator([0, *decades]))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(number))
