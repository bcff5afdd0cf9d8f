"""What a training run is told to, beside its history files.

MLflow (`pose.tracking.mlflow`), or a tracker of one's own.
"""

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

    params: every parameter that shapes it, by dotted key. tags: words by name (task, data_hash, torch,
    device, code). resumed: whether it continues from a checkpoint. history: the rows of its earlier starts,
    in order of their steps.
    """

    task: str
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    resumed: bool
    history: Sequence[Row]


class Tracker(Protocol):
    """Receives the rows of the history as they are made; `NullTracker` has all methods to override.

    Called by the first process only. Nothing that goes wrong in it should end the training.
    """

    def start(self, run: RunInfo) -> None:
        """Training begins or is resumed. A row of an earlier start may come again, equal to what it was."""

    def log(self, row: Row) -> None:
        """A row of train.csv (means over some steps) or val.csv; its `step` counts from 1."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Words by name."""

    def log_model(self, weights: Path) -> None:
        """Model weights that were written."""

    def finish(self, status: Status) -> None:
        """Training is over, or this start of it."""


class NullTracker:
    """Does nothing."""

    def start(self, run: RunInfo) -> None:
        """Nothing."""

    def log(self, row: Row) -> None:
        """Nothing."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Nothing."""

    def log_model(self, weights: Path) -> None:
        """Nothing."""

    def finish(self, status: Status) -> None:
        """Nothing."""
