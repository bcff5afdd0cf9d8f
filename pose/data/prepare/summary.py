"""What a preparation says of its raw set: a table, what was left out and why."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field

IMAGE_MISSING, IMAGE_UNREADABLE = "image missing", "image unreadable"
LISTED = 10  # unusable images named


@dataclass
class Summary(ABC):
    """What became of a raw set. `str()` of it is what the stage prints.

    notes: lines to be said beside the table. left_out: how many by (row of the table, reason). unusable: what
    is wrong with each image that was left out for what its file holds.
    """

    title: str
    notes: list[str] = field(default_factory=list)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    unusable: list[str] = field(default_factory=list)

    @abstractmethod
    def table(self) -> list[str]:
        """The lines of the table, the head first."""

    def reasons(self, row: str) -> str:
        """Why things of this row of the table were left out, and how many; empty if none was."""
        return ", ".join(
            f"{reason} {count:,}" for (counted, reason), count in self.left_out.items() if counted == row
        )

    def __str__(self) -> str:
        more = len(self.unusable) - LISTED
        rest = [f"... and {more:,} more images like these"] if more > 0 else []
        return "\n".join([self.title, *self.notes, *self.table(), *self.unusable[:LISTED], *rest])
