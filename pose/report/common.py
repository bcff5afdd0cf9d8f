"""What the pages of single- and multi-person tasks are both made of."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from pose.io.images import encode_jpeg
from pose.keypoints.skeleton import Skeleton
from pose.report.charts import INK, SERIES, column_line, line_chart
from pose.report.content import Block, Cell, Chart, LegendEntry, PageImage, Row, Table
from pose.report.files import read_history, read_table
from pose.report.published import PUBLISHED
from pose.report.run import Run
from pose.tasks.base import ProblemData

Result = TypeVar("Result")

JPEG_QUALITY = 85
ERRORS = {  # kinds of error, see `pose.metrics.error_kinds`
    "jitter": "Percent of all that are wrong in this way. Jitter: within twice the distance that is right.",
    "inversion": "Inversion: where the person's left or right counterpart is.",
    "swap": "Swap: where another person has this joint or its counterpart.",
    "miss": "Miss: elsewhere, or not found.",
}


@dataclass(frozen=True)
class ProblemReport:
    """What is particular to the tasks of one problem; `pose.report.section` does the rest.

    sample: what the network sees. curve: chart of `curve_file`. read_predictions: of the file with `suffix`,
    whose people have so many joints, None for any number. images: the best and the worst.
    """

    sample: str
    comparison: Callable[[Run, Any], Block]
    curve_file: str
    curve: Callable[[Path, Run], Chart]
    joints: Callable[[Path, Skeleton | None], Table]
    suffix: str
    read_predictions: Callable[[Path, int | None], Any]
    images: Callable[[Run, Any, Any], list[Block]]
    data_table: Callable[[Any], Table]


@dataclass(frozen=True)
class OwnRow:
    """A row of this run in the comparison: a table of metrics/TASK.json, and where its samples are counted.

    names: of metrics in that table, where they are not the columns'.
    """

    what: str
    table: str
    count: str
    names: Mapping[str, str] = field(default_factory=dict)


def comparison_table(
    run: Run, own: Sequence[OwnRow], columns: Sequence[str], digits: int, notes: Sequence[str]
) -> Table:
    """Our rows, then the published ones of the problem, for runs of sets that those are of."""
    rows = []
    for row in own:
        places = {column: f"{row.table}.{row.names.get(column, column)}" for column in columns}
        found = {column: run.metrics[place] for column, place in places.items() if place in run.metrics}
        if found:
            count = f", {run.metrics[row.count]:,.0f} {run.unit}" if row.count in run.metrics else ""
            cells = (Cell(f"{run.task}, {row.what}"), Cell(run.data + count), *_cells(found, columns, digits))
            rows.append(Row(cells, marked=True))
    for other in PUBLISHED:
        if other.problem == run.spec.problem and run.is_published:
            network = Cell(other.network, below=other.source, url=other.url)
            rows.append(Row((network, Cell(other.images), *_cells(other.metrics, columns, digits))))
    return Table(("Network", "Evaluated on", *columns), rows, 2, notes)


def caution(
    root: str, data: ProblemData | None, *, as_published: bool, published: str, comparable: str
) -> str:
    """Why our metrics and the published ones must not be read as a ranking.

    as_published: whether as much was trained on as by others. published: what they were trained and evaluated
    on. comparable: what else must be equal.
    """
    if data is None:
        return f"Not comparable as they stand: the data of this run is not known here. {published}"
    trained, evaluated = (f"{len(data.rows(subset)):,}" for subset in ("train", "evaluation"))
    synthetic = PurePath(root).name == "synthetic"  # the embedded default
    if as_published and not synthetic:
        return f"Trained on {trained} {data.unit} of {root}, evaluated on {evaluated}. {comparable}"
    return (
        f"Not comparable: trained on {trained} {data.unit} of {root} and evaluated on {evaluated} others, "
        f"{'all synthetic' if synthetic else 'a small set'}. {published} "
        "These metrics tell whether training works and which of two runs is better, not how good a method is."
    )


def curve_chart(path: Path, x: str, title: str, task: str, note: str, *, y_top: float) -> Chart:
    """All columns of a CSV file over one of them; the one called mean stands out."""
    table = read_history(path, x)
    names = [str(name) for name in table.columns if name != x]
    lines = []
    for number, name in enumerate(names):
        mean = name.lower() == "mean"
        colour = INK if mean else SERIES[number % len(SERIES)]
        lines.append(column_line(table, x, name, name, colour, bold=mean))
    return line_chart(title, lines, task, x, note, y_limits=(0, y_top))


def joint_table(
    path: Path, skeleton: Skeleton | None, notes: Mapping[str, str], *, fractions: Sequence[str] = ()
) -> Table:
    """A task's `joints.csv` without its kinds of error, see `_joint_table`."""
    return _joint_table(path, skeleton, notes, fractions, errors=False)


