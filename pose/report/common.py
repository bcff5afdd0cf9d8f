"""What the pages of single- and multi-person tasks are both made of."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pose.io.images import encode_jpeg
from pose.io.paths import is_synthetic
from pose.keypoints.skeleton import Skeleton
from pose.report.charts import INK, SERIES, column_line, line_chart
from pose.report.content import Block, Cell, Chart, LegendEntry, PageImage, Row, Table
from pose.report.files import read_table
from pose.report.published import PUBLISHED
from pose.report.run import Run
from pose.tasks.base import ProblemData

JPEG_QUALITY = 80
WORST, BEST = "worst", "best"  # views of a gallery, beside its kinds of error
ERRORS = {  # kinds of error, see `pose.metrics.error_kinds`
    "jitter": "Kinds of error in percent of all. Jitter: within twice the distance that is right.",
    "inversion": "Inversion: where the person's left or right counterpart is.",
    "swap": "Swap: where another person has this joint or its counterpart.",
    "miss": "Miss: elsewhere, or not found.",
}


@dataclass(frozen=True)
class Curve:
    """A CSV file of which all columns are drawn over `x`; of several tasks, the mean. y_top: of the axis."""

    file: str
    x: str
    title: str
    note: Callable[[Run], str]
    y_top: float


@dataclass(frozen=True)
class Ranking:
    """Evaluated people or images, of which some are drawn.

    ranked: best first. order: how, in words. draw: one of them. errors: of one of them, how often each kind
    of error is in it. all: whose errors are counted, among them those that are not ranked. count: how many
    were evaluated, with those without anybody.
    """

    unit: str
    ranked: Sequence[Any]
    all: Sequence[Any]
    count: int
    order: str
    errors: Callable[[Any], Mapping[str, int]]
    draw: Callable[[Any], PageImage]
    legend: Sequence[LegendEntry]

    def typical(self, count: int) -> list[PageImage]:
        """From evenly spread places between the best and the worst."""
        places = np.linspace(0, len(self.ranked) - 1, count + 2)[1:-1].round().astype(int)
        return [self.draw(self.ranked[place]) for place in dict.fromkeys(places.tolist()) if self.ranked]

    def gallery(self, title: str, most: int) -> Block:
        """At most `most` from either end, none in both; of each kind of error half as many, who have most."""
        most = min(most, len(self.ranked) // 2)
        worst_first = range(len(self.ranked))[::-1]
        errors = [self.errors(one) for one in self.ranked]
        views = {WORST: list(worst_first)[:most]}
        for kind in errors[0] if most else ():
            having = [place for place in worst_first if errors[place][kind]]
            views[kind] = sorted(having, key=lambda place: -errors[place][kind])[: (most + 1) // 2]
        views = {view: places for view, places in views.items() if places} | {BEST: list(range(most))}
        images = [
            replace(
                self.draw(self.ranked[place]), views=[view for view, some in views.items() if place in some]
            )
            for place in dict.fromkeys(place for places in views.values() for place in places)
        ]
        text = f"The {most} worst and the {most} best of {self.order}"
        return Block(title, text, legend=self.legend, images=images, views=list(views) if most else ())


@dataclass(frozen=True)
class ProblemReport:
    """What is particular to the tasks of one problem; `pose.report.section` does the rest.

    sample: what the network sees. read_predictions: of the file with `suffix`, whose people have so many
    joints, None for any number. kinds: of error in pictures, and what they are.
    """

    sample: str
    comparison: Callable[[Sequence[Run], Any], Block]
    curve: Curve
    joints: Callable[[Path, Skeleton | None], Table]
    suffix: str
    read_predictions: Callable[[Path, int | None], Any]
    ranking: Callable[[Run, Any, Any], Ranking | None]
    kinds: Mapping[str, str]
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
    runs: Sequence[Run], own: Sequence[OwnRow], columns: Sequence[str], digits: int, notes: Sequence[str]
) -> Table:
    """Our rows, then the published ones of the problem, for runs of sets that those are of."""
    rows = []
    for run in runs:
        for row in own:
            places = {column: f"{row.table}.{row.names.get(column, column)}" for column in columns}
            found = {column: run.metrics[place] for column, place in places.items() if place in run.metrics}
            if found:
                count = f", {run.metrics[row.count]:,.0f} {run.unit}" if row.count in run.metrics else ""
                names = Cell(f"{run.task}, {row.what}"), Cell(run.data + count)
                rows.append(Row((*names, *_cells(found, columns, digits)), marked=True))
    for other in PUBLISHED:
        if other.problem == runs[0].spec.problem and runs[0].is_published:
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
    synthetic = is_synthetic(root)
    if as_published and not synthetic:
        return f"Trained on {trained} {data.unit} of {root}, evaluated on {evaluated}. {comparable}"
    return (
        f"Not comparable: trained on {trained} {data.unit} of {root} and evaluated on {evaluated} others, "
        f"{'all synthetic' if synthetic else 'a small set'}. {published} "
        "These metrics tell whether training works and which of two runs is better, not how good a method is."
    )


def curve_chart(curve: Curve, runs: Sequence[Run], tables: Mapping[str, pd.DataFrame]) -> Chart:
    """All columns of a task's table, of which the one called mean stands out; of several tasks, that one."""
    lines = []
    for run in runs:
        names = (
            [str(name) for name in tables[run.task].columns if name != curve.x] if run.task in tables else []
        )
        means = [name for name in names if name.lower() == "mean"]
        if len(runs) > 1 and means:
            lines += [column_line(tables[run.task], curve.x, name, run.task, run.colour) for name in means]
            continue
        for number, name in enumerate(names):
            colour = INK if name in means else SERIES[number % len(SERIES)]
            label = name if len(runs) == 1 else f"{run.task} {name}"
            lines.append(column_line(tables[run.task], curve.x, name, label, colour, bold=name in means))
    note, tasks = curve.note(runs[0]), " and ".join(run.task for run in runs)
    return line_chart(curve.title, lines, tasks, curve.x, note, y_limits=(0, curve.y_top))


