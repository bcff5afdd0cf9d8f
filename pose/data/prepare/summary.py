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
