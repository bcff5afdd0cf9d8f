"""What a page is made of, as plain values; the template says how they look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

Parameters = Mapping[str, Mapping[str, str]]  # group -> name -> value


@dataclass(frozen=True)
class Cell:
    """bar: percent of a bar behind the text. below: a second line. url: its, or else the text's."""

    text: str
    number: bool = False
    bar: float | None = None
    below: str = ""
    url: str = ""


@dataclass(frozen=True)
class Row:
    """marked: ours among others, or a summary of others. faint: without weight in what the table shows."""

    cells: Sequence[Cell]
    marked: bool = False
    faint: bool = False


@dataclass(frozen=True)
class Table:
    """text_columns: so many columns from the left hold text, the others numbers."""

    columns: Sequence[str]
    rows: Sequence[Row]
    text_columns: int = 1
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Chart:
    """svg: an element that is safe to put into the page."""

    title: str
    svg: Markup
    note: str = ""


@dataclass(frozen=True)
class PageImage:
    """uri: a data URI. name: of the file that it was made from. width, height: px. shows: what is drawn.

    views: of its block, in which it is shown.
    """

    uri: str
    caption: str
    name: str
    width: int
    height: int
    shows: str = "the true and the predicted skeleton"
    views: Sequence[str] = ()


@dataclass(frozen=True)
class LegendEntry:
    """colours: RGB; none for the white of the truth."""

    text: str
    colours: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True)
class Block:
    """A part of a section under a heading of its own; what it does not have is left out.

    fainter: where the colours of the legend are. views: parts of the images, one of which is shown at a time.
    folded: opened by the reader. half: as wide as half of the page.
    """

    title: str
    text: str = ""
    caution: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    table: Table | None = None
    legend: Sequence[LegendEntry] = ()
    fainter: str = "less confident"
    images: Sequence[PageImage] = ()
    views: Sequence[str] = ()
    parameters: Parameters = field(default_factory=dict)
    folded: bool = False
    half: bool = False


@dataclass(frozen=True)
class Section:
    """missing: the files that could not be used, and why."""

    anchor: str
    title: str
    blocks: Sequence[Block]
    summary: str = ""
    missing: Sequence[str] = ()