def error_table(path: Path, skeleton: Skeleton | None) -> Table:
    """The kinds of error of a task's `joints.csv`, see `_joint_table`."""
    return _joint_table(path, skeleton, ERRORS, (), errors=True)


def _joint_table(
    path: Path,
    skeleton: Skeleton | None,
    notes: Mapping[str, str],
    fractions: Sequence[str],
    *,
    errors: bool,
) -> Table:
    """A row a joint from the head down, with a bar behind each share.

    notes: by the column that they explain. fractions: columns from 0 to 1. Columns with "people" in their
    name are counts, other numbers percent. errors: the columns of kinds of error, or all others.
    """
    table = read_table(path, "joint")
    scored = set(table["joint"])
    if skeleton is not None:
        grouped = [joint for group in skeleton.groups.values() for joint in group]
        order = dict.fromkeys([*grouped, *skeleton.scored_joints.tolist(), *range(len(skeleton))])
        rank = {skeleton.joints[joint]: number for number, joint in enumerate(order)}
        table = table.sort_values("joint", key=lambda names: names.map(rank), kind="stable")
        scored = {skeleton.joints[joint] for joint in skeleton.scored_joints}
    table = table.dropna(axis="columns", how="all")  # groups, where the skeleton has none
    numeric = [str(name) for name in table.columns if pd.api.types.is_numeric_dtype(table[name])]
    numbers = [name for name in numeric if (name in ERRORS) == errors]
    rows = []
    for entry in table.to_dict(orient="records"):
        cells = [_joint_cell(float(entry[name]), name, name in fractions) for name in numbers]
        rows.append(Row((Cell(str(entry["joint"])), *cells), faint=entry["joint"] not in scored))
    shown = tuple(note for column, note in notes.items() if column in table)
    return Table(("Joint", *numbers), rows, notes=shown)


def best_and_worst(
    ranked: Sequence[Result],
    most: int,
    image: Callable[[Result], PageImage],
    *,
    unit: str,
    order: str,
    legend: tuple[LegendEntry, ...],
) -> list[Block]:
    """At most `most` from either end of `ranked`, best first; none is in both. order: how they are ranked."""
    most = min(most, len(ranked) // 2)
    if not most:
        return []
    best, worst = (tuple(image(one) for one in some) for some in (ranked[:most], ranked[::-1][:most]))
    return [
        Block(f"Best {unit}", f"The {most} best of {order}", legend=legend, images=best),
        Block(f"Worst {unit}", f"The {most} worst of them, the worst first.", images=worst),
    ]


def page_image(image_HW3: np.ndarray, *, name: str, caption: str, **more: str) -> PageImage:
    """An image that is embedded in the page. name: of the file that it was made from."""
    data = base64.b64encode(encode_jpeg(image_HW3, JPEG_QUALITY)).decode()
    height, width = image_HW3.shape[:2]
    return PageImage(f"data:image/jpeg;base64,{data}", caption, name, width, height, **more)


def number_row(name: str, numbers: Sequence[str]) -> Row:
    """A name and numbers, as text."""
    return Row([Cell(name), *(Cell(number, number=True) for number in numbers)])


def number_cell(value: float, form: str) -> Cell:
    """Empty for NaN."""
    return Cell("" if np.isnan(value) else format(value, form), number=True)


def signed(value: float, digits: int) -> str:
    """A difference with its sign; without one where it is rounded to 0."""
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}".replace("-", "−") if rounded else f"{0:.{digits}f}"


def _cells(metrics: Mapping[str, float], columns: Sequence[str], digits: int) -> list[Cell]:
    return [number_cell(metrics.get(column, np.nan), f".{digits}f") for column in columns]


def _joint_cell(value: float, column: str, fraction: bool) -> Cell:
    if "people" in column or np.isnan(value):
        return number_cell(value, ",.0f")
    percent = 100 * value if fraction else value
    return Cell(
        f"{value:.3f}" if fraction else f"{value:.1f}", number=True, bar=min(max(percent, 0.0), 100.0)
    )
