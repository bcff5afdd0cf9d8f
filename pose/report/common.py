"""What the pages of single- and multi-person tasks are both made of."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np
import pandas as pd

from pose.io.errors import UserError
from pose.io.images import encode_jpeg
from pose.report.content import Cell, Findings, Gallery, Picture, Row, Table
from pose.report.files import read_table
from pose.report.published import Published

Part = TypeVar("Part")
Tested = TypeVar("Tested")

JPEG_QUALITY = 85


def add_from(found: Findings, path: Path, to: list[Part], make: Callable[[Path], Part]) -> None:
    """Add what `make` makes of a file; where it cannot be used, say so on the page."""
    try:
        to.append(make(path))
    except UserError as error:
        found.missing.append(str(error))


def published_cells(row: Published, columns: Sequence[str], digits: int, *between: Cell) -> tuple[Cell, ...]:
    """A published row: what it is and who says so, on what it was tested, whatever stands `between`, its figures by column."""
    return (
        Cell(row.what, source=row.source, url=row.url),
        Cell(row.on),
        *between,
        *figure_cells(row.figures, columns, digits),
    )


def figure_cells(figures: Mapping[str, float], names: Sequence[str], digits: int) -> tuple[Cell, ...]:
    """The figures of these names, an empty cell where there is none."""
    return tuple(
        Cell(f"{figures[name]:.{digits}f}" if name in figures else "", number=True) for name in names
    )


def not_comparable(root: str, trained: int, tested: int, things: str, published: str) -> str:
    """Why figures of a run must not be ranked among published ones.

    Things: what was counted, people or images.

    published: a sentence on what the published networks learned from, and were tested on.
    """
    kind, why = (
        ("drawn, not photographed", "pictures of another kind")
        if is_drawn(root)
        else ("photographed", "a small set")
    )
    return (
        f"Not comparable: this run learned from {trained:,} {things} of {root} and was tested on {tested:,} others of it, "
        f"all of them {kind}. {published} On {why}, figures say whether training works and which of two runs is better, "
        "not how good the method is."
    )


def signed(value: float, digits: int) -> str:
    """A difference with its sign, none where it is rounded to nothing."""
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}".replace("-", "−") if rounded else f"{0:.{digits}f}"


def is_drawn(root: str) -> bool:
    """Whether a data root is the embedded default, which is drawn."""
    return PurePath(root).name == "synthetic"


def joint_table(
    path: Path,
    *,
    order: Sequence[str],
    counted: Sequence[str],
    notes: Mapping[str, str],
    fractions: Sequence[str] = (),
) -> Table:
    """A task's `joints.csv`: a row a joint, with a bar beside each share.

    order: of the joints, from the top of the page down. counted: those that means are made of, others are
    faint. notes: on columns, if they are there. fractions: columns from 0 to 1; columns with "people" in
    their name are counts, other numbers percent.
    """
    table = read_table(path)
    if "joint" not in table:
        raise UserError(f"{path}: no column 'joint', found {', '.join(map(str, table.columns))}")
    table = table.sort_values(
        "joint", key=lambda names: names.map({name: place for place, name in enumerate(order)}), kind="stable"
    )
    numbers = [str(name) for name in table.columns if pd.api.types.is_numeric_dtype(table[name])]
    words = [
        str(name) for name in table.columns if name not in {*numbers, "group"}
    ]  # a joint's name says its group
    rows = []
    for entry in table.to_dict(orient="records"):
        cells = [Cell("" if pd.isna(entry[word]) else _spelt_out(str(entry[word]))) for word in words]
        cells += [_joint_cell(float(entry[column]), column, column in fractions) for column in numbers]
        rows.append(Row(tuple(cells), faint=entry["joint"] not in counted))
    columns = tuple(name.capitalize() if name in words else name for name in (*words, *numbers))
    return Table(
        "Joint by joint",
        columns,
        tuple(rows),
        len(words),
        tuple(note for column, note in notes.items() if column in table),
    )


def best_and_worst(
    order: Sequence[Tested], wanted: int, picture: Callable[[Tested], Picture], *, things: str, which: str
) -> list[Gallery]:
    """At most `wanted` from either end of `order`, which goes from the best to the worst; none is in both.

    which: what they were chosen from, and by what.
    """
    wanted = min(wanted, len(order) // 2)
    if not wanted:
        return []
    best, worst = (tuple(picture(one) for one in some) for some in (order[:wanted], order[::-1][:wanted]))
    return [
        Gallery(f"Best test {things}", best, f"The {wanted} best of {which}"),
        Gallery(f"Worst test {things}", worst, f"The {wanted} worst of them, the worst first."),
    ]


def drawn_picture(image_HW3: np.ndarray, *, name: str, caption: str) -> Picture:
    """A picture that lives in the page. name: of the file that it was made from."""
    data = base64.b64encode(encode_jpeg(image_HW3, JPEG_QUALITY)).decode()
    height, width = image_HW3.shape[:2]
    return Picture(
        uri=f"data:image/jpeg;base64,{data}",
        caption=caption,
        name=name,
        alt=f"{name}: the true and the predicted skeleton; {caption}",
        width=width,
        height=height,
    )


def _joint_cell(value: float, column: str, fraction: bool) -> Cell:
    if np.isnan(value):
        return Cell("", number=True)
    if "people" in column:
        return Cell(f"{value:,.0f}", number=True)
    percent = 100 * value if fraction else value
    return Cell(
        f"{value:.3f}" if fraction else f"{value:.1f}", number=True, bar=min(max(percent, 0.0), 100.0)
    )


def _spelt_out(name: str) -> str:
    side, _, rest = name.partition("_")
    return " ".join([{"r": "right", "l": "left"}.get(side, side), *rest.split("_")]).strip()