def joint_table(
    path: Path, skeleton: Skeleton | None, notes: Mapping[str, str], *, fractions: Sequence[str] = ()
) -> Table:
    """A task's `joints.csv`: a row a joint from the head down, with a bar behind each share.

    notes: by the column that they explain. fractions: columns from 0 to 1. Columns with "people" in their
    name are counts, other numbers percent.
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
    numbers = [str(name) for name in table.columns if pd.api.types.is_numeric_dtype(table[name])]
    rows = []
    for entry in table.to_dict(orient="records"):
        cells = [_joint_cell(float(entry[name]), name, name in fractions) for name in numbers]
        rows.append(Row((Cell(str(entry["joint"])), *cells), faint=entry["joint"] not in scored))
    shown = tuple(note for column, note in {**notes, **ERRORS}.items() if column in table)
    return Table(("Joint", *numbers), rows, notes=shown)


def error_table(kinds: Mapping[str, str], rankings: Mapping[str, Ranking]) -> Table:
    """How often each kind of error happens, by task. kinds: what each is."""
    unit = next(iter(rankings.values())).unit
    errors = {task: [one.errors(each) for each in one.all] for task, one in rankings.items()}
    rows = []
    for kind, meaning in kinds.items():
        cells = [Cell(kind, below=meaning)]
        for task, found in errors.items():
            times = [one[kind] for one in found if one[kind]]
            share = 100 * len(times) / max(rankings[task].count, 1)
            cells.append(Cell(f"{sum(times):,}", number=True))
            cells.append(Cell(f"{share:.1f}", number=True, bar=share))
        rows.append(Row(cells))
    columns = [column for task in errors for column in (task, f"% of {unit}")]
    return Table(("Kind of error", *columns), rows, notes=[f"% of {unit}: of all, those with such an error."])


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
