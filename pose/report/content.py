"""What a page is made of, as plain values.

The template says how they look, the other modules what is in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from markupsafe import Markup


@dataclass(frozen=True)
class Tile:
    """A figure in large type."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """text: as shown. bar: percent of a bar beside it to fill.

    Source: who says so, a second line that links to `url`.
    """

    text: str
    number: bool = False
    bar: float | None = None
    source: str = ""
    url: str = ""


@dataclass(frozen=True)
class Row:
    """marked: our own among published ones. faint: counted in no mean."""

    cells: tuple[Cell, ...]
    marked: bool = False
    faint: bool = False


@dataclass(frozen=True)
class Table:
    """numbers: from which column on the headings stand over numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    numbers: int = 1
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """svg: an element that is safe to put into the page."""

    title: str
    svg: Markup
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """uri: a data URI. name: of the file that it was made from. width, height: px."""

    uri: str
    caption: str
    name: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class Gallery:
    """Pictures of one kind."""

    title: str
    pictures: tuple[Picture, ...]
    note: str = ""


@dataclass(frozen=True)
class Key:
    """What a way of drawing means. colours: RGB; none for the white of the truth."""

    text: str
    colours: tuple[tuple[int, int, int], ...] = ()


@dataclass
class Findings:
    """What a problem's own module makes of a task's files.

    legend: of the galleries.
    """

    tiles: list[Tile] = field(default_factory=list)
    people: str = ""
    comparison: Table | None = None
    caution: tuple[str, ...] = ()
    charts: list[Chart] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    galleries: list[Gallery] = field(default_factory=list)
    legend: tuple[Key, ...] = ()
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Block:
    """What was found by looking at several runs: in words, in curves, in a table."""

    title: str
    words: tuple[str, ...]
    table: Table
    charts: tuple[Chart, ...] = ()


@dataclass
class Section:
    """One task. headline: figures by name, the first of which tasks are compared by.

    Game: charts of the one against the adversary. parameters: group -> (name, value); values of nested
    mappings are rows of their own.
    """

    anchor: str
    task: str
    summary: str
    headline: Mapping[str, str]
    findings: Findings
    facts: Mapping[str, str]
    curves: list[Chart]
    game: list[Chart]
    parameters: Mapping[str, list[tuple[str, str]]]
