"""What a training run reports to beside its history files: MLflow, or a tracker of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Status = Literal["FINISHED", "KILLED", "FAILED"]
Row = Mapping[str, float]  # of the history: metrics by name, and `step`


@dataclass(frozen=True)
class RunInfo:
    """A training run as it begins or is resumed.

    params: every parameter that shapes it, by dotted key. tags: words by name (data_hash, torch, device,
    code ...). resumed: from a checkpoint. history: the rows of its earlier starts, in the order of their
    steps. folder: of its checkpoints, where a tracker may keep what it needs when the run is resumed.
    dataset: the prepared set that it trains on. description: what is trained, in words. finished: all steps
    were done in earlier starts.
    """

    task: str
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    resumed: bool
    history: Sequence[Row]
    folder: Path
    dataset: Path | None = None
    description: str = ""
    finished: bool = False


class Tracker(Protocol):
    """Receives the rows of the history as they are made, in the first process. It must raise nothing."""

    def start(self, run: RunInfo) -> None:
        """Training begins or is resumed. Rows of an earlier start may come again, with equal values."""

    def log(self, row: Row) -> None:
        """A row of train.csv (means over some steps) or val.csv; its `step` counts from 1."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Words by name."""

    def log_model(self, weights: Path) -> None:
        """Model weights that were written."""

    def finish(self, status: Status) -> None:
        """Training, or this start of it, has ended."""


class NullTracker:
    """Does nothing. A tracker of one's own may override some of its methods."""

    def start(self, run: RunInfo) -> None: ...

    def log(self, row: Row) -> None: ...

    def set_tags(self, tags: Mapping[str, str]) -> None: ...

    def log_model(self, weights: Path) -> None: ...

    def finish(self, status: Status) -> None: ...
