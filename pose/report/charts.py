"""Line charts as SVG that lives in the page.

Text in the page's font, colours by the page's style sheet, light or dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

# Drawn in these colours, which nothing else has, and then replaced: a style sheet cannot reach into numbers.
INK, MUTED, GRID = "#010101", "#020202", "#030303"
SERIES = tuple(f"#0401{number:02d}" for number in range(8))
VARIABLES = {INK: "currentColor", MUTED: "var(--muted)", GRID: "var(--rule)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(SERIES)
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters, not outlines: they can be read out, searched and set in the page's font
    "text.parse_math": False,  # a `$` in a column's name is a dollar sign
    "font.size": 9.5,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "axes.labelcolor": MUTED,
    "axes.formatter.limits": (-4, 6),  # powers of ten that are written out
    "text.color": INK,
}
WIDTH, HEIGHT = 4.6, 3.0  # inches of 72 units
POINTS = 400  # of a curve at most: more cannot be told apart, and each costs bytes
FEW = 20  # points that are too few to smooth


@dataclass(frozen=True)
class Line:
    """One line: x and y alike long; colour of SERIES or INK; `faint` for what a smoother line stands in front of."""

    label: str
    x: np.ndarray
    y: np.ndarray
    colour: str = SERIES[0]
    faint: bool = False
    bold: bool = False


def line_chart(
    lines: Sequence[Line],
    *,
    name: str,
    title: str,
    x_label: str,
    log: bool = False,
    y_limits: tuple[float, float] | None = None,
    x_from: float = 0.0,
    mark: float | None = None,
) -> Markup:
    """An `<svg>` element. name.

    Unique in the page, it keeps ids apart. title: read out in place of the picture.

    x_from: the left end of the axis. mark: where on it to draw an upright, broken line.
    Two lines or more are named at their right ends, which saves the eye the way to a legend and back.
    """
    name = re.sub(
        r"[^A-Za-z0-9-]", lambda sign: f"_{ord(sign[0]):x}", name
    )  # what an id, and a reference to it, may hold
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, HEIGHT))
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        if log:
            axes.set_yscale("log")
            # Matplotlib's own labels are in its markup, which is switched off.
            all_y = np.concatenate([line.y for line in lines])
            axes.yaxis.set_major_locator(
                LogLocator(subs=(1, 2, 5) if all_y.max() < 1000 * all_y.min() else (1,))
            )
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        for line in lines:
            width = 2.4 if line.bold else 0.8 if line.faint else 1.6
            # A line of one point would not be seen.
            marker = "o" if len(line.x) == 1 else ""
            axes.plot(
                line.x,
                line.y,
                color=line.colour,
                linewidth=width,
                alpha=0.4 if line.faint else 1,
                marker=marker,
                markersize=5,
            )
        if mark is not None:
            axes.axvline(mark, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        if y_limits:
            axes.set_ylim(*y_limits)
        axes.set_xlabel(x_label)
        last = max((float(line.x.max()) for line in lines if len(line.x)), default=0.0)
        axes.set_xlim(x_from, last if last > x_from else x_from + 1)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        named = [line for line in lines if not line.faint]
        several = len(named) > 1
        figure.subplots_adjust(left=0.13, right=0.8 if several else 0.97, top=0.96, bottom=0.17)
        if several:
            _name_ends(axes, named)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(drawn.getvalue(), name, title)


def smoothed(y_N: np.ndarray, share: float = 0.06) -> np.ndarray:
    """Mean over a window of that share of the points, cut off at the ends."""
    window = max(3, round(len(y_N) * share))
    return pd.Series(y_N).rolling(window, center=True, min_periods=1).mean().to_numpy()


def with_smoothed(line: Line) -> list[Line]:
    """A line behind its smoothed self; alone where it has few points."""
    return [replace(line, faint=True), replace(line, y=smoothed(line.y))] if len(line.y) > FEW else [line]


def pairs(x_N: np.ndarray, column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the rows that have a y."""
    y_N = column.to_numpy(dtype=np.float64)
    known = np.isfinite(y_N)
    return np.asarray(x_N, dtype=np.float64)[known], y_N[known]


def thinned(x_N: np.ndarray, y_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most POINTS points, each the mean of its stretch and standing at its end, where training logs stand too."""
    if len(x_N) <= POINTS:
        return x_N, y_N
    starts = np.linspace(0, len(x_N), POINTS, endpoint=False).astype(int)
    ends = np.append(starts[1:], len(x_N))
    return x_N[ends - 1], np.add.reduceat(y_N, starts) / (ends - starts)


def _name_ends(axes: Axes, lines: Sequence[Line]) -> None:
    """Names beside the last points, moved apart where they would overlap."""
    to_share = (axes.transData + axes.transAxes.inverted()).transform
    ends = [(float(to_share((line.x[-1], line.y[-1]))[1]), line) for line in lines if np.isfinite(line.y[-1])]
    ends.sort(key=lambda end: end[0])
    room = 12 / (HEIGHT * 72 * 0.79)  # a line of text, as a share of the axes
    heights: list[float] = []
    for height, _ in ends:
        heights.append(max(height, heights[-1] + room) if heights else height)
    ceiling = 1.0
    for number in reversed(range(len(heights))):  # and down again where they grew out of the top
        heights[number] = min(heights[number], ceiling)
        ceiling = heights[number] - room
    for height, (_, line) in zip(heights, ends, strict=True):
        weight = "bold" if line.bold else "normal"
        axes.annotate(
            line.label,
            (1, height),
            (4, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            color=line.colour,
            va="center",
            weight=weight,
        )


def _for_page(svg: str, name: str, title: str) -> Markup:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg [^>]*?)\s(?:width|height)="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)\s(?:width|height)="[^"]*"', r"\1", svg, count=1)
    for kind in ('id="', 'href="#', "url(#"):
        svg = svg.replace(kind, f"{kind}{name}-")
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    label = Markup(' role="img" aria-label="{}"').format(title)
    return Markup(svg.replace("<svg", f"<svg{label}", 1))
