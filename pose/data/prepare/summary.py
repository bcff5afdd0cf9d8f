"""The summary of a preparation: a table of what was found and kept, what was left out and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

IMAGE_MISSING, IMAGE_UNREADABLE = "image missing", "image unreadable"
LISTED = 10  # unusable images that are named


@dataclass
class Summary:
    """What became of a raw set. `str()` of it is what the stage prints.

    columns: of the table. notes: lines above the table. counts: by (row of the table, column). left_out: how
    many by (row, reason). unusable: a line for each image that was left out for what its file holds.
    """

    title: str
    columns: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    unusable: list[str] = field(default_factory=list)

    def reasons(self, row: str) -> str:
        """Why things of this row were left out, and how many; empty if none was."""
        counts = ((reason, count) for (name, reason), count in self.left_out.items() if name == row)
        return ", ".join(f"{reason} {count:,}" for reason, count in counts)

    def __str__(self) -> str:
        lines = [f"{'':16}" + "".join(f" {column:>9}" for column in self.columns) + "   left out"]
        for row in dict.fromkeys(row for row, _ in self.counts):
            numbers = "".join(f" {self.counts[row, column]:9,}" for column in self.columns)
            lines.append(f"{row:16}{numbers}   {self.reasons(row) or 'none'}")
        more = len(self.unusable) - LISTED
        rest = [f"... and {more:,} more images like these"] if more > 0 else []
        return "\n".join([self.title, *self.notes, *lines, *self.unusable[:LISTED], *rest])


@dataclass
class Changes:
    """What was read otherwise than a file says it, by kind: how often, and where first."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, where: str, count: int = 1) -> None:
        """Count a change of this kind, made `where`."""
        self.counts[kind] += count
        self.first.setdefault(kind, where)

    def lines(self, file: str) -> list[str]:
        """A line for each kind."""
        return [
            f"{file}: {kind}: {count:,} (first: {self.first[kind]})" for kind, count in self.counts.items()
        ]
