"""Line charts as SVG within the page, in the font and the colours, light or dark, of its style sheet."""

from __future__ import annotations

import hashlib
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

from pose.report.content import Chart

# Matplotlib draws in these colours, each of which is then replaced by a variable of the style sheet.
INK, MUTED, GRID = "#010101", "#020202", "#030303"
SERIES = tuple(f"#0401{number:02d}" for number in range(8))
VARIABLES = {INK: "currentColor", MUTED: "var(--muted)", GRID: "var(--rule)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(SERIES)
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters, not outlines: they can be searched and read out
    "text.parse_math": False,  # a `$` in a column's name is a dollar sign
    "font.size": 9.5,
    "axes.edgecolor": GRID,
    **{f"axes.spines.{side}": False for side in ("top", "right", "left")},
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    **{f"{axis}tick.{kind}.size": 0 for axis in "xy" for kind in ("major", "minor")},
    "axes.labelcolor": MUTED,
    "axes.formatter.limits": (-4, 6),  # powers of ten that are written out
    "text.color": INK,
}
WIDTH, HEIGHT = 3.9, 2.6  # inches of 72 units
MAX_POINTS = 400  # of a line: more cannot be told apart, and each costs bytes
MIN_SMOOTHED = 20  # points from which on a line is smoothed
MAX_HOVER = 40  # places along a chart that show their values


@dataclass(frozen=True)
class Line:
    """colour: of SERIES, or INK. faint: without a label, behind its smoothed self. dashed: too."""

    label: str
    x: np.ndarray
    y: np.ndarray
    colour: str = SERIES[0]
    faint: bool = False
    bold: bool = False
    dashed: bool = False


def line_chart(
    title: str,
    lines: Sequence[Line],
    task: str,
    x_label: str,
    note: str = "",
    *,
    log: bool = False,
    y_limits: tuple[float, float] | None = None,
    x_start: float = 0.0,
    mark: float | None = None,
) -> Chart:
    """Title and task together must be unique in the page: its ids come from them.

    x_start: left end of the axis. mark: where on it a vertical dashed line is drawn. Two lines or more are
    labelled at their right ends. Under the pointer each place shows the values of all lines there.
    """
    label = f"{title}, {task}"
    prefix = "c" + hashlib.sha256(label.encode()).hexdigest()[:8]
    with mpl.rc_context({**STYLE, "svg.hashsalt": prefix}):
        figure = Figure(figsize=(WIDTH, HEIGHT), dpi=72)  # as of SVG: places of the axes are its units
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        if log:
            _set_log_scale(axes, np.concatenate([line.y for line in lines]))
        for line in lines:
            width = 2.4 if line.bold else 0.8 if line.faint else 1.6
            marker = "o" if len(line.x) == 1 else ""  # a line of one point would not be seen
            alpha = 0.4 if line.faint else 1
            style = (0, (2, 1.5)) if line.dashed else "-"
            axes.plot(line.x, line.y, color=line.colour, lw=width, ls=style, alpha=alpha, marker=marker, ms=5)
        if mark is not None:
            axes.axvline(mark, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        if y_limits:
            axes.set_ylim(*y_limits)
        axes.set_xlabel(x_label)
        end = max((float(line.x.max()) for line in lines if len(line.x)), default=0.0)
        axes.set_xlim(x_start, end if end > x_start else x_start + 1)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        labelled = [line for line in lines if not (line.faint or line.dashed)]
        figure.subplots_adjust(left=0.13, right=0.8 if len(labelled) > 1 else 0.97, top=0.96, bottom=0.17)
        if len(labelled) > 1:
            _label_ends(axes, labelled)
        svg = io.StringIO()
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
        hover = _hover(axes, [line for line in lines if not line.faint], x_label)
    return Chart(title, _embed(svg.getvalue(), prefix, label, hover), note)


def column_line(table: pd.DataFrame, x: str, y: str, label: str, colour: str, bold: bool = False) -> Line:
    """A column of a history over another, where it has numbers, in at most MAX_POINTS points."""
    x_N, y_N = (table[name].to_numpy(dtype=np.float64) for name in (x, y))
    known_N = np.isfinite(y_N)
    return Line(label, *thinned(x_N[known_N], y_N[known_N]), colour, bold=bold)


def thinned(x_N: np.ndarray, y_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MAX_POINTS points: means over stretches, each at the end of its stretch, as in train.csv."""
    if len(x_N) <= MAX_POINTS:
        return x_N, y_N
    starts = np.linspace(0, len(x_N), MAX_POINTS, endpoint=False).astype(int)
    ends = np.append(starts[1:], len(x_N))
    return x_N[ends - 1], np.add.reduceat(y_N, starts) / (ends - starts)


def with_smoothed(line: Line) -> list[Line]:
    """A line behind its running mean; alone where it has few points."""
    if len(line.y) <= MIN_SMOOTHED:
        return [line]
    window = max(3, round(len(line.y) * 0.06))
    mean = pd.Series(line.y).rolling(window, center=True, min_periods=1).mean().to_numpy()
    return [replace(line, faint=True), replace(line, y=mean)]


def needs_log_scale(lines: Sequence[Line]) -> bool:
    """Whether the lines are above 0 and the highest point is more than 5 times the lowest."""
    least, most = min(line.y.min() for line in lines), max(line.y.max() for line in lines)
    return bool(least > 0 and most > 5 * least)


def _set_log_scale(axes: Axes, all_y: np.ndarray) -> None:
    axes.set_yscale("log")
    subs = (1, 2, 5) if all_y.max() < 1000 * all_y.min() else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    # Matplotlib's own labels are in its markup, which is switched off.
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _label_ends(axes: Axes, lines: Sequence[Line]) -> None:
    """Labels beside the last points, moved apart where they would overlap."""
    to_share = (axes.transData + axes.transAxes.inverted()).transform
    ends = [(float(to_share((line.x[-1], line.y[-1]))[1]), line) for line in lines if np.isfinite(line.y[-1])]
    ends.sort(key=lambda end: end[0])
    room = 12 / (HEIGHT * 72 * 0.79)  # a line of text, as a share of the axes
    heights: list[float] = []
    for height, _ in ends:
        heights.append(max(height, heights[-1] + room) if heights else height)
    ceiling = 1.0
    for number in reversed(range(len(heights))):  # and down again where they would lie above the axes
        heights[number] = min(heights[number], ceiling)
        ceiling = heights[number] - room
    style: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "center"}
    for height, (_, line) in zip(heights, ends, strict=True):
        weight = "bold" if line.bold else "normal"
        axes.annotate(line.label, (1, height), (4, 0), color=line.colour, weight=weight, **style)


def _hover(axes: Axes, lines: Sequence[Line], x_label: str) -> Markup:
    """Bands over the axes, each with the values of the lines there as a tooltip."""
    left, right = axes.get_xlim()
    x_N = np.unique(np.concatenate([line.x for line in lines])) if lines else np.empty(0)
    x_N = x_N[(x_N >= left) & (x_N <= right)]
    if not len(x_N):
        return Markup("")
    if len(x_N) > MAX_HOVER:
        x_N = x_N[np.linspace(0, len(x_N) - 1, MAX_HOVER).astype(int)]
    edge_N = np.concatenate([[left], (x_N[1:] + x_N[:-1]) / 2, [right]])
    place_N = axes.transData.transform(np.stack([edge_N, np.full(len(edge_N), axes.get_ylim()[0])], axis=1))
    box = axes.bbox
    bands = []
    for x, start, end in zip(x_N, place_N[:-1, 0], place_N[1:, 0], strict=True):
        values = [
            f"{line.label} {np.interp(x, line.x, line.y):.4g}"
            for line in lines
            if len(line.x) and line.x[0] <= x <= line.x[-1]
        ]
        band = Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>')
        text = "\n".join([f"{x_label} {x:,.6g}", *values])
        bands.append(band.format(start, HEIGHT * 72 - box.y1, end - start, box.height, text))
    return Markup('<g class="hover">{}</g>').format(Markup("").join(bands))


def _embed(svg: str, prefix: str, label: str, hover: Markup) -> Markup:
    """The bare element: ids of its own, sized by the page, in the page's colours, below its tooltips."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    start, end = svg.split(">", 1)
    start = re.sub(r'\s(?:width|height)="[^"]*"', "", start)
    svg = f"{start}>{end}"
    for reference in ('id="', 'href="#', "url(#"):
        svg = svg.replace(reference, f"{reference}{prefix}-")
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    attributes = Markup('<svg role="img" aria-label="{}"').format(label)
    body = svg.replace("<svg", attributes, 1).rpartition("</svg>")[0]
    return Markup(f"{body}{hover}</svg>")
